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
        min((limit_row.limit_max, limit_row.confidence)) as strictest
    from {{ ref('qcvn_standard') }} as standard
    inner join {{ ref('dim_limit') }} as limit_row on standard.replaced_by = limit_row.standard
    where limit_row.limit_max is not null and limit_row.statistic not in ('1h', '8h', 'year')
    group by all
),

limited as (
    select
        day.*,
        station.standard,
        station.standard_class,
        limit_row.limit_key,
        limit_row.limit_min,
        limit_row.limit_max,
        limit_row.unit as limit_unit,
        limit_row.confidence as limit_confidence,
        {{ limit_factor('station', 'limit_row.factor_applies') }} as factor
    from day
    left join {{ ref('dim_station') }} as station on day.station_id = station.station_id
    left join {{ ref('dim_limit') }} as limit_row
        on
            station.standard = limit_row.standard
            and station.matrix = limit_row.matrix
            and station.standard_class is not distinct from limit_row.class
            and day.parameter = limit_row.parameter
            and limit_row.compared_mean = '24h'
            and day.day between coalesce(limit_row.valid_from, date '0001-01-01') and coalesce(limit_row.valid_to, date '9999-12-31')
),

effective as (
    select
        *,
        limit_min as effective_min,
        cast(limit_max * factor as decimal(18, 6)) as effective_max,
        case
            when limit_key is null then 'no_limit'
            when factor is null then 'no_factor'
            when {{ comparable_unit('limit_unit') }} <> {{ comparable_unit('unit') }} then 'other_unit'
            when day + interval 1 day > {{ as_of() }} then 'running'
            when not is_complete then 'incomplete'
        end as not_judged
    from limited
),

judged as (
    select
        *,
        case
            when not_judged is not null then 'not_judged'
            when mean_valid > effective_max or mean_valid < effective_min then 'exceeded'
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
    judged.limit_max,
    judged.factor,
    judged.effective_min,
    judged.effective_max,
    judged.mean_valid / judged.effective_max as limit_share,
    judged.status,
    case judged.status when 'compliant' then 'Đạt' when 'exceeded' then 'Vượt giới hạn' else 'Không đánh giá' end as status_vi,
    judged.not_judged,
    case judged.not_judged
        when 'no_limit' then 'Quy chuẩn của trạm không có giới hạn ngày đang hiệu lực cho thông số này'
        when 'no_factor' then 'Danh mục trạm thiếu hệ số (Kq, Kf hoặc Kp, Kv)'
        when 'other_unit' then 'Đơn vị của giới hạn khác đơn vị của thông số'
        when 'running' then 'Ngày chưa hết'
        when 'incomplete' then 'Không đủ số liệu hợp lệ'
    end as not_judged_vi,
    judged.grade,
    judged.grade_vi,
    standard_row.replaced_by as next_standard,
    cast(next_limit.strictest[1] as decimal(18, 6)) as next_limit_max,
    next_limit.strictest[2] as next_limit_confidence,
    case
        when standard_row.replaced_by is null then null
        when judged.not_judged in ('running', 'incomplete') or next_limit.strictest is null then 'not_judged'
        when judged.mean_valid > next_limit.strictest[1] then 'exceeded'
        else 'compliant'
    end as next_status
from judged
left join {{ ref('qcvn_standard') }} as standard_row on judged.standard = standard_row.standard
left join next_limit
    on
        judged.standard = next_limit.standard
        and judged.matrix = next_limit.matrix
        and judged.parameter = next_limit.parameter
        and {{ comparable_unit('judged.unit') }} = next_limit.unit
order by judged.day, judged.station_id, judged.parameter
