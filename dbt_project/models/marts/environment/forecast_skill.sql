with stepped as (
    select
        forecast.*,
        shown.value as shown,
        shown.is_chosen,
        shown.lower_bound,
        shown.upper_bound,
        {{ forecast_horizon('forecast.kind', 'forecast.step') }} as horizon
    from {{ ref('int_forecast') }} as forecast
    left join {{ ref('int_forecast_shown') }} as shown
        on
            forecast.station_id = shown.station_id
            and forecast.parameter = shown.parameter
            and forecast.kind = shown.kind
            and forecast.origin_number = shown.origin_number
            and forecast.step = shown.step
    where forecast.origin_number > 0 and forecast.observed is not null
),

pair as (
    select
        * exclude (horizon),
        unnest(['all', horizon]) as horizon
    from stepped
),

-- one row a method, and one of what was shown at the time; skill is against the baselines on the same pairs
judged as (
    {{ forecast_each("select *, '@' as method, @ as value from pair", ' union all') }}
    union all
    select *, 'shown' as method, case when is_chosen then shown end as value from pair
),

measured as (
    select
        *,
        cast(value - observed as decimal(18, 6)) as error,
        cast(power(value - observed, 2) as decimal(38, 12)) as square,
        {{ forecast_each('cast(power(@ - observed, 2) as decimal(38, 12)) as @_square', baselines=true) }},
        case when method = 'shown' then observed between lower_bound and upper_bound end as is_covered
    from judged
    where value is not null and {{ forecast_each('@ is not null', ' and', baselines=true) }}
),

totals as (
    select
        station_id,
        parameter,
        kind,
        horizon,
        method,
        count(*) as forecasts,
        count(distinct origin_number) as origins,
        cast(sum(error) as double) / count(*) as bias,
        cast(sum(abs(error)) as double) / count(*) as mean_absolute_error,
        sqrt(cast(sum(square) as double) / count(*)) as root_mean_square_error,
        cast(count(*) filter (is_covered) as double) / nullif(count(is_covered), 0) as interval_coverage_share,
        sum(square) as squares,
        {{ forecast_each('sum(@_square) as @_squares', baselines=true) }}
    from measured
    group by station_id, parameter, kind, horizon, method
),

baseline as (
    select
        *,
        least({{ forecast_each('@_squares', baselines=true) }}) as baseline_squares
    from totals
),

-- what is shown now
now_shown as (
    select
        station_id,
        parameter,
        kind,
        horizon,
        string_agg(distinct method_vi, '; ' order by method_vi) as shown_vi
    from (
        select
            station_id,
            parameter,
            kind,
            unnest(['all', horizon]) as horizon,
            {{ forecast_method_vi('kind', 'method') }} as method_vi
        from {{ ref('int_forecast_shown') }}
        where origin_number = 0
    ) as named
    group by station_id, parameter, kind, horizon
),

named as (
    select
        *,
        case baseline_squares {{ forecast_each("when @_squares then '@'", '', baselines=true) }} end as best_baseline
    from baseline
)

select
    named.station_id,
    station.station_name,
    station.commune_name,
    station.matrix,
    station.matrix_vi,
    named.parameter,
    named.kind,
    named.horizon,
    {{ forecast_horizon_vi('named.horizon') }} as horizon_vi,
    case named.horizon when '1-6h' then 6 when '7-12h' then 12 when '13-24h' then 24 when '1d' then 24 when '2d' then 48 end as horizon_end_h,
    named.method,
    case when named.method = 'shown' then 'Đã hiển thị (chọn theo dự báo thử)' else {{ forecast_method_vi('named.kind', 'named.method') }} end as method_vi,
    now_shown.shown_vi,
    cast(named.forecasts as integer) as forecasts,
    cast(named.origins as integer) as origins,
    named.bias,
    named.mean_absolute_error,
    named.root_mean_square_error,
    named.interval_coverage_share,
    1 - cast(named.squares as double) / nullif(cast(named.baseline_squares as double), 0) as skill,
    named.best_baseline,
    {{ forecast_method_vi('named.kind', 'named.best_baseline') }} as best_baseline_vi,
    1 - cast(named.squares as double) / nullif(cast(named.persistence_squares as double), 0) as skill_persistence,
    1 - cast(named.squares as double) / nullif(cast(named.climatology_squares as double), 0) as skill_climatology
from named
inner join {{ ref('dim_station') }} as station on named.station_id = station.station_id
left join now_shown
    on
        named.station_id = now_shown.station_id
        and named.parameter = now_shown.parameter
        and named.kind = now_shown.kind
        and named.horizon = now_shown.horizon
order by named.station_id, named.parameter, named.horizon, named.method
