-- every judged period that broke its limit: days of all matrices, hours of ambient air
with judged as (
    select
        station_id,
        parameter,
        '24h' as compared_mean,
        cast(day as timestamp) as period_from,
        cast(day as timestamp) + interval 1 day as period_to,
        mean_compared as mean_valid,
        effective_min,
        effective_max,
        limit_confidence,
        grade,
        status = 'exceeded' as is_exceeded
    from {{ ref('compliance_daily') }}
    where status <> 'not_judged'
    union all
    select
        hour.station_id,
        hour.parameter,
        '1h' as compared_mean,
        hour.hour_end - interval 1 hour as period_from,
        hour.hour_end as period_to,
        hour.mean_valid,
        limit_row.effective_min,
        limit_row.effective_max,
        limit_row.limit_confidence,
        day.grade,
        hour.mean_valid > limit_row.effective_max as is_exceeded
    from {{ ref('reading_hourly') }} as hour
    inner join {{ ref('reading_daily') }} as day on hour.station_id = day.station_id and hour.parameter = day.parameter and hour.day = day.day
    inner join {{ ref('int_limit_in_force') }} as limit_row
        on
            hour.station_id = limit_row.station_id
            and hour.parameter = limit_row.parameter
            and limit_row.compared_mean = '1h'
            and hour.day between limit_row.valid_from and limit_row.valid_to
    where
        limit_row.matrix = 'ambient_air'
        and hour.coverage_share >= {{ var('completeness_share') }}
        and hour.hour_end <= {{ as_of() }}
),

-- a period that could not be judged ends an episode: nothing says that the limit was broken in it
numbered as (
    select
        *,
        period_from <> lag(period_to) over by_time or not lag(is_exceeded) over by_time or lag(period_to) over by_time is null as is_first,
        period_to = max(period_to) over (partition by station_id, parameter, compared_mean) as is_last_judged
    from judged
    window by_time as (partition by station_id, parameter, compared_mean order by period_from)
),

grouped as (
    select
        *,
        count(*) filter (is_first) over (partition by station_id, parameter, compared_mean order by period_from) as episode
    from numbered
    where is_exceeded
),

measured as (
    select
        *,
        {{ limit_share('mean_valid', 'effective_min', 'effective_max') }} as excess
    from grouped
),

-- the period that was furthest from its limit, above or below; the first of equals
ranked as (
    select
        *,
        row_number() over (
            partition by station_id, parameter, compared_mean, episode
            order by excess desc nulls first, period_from asc
        ) = 1 as is_peak
    from measured
),

episode as (
    select
        station_id,
        parameter,
        compared_mean,
        min(period_from) as started_at,
        max(period_to) as ended_at,
        count(*) as periods,
        max(mean_valid) filter (is_peak) as peak,
        max(period_to) filter (is_peak) as peak_at,
        max(case when mean_valid < effective_min then effective_min else effective_max end) filter (is_peak) as limit_at_peak,
        max(excess) filter (is_peak) as peak_factor,
        max(limit_confidence) filter (is_peak) as limit_confidence,
        bool_or(is_last_judged) as is_open,
        {{ lowest_grade('grade') }} as grade
    from ranked
    group by station_id, parameter, compared_mean, episode
)

select
    episode.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    station.facility_name,
    station.commune_code,
    station.commune_name,
    episode.parameter,
    parameter.parameter_name_vi,
    parameter.unit,
    episode.compared_mean,
    {{ compared_mean_vi('episode.compared_mean') }} as compared_mean_vi,
    episode.started_at,
    episode.ended_at,
    date_diff('hour', episode.started_at, episode.ended_at) as hours,
    episode.periods,
    episode.peak,
    episode.peak_at,
    episode.limit_at_peak,
    episode.peak_factor,
    episode.limit_confidence,
    {{ limit_confidence_vi('episode.limit_confidence') }} as limit_confidence_vi,
    episode.is_open,
    case when episode.is_open then 'Đang vượt' else 'Đã hết' end as open_vi,
    episode.grade,
    {{ grade_vi('episode.grade') }} as grade_vi
from episode
inner join {{ ref('dim_station') }} as station on episode.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and episode.parameter = parameter.parameter
