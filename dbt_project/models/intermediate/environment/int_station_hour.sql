-- slots of an hour as bits (see reading_hourly): what a station owed and sent, and what explains its silence
with channel_hour as (
    select
        hour.day,
        hour.hour_end,
        hour.station_id,
        station.facility_id,
        hour.expected_slots,
        hour.received_slots,
        hour.calibrating_slots,
        hour.expected_slots & ~hour.received_slots as missing_slots,
        bit_or(hour.received_slots) over (partition by hour.day, hour.hour_end, hour.station_id) as station_slots
    from {{ ref('reading_hourly') }} as hour
    inner join {{ ref('dim_station') }} as station on hour.station_id = station.station_id
),

station_hour as (
    select
        day,
        hour_end,
        station_id,
        facility_id,
        bit_or(expected_slots) as expected_slots,
        bit_or(received_slots) as received_slots,
        bit_or(calibrating_slots) as calibrating_slots,
        -- a channel that is missing also while others of its station come is silent of itself
        bit_or(case when missing_slots & station_slots = 0 then missing_slots else 0 end) as silent_slots
    from channel_hour
    group by day, hour_end, station_id, facility_id
),

minute_of_hour as (
    select unnest(range(1, 61)) as minute
),

{{ silent_together('province', var('receiver_least_stations')) }},

{{ silent_together('facility', 2, by='facility_id') }},

ago as (
    select unnest(range(5)) as minutes
),

-- a file with rows in quarantine stands for the slots that end in the five minutes before the time in its name
rejected_slot as (
    select distinct
        named.station_id,
        time_bucket(interval 1 minute, delivery.as_of + interval 59 second) - ago.minutes * interval 1 minute as slot_end
    from {{ source('quarantine', 'row') }} as rejected
    inner join {{ source('ops', 'delivery') }} as delivery on rejected.delivery_id = delivery.delivery_id
    inner join {{ ref('int_station_code') }} as named on contains(delivery.name, named.code)
    cross join ago
    where rejected.target = 'reading' {% if var('known_at') %}and rejected.received_at <= timestamp '{{ var('known_at') }}'{% endif %}
),

rejected_hour as (
    select
        station_id,
        {{ environment_day('slot_end') }} as day,
        date_trunc('hour', slot_end - interval 1 minute) + interval 1 hour as hour_end,
        bit_or(cast(1 as bigint) << cast(extract('minute' from slot_end - interval 1 minute) as integer)) as rejected_slots
    from rejected_slot
    group by all
)

select
    station_hour.*,
    -- the last minutes before the build: what is due may still come without being late
    (cast(1 as bigint) << 60) - (
        cast(1 as bigint) << (
            60 - least(60, greatest(0, date_diff('minute', {{ as_of() }} - interval {{ var('late_after_minutes') }} minute, station_hour.hour_end)))
        )
    ) as not_due_slots,
    coalesce(province_silence.slots, 0) as receiver_slots,
    coalesce(rejected_hour.rejected_slots, 0) as rejected_slots,
    coalesce(facility_silence.slots, 0) as facility_slots
from station_hour
left join province_silence
    on
        station_hour.day = province_silence.day
        and station_hour.hour_end = province_silence.hour_end
        and station_hour.station_id = province_silence.station_id
left join facility_silence
    on
        station_hour.day = facility_silence.day
        and station_hour.hour_end = facility_silence.hour_end
        and station_hour.station_id = facility_silence.station_id
left join rejected_hour
    on
        station_hour.day = rejected_hour.day
        and station_hour.hour_end = rejected_hour.hour_end
        and station_hour.station_id = rejected_hour.station_id
