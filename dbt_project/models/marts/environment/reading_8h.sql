{{ config(
    tags=['live'],
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    partitioned_by=['year(day)', 'month(day)'],
    meta={'scale_out': true},
    pre_hook="{{ delete_recomputed(1) }}",
) }}
{%- set window = recompute_window() %}

-- an hour counts when it is over and enough of it is valid
with hour as (
    select
        station_id,
        parameter,
        day,
        hour_end,
        expected,
        received,
        valid,
        -- DECIMAL: the same to the bit in any order and any frame
        case when coverage_share >= {{ var('completeness_share') }} then cast(mean_valid as decimal(24, 9)) end as mean_valid
    from {{ ref('reading_hourly') }}
    where
        {{ is_ambient_air('station_id') }}
        and hour_end <= {{ as_of() }}
        and hour_end > timestamp '{{ window.first_day or '0001-01-02' }} 00:00:00' - interval 8 hour
),

-- the hour and the seven before it, whether anything was due in them or not
eight as (
    select
        station_id,
        parameter,
        day,
        hour_end,
        sum(expected) over eight_hours as expected,
        sum(received) over eight_hours as received,
        sum(valid) over eight_hours as valid,
        count(mean_valid) over eight_hours as hours,
        sum(mean_valid) over eight_hours as sum_of_means
    from hour
    window eight_hours as (
        partition by station_id, parameter
        order by hour_end
        range between interval 7 hour preceding and current row
    )
)

select
    station_id,
    parameter,
    day,
    hour_end,
    cast(expected as integer) as expected,
    cast(received as integer) as received,
    cast(valid as integer) as valid,
    cast(hours as integer) as hours,
    cast(sum_of_means as double) / nullif(hours, 0) as mean_8h,
    cast(valid as double) / nullif(expected, 0) as coverage_share,
    hours >= 8 * {{ var('completeness_share') }} as is_valid
from eight
where {{ is_recomputed('station_id', 'day', window, 1) }}
order by day, station_id, parameter, hour_end
