{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_recomputed() }}",
) }}
{%- set window = recompute_window() %}

with day as (
    select *
    from {{ ref('reading_daily') }}
    where {{ is_recomputed('station_id', 'day', window) }}
),

-- the strictest limit of the standard that replaces one, whatever class or plant a permit may name then
next_limit as (
    select
        standard.standard,
        limit_row.standard as next_standard,
        limit_row.matrix,
        limit_row.parameter,
        {{ comparable_unit('limit_row.unit') }} as unit,
        min((limit_row.limit_max, limit_row.confidence, limit_row.reference_oxygen)) as strictest
    from {{ ref('qcvn_standard') }} as standard
    inner join {{ ref('dim_limit') }} as limit_row on standard.replaced_by = limit_row.standard
    where limit_row.limit_max is not null and limit_row.statistic not in ('1h', '8h', 'year')
    group by all
),

-- a concentration per share of flue gas: the hours in which oxygen was measured too, each weighing as many values as it has;
-- times (air - reference) it is the mean at that reference oxygen
undiluted as (
    select
        hour.station_id,
        hour.parameter,
        hour.day,
        sum(hour.count_valid) as paired,
        cast(
            sum(cast(hour.mean_valid / ({{ var('oxygen_of_air') }} - oxygen.mean_valid) as decimal(18, 9)) * hour.count_valid) as double
        ) / sum(hour.count_valid) as mean_valid
    from {{ ref('reading_hourly') }} as hour
    inner join {{ ref('reading_hourly') }} as oxygen
        on hour.station_id = oxygen.station_id and hour.day = oxygen.day and hour.hour_end = oxygen.hour_end and oxygen.parameter = 'O2'
    inner join {{ ref('dim_station') }} as station on hour.station_id = station.station_id
    where
        station.matrix = 'emission'
        and hour.parameter <> 'O2'
        and hour.count_valid > 0
        and oxygen.mean_valid < {{ var('oxygen_most') }}
        and {{ is_recomputed('hour.station_id', 'hour.day', window) }}
    group by hour.station_id, hour.parameter, hour.day
),

limited as (
    select
        day.*,
        period.standard,
        period.standard_class,
        undiluted.mean_valid as mean_undiluted,
        coalesce(undiluted.paired, 0) as paired,
        limit_row.reference_oxygen,
        limit_row.limit_key,
        limit_row.limit_max,
        limit_row.limit_unit,
        limit_row.limit_confidence,
        -- without a limit the factors of the station stand there all the same
        case
            when limit_row.limit_key is null then {{ limit_factor('day.matrix', 'period', 'true') }}
            else limit_row.factor
        end as factor,
        limit_row.effective_min,
        limit_row.effective_max
    from day
    left join undiluted on day.station_id = undiluted.station_id and day.parameter = undiluted.parameter and day.day = undiluted.day
    left join {{ ref('int_station_standard') }} as period
        on day.station_id = period.station_id and day.day between period.valid_from and period.valid_to
    left join {{ ref('int_limit_in_force') }} as limit_row
        on
            day.station_id = limit_row.station_id
            and day.matrix = limit_row.matrix
            and day.parameter = limit_row.parameter
            and limit_row.compared_mean = '24h'
            and day.day between limit_row.valid_from and limit_row.valid_to
),

effective as (
    select
        *,
        case when reference_oxygen is null then mean_valid else mean_undiluted * ({{ var('oxygen_of_air') }} - reference_oxygen) end as mean_compared,
        case
            when limit_key is null then 'no_limit'
            when factor is null then 'no_factor'
            when {{ comparable_unit('limit_unit') }} <> {{ comparable_unit('unit') }} then 'other_unit'
            when day + interval 1 day > {{ as_of() }} then 'running'
            when {{ is_unregistered() }} then 'no_channel'
            when not is_complete then 'incomplete'
            when reference_oxygen is not null and paired < {{ var('completeness_share') }} * valid then 'no_oxygen'
        end as not_judged
    from limited
),

judged as (
    select
        *,
        case
            when not_judged is not null then 'not_judged'
            when mean_compared > effective_max or mean_compared < effective_min then 'exceeded'
            else 'compliant'
        end as status
    from effective
)

select
    judged.station_id,
    judged.station_name,
    judged.matrix,
    judged.matrix_vi,
    judged.commune_code,
    judged.commune_name,
    judged.parameter,
    judged.parameter_name_vi,
    judged.unit,
    judged.day,
    judged.expected,
    judged.valid,
    judged.coverage_share,
    judged.mean_valid,
    judged.standard,
    judged.standard_class,
    judged.limit_key,
    judged.limit_confidence,
    {{ limit_confidence_vi('judged.limit_confidence') }} as limit_confidence_vi,
    judged.limit_max,
    judged.factor,
    judged.effective_min,
    judged.effective_max,
    {{ limit_share('judged.mean_compared', 'judged.effective_min', 'judged.effective_max') }} as limit_share,
    judged.status,
    {{ compliance_status_vi('judged.status') }} as status_vi,
    judged.not_judged,
    {{ not_judged_vi('judged.not_judged') }} as not_judged_vi,
    judged.grade,
    judged.grade_vi,
    standard_row.replaced_by as next_standard,
    cast(next_limit.strictest[1] as decimal(18, 6)) as next_limit_max,
    next_limit.strictest[2] as next_limit_confidence,
    {{ limit_confidence_vi('next_limit.strictest[2]') }} as next_limit_confidence_vi,
    case
        when standard_row.replaced_by is null then null
        when judged.not_judged in ('running', 'no_channel', 'incomplete') or next_limit.strictest is null then 'not_judged'
        when next_limit.strictest[3] is null then case when judged.mean_valid > next_limit.strictest[1] then 'exceeded' else 'compliant' end
        when judged.paired < {{ var('completeness_share') }} * judged.valid then 'not_judged'
        when judged.mean_undiluted * ({{ var('oxygen_of_air') }} - next_limit.strictest[3]) > next_limit.strictest[1] then 'exceeded'
        else 'compliant'
    end as next_status,
    judged.reference_oxygen,
    judged.mean_compared,
    {{ limit_side('judged.mean_compared', 'judged.effective_min', 'judged.effective_max') }} as limit_side,
    coalesce(judged.not_judged not in ('no_limit', 'running'), true) as is_limited
from judged
left join {{ ref('qcvn_standard') }} as standard_row on judged.standard = standard_row.standard
left join next_limit
    on
        judged.standard = next_limit.standard
        and judged.matrix = next_limit.matrix
        and judged.parameter = next_limit.parameter
        and {{ comparable_unit('judged.unit') }} = next_limit.unit
order by judged.day, judged.station_id, judged.parameter
