{{ config(materialized='table') }}

-- what each method says of every series from many origins: number 0 is now, the others are the backtest; each sees only what lies
-- before its origin, also in the weights of its combination
with kind as (
    {{ forecast_kinds() }}
),

slot as (
    select
        *,
        unnest(range(length + origins * stride)) as ago
    from kind
),

series as (
    select distinct station_id, parameter, kind
    from {{ ref('int_forecast_series') }}
),

past as (
    select
        series.station_id,
        series.parameter,
        slot.*,
        known.value
    from series
    inner join slot on series.kind = slot.kind
    left join {{ ref('int_forecast_series') }} as known
        on
            series.station_id = known.station_id
            and series.parameter = known.parameter
            and series.kind = known.kind
            and slot.newest - slot.ago * slot.unit = known.target_at
),

history as (
    select
        station_id,
        parameter,
        kind,
        any_value(newest) as newest,
        any_value(unit) as unit,
        any_value(stride) as stride,
        forecasts(
            list(value order by ago desc),
            any_value(season),
            any_value(steps),
            any_value(length),
            any_value(stride),
            any_value(patience),
            any_value(least)
        ) as said
    from past
    group by station_id, parameter, kind
    having count(value) > 0
),

forecast as (
    select
        * exclude (said),
        unnest(said, max_depth := 2)  -- noqa: AL03
    from history
)

select
    forecast.station_id,
    forecast.parameter,
    forecast.kind,
    forecast.origin_number,
    forecast.newest - forecast.origin_number * forecast.stride * forecast.unit as origin_at,
    forecast.step,
    forecast.newest + (forecast.step - forecast.origin_number * forecast.stride) * forecast.unit as target_at,
    -- nothing that is forecast can be negative; greatest() would take a missing forecast for 0
    {{ forecast_each('case when forecast.@ is not null then greatest(forecast.@, 0) end as @') }},
    known.value as observed
from forecast
left join {{ ref('int_forecast_series') }} as known
    on
        forecast.station_id = known.station_id
        and forecast.parameter = known.parameter
        and forecast.kind = known.kind
        and forecast.newest + (forecast.step - forecast.origin_number * forecast.stride) * forecast.unit = known.target_at
where forecast.mean is not null
