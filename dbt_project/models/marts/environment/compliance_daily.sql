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
    station_id,
    station_name,
    matrix,
    matrix_vi,
    commune_code,
    commune_name,
    parameter,
    parameter_name_vi,
    unit,
    day,
    expected,
    valid,
    coverage_share,
    mean_valid,
    standard,
    standard_class,
    limit_key,
    limit_confidence,
    limit_max,
    factor,
    effective_min,
    effective_max,
    mean_valid / effective_max as limit_share,
    status,
    case status when 'compliant' then 'Đạt' when 'exceeded' then 'Vượt giới hạn' else 'Không đánh giá' end as status_vi,
    not_judged,
    case not_judged
        when 'no_limit' then 'Quy chuẩn của trạm không có giới hạn ngày đang hiệu lực cho thông số này'
        when 'no_factor' then 'Danh mục trạm thiếu hệ số (Kq, Kf hoặc Kp, Kv)'
        when 'other_unit' then 'Đơn vị của giới hạn khác đơn vị của thông số'
        when 'running' then 'Ngày chưa hết'
        when 'incomplete' then 'Không đủ số liệu hợp lệ'
    end as not_judged_vi
from judged
order by day, station_id, parameter
