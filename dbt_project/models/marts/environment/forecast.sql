-- the choice of each series: smoothing only where the backtest found it better than the last value
with skill as (
    select
        station_id,
        parameter,
        kind,
        max(skill_persistence) filter (method = 'ets' and origins >= {{ var('forecast_least_origins') }}) as skill,
        max(root_mean_square_error) filter (method = 'persistence') as persistence_error
    from {{ ref('forecast_skill') }}
    where horizon = 'all'
    group by station_id, parameter, kind
),

chosen as (
    select
        step.*,
        skill.skill,
        coalesce(step.ets is not null and skill.skill > 0, false) as is_ets,
        skill.persistence_error * {{ var('forecast_interval_z') }} as persistence_half
    from {{ ref('int_forecast') }} as step
    left join skill on step.station_id = skill.station_id and step.parameter = skill.parameter and step.kind = skill.kind
    where step.origin_number = 0
),

stepped as (
    select
        station_id,
        parameter,
        kind,
        target_at,
        case when is_ets then ets else persistence end as value,
        case when is_ets then ets_lower when persistence_half is not null then greatest(persistence - persistence_half, 0) end as lower_bound,
        case when is_ets then ets_upper else persistence + persistence_half end as upper_bound,
        is_ets,
        skill,
        case
            when is_ets then null
            when ets is null then 'history'
            when skill is null then 'backtest'
            else 'skill'
        end as reason
    from chosen
    where is_ets or persistence is not null
),

running as (
    select
        station_id,
        parameter,
        day,
        mean_valid,
        effective_min,
        effective_max,
        limit_confidence,
        -- the share of the day that is over
        date_diff('second', cast(day as timestamp), {{ as_of() }}) / 86400.0 as elapsed
    from {{ ref('compliance_daily') }}
    where day = {{ environment_day(as_of()) }}
),

-- the day that is running: what was measured so far, and the forecast for the rest of it
running_day as (
    select
        stepped.* exclude (value, lower_bound, upper_bound),
        coalesce(running.mean_valid * running.elapsed, 0) + stepped.value * case when running.mean_valid is null then 1 else 1 - running.elapsed end as value,
        coalesce(running.mean_valid * running.elapsed, 0)
        + stepped.lower_bound * case when running.mean_valid is null then 1 else 1 - running.elapsed end as lower_bound,
        coalesce(running.mean_valid * running.elapsed, 0)
        + stepped.upper_bound * case when running.mean_valid is null then 1 else 1 - running.elapsed end as upper_bound
    from stepped
    left join running on stepped.station_id = running.station_id and stepped.parameter = running.parameter
    where stepped.kind = 'day' and stepped.target_at = cast({{ environment_day(as_of()) }} as timestamp)
),

-- the same of PM2.5, from the hours that are over and those that are forecast; without bounds for one of them, without bounds
running_hours as (
    select
        station_id,
        parameter,
        'day' as kind,
        cast({{ environment_day(as_of()) }} as timestamp) as target_at,
        bool_and(is_ets) filter (is_ets is not null) as is_ets,
        max(skill) as skill,
        max(reason) as reason,
        cast(sum(cast(value as decimal(18, 6))) as double) / count(*) as value,
        case when count(lower_bound) = count(*) then cast(sum(cast(lower_bound as decimal(18, 6))) as double) / count(*) end as lower_bound,
        case when count(upper_bound) = count(*) then cast(sum(cast(upper_bound as decimal(18, 6))) as double) / count(*) end as upper_bound
    from (
        select station_id, parameter, target_at, value, lower_bound, upper_bound, is_ets, skill, reason
        from stepped
        where kind = 'hour'
        union all
        select station_id, parameter, target_at, value, value as lower_bound, value as upper_bound, null as is_ets, null as skill, null as reason
        from {{ ref('int_forecast_series') }}
        where kind = 'hour'
    ) as hours
    where
        parameter = 'PM2.5'
        and target_at > cast({{ environment_day(as_of()) }} as timestamp)
        and target_at <= cast({{ environment_day(as_of()) }} + 1 as timestamp)
    group by station_id, parameter
    having count(is_ets) > 0
),

shown as (
    select station_id, parameter, kind, target_at, is_ets, skill, reason, value, lower_bound, upper_bound
    from stepped
    where kind = 'hour' or target_at > cast({{ environment_day(as_of()) }} as timestamp)
    union all by name
    select * from running_day
    union all by name
    select * from running_hours
),

warned as (
    select
        shown.*,
        running.effective_min,
        running.effective_max,
        running.limit_confidence,
        case
            when shown.value > running.effective_max or shown.value < running.effective_min then 'will_exceed'
            when shown.upper_bound > running.effective_max or shown.lower_bound < running.effective_min then 'may_exceed'
        end as warning
    from shown
    left join running on shown.station_id = running.station_id and shown.parameter = running.parameter and shown.kind = 'day'
)

select
    warned.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    station.facility_name,
    station.commune_code,
    station.commune_name,
    warned.parameter,
    case when warned.parameter = 'VN_AQI' then 'Chỉ số chất lượng không khí' else parameter.parameter_name_vi end as parameter_name_vi,
    parameter.unit,
    warned.kind,
    case warned.kind when 'hour' then 'Giờ' else 'Trung bình ngày' end as kind_vi,
    warned.target_at,
    round(warned.value, case when warned.parameter = 'VN_AQI' then 0 else 3 end) as value,
    round(warned.lower_bound, case when warned.parameter = 'VN_AQI' then 0 else 3 end) as lower_bound,
    round(warned.upper_bound, case when warned.parameter = 'VN_AQI' then 0 else 3 end) as upper_bound,
    case when warned.is_ets then 'ets' else 'persistence' end as method,
    case when warned.is_ets then 'San bằng mũ (ETS)' else 'Giữ nguyên giá trị cuối' end as method_vi,
    case warned.reason
        when 'history' then 'Chưa đủ lịch sử để lập mô hình'
        when 'backtest' then 'Chưa đủ lần dự báo thử để chấm mô hình'
        when 'skill' then 'Mô hình không tốt hơn giữ nguyên giá trị cuối'
    end as reason_vi,
    warned.skill,
    warned.effective_min,
    warned.effective_max,
    warned.limit_confidence,
    warned.warning,
    case warned.warning when 'will_exceed' then 'Dự báo vượt giới hạn' when 'may_exceed' then 'Có thể vượt giới hạn' end as warning_vi,
    {{ as_of() }} as issued_at
from warned
inner join {{ ref('dim_station') }} as station on warned.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and warned.parameter = parameter.parameter
order by warned.station_id, warned.parameter, warned.kind, warned.target_at
