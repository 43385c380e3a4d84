-- what is forecast, as far back as training and backtest look: hours of air, days of wastewater; only what is complete and over
select
    hour.station_id,
    hour.parameter,
    'hour' as kind,
    hour.hour_end as target_at,
    hour.mean_valid as value
from {{ ref('reading_hourly') }} as hour
inner join {{ ref('dim_station') }} as station on hour.station_id = station.station_id
where
    station.matrix = 'ambient_air'
    and hour.parameter = 'PM2.5'
    and hour.coverage_share >= {{ var('completeness_share') }}
    and hour.hour_end <= {{ as_of() }}
    and hour.day >= {{ environment_day(as_of()) }} - {{ forecast_reach('hour') }}
union all
select
    station_id,
    'VN_AQI' as parameter,
    'hour' as kind,
    hour_end as target_at,
    cast(aqi as double) as value
from {{ ref('aqi_hourly') }}
where
    aqi is not null
    and hour_end <= {{ as_of() }}
    and day >= {{ environment_day(as_of()) }} - {{ forecast_reach('hour') }}
union all
select
    station_id,
    parameter,
    'day' as kind,
    cast(day as timestamp) as target_at,
    mean_valid as value
from {{ ref('reading_daily') }}
where
    matrix = 'wastewater'
    and is_complete
    and day < {{ environment_day(as_of()) }}
    and day >= {{ environment_day(as_of()) }} - {{ forecast_reach('day') }}
