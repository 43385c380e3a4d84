{{ config(meta={'scale_out': true}) }}

with numbered as (
    select
        *,
        coalesce(
            lag(slot_end) over (partition by station_id order by slot_end) < slot_end - cadence_minutes * interval 1 minute,
            true
        ) as is_first
    from {{ ref('int_station_silence') }}
),

grouped as (
    select *, count(*) filter (is_first) over (partition by station_id order by slot_end) as episode
    from numbered
),

caused as (
    select station_id, episode, cause, count(*) as slots
    from grouped
    group by station_id, episode, cause
),

-- the cause of most of its slots; of equals the first by name
main_cause as (
    select station_id, episode, cause
    from caused
    qualify row_number() over (partition by station_id, episode order by slots desc, cause asc) = 1
),

episode as (
    select
        station_id,
        episode,
        min(slot_end - cadence_minutes * interval 1 minute) as started_at,
        max(slot_end) as ended_at,
        count(*) as slots,
        -- nothing that could be late was due since: the station has been silent to the moment of the build
        max(slot_end + cadence_minutes * interval 1 minute) > {{ as_of() }} - interval {{ var('late_after_minutes') }} minute as is_open
    from grouped
    group by station_id, episode
)

select
    episode.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    station.facility_name,
    station.commune_code,
    station.commune_name,
    episode.started_at,
    episode.ended_at,
    cast(date_diff('minute', episode.started_at, episode.ended_at) as bigint) as minutes,
    {{ duration_vi("date_diff('minute', episode.started_at, episode.ended_at)") }} as duration_vi,
    case
        when date_diff('minute', episode.started_at, episode.ended_at) > 1440 then 'over_24_h'
        when date_diff('minute', episode.started_at, episode.ended_at) > 720 then 'over_12_h'
        else 'over_15_min'
    end as length_class,
    case
        when date_diff('minute', episode.started_at, episode.ended_at) > 1440 then 'Trên 24 giờ'
        when date_diff('minute', episode.started_at, episode.ended_at) > 720 then 'Trên 12 giờ'
        else 'Trên 15 phút'
    end as length_class_vi,
    episode.slots,
    main_cause.cause,
    {{ interruption_cause_vi('main_cause.cause') }} as cause_vi,
    episode.is_open,
    case when episode.is_open then 'Đang gián đoạn' else 'Đã nối lại' end as state_vi,
    registered.contact_unit as contact_vi
from episode
inner join main_cause on episode.station_id = main_cause.station_id and episode.episode = main_cause.episode
inner join {{ ref('dim_station') }} as station on episode.station_id = station.station_id
inner join {{ ref('stg_station') }} as registered on episode.station_id = registered.station_id
where date_diff('minute', episode.started_at, episode.ended_at) > {{ var('interruption_minutes') }}
