{#-
    Places are dated: a row may name its commune by the code of before 1 July 2025, of after, or both. The old code speaks first, since
    the new one follows from it; back from the new code the old one is known only where a single commune went into it.
-#}

{#- Whether a row's old code is one of after that no old commune bore: int_commune knows no old commune of it. -#}
{% macro is_new_code() -%}
    commune.commune_code is not null and commune.old_commune_name is null
{%- endmacro %}

{#- Columns old_commune_code, old_commune_name, commune_code, commune_name of the row of this alias; after `join_commune`. -#}
{% macro commune_columns(row) -%}
    case
        when {{ row }}.old_commune_code is null or ({{ is_new_code() }}) then new_commune.old_commune_code
        else {{ row }}.old_commune_code
    end as old_commune_code,
    case
        when {{ row }}.old_commune_code is null or ({{ is_new_code() }}) then new_commune.old_commune_name
        else commune.old_commune_name
    end as old_commune_name,
    coalesce(commune.commune_code, {{ row }}.commune_code) as commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name
{%- endmacro %}

{#- Joins of the communes `commune` (by the old code) and `new_commune` of a row that has both codes. -#}
{% macro join_commune(row) -%}
left join {{ ref('int_commune') }} as commune on {{ row }}.old_commune_code = commune.old_commune_code
left join {{ ref('int_new_commune') }} as new_commune on coalesce(commune.commune_code, {{ row }}.commune_code) = new_commune.commune_code
{%- endmacro %}
