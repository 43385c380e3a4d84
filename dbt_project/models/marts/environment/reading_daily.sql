{{ config(
    tags=['live'],
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    meta={'scale_out': true},
    pre_hook="{{ delete_recomputed(1) }}",
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
        sum(adjusted) as adjusted,
        max(last_received_at) as last_received_at,
        -- sums are DECIMAL: the same to the bit in any order
        cast(sum(sum_valid) as double) / nullif(sum(count_valid), 0) as mean_valid,
        min(min_valid) as min_valid,
        max(max_valid) as max_valid,
        cast(sum(valid) as double) / nullif(sum(expected), 0) as coverage_share,
        {{ first_at('hour_end', 'min_valid', 'min') }} as min_valid_hour_end,
        {{ first_at('hour_end', 'max_valid') }} as max_valid_hour_end,
        count(mean_1h) as hours,
        max(mean_1h) as max_1h,
        {{ first_at('hour_end', 'mean_1h') }} as max_1h_hour_end
    from (
        -- an hour counts when enough of it is valid
        select *, case when coverage_share >= {{ var('completeness_share') }} then mean_valid end as mean_1h
        from {{ ref('reading_hourly') }}
    ) as hour
    where {{ is_recomputed('station_id', 'day', window, 1) }}
    group by station_id, parameter, day
),

-- eight hours that end in the morning look back at the evening before
eight as (
    select
        station_id,
        parameter,
        day,
        max(mean_8h) as max_8h,
        {{ first_at('hour_end', 'mean_8h') }} as max_8h_hour_end
    from {{ ref('reading_8h') }}
    where is_valid and {{ is_recomputed('station_id', 'day', window, 1) }}
    group by station_id, parameter, day
),

-- days that somebody decided on; of several decisions on a day the one recorded last speaks
approved as (
    select
        day.station_id,
        day.parameter,
        day.day,
        decision.grade,
        decision.approval_id,
        decision._received_at as approved_at,
        day.last_received_at > decision._received_at as is_changed_since
    from day
    inner join {{ ref('stg_approval') }} as decision
        on
            day.station_id = decision.station_id
            and day.day between decision.first_day and decision.last_day
            and day.parameter = coalesce(decision.parameter, day.parameter)
    qualify
        row_number() over (
            partition by day.station_id, day.parameter, day.day
            order by decision._as_of desc, decision._received_at desc, decision._delivery_id desc, decision._line desc
        ) = 1
),

adjusted_later as (
    select distinct approved.station_id, approved.parameter, approved.day
    from approved
    inner join {{ ref('stg_adjustment') }} as adjustment
        on
            approved.station_id = adjustment.station_id
            and approved.parameter = adjustment.parameter
            and approved.day < adjustment.applies_to
            and approved.day + interval 1 day > adjustment.applies_from
            and approved.approved_at < adjustment._received_at
),

-- what came or was decided after the approval was not seen by those who gave it
graded as (
    select
        day.station_id,
        day.parameter,
        day.day,
        approved.approval_id,
        case
            when approved.grade = 'approved' and (approved.is_changed_since or adjusted_later.day is not null) then 'provisional'
            else coalesce(approved.grade, 'raw')
        end as grade
    from day
    left join approved on day.station_id = approved.station_id and day.parameter = approved.parameter and day.day = approved.day
    left join adjusted_later
        on day.station_id = adjusted_later.station_id and day.parameter = adjusted_later.parameter and day.day = adjusted_later.day
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
    coalesce(day.coverage_share >= {{ var('completeness_share') }}, false) as is_complete,
    cast(day.adjusted as integer) as adjusted,
    graded.grade,
    {{ grade_vi('graded.grade') }} as grade_vi,
    graded.approval_id,
    day.min_valid_hour_end,
    day.max_valid_hour_end,
    cast(day.hours as integer) as hours,
    day.max_1h,
    day.max_1h_hour_end,
    eight.max_8h,
    eight.max_8h_hour_end
from day
inner join graded on day.station_id = graded.station_id and day.parameter = graded.parameter and day.day = graded.day
left join eight on day.station_id = eight.station_id and day.parameter = eight.parameter and day.day = eight.day
left join {{ ref('dim_station') }} as station on day.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and day.parameter = parameter.parameter
order by day.day, day.station_id, day.parameter
