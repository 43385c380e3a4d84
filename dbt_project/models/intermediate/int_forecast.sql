{{ config(materialized='table') }}

-- every series forecast from several origins: number 0 is now, the others are the backtest, one a day; each sees only what lies
-- before its origin
with kind as (
    select
        'hour' as kind,
        interval 1 hour as unit,
        24 as season,
        24 as steps,
        24 * {{ var('forecast_hour_history_days') }} as history_length,
        -- a last value older than this stands for nothing
        24 as patience,
        {{ var('forecast_hour_origins') }} as origins,
        date_trunc('hour', {{ as_of() }}) as newest
    union all
    select
        'day' as kind,
        interval 1 day as unit,
        1 as season,
        2 as steps,
        {{ var('forecast_day_history_days') }} as history_length,
        7 as patience,
        {{ var('forecast_day_origins') }} as origins,
        cast({{ environment_day(as_of()) }} - 1 as timestamp) as newest
),

series as (
    select distinct station_id, parameter, kind
    from {{ ref('int_forecast_series') }}
),

origin as (
    select
        *,
        newest - number * interval 1 day as origin_at
    from (select *, unnest(range(origins + 1)) as number from kind) as numbered
),

slot as (
    select
        *,
        unnest(range(history_length)) as ago
    from origin
),

past as (
    select
        series.station_id,
        series.parameter,
        slot.kind,
        slot.number,
        slot.origin_at,
        slot.unit,
        slot.season,
        slot.steps,
        slot.patience,
        slot.ago,
        known.value
    from series
    inner join slot on series.kind = slot.kind
    left join {{ ref('int_forecast_series') }} as known
        on
            series.station_id = known.station_id
            and series.parameter = known.parameter
            and series.kind = known.kind
            and slot.origin_at - slot.ago * slot.unit = known.target_at
),

history as (
    select
        station_id,
        parameter,
        kind,
        number,
        origin_at,
        unit,
        season,
        steps,
        list(value order by ago desc) as history,
        count(value) as history_values,
        arg_min(value, ago) filter (value is not null and ago < patience) as persistence
    from past
    group by station_id, parameter, kind, number, origin_at, unit, season, steps
    having count(value) > 0
),

-- the mean of the same hour of the day, or of all days
climate as (
    select
        station_id,
        parameter,
        kind,
        number,
        ago % season as phase,
        cast(sum(cast(value as decimal(18, 6))) as double) / count(value) as climatology
    from past
    group by station_id, parameter, kind, number, ago % season
),

unnested as (
    select
        * exclude (history),
        unnest(ets_forecast(history, season, steps)) as smoothed,
        unnest(range(1, steps + 1)) as step
    from history
),

forecast as (
    select
        *,
        smoothed['mean'] as ets,
        smoothed['deviation'] * {{ var('forecast_interval_z') }} as half
    from unnested
)

select
    forecast.station_id,
    forecast.parameter,
    forecast.kind,
    cast(forecast.number as integer) as origin_number,
    forecast.origin_at,
    cast(forecast.step as integer) as step,
    forecast.origin_at + forecast.step * forecast.unit as target_at,
    cast(forecast.history_values as integer) as history_values,
    -- nothing that is forecast can be negative; greatest() would take a missing forecast for 0
    case when forecast.ets is not null then greatest(forecast.ets, 0) end as ets,
    case when forecast.ets is not null then greatest(forecast.ets - forecast.half, 0) end as ets_lower,
    case when forecast.ets is not null then greatest(forecast.ets + forecast.half, 0) end as ets_upper,
    forecast.persistence,
    climate.climatology,
    known.value as observed
from forecast
left join climate
    on
        forecast.station_id = climate.station_id
        and forecast.parameter = climate.parameter
        and forecast.kind = climate.kind
        and forecast.number = climate.number
        and (forecast.step + climate.phase) % forecast.season = 0
left join {{ ref('int_forecast_series') }} as known
    on
        forecast.station_id = known.station_id
        and forecast.parameter = known.parameter
        and forecast.kind = known.kind
        and forecast.origin_at + forecast.step * forecast.unit = known.target_at
