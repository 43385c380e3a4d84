{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    partitioned_by=['year(day)', 'month(day)'],
    pre_hook="{{ delete_recomputed() }}",
) }}
{%- set window = recompute_window() %}

with due as (
    select
        station_id, parameter, cadence_minutes, due_from,
        least(due_to, {{ as_of() }}) as due_to
    from {{ ref('int_channel_period') }}
    where due_from < {{ as_of() }}
),

due_day as (
    select *, cast(unnest(generate_series(first_day, last_day, interval 1 day)) as date) as day
    from (
        select
            *,
            {{ environment_day('due_to') }} as last_day,
            greatest(cast(due_from as date), date '{{ window.first_day or '0001-01-01' }}') as first_day
        from due
    ) as due_span
),

-- slots of the cadence lie on the day's grid; one is due where its end is in (due_from, due_to]
due_hour as (
    select station_id, parameter, day, hour, sum(to_minute // cadence_minutes - from_minute // cadence_minutes) as expected
    from (
        select
            due_day.station_id,
            due_day.parameter,
            due_day.day,
            due_day.cadence_minutes,
            clock.hour,
            greatest((clock.hour - 1) * 60, date_diff('minute', due_day.day, due_day.due_from)) as from_minute,
            least(clock.hour * 60, date_diff('minute', due_day.day, due_day.due_to)) as to_minute
        from due_day
        cross join (select unnest(range(1, 25)) as hour) as clock
        where {{ is_recomputed('due_day.station_id', 'due_day.day', window) }}
    ) as span
    where to_minute > from_minute
    group by station_id, parameter, day, hour
    having expected > 0
),

reading as (
    select
        reading.station_id, reading.parameter, reading.measured_at, reading._received_at, reading.value_reported, reading.value_valid,
        {{ environment_day('reading.measured_at') }} as day,
        due.cadence_minutes, due.due_to
    from {{ ref('stg_reading') }} as reading
    left join due
        on
            reading.station_id = due.station_id
            and reading.parameter = due.parameter
            and reading.measured_at > due.due_from
            and reading.measured_at <= due.due_to
    where
        reading.measured_at <= {{ as_of() }}
        and reading.measured_at > timestamp '{{ window.first_day or '0001-01-01' }} 00:00:00'
),

-- the slot that a value belongs to ends at or after its stamp; a value that nothing asked for keeps its own minute
slot as (
    select
        *,
        date_diff('minute', day, due_to) as due_minutes,
        (date_diff('second', cast(day as timestamp), measured_at) + coalesce(cadence_minutes, 1) * 60 - 1)
        // (coalesce(cadence_minutes, 1) * 60) * coalesce(cadence_minutes, 1) as slot_minute
    from reading
    where {{ is_recomputed('station_id', 'day', window) }}
),

placed as (
    select
        *,
        least(24, (slot_minute + 59) // 60) as hour,
        -- the slot as one bit of its hour, where it was due: a slot counts once, even if a wrong clock filled it twice
        case
            when slot_minute <= due_minutes and slot_minute <= 1440
                then cast(1 as ubigint) << ((slot_minute - 1) % 60)
        end as slot_bit
    from slot
),

received_hour as (
    select
        station_id,
        parameter,
        day,
        hour,
        bit_count(coalesce(bit_or(slot_bit), 0)) as received,
        bit_count(coalesce(bit_or(slot_bit) filter (value_valid is not null), 0)) as valid,
        count(*) as rows_read,
        cast(sum(value_reported) as double) / count(value_reported) as mean_reported,
        sum(value_valid) as sum_valid,
        count(value_valid) as count_valid,
        min(value_valid) as min_valid,
        max(value_valid) as max_valid,
        max(measured_at) as last_measured_at,
        max(_received_at) as last_received_at
    from placed
    group by all
)

select
    station_id,
    parameter,
    day,
    day + hour * interval 1 hour as hour_end,
    cast(coalesce(due_hour.expected, 0) as integer) as expected,
    cast(coalesce(received_hour.received, 0) as integer) as received,
    cast(coalesce(received_hour.valid, 0) as integer) as valid,
    cast(coalesce(received_hour.rows_read - received_hour.received, 0) as integer) as unexpected,
    received_hour.mean_reported,
    cast(received_hour.sum_valid as double) / received_hour.count_valid as mean_valid,
    received_hour.min_valid,
    received_hour.max_valid,
    cast(received_hour.sum_valid as decimal(38, 6)) as sum_valid,
    cast(coalesce(received_hour.count_valid, 0) as integer) as count_valid,
    cast(coalesce(received_hour.valid, 0) as double) / due_hour.expected as coverage_share,
    received_hour.last_measured_at,
    received_hour.last_received_at
from due_hour
full join received_hour using (station_id, parameter, day, hour)
order by day, station_id, parameter, hour
