{#- What every row of a source carries: where it came from, and when. -#}
{% macro lineage_columns() -%}
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
{%- endmacro %}

{#- A geometry and what the gate derived from it (see ingestion.targets). -#}
{% macro geometry_columns() -%}
    geometry,
    crs,
    source_crs,
    geometry_area_m2,
    xmin,
    ymin,
    xmax,
    ymax
{%- endmacro %}

{#-
    The rows of a clean table that keeps its history. With var known_at they are what was current at that moment: of the versions
    received by then the one with the greatest (_as_of, _received_at, _delivery_id, _line), told by the oldest row of its newest run
    of equal values, as ingestion.merge does it.
-#}
{% macro known_versions(table, key, columns) -%}
    {%- if not var('known_at') -%}
    {{ source('clean', table) }}
    {%- else -%}
    {%- set rank = '_as_of desc, _received_at desc, _delivery_id desc, _line desc' -%}
    {%- set key = key | join(', ') -%}
    (
        with version as (
            select * from {{ source('clean', table) }} where _received_at <= timestamp '{{ var("known_at") }}'
            union all by name
            select * exclude (known_from, known_to) from {{ source('history', table ~ '_history') }} where _received_at <= timestamp '{{ var("known_at") }}'
        ),

        valued as (
            select *, row({{ columns | join(', ') }}) as value_of from version
        ),

        ranked as (
            select
                *,
                row_number() over (partition by {{ key }} order by {{ rank }}) as place,
                first_value(value_of) over (partition by {{ key }} order by {{ rank }}) as newest_value
            from valued
        ),

        newest_run as (
            select
                *,
                bool_or(value_of is distinct from newest_value) over (partition by {{ key }}) as is_contested,
                coalesce(min(place) filter (value_of is distinct from newest_value) over (partition by {{ key }}), 9223372036854775807) as run_end
            from ranked
        )

        select * exclude (place, value_of, newest_value, is_contested, run_end, conflict), is_contested as conflict
        from newest_run
        where place < run_end
        qualify place = max(place) over (partition by {{ key }})
    )
    {%- endif -%}
{%- endmacro %}

{#- SQL condition: something came for the reading: a value, a status, or a text that is no number. -#}
{% macro is_received(reading) -%}
    (
        {{ reading }}.value_reported is not null
        or coalesce(trim({{ reading }}.status), '') <> ''
        or coalesce({{ reading }}.reason, 'value_missing') <> 'value_missing'
    )
{%- endmacro %}
