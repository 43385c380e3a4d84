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
{#- Name of a bound -> [test, column of the seed qc_threshold]. -#}
{% macro qc_bounds() %}
    {{ return({
        'range_fail_min': ['range', 'fail_min'],
        'range_fail_max': ['range', 'fail_max'],
        'range_suspect_min': ['range', 'suspect_min'],
        'range_suspect_max': ['range', 'suspect_max'],
        'spike_suspect': ['spike', 'suspect_max'],
        'spike_fail': ['spike', 'fail_max'],
        'rate_suspect': ['rate_of_change', 'suspect_max'],
        'rate_fail': ['rate_of_change', 'fail_max'],
        'flat_natural': ['flat_line', 'suspect_min'],
        'flat_suspect': ['flat_line', 'suspect_max'],
        'flat_fail': ['flat_line', 'fail_max'],
        'level_min': ['level', 'suspect_min'],
        'level_max': ['level', 'suspect_max'],
        'repeated_suspect': ['repeated_record', 'suspect_max'],
        'slip_suspect': ['time_slip', 'suspect_max'],
        'consistency_min': ['consistency', 'suspect_min'],
        'consistency_max': ['consistency', 'suspect_max'],
        'neighbours_suspect': ['neighbours', 'suspect_max'],
    }) }}
{% endmacro %}

{#-
    A bound of int_qc_bound: the station's own, else its kind's. A row of the station stands for both suspect bounds of the test, one that it
    leaves empty is none; and with no bound at all nothing stands still for too long there.
-#}
{% macro qc_bound_in_force(name, test, bound) -%}
    {%- if bound.startswith('suspect') -%}
        case when own_span.has_{{ test }} = 1 then own_span.{{ name }} else kind.{{ name }} end
    {%- elif test == 'flat_line' -%}
        case when own_span.has_flat_line = 1 and own_span.flat_suspect is null then null else kind.{{ name }} end
    {%- else -%}
        kind.{{ name }}
    {%- endif -%}
{%- endmacro %}

{#- SQL condition: the bounds of the channel that hold at the moment of the reading (see int_qc_bound). -#}
{% macro within_span(reading, bounds) -%}
    {{ reading }}.station_id = {{ bounds }}.station_id
    and {{ reading }}.parameter = {{ bounds }}.parameter
    and {{ reading }}.measured_at > {{ bounds }}.span_from
    and {{ reading }}.measured_at <= {{ bounds }}.span_to
{%- endmacro %}

{#- Flag of the physical range (docs/qc/range.md). -#}
{% macro qc_range_flag(reading, bounds) -%}
    case
        when {{ reading }}.value_reported is null then 9
        when
            {{ reading }}.is_out_of_range
            or {{ reading }}.value_reported < {{ bounds }}.range_fail_min
            or {{ reading }}.value_reported > {{ bounds }}.range_fail_max
            then 4
        when {{ reading }}.value_reported < {{ bounds }}.range_suspect_min or {{ reading }}.value_reported > {{ bounds }}.range_suspect_max then 3
        when coalesce({{ bounds }}.range_fail_min, {{ bounds }}.range_fail_max, {{ bounds }}.range_suspect_min, {{ bounds }}.range_suspect_max) is null then 0
        else 1
    end
{%- endmacro %}

{#- Flag of the flat line (docs/qc/flat_line.md). -#}
{% macro qc_flat_flag(reading, bounds) -%}
    case
        when {{ reading }}.flat_minutes is null or {{ reading }}.value_valid <= {{ bounds }}.flat_natural then 0
        when {{ bounds }}.flat_suspect is null and {{ bounds }}.flat_fail is null then 0
        when {{ reading }}.flat_minutes >= {{ bounds }}.flat_fail then 4
        when {{ reading }}.flat_minutes >= {{ bounds }}.flat_suspect then 3
        else 1
    end
{%- endmacro %}
