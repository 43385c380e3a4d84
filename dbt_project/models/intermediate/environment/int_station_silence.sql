{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    meta={'scale_out': true},
    pre_hook="{{ delete_recomputed_days() }}",
) }}
{%- set window = recompute_window() %}

-- the slots in which a station owed something, sent nothing, and is late with it
with silent as (
    select *, silent_slots & ~not_due_slots as late_slots
    from {{ ref('int_station_hour') }}
    where {{ is_recomputed_day('day', window) }} and silent_slots & ~not_due_slots > 0
),

minute_of_hour as (
    select unnest(range(1, 61)) as minute
),

slot as (
    select
        silent.station_id,
        silent.day,
        silent.hour_end - (60 - minute_of_hour.minute) * interval 1 minute as slot_end,
        case
            when silent.receiver_slots & {{ slot_bit('minute_of_hour.minute') }} > 0 then 'receiver'
            when silent.rejected_slots & {{ slot_bit('minute_of_hour.minute') }} > 0 then 'rejected'
            when silent.facility_slots & {{ slot_bit('minute_of_hour.minute') }} > 0 then 'facility'
            else 'station'
        end as cause
    from silent
    inner join minute_of_hour
        on silent.late_slots & {{ slot_bit('minute_of_hour.minute') }} > 0
)

select
    slot.station_id,
    slot.day,
    slot.slot_end,
    slot.cause,
    min(period.cadence_minutes) as cadence_minutes
from slot
inner join {{ ref('int_channel_period') }} as period
    on slot.station_id = period.station_id and slot.slot_end > period.due_from and slot.slot_end <= period.due_to
group by slot.station_id, slot.day, slot.slot_end, slot.cause
order by slot.day, slot.station_id, slot.slot_end
