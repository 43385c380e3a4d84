{{ config(tags=['live']) }}

with station as (
    select *
    from {{ ref('dim_station') }}
    where
        coalesce(in_use_from <= {{ environment_day(as_of()) }}, true)
        and coalesce(in_use_to >= {{ environment_day(as_of()) }}, true)
),

expected as (
    select station_id, min(cadence_minutes) as cadence_minutes, count(*) as parameters_expected
    from {{ ref('int_channel_period') }}
    where due_from < {{ as_of() }} and due_to >= {{ as_of() }}
    group by station_id
),

-- two days tell who is well; who has been silent for longer is found in the hourly values
recent as (
    select
        reading.station_id,
        reading.parameter,
        max(reading.measured_at) as last_measured_at,
        max(reading._received_at) as last_received_at,
        arg_max(reading.status, reading.measured_at) as device_status
    from {{ ref('stg_reading') }} as reading
    where {{ is_received('reading') }} and reading.measured_at > {{ as_of() }} - interval 2 day and reading.measured_at <= {{ as_of() }}
    group by reading.station_id, reading.parameter
),

message as (
    select
        reading.station_id,
        reading.measured_at,
        bool_or(reading.status = '02') as has_error,
        bool_or(reading.status = '01') as is_calibrating
    from {{ ref('stg_reading') }} as reading
    where {{ is_received('reading') }} and reading.measured_at > {{ as_of() }} - interval 2 day and reading.measured_at <= {{ as_of() }}
    group by reading.station_id, reading.measured_at
),

-- the last message that said otherwise; empty where all of two days said the same
otherwise as (
    select
        station_id,
        max(measured_at) filter (not has_error) as last_without_error,
        max(measured_at) filter (not is_calibrating) as last_not_calibrating
    from message
    group by station_id
),

last_seen as (
    select station_id, max(last_measured_at) as last_measured_at, max(last_received_at) as last_received_at
    from (
        select station_id, last_measured_at, last_received_at from recent
        union all
        select station_id, last_measured_at, last_received_at from {{ ref('reading_hourly') }}
    ) as seen
    group by station_id
),

device as (
    -- the device's word is that of the newest message
    select
        recent.station_id,
        bool_or(recent.device_status = '02') filter (recent.last_measured_at = last_seen.last_measured_at) as has_error,
        bool_or(recent.device_status = '01') filter (recent.last_measured_at = last_seen.last_measured_at) as is_calibrating,
        count(*) filter (
            recent.last_measured_at
            >= {{ as_of() }} - (coalesce(expected.cadence_minutes, 60) + {{ var('late_after_minutes') }}) * interval 1 minute
        ) as parameters_reporting
    from recent
    inner join last_seen on recent.station_id = last_seen.station_id
    left join expected on recent.station_id = expected.station_id
    group by recent.station_id
),

silence as (
    select
        station.*,
        last_seen.last_measured_at,
        last_seen.last_received_at,
        date_sub('minute', last_seen.last_measured_at, {{ as_of() }}) as minutes_silent,
        coalesce(expected.cadence_minutes, 60) as cadence_minutes,
        coalesce(expected.parameters_expected, 0) as parameters_expected,
        coalesce(device.parameters_reporting, 0) as parameters_reporting,
        coalesce(device.has_error, false) as has_error,
        coalesce(device.is_calibrating, false) as is_calibrating,
        otherwise.last_without_error,
        otherwise.last_not_calibrating
    from station
    left join expected on station.station_id = expected.station_id
    left join last_seen on station.station_id = last_seen.station_id
    left join device on station.station_id = device.station_id
    left join otherwise on station.station_id = otherwise.station_id
),

judged as (
    select
        *,
        case
            when coalesce(minutes_silent > cadence_minutes + {{ var('offline_after_minutes') }}, true) then 'offline'
            when minutes_silent > cadence_minutes + {{ var('late_after_minutes') }} then 'late'
            when has_error then 'error'
            when is_calibrating then 'calibrating'
            else 'online'
        end as status
    from silence
)

select
    station_id,
    station_name,
    matrix,
    matrix_vi,
    facility_name,
    commune_code,
    commune_name,
    lon,
    lat,
    last_measured_at,
    last_received_at,
    minutes_silent,
    status,
    {{ station_status_vi('status') }} as status_vi,
    cast(parameters_expected as integer) as parameters_expected,
    cast(parameters_reporting as integer) as parameters_reporting,
    {{ as_of() }} as as_of,
    case status
        when 'late' then last_measured_at
        when 'offline' then last_measured_at
        when 'error' then last_without_error
        when 'calibrating' then last_not_calibrating
    end as since,
    contact_unit,
    verified_until,
    coalesce(verified_until < {{ environment_day(as_of()) }}, false) as is_verification_expired
from judged
