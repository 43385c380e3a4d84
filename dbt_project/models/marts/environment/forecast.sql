-- what int_forecast_shown chose from now on; the day that is running also from what was measured of it
with stepped as (
    select
        station_id,
        parameter,
        kind,
        target_at,
        value,
        lower_bound,
        upper_bound,
        method,
        step,
        skill,
        backtest_origins,
        case
            when is_model then null
            when is_chosen then 'skill'
            when has_models then 'backtest'
            else 'history'
        end as reason
    from {{ ref('int_forecast_shown') }}
    where origin_number = 0
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
        stepped.* exclude (step, value, lower_bound, upper_bound),  -- noqa: RF02
        {{ rest_of_day('stepped.value') }} as value,
        {{ rest_of_day('stepped.lower_bound') }} as lower_bound,
        {{ rest_of_day('stepped.upper_bound') }} as upper_bound
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
        -- the next hour's stands for all
        unnest(arg_min(struct_pack(method := method, skill := skill, backtest_origins := backtest_origins, reason := reason), step)),  -- noqa: AL03
        greatest(cast(sum(cast(value as decimal(18, 6))) as double) / count(*), 0) as value,
        case
            when count(lower_bound) = count(*) then greatest(cast(sum(cast(lower_bound as decimal(18, 6))) as double) / count(*), 0)
        end as lower_bound,
        case
            when count(upper_bound) = count(*) then greatest(cast(sum(cast(upper_bound as decimal(18, 6))) as double) / count(*), 0)
        end as upper_bound
    from (
        select station_id, parameter, target_at, value, lower_bound, upper_bound, method, step, skill, backtest_origins, reason
        from stepped
        where kind = 'hour'
        union all
        select
            station_id,
            parameter,
            target_at,
            value,
            value as lower_bound,
            value as upper_bound,
            null as method,
            null as step,
            null as skill,
            null as backtest_origins,
            null as reason
        from {{ ref('int_forecast_series') }}
        where kind = 'hour'
    ) as hours
    where
        parameter = 'PM2.5'
        and target_at > cast({{ environment_day(as_of()) }} as timestamp)
        and target_at <= cast({{ environment_day(as_of()) }} + 1 as timestamp)
    group by station_id, parameter
    having count(step) > 0
),

shown as (
    select station_id, parameter, kind, target_at, method, skill, backtest_origins, reason, value, lower_bound, upper_bound
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
    {{ forecast_kind_vi('warned.kind') }} as kind_vi,
    warned.target_at,
    round(warned.value, case when warned.parameter = 'VN_AQI' then 0 else 3 end) as value,
    round(warned.lower_bound, case when warned.parameter = 'VN_AQI' then 0 else 3 end) as lower_bound,
    round(warned.upper_bound, case when warned.parameter = 'VN_AQI' then 0 else 3 end) as upper_bound,
    warned.method,
    {{ forecast_method_vi('warned.kind', 'warned.method') }} as method_vi,
    {{ forecast_reason_vi('warned.reason') }} as reason_vi,
    warned.skill,
    warned.backtest_origins,
    warned.effective_min,
    warned.effective_max,
    warned.limit_confidence,
    {{ limit_confidence_vi('warned.limit_confidence') }} as limit_confidence_vi,
    warned.warning,
    coalesce({{ forecast_warning_vi('warned.warning') }}, 'Không') as warning_vi,
    {{ as_of() }} as issued_at
from warned
inner join {{ ref('dim_station') }} as station on warned.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and warned.parameter = parameter.parameter
order by warned.station_id, warned.parameter, warned.kind, warned.target_at
