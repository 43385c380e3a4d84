{#- SQL condition: a reading of this (station, day) is judged anew, or (margin=1) is a neighbour in time that such a reading looks at. No rule looks further than a day. Air stations are judged by each other, so the late air of one re-judges the air of all. -#}
{% macro is_judged_anew(station_id, matrix, day, window, margin=0) -%}
    {%- if window.all -%}
        {{ day }} between {{ whole_from() }} - {{ margin }} and {{ whole_to() }} + {{ margin }}
    {%- else -%}
        {%- set reach = 1 + margin -%}
        {{ day }} >= date '{{ window.first_day }}' - {{ reach }}
        and (
            {{ day }} >= date '{{ window.open_from }}' - {{ reach }}
            or ({{ station_id }}, {{ day }}) in (select unit, day from ({{ touched(reach) }}) as touched)
            or ({{ matrix }} = 'ambient_air' and {{ day }} in (select day from ({{ touched(reach) }}) as touched where is_air))
        )
    {%- endif -%}
{%- endmacro %}

{#- Query: (unit, day, is_air) within `reach` days of what publishes changed since the last build. -#}
{% macro touched(reach) -%}
    select distinct
        affected.unit,
        affected.day + near.days as day,
        coalesce(station.matrix = 'ambient_air', false) as is_air
    from {{ affected_reading() }} as affected
    cross join (select cast(unnest(range(-{{ reach }}, {{ reach + 1 }})) as integer) as days) as near
    left join {{ ref('dim_station') }} as station on affected.unit = station.station_id
{%- endmacro %}

{#- Pre-hook of reading_qc. -#}
{% macro delete_judged_anew() -%}
    {%- if execute and is_incremental() -%}
        {%- set window = recompute_window() -%}
        delete from {{ this }}
        where (station_id, day) in (
            select kept.station_id, kept.day
            from {{ this }} as kept
            left join {{ ref('dim_station') }} as station on kept.station_id = station.station_id
            where {{ is_judged_anew('kept.station_id', 'station.matrix', 'kept.day', window) }}
        )
    {%- endif -%}
{%- endmacro %}

{#- QARTOD flag of a quantity against its bounds: 4 fail, 3 suspect, 1 pass; 0 where nothing could be judged (2 in the mart). -#}
{% macro qc_flag_above(quantity, suspect, fail) -%}
    case
        when {{ quantity }} is null or ({{ suspect }} is null and {{ fail }} is null) then 0
        when {{ quantity }} > {{ fail }} then 4
        when {{ quantity }} > {{ suspect }} then 3
        else 1
    end
{%- endmacro %}
