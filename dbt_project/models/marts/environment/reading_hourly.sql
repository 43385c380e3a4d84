{{ config(
    tags=['live'],
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    partitioned_by=['year(day)', 'month(day)'],
    meta={'scale_out': true},
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

-- slots of a cadence lie on the day's grid; those of an hour are the bits of its minutes, the lowest for the first
minute_of_day as (
    select minute, (minute - 1) // 60 + 1 as hour
    from (select unnest(range(1, 1441)) as minute) as numbered
),

cadence_hour as (
    select cadence.cadence_minutes, minute_of_day.hour, bit_or(cast(1 as bigint) << (minute_of_day.minute - 1) % 60) as slots
    from (select distinct due.cadence_minutes from due) as cadence
    inner join minute_of_day on minute_of_day.minute % cadence.cadence_minutes = 0
    group by cadence.cadence_minutes, minute_of_day.hour
),

-- a slot is due where its end is in (due_from, due_to]
due_hour as (
    select
        station_id,
        parameter,
        day,
        hour,
        bit_or(slots & ((cast(1 as bigint) << to_minute) - (cast(1 as bigint) << from_minute))) as expected_slots
    from (
        select
            due_day.station_id,
            due_day.parameter,
            due_day.day,
            cadence_hour.hour,
            cadence_hour.slots,
            greatest(0, date_diff('minute', due_day.day, due_day.due_from) - (cadence_hour.hour - 1) * 60) as from_minute,
            least(60, date_diff('minute', due_day.day, due_day.due_to) - (cadence_hour.hour - 1) * 60) as to_minute
        from due_day
        inner join cadence_hour on due_day.cadence_minutes = cadence_hour.cadence_minutes
        where {{ is_recomputed('due_day.station_id', 'due_day.day', window) }}
    ) as span
    where to_minute > from_minute
    group by station_id, parameter, day, hour
    having expected_slots > 0
),

reading as (
    select
        reading.station_id, reading.parameter, reading.measured_at, reading._received_at, reading.value_reported,
        reading.value_adjusted as value_valid, reading.reason, reading.adjustment_id,
        {{ environment_day('reading.measured_at') }} as day,
        due.cadence_minutes, due.due_to
    from {{ ref('int_reading') }} as reading
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
                then cast(1 as bigint) << ((slot_minute - 1) % 60)
        end as slot_bit
    from slot
),

received_hour as (
    select
        station_id,
        parameter,
        day,
        hour,
        coalesce(bit_or(slot_bit), 0) as received_slots,
        coalesce(bit_or(slot_bit) filter (value_valid is not null), 0) as valid_slots,
        coalesce(bit_or(slot_bit) filter (reason = 'status_calibrating'), 0) as calibrating_slots,
        coalesce(bit_or(slot_bit) filter (reason = 'status_device_error'), 0) as error_slots,
        coalesce(bit_or(slot_bit) filter (reason = 'out_of_range'), 0) as out_of_range_slots,
        coalesce(bit_or(slot_bit) filter (reason = 'quality'), 0) as quality_slots,
        coalesce(bit_or(slot_bit) filter (reason = 'rejected'), 0) as rejected_slots,
        coalesce(bit_or(slot_bit) filter (adjustment_id is not null), 0) as adjusted_slots,
        count(*) as rows_read,
        cast(sum(value_reported) as double) / nullif(count(value_reported), 0) as mean_reported,
        sum(value_valid) as sum_valid,
        count(value_valid) as count_valid,
        min(value_valid) as min_valid,
        max(value_valid) as max_valid,
        max(measured_at) as last_measured_at,
        max(_received_at) as last_received_at
    from placed
    group by all
),

-- a slot that was received and not valid has one cause: the first that holds of rejection by people, calibration, device, range, quality
due_or_received as (
    select
        station_id,
        parameter,
        day,
        hour,
        due_hour.expected_slots,
        received_hour.received_slots,
        received_hour.valid_slots,
        received_hour.calibrating_slots,
        received_hour.error_slots,
        received_hour.out_of_range_slots,
        received_hour.quality_slots,
        received_hour.rejected_slots,
        received_hour.adjusted_slots,
        received_hour.rows_read,
        received_hour.mean_reported,
        received_hour.sum_valid,
        received_hour.count_valid,
        received_hour.min_valid,
        received_hour.max_valid,
        received_hour.last_measured_at,
        received_hour.last_received_at
    from due_hour
    full join received_hour using (station_id, parameter, day, hour)
),

slot_hour as (
    select
        *,
        coalesce(bit_count(expected_slots), 0) as expected,
        coalesce(bit_count(received_slots), 0) as received,
        coalesce(bit_count(valid_slots), 0) as valid,
        coalesce(received_slots & ~valid_slots & rejected_slots, 0) as refused_slots,
        coalesce(received_slots & ~valid_slots & ~rejected_slots, 0) as unexplained_slots
    from due_or_received
)

select
    station_id,
    parameter,
    day,
    day + hour * interval 1 hour as hour_end,
    cast(expected as integer) as expected,
    cast(received as integer) as received,
    cast(valid as integer) as valid,
    cast(coalesce(bit_count(unexplained_slots & calibrating_slots), 0) as integer) as invalid_calibrating,
    cast(coalesce(bit_count(unexplained_slots & error_slots & ~calibrating_slots), 0) as integer) as invalid_device_error,
    cast(coalesce(bit_count(unexplained_slots & out_of_range_slots & ~calibrating_slots & ~error_slots), 0) as integer) as invalid_out_of_range,
    cast(
        coalesce(bit_count(unexplained_slots & ~calibrating_slots & ~error_slots & ~out_of_range_slots & ~quality_slots), 0) as integer
    ) as invalid_unreadable,
    cast(coalesce(rows_read - received, 0) as integer) as unexpected,
    mean_reported,
    cast(sum_valid as double) / nullif(count_valid, 0) as mean_valid,
    min_valid,
    max_valid,
    cast(sum_valid as decimal(38, 6)) as sum_valid,
    cast(coalesce(count_valid, 0) as integer) as count_valid,
    cast(valid as double) / nullif(expected, 0) as coverage_share,
    last_measured_at,
    last_received_at,
    coalesce(expected_slots, 0) as expected_slots,
    coalesce(received_slots, 0) as received_slots,
    coalesce(calibrating_slots, 0) as calibrating_slots,
    cast(
        coalesce(bit_count(unexplained_slots & quality_slots & ~calibrating_slots & ~error_slots & ~out_of_range_slots), 0) as integer
    ) as invalid_quality,
    cast(bit_count(refused_slots) as integer) as invalid_rejected,
    cast(coalesce(bit_count(adjusted_slots), 0) as integer) as adjusted
from slot_hour
order by day, station_id, parameter, hour
