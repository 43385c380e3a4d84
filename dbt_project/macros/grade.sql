{#- Grades of data: raw (as the machines left it), provisional (looked at), approved (signed for). -#}

{#- The lowest grade of the rows of a group. -#}
{% macro lowest_grade(grade) -%}
    case min(case {{ grade }} when 'raw' then 0 when 'provisional' then 1 else 2 end) when 0 then 'raw' when 1 then 'provisional' else 'approved' end
{%- endmacro %}
