{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_recomputed_periods(1) }}",
) }}
{%- set window = recompute_window() %}

with kind as (
    select unnest(['month', 'quarter', 'year']) as period
),

-- every day belongs to one of each
period_day as (
    select
        kind.period,
        cast(date_trunc(kind.period, day.day) as date) as period_start,
        day.*
    from {{ ref('reading_daily') }} as day
    cross join kind
    where day.day >= date_trunc('year', date '{{ window.first_day or '0001-01-01' }}')
),

summed as (
    select
        period,
        period_start,
        station_id,
        parameter,
        max(day) as last_day,
        count(*) filter (expected > 0) as days_due,
        count(*) filter (is_complete) as days_complete,
        sum(hours) as hours,
        sum(expected) as expected,
        sum(received) as received,
        sum(valid) as valid,
        -- sums are DECIMAL: the same to the bit in any order
        cast(sum(cast(mean_valid as decimal(24, 9))) filter (is_complete) as double) / nullif(count(*) filter (is_complete), 0) as mean_of_days,
        min(min_valid) as min_valid,
        {{ first_at('min_valid_hour_end', 'min_valid', 'min') }} as min_valid_hour_end,
        max(max_valid) as max_valid,
        {{ first_at('max_valid_hour_end', 'max_valid') }} as max_valid_hour_end,
        max(max_1h) as max_1h,
        {{ first_at('max_1h_hour_end', 'max_1h') }} as max_1h_hour_end,
        max(max_8h) as max_8h,
        {{ first_at('max_8h_hour_end', 'max_8h') }} as max_8h_hour_end,
        max(mean_24h) as max_24h,
        {{ first_at('day', 'mean_24h') }} as max_24h_day
    from (select *, case when is_complete then mean_valid end as mean_24h from period_day) as judged
    where {{ is_recomputed_period('station_id', 'period', 'period_start', window, 1) }}
    group by period, period_start, station_id, parameter
),

ended as (
    select
        *,
        cast(
            period_start
            + case period when 'month' then interval 1 month when 'quarter' then interval 3 month else interval 1 year end
            - interval 1 day as date
        ) as period_end
    from summed
)

select
    ended.period,
    case ended.period
        when 'month' then 'Tháng ' || strftime(ended.period_start, '%m/%Y')
        when 'quarter' then 'Quý ' || extract('quarter' from ended.period_start) || '/' || extract('year' from ended.period_start)
        else 'Năm ' || extract('year' from ended.period_start)
    end as period_vi,
    ended.period_start,
    ended.period_end,
    ended.last_day,
    ended.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    station.commune_code,
    station.commune_name,
    ended.parameter,
    parameter.parameter_name_vi,
    parameter.unit,
    cast(ended.days_due as integer) as days_due,
    cast(ended.days_complete as integer) as days_complete,
    cast(ended.hours as integer) as hours,
    cast(ended.expected as bigint) as expected,
    cast(ended.received as bigint) as received,
    cast(ended.valid as bigint) as valid,
    cast(ended.valid as double) / nullif(ended.expected, 0) as coverage_share,
    ended.mean_of_days,
    ended.min_valid,
    ended.min_valid_hour_end,
    ended.max_valid,
    ended.max_valid_hour_end,
    ended.max_1h,
    ended.max_1h_hour_end,
    ended.max_8h,
    ended.max_8h_hour_end,
    ended.max_24h,
    ended.max_24h_day,
    -- complete days of all days of the calendar: a station of half a year has no mean of the year
    ended.period_end + interval 1 day <= {{ as_of() }}
    and ended.days_complete >= (ended.period_end - ended.period_start + 1) * {{ var('completeness_share') }} as is_complete
from ended
left join {{ ref('dim_station') }} as station on ended.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and ended.parameter = parameter.parameter
order by ended.period, ended.period_start, ended.station_id, ended.parameter
