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

{#-
    An aggregate of this relation equals one of another: no row lost, none counted twice. What an increment may change while the test runs, or
    has changed of one of them only, is left out: `between` names the tables of ops.built whose claims bound it (see is_settled).
-#}
{% test totals_equal(model, expression, to, to_expression, between=none, columns=['station_id', 'day']) %}
{%- set where = 'where ' ~ is_settled(between, columns) if execute and between and not is_calm(between) else '' %}
select here.total as here, there.total as there
from (select coalesce({{ expression }}, 0) as total from {{ model }} as counted {{ where }}) as here
cross join (select coalesce({{ to_expression }}, 0) as total from {{ to }} as counted {{ where }}) as there
where here.total <> there.total
{% endtest %}

{#- Whether nothing writes beside this run (the lock of a SQLite catalog spans it), and all these tables have seen all that was published. -#}
{% macro is_calm(tables) %}
    {%- set run = built_run() -%}
    {%- set here = [run.newest == run.to and target.name.startswith('sqlite')] -%}
    {%- for table in tables -%}
        {%- set row = run.rows.get(table) -%}
        {%- do here.append((row and row.affected_to == run.to and row.as_of == modules.datetime.datetime.fromisoformat(var('as_of'))) | default(false)) -%}
    {%- endfor -%}
    {{ return(here | select | list | length == here | length) }}
{% endmacro %}

{#-
    SQL condition on rows of alias `counted`, in one snapshot with the claims: the (station, day) is over for all these tables, and no publish
    that one of them has not seen touches it (a rule looks two days on at most), nor any register. Of a relation without days, its station.
-#}
{% macro is_settled(tables, columns) -%}
    {%- set claims = "from lake.ops.built where model in ('" ~ tables | join("', '") ~ "')" -%}
    {%- set unseen = "seq > (select min(affected_to) " ~ claims ~ ")" -%}
    {%- set built = graph.nodes.values() | selectattr('config.meta.built', 'defined') | selectattr('config.meta.built.table', 'in', tables) -%}
    {%- set registers = built | map(attribute='config.meta.built.targets') | sum(start=[]) | unique | reject('equalto', 'reading') | list %}
    not exists (select 1 from lake.ops.affected where target in ('{{ registers | join("', '") }}') and {{ unseen }})
    {%- if columns | length > 1 %}
    and counted.{{ columns[1] }} < (select {{ environment_day('min(as_of)') }} {{ claims }})
    and (counted.{{ columns[0] }}, counted.{{ columns[1] }}) not in (
        select affected.unit, affected.day + later.days
        from lake.ops.affected as affected
        cross join (select cast(unnest(range(3)) as integer) as days) as later
        where affected.target = 'reading' and {{ unseen }}
    )
    {%- else %}
    and (select min(as_of) = max(as_of) {{ claims }})
    and counted.{{ columns[0] }} not in (select unit from lake.ops.affected where target = 'reading' and {{ unseen }})
    {%- endif %}
{%- endmacro %}
