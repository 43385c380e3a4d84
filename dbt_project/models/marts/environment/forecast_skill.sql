with pair as (
    select
        station_id,
        parameter,
        kind,
        unnest([
            'all',
            case
                when kind = 'day' then step || 'd'
                when step <= 6 then '1-6h'
                when step <= 12 then '7-12h'
                else '13-24h'
            end
        ]) as horizon,
        origin_number,
        ets,
        ets_lower,
        ets_upper,
        persistence,
        climatology,
        observed
    from {{ ref('int_forecast') }}
    where origin_number > 0 and observed is not null
),

-- one row a method; skill is against the others on the same pairs
judged as (
    select *, 'ets' as method, ets as value from pair
    union all
    select *, 'persistence' as method, persistence as value from pair
    union all
    select *, 'climatology' as method, climatology as value from pair
),

measured as (
    select
        *,
        cast(value - observed as decimal(18, 6)) as error,
        cast(power(value - observed, 2) as decimal(38, 12)) as square,
        cast(power(persistence - observed, 2) as decimal(38, 12)) as persistence_square,
        cast(power(climatology - observed, 2) as decimal(38, 12)) as climatology_square,
        case when method = 'ets' then observed between ets_lower and ets_upper end as is_covered
    from judged
    where value is not null
),

totals as (
    select
        station_id,
        parameter,
        kind,
        horizon,
        method,
        count(*) as forecasts,
        count(distinct origin_number) as origins,
        cast(sum(error) as double) / count(*) as bias,
        cast(sum(abs(error)) as double) / count(*) as mean_absolute_error,
        sqrt(cast(sum(square) as double) / count(*)) as root_mean_square_error,
        cast(count(*) filter (is_covered) as double) / nullif(count(is_covered), 0) as interval_coverage_share,
        1 - cast(sum(square) filter (persistence is not null) as double) / nullif(cast(sum(persistence_square) as double), 0) as skill_persistence,
        1 - cast(sum(square) filter (climatology is not null) as double) / nullif(cast(sum(climatology_square) as double), 0) as skill_climatology
    from measured
    group by station_id, parameter, kind, horizon, method
)

select
    totals.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    totals.parameter,
    totals.kind,
    totals.horizon,
    case totals.horizon
        when 'all' then 'Mọi tầm'
        when '1-6h' then '1–6 giờ'
        when '7-12h' then '7–12 giờ'
        when '13-24h' then '13–24 giờ'
        when '1d' then '1 ngày'
        when '2d' then '2 ngày'
    end as horizon_vi,
    totals.method,
    case totals.method when 'ets' then 'San bằng mũ (ETS)' when 'persistence' then 'Giữ nguyên giá trị cuối' else 'Trung bình nhiều ngày' end as method_vi,
    cast(totals.forecasts as integer) as forecasts,
    cast(totals.origins as integer) as origins,
    totals.bias,
    totals.mean_absolute_error,
    totals.root_mean_square_error,
    totals.interval_coverage_share,
    totals.skill_persistence,
    totals.skill_climatology
from totals
inner join {{ ref('dim_station') }} as station on totals.station_id = station.station_id
order by totals.station_id, totals.parameter, totals.horizon, totals.method
