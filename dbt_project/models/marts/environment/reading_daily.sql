{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_recomputed() }}",
) }}
{%- set window = recompute_window() %}

with day as (
    select
        station_id,
        parameter,
        day,
        sum(expected) as expected,
        sum(received) as received,
        sum(valid) as valid,
        sum(unexpected) as unexpected,
        -- sums are DECIMAL: the same to the bit in any order
        cast(sum(sum_valid) as double) / nullif(sum(count_valid), 0) as mean_valid,
        min(min_valid) as min_valid,
        max(max_valid) as max_valid,
        cast(sum(valid) as double) / nullif(sum(expected), 0) as coverage_share
    from {{ ref('reading_hourly') }}
    where {{ is_recomputed('station_id', 'day', window) }}
    group by all
)

select
    day.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    station.commune_code,
    station.commune_name,
    day.parameter,
    parameter.parameter_name_vi,
    parameter.unit,
    day.day,
    cast(day.expected as integer) as expected,
    cast(day.received as integer) as received,
    cast(day.valid as integer) as valid,
    cast(day.unexpected as integer) as unexpected,
    day.mean_valid,
    day.min_valid,
    day.max_valid,
    day.coverage_share,
    coalesce(day.coverage_share >= {{ var('completeness_share') }}, false) as is_complete
from day
left join {{ ref('dim_station') }} as station on day.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and day.parameter = parameter.parameter
order by day.day, day.station_id, day.parameter
