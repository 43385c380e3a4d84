{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_recomputed() }}",
) }}
{%- set window = recompute_window() %}

with hour as (
    select
        reading.station_id,
        station.matrix,
        reading.parameter,
        parameter.unit,
        reading.day,
        reading.hour_end,
        reading.expected,
        case when reading.coverage_share >= {{ var('completeness_share') }} then greatest(reading.mean_valid, 0) end as mean_valid
    from {{ ref('reading_hourly') }} as reading
    inner join {{ ref('dim_station') }} as station on reading.station_id = station.station_id
    inner join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and reading.parameter = parameter.parameter
    where
        station.matrix in ('wastewater', 'emission')
        and reading.hour_end <= {{ as_of() }}
        and {{ is_recomputed('reading.station_id', 'reading.day', window) }}
),

-- what leaves the facility: the outlet's flow where the station measures it, else its only one; never the inlet's
flow as (
    select
        station_id,
        hour_end,
        arg_min(mean_valid, case parameter when 'Flow_out' then 1 else 2 end) as flow
    from hour
    where parameter in ('Flow_out', 'Flow') and mean_valid is not null
    group by station_id, hour_end
),

load as (
    select
        hour.station_id,
        hour.matrix,
        hour.parameter,
        hour.day,
        hour.expected > 0 as is_due,
        flow.flow,
        {{ hourly_load_kg('flow.flow', 'hour.mean_valid', 'hour.matrix') }} as load_kg
    from hour
    left join flow on hour.station_id = flow.station_id and hour.hour_end = flow.hour_end
    where hour.unit in ('mg/L', 'mg/Nm3')
),

day as (
    select
        station_id,
        matrix,
        parameter,
        day,
        count(*) filter (is_due) as hours_due,
        count(load_kg) as hours_paired,
        sum(load_kg) as load_kg,
        sum(cast(load_kg as decimal(18, 6)) * load_kg) as sum_of_squares,
        cast(sum(cast(flow as decimal(18, 3))) filter (load_kg is not null) as decimal(18, 3)) as volume_m3
    from load
    group by station_id, matrix, parameter, day
    having count(*) filter (is_due) > 0 or count(load_kg) > 0
),

-- missing hours are taken to be like those that are there; how far they may be off is the standard error of a mean of
-- hours_paired drawn from hours_due without putting back
estimated as (
    select
        *,
        case
            when hours_paired >= hours_due then cast(load_kg as double)
            when hours_paired >= hours_due * {{ var('completeness_share') }} then cast(load_kg as double) / hours_paired * hours_due
        end as load_kg_estimated,
        case
            when hours_paired >= hours_due then 0
            when hours_paired > 1
                then
                    1.96 * hours_due
                    * sqrt(
                        greatest(0, cast(sum_of_squares as double) - power(cast(load_kg as double), 2) / hours_paired)
                        / (hours_paired - 1) / hours_paired * (1 - hours_paired / cast(hours_due as double))
                    )
        end as half_width
    from day
)

select
    estimated.station_id,
    station.station_name,
    estimated.matrix,
    {{ matrix_vi('estimated.matrix') }} as matrix_vi,
    station.facility_id,
    station.facility_name,
    station.commune_code,
    station.commune_name,
    facility.basin,
    estimated.parameter,
    parameter.parameter_name_vi,
    estimated.day,
    cast(estimated.hours_due as integer) as hours_due,
    cast(estimated.hours_paired as integer) as hours_paired,
    cast(estimated.hours_paired as double) / nullif(estimated.hours_due, 0) as coverage_share,
    cast(estimated.load_kg as decimal(18, 6)) as load_kg,
    estimated.load_kg_estimated,
    greatest(cast(estimated.load_kg as double), estimated.load_kg_estimated - estimated.half_width) as load_kg_low,
    estimated.load_kg_estimated + estimated.half_width as load_kg_high,
    estimated.volume_m3
from estimated
inner join {{ ref('dim_station') }} as station on estimated.station_id = station.station_id
left join {{ ref('dim_facility') }} as facility on station.facility_id = facility.facility_id
left join {{ ref('dim_parameter') }} as parameter on estimated.matrix = parameter.matrix and estimated.parameter = parameter.parameter
order by estimated.day, estimated.station_id, estimated.parameter
