with judged as (
    select
        *,
        cast(date_trunc('month', day) as date) as month,
        row_number() over (
            partition by station_id, parameter, date_trunc('month', day)
            order by limit_share desc, day asc
        ) = 1 as is_worst
    from {{ ref('compliance_daily') }}
    where status <> 'not_judged'
),

counted as (
    select
        station_id,
        parameter,
        month,
        count(*) as days_judged,
        count(*) filter (status = 'exceeded') as days_outside,
        count(*) filter (status = 'exceeded' and mean_compared < effective_min) as days_below_min
    from judged
    group by station_id, parameter, month
)

select
    worst.station_id,
    worst.station_name,
    worst.matrix,
    worst.matrix_vi,
    worst.commune_code,
    worst.commune_name,
    worst.parameter,
    worst.parameter_name_vi,
    worst.unit,
    worst.month,
    cast(counted.days_judged as integer) as days_judged,
    cast(counted.days_outside as integer) as days_outside,
    cast(counted.days_below_min as integer) as days_below_min,
    cast(counted.days_outside - counted.days_below_min as integer) as days_above_max,
    cast(counted.days_outside as double) / counted.days_judged as outside_share,
    worst.day as worst_day,
    worst.mean_compared as worst_mean,
    case worst.limit_side when 'min' then worst.effective_min else worst.effective_max end as worst_limit,
    worst.limit_share as worst_limit_share,
    worst.limit_side as worst_limit_side,
    worst.limit_confidence,
    worst.limit_confidence_vi
from judged as worst
inner join counted on worst.station_id = counted.station_id and worst.parameter = counted.parameter and worst.month = counted.month
where worst.is_worst
order by worst.month, worst.station_id, worst.parameter
