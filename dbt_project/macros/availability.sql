{#- SQL: the slot that ends with this minute of its hour (1 to 60), as a bit (see reading_hourly). -#}
{% macro slot_bit(minute) -%}
    (cast(1 as bigint) << ({{ minute }} - 1))
{%- endmacro %}

{#-
    CTEs that end with `<name>_silence` (station_id, day, hour_end, slots): the silent slots of a station that it shares with its group
    (the stations of the same `by` column, or all), so that what they have in common explains them (docs/availability.md). Cadences may
    differ: a station is silent at a moment where the next slot that it owes in the hour did not come. It is not counted where it stayed
    silent of itself: at the moments next to this one at which somebody of the group got through and it owed a slot too.
    Reads the CTEs `station_hour` and `minute_of_hour`.
-#}
{% macro silent_together(name, least, by=none) -%}
{%- set group = 'day, hour_end' ~ (', ' ~ by if by else '') -%}
{{ name }}_hour as (
    select {{ group }}, bit_or(received_slots) as through_slots
    from station_hour
    {%- if by %}
    where {{ by }} is not null
    {%- endif %}
    group by {{ group }}
    having count(case when silent_slots > 0 then 1 end) >= {{ least }} and bit_or(silent_slots) & ~bit_or(received_slots) > 0
),

{{ name }}_minute as (
    select
        station_hour.station_id,
        station_hour.day,
        station_hour.hour_end,
        {%- if by %}
        station_hour.{{ by }},
        {%- endif %}
        station_hour.silent_slots,
        minute_of_hour.minute,
        station_hour.expected_slots & {{ slot_bit('minute_of_hour.minute') }} > 0 as is_owed,
        {{ name }}_hour.through_slots & {{ slot_bit('minute_of_hour.minute') }} > 0 as is_through
    from station_hour
    inner join {{ name }}_hour
        on
            station_hour.day = {{ name }}_hour.day
            and station_hour.hour_end = {{ name }}_hour.hour_end
            {%- if by %}
            and station_hour.{{ by }} = {{ name }}_hour.{{ by }}
            {%- endif %}
    cross join minute_of_hour
    where station_hour.silent_slots > 0
),

{{ name }}_around as (
    select
        *,
        min(case when is_owed then minute end) over (
            partition by station_id, day, hour_end order by minute rows between current row and unbounded following
        ) as next_owed,
        max(case when is_owed and is_through then minute end) over (
            partition by station_id, day, hour_end order by minute rows between unbounded preceding and 1 preceding
        ) as through_before,
        min(case when is_owed and is_through then minute end) over (
            partition by station_id, day, hour_end order by minute rows between 1 following and unbounded following
        ) as through_after
    from {{ name }}_minute
),

{{ name }}_counted as (
    select *, count(*) over (partition by {{ group }}, minute) as stations
    from {{ name }}_around
    where
        not is_through
        and silent_slots & {{ slot_bit('next_owed') }} > 0
        and not (
            (through_before is not null or through_after is not null)
            and coalesce(silent_slots & {{ slot_bit('through_before') }} > 0, true)
            and coalesce(silent_slots & {{ slot_bit('through_after') }} > 0, true)
        )
),

{{ name }}_silence as (
    select station_id, day, hour_end, bit_or(silent_slots & {{ slot_bit('minute') }}) as slots
    from {{ name }}_counted
    where stations >= {{ least }}
    group by station_id, day, hour_end
)
{%- endmacro %}
