{#- Generic tests of this project. Each reads its model once, however many rules it holds, and returns the rows that break one. -#}

{#- Conditions that hold for every row (NULL counts as broken). -#}
{% test rows_satisfy(model, conditions) %}
select *
from (
    select
        *,
        list_filter([
            {%- for condition in conditions %}
            case when not coalesce({{ condition }}, false) then '{{ condition | replace("'", "''") }}' end{{ "," if not loop.last }}
            {%- endfor %}
        ], lambda rule: rule is not null) as broken
    from {{ model }}
) as judged
where len(broken) > 0
{% endtest %}

{#- No two rows share these columns, and none of them is NULL unless said so. -#}
{% test unique_combination(model, columns, nullable=false) %}
select {{ columns | join(', ') }}, count(*) as rows
from {{ model }}
group by {{ columns | join(', ') }}
having
    count(*) > 1
    {%- if not nullable %}{% for column in columns %} or {{ column }} is null{% endfor %}{% endif %}
{% endtest %}

{#- These columns are never NULL. -#}
{% test not_null_columns(model, columns) %}
select * from {{ model }} where {% for column in columns %}{{ column }} is null{{ " or " if not loop.last }}{% endfor %}
{% endtest %}

{#- Values lie in [min, max]; NULL passes. -#}
{% test accepted_range(model, column_name, min=none, max=none) %}
select {{ column_name }} from {{ model }}
where false
    {%- if min is not none %} or {{ column_name }} < {{ min }}{% endif %}
    {%- if max is not none %} or {{ column_name }} > {{ max }}{% endif %}
{% endtest %}

{#- Every value under the condition is found in the other relation. -#}
{% test relationships_where(model, column_name, to, field, where="true") %}
select child.{{ column_name }}
from (select {{ column_name }} from {{ model }} where {{ where }}) as child
left join (select distinct {{ field }} from {{ to }}) as parent on child.{{ column_name }} = parent.{{ field }}
where parent.{{ field }} is null and child.{{ column_name }} is not null
{% endtest %}

{#- The relation has rows. -#}
{% test not_empty(model) %}
select count(*) as rows from {{ model }} having count(*) = 0
{% endtest %}

{#- An aggregate of this relation equals one of another: no row lost, none counted twice. -#}
{% test totals_equal(model, expression, to, to_expression) %}
select here.total as here, there.total as there
from (select coalesce({{ expression }}, 0) as total from {{ model }}) as here
cross join (select coalesce({{ to_expression }}, 0) as total from {{ to }}) as there
where here.total <> there.total
{% endtest %}
