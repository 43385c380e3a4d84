{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_recomputed_days() }}",
) }}
{%- set window = recompute_window() %}

with hour as (
    select *, expected_slots & ~received_slots as missing_slots
    from {{ ref('reading_hourly') }}
    where {{ is_recomputed_day('day', window) }}
),

station_hour as (
    select
        station_id,
        hour_end,
        not_due_slots,
        receiver_slots,
        rejected_slots,
        facility_slots,
        silent_slots as station_slots,
        calibrating_slots
    from {{ ref('int_station_hour') }}
    where {{ is_recomputed_day('day', window) }}
),

placed as (
    select
        hour.*,
        station_hour.not_due_slots,
        station_hour.receiver_slots,
        station_hour.rejected_slots,
        station_hour.facility_slots,
        station_hour.station_slots,
        station_hour.calibrating_slots as station_calibrating_slots
    from hour
    left join station_hour on hour.station_id = station_hour.station_id and hour.hour_end = station_hour.hour_end
),

late as (
    select *, missing_slots & ~not_due_slots as late_slots
    from placed
),

-- each missing slot has one cause: the first that holds, from what is ours to what is the channel's own
explained as (
    select
        *,
        missing_slots & not_due_slots as not_due,
        late_slots & receiver_slots as receiver,
        late_slots & ~receiver_slots & rejected_slots as rejected,
        late_slots & ~receiver_slots & ~rejected_slots & facility_slots as facility,
        late_slots & ~receiver_slots & ~rejected_slots & ~facility_slots & station_slots as station,
        late_slots & ~receiver_slots & ~rejected_slots & ~facility_slots & ~station_slots & station_calibrating_slots as calibration,
        late_slots & ~receiver_slots & ~rejected_slots & ~facility_slots & ~station_slots & ~station_calibrating_slots as channel
    from late
),

day as (
    select
        station_id,
        parameter,
        day,
        sum(expected) as expected,
        sum(received) as received,
        sum(valid) as valid,
        sum(invalid_calibrating) as invalid_calibrating,
        sum(invalid_device_error) as invalid_device_error,
        sum(invalid_out_of_range) as invalid_out_of_range,
        sum(invalid_unreadable) as invalid_unreadable,
        sum(invalid_quality) as invalid_quality,
        sum(invalid_rejected) as invalid_rejected,
        sum(bit_count(missing_slots)) as missing,
        sum(bit_count(not_due)) as missing_not_due,
        sum(bit_count(receiver)) as missing_receiver,
        sum(bit_count(rejected)) as missing_rejected,
        sum(bit_count(facility)) as missing_facility,
        sum(bit_count(station)) as missing_station,
        sum(bit_count(calibration)) as missing_calibration,
        sum(bit_count(channel)) as missing_channel,
        count(*) filter (expected > 0) as hourly_values_due,
        count(*) filter (expected > 0 and received >= expected * {{ var('completeness_share') }}) as hourly_values_delivered
    from explained
    group by station_id, parameter, day
)

select
    day.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    station.facility_name,
    station.commune_code,
    station.commune_name,
    day.parameter,
    parameter.parameter_name_vi,
    day.day,
    cast(day.expected as integer) as expected,
    cast(day.received as integer) as received,
    cast(day.valid as integer) as valid,
    cast(day.invalid_calibrating as integer) as invalid_calibrating,
    cast(day.invalid_device_error as integer) as invalid_device_error,
    cast(day.invalid_out_of_range as integer) as invalid_out_of_range,
    cast(day.invalid_unreadable as integer) as invalid_unreadable,
    cast(day.missing as integer) as missing,
    cast(day.missing_not_due as integer) as missing_not_due,
    cast(day.missing_receiver as integer) as missing_receiver,
    cast(day.missing_rejected as integer) as missing_rejected,
    cast(day.missing_facility as integer) as missing_facility,
    cast(day.missing_station as integer) as missing_station,
    cast(day.missing_calibration as integer) as missing_calibration,
    cast(day.missing_channel as integer) as missing_channel,
    cast(day.hourly_values_due as integer) as hourly_values_due,
    cast(day.hourly_values_delivered as integer) as hourly_values_delivered,
    cast(day.received - day.valid as integer) as invalid,
    cast(day.received as double) / nullif(day.expected, 0) as received_share,
    cast(day.valid as double) / nullif(day.expected, 0) as valid_share,
    cast(day.invalid_quality as integer) as invalid_quality,
    cast(day.invalid_rejected as integer) as invalid_rejected
from day
left join {{ ref('dim_station') }} as station on day.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and day.parameter = parameter.parameter
order by day.day, day.station_id, day.parameter
