{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_recomputed(1) }}",
) }}
{%- set window = recompute_window() %}

with gas_hour as (
    select
        station_id,
        parameter,
        day,
        hour_end,
        case when coverage_share >= {{ var('completeness_share') }} then round(greatest(mean_valid, 0), 6) end as mean_valid
    from {{ ref('reading_hourly') }}
    where
        parameter in ('O3', 'NO2', 'SO2', 'CO')
        and {{ is_ambient_air('station_id') }}
        and hour_end > timestamp '{{ window.first_day or '0001-01-02' }} 00:00:00' - interval 8 hour
),

ozone_hour as (
    select station_id, unnest(generate_series(min(hour_end), max(hour_end) + interval 8 hour, interval 1 hour)) as hour_end
    from gas_hour
    where parameter = 'O3'
    group by station_id
),

-- the hour and the seven before it
eight as (
    select
        ozone_hour.station_id,
        {{ environment_day('ozone_hour.hour_end') }} as day,
        list(gas_hour.mean_valid) over (
            partition by ozone_hour.station_id
            order by ozone_hour.hour_end
            rows between 7 preceding and current row
        ) as c
    from ozone_hour
    left join gas_hour on ozone_hour.station_id = gas_hour.station_id and ozone_hour.hour_end = gas_hour.hour_end and gas_hour.parameter = 'O3'
),

eight_hour_mean as (
    select station_id, day, round(list_avg(c), 6) as mean_8h
    from eight
    where list_count(c) >= 8 * {{ var('completeness_share') }}
),

concentration as (
    select station_id, day, parameter, '1h' as averaging, max(mean_valid) as concentration
    from gas_hour
    group by station_id, day, parameter
    having count(mean_valid) >= 24 * {{ var('completeness_share') }}
    union all
    select station_id, day, 'O3' as parameter, '8h' as averaging, max(mean_8h) as concentration
    from eight_hour_mean
    group by station_id, day
    having count(*) >= 24 * {{ var('completeness_share') }}
    union all
    select station_id, day, parameter, 'nowcast|24h' as averaging, round(greatest(mean_valid, 0), 6) as concentration
    from {{ ref('reading_daily') }}
    where
        matrix = 'ambient_air'
        and parameter in ('PM2.5', 'PM10')
        and is_complete
        and day >= date '{{ window.first_day or '0001-01-01' }}'
),

indexed as (
    -- of ozone the greater of both indices counts; above 400 µg/m3 the 8-hour table has no segment
    {{ aqi_indexed() }}
),

station_day as (
    select
        station_id,
        day,
        {{ aqi_pivot('sub_index', 'aqi') }},
        max(concentration) filter (parameter = 'PM2.5') as mean_pm2_5,
        max(concentration) filter (parameter = 'PM10') as mean_pm10,
        max(concentration) filter (parameter = 'O3' and averaging = '1h') as max_1h_o3,
        max(concentration) filter (parameter = 'O3' and averaging = '8h') as max_8h_o3,
        max(concentration) filter (parameter = 'NO2') as max_1h_no2,
        max(concentration) filter (parameter = 'SO2') as max_1h_so2,
        max(concentration) filter (parameter = 'CO') as max_1h_co,
        count(distinct parameter) filter (sub_index is not null) as parameters
    from indexed
    group by station_id, day
),

judged as (
    select
        due.*,
        station_day.* exclude (station_id, day),
        {{ aqi_of_all() }} as aqi
    from (
        select
            station_id,
            day,
            {{ lowest_grade('grade') }} as grade,
            {{ unregistered_parameters() }} filter ({{ is_unregistered() }}) as unregistered_parameters
        from {{ ref('reading_daily') }}
        where
            matrix = 'ambient_air'
            and parameter in ({{ aqi_parameter_list() }})
            -- a day is judged when it is over
            and day + interval 1 day <= {{ as_of() }}
        group by station_id, day
    ) as due
    left join station_day using (station_id, day)
    where {{ is_recomputed('station_id', 'day', window, 1) }}
)

select
    judged.station_id,
    station.station_name,
    station.commune_code,
    station.commune_name,
    judged.day,
    judged.aqi,
    {{ aqi_responsible() }} as responsible_parameter,
    coalesce(band.level_vi, 'Không đủ số liệu') as level_vi,
    band.hex as colour,
    band.health_effect_vi_short as advice_vi,
    judged.aqi_pm2_5,
    judged.aqi_pm10,
    judged.aqi_o3,
    judged.aqi_no2,
    judged.aqi_so2,
    judged.aqi_co,
    judged.mean_pm2_5,
    judged.mean_pm10,
    judged.max_1h_o3,
    judged.max_8h_o3,
    judged.max_1h_no2,
    judged.max_1h_so2,
    judged.max_1h_co,
    cast(coalesce(judged.parameters, 0) as integer) as parameters,
    case
        when judged.aqi is null
            then
                concat_ws(
                    '; ',
                    'Thiếu PM2.5 và PM10: không đủ số liệu hợp lệ trong ngày',
                    'thông số gửi đến mà chưa đăng ký: ' || judged.unregistered_parameters
                )
    end as reason_vi,
    judged.grade,
    {{ grade_vi('judged.grade') }} as grade_vi,
    judged.unregistered_parameters
from judged
left join {{ ref('dim_station') }} as station on judged.station_id = station.station_id
left join {{ ref('vn_aqi_band') }} as band on judged.aqi between band.aqi_min and band.aqi_max
order by judged.day, judged.station_id
