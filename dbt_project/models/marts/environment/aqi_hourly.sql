{{ config(
    tags=['live'],
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_recomputed(1) }}",
) }}
{%- set window = recompute_window() %}

with hour as (
    -- an hour counts when it is over and enough of it is valid
    select
        station_id,
        parameter,
        day,
        hour_end,
        expected,
        unexpected,
        case when coverage_share >= {{ var('completeness_share') }} then round(greatest(mean_valid, 0), 6) end as mean_valid
    from {{ ref('reading_hourly') }}
    where
        parameter in ({{ aqi_parameter_list() }})
        and {{ is_ambient_air('station_id') }}
        and hour_end <= {{ as_of() }}
        and hour_end > timestamp '{{ window.first_day or '0001-01-02' }} 00:00:00' - interval 12 hour
),

nowcast as {{ nowcast('hour') }},

concentration as (
    select station_id, hour_end, parameter, '1h' as averaging, mean_valid as concentration, null as hours
    from hour
    where parameter not in ('PM2.5', 'PM10')
    union all
    select station_id, hour_end, parameter, 'nowcast|24h' as averaging, concentration, hours
    from nowcast
),

indexed as (
    {{ aqi_indexed() }}
),

station_hour as (
    select
        station_id,
        hour_end,
        {{ aqi_pivot('sub_index', 'aqi') }},
        max(concentration) filter (parameter = 'PM2.5') as nowcast_pm2_5,
        max(concentration) filter (parameter = 'PM10') as nowcast_pm10,
        max(hours) filter (parameter = 'PM2.5') as nowcast_hours_pm2_5,
        max(hours) filter (parameter = 'PM10') as nowcast_hours_pm10,
        count(sub_index) as parameters
    from indexed
    group by station_id, hour_end
),

judged as (
    select
        due.*,
        station_hour.* exclude (station_id, hour_end),
        {{ aqi_of_all() }} as aqi
    from (
        select
            station_id,
            day,
            hour_end,
            {{ unregistered_parameters() }} filter ({{ is_unregistered() }}) as unregistered_parameters
        from hour
        group by station_id, day, hour_end
    ) as due
    left join station_hour using (station_id, hour_end)
    where {{ is_recomputed('station_id', 'day', window, 1) }}
)

select
    judged.station_id,
    station.station_name,
    station.commune_code,
    station.commune_name,
    judged.day,
    judged.hour_end,
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
    judged.nowcast_pm2_5,
    judged.nowcast_pm10,
    cast(judged.nowcast_hours_pm2_5 as integer) as nowcast_hours_pm2_5,
    cast(judged.nowcast_hours_pm10 as integer) as nowcast_hours_pm10,
    cast(coalesce(judged.parameters, 0) as integer) as parameters,
    case
        when judged.aqi is null
            then
                concat_ws(
                    '; ',
                    'Thiếu PM2.5 và PM10: không đủ 2 trong 3 giờ gần nhất',
                    'thông số gửi đến mà chưa đăng ký: ' || judged.unregistered_parameters
                )
    end as reason_vi,
    judged.unregistered_parameters
from judged
left join {{ ref('dim_station') }} as station on judged.station_id = station.station_id
left join {{ ref('vn_aqi_band') }} as band on judged.aqi between band.aqi_min and band.aqi_max
order by judged.day, judged.station_id, judged.hour_end
