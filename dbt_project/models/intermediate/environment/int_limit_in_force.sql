-- which limit a mean of a station is compared with, from which day to which: the standard that judged the station then, and its dated limits
with in_force as (
    select
        period.station_id,
        station.matrix,
        limit_row.parameter,
        limit_row.compared_mean,
        greatest(period.valid_from, coalesce(limit_row.valid_from, date '0001-01-01')) as valid_from,
        least(period.valid_to, coalesce(limit_row.valid_to, date '9999-12-31')) as valid_to,
        period.standard,
        period.standard_class,
        limit_row.limit_key,
        limit_row.limit_min,
        limit_row.limit_max,
        limit_row.unit as limit_unit,
        limit_row.confidence as limit_confidence,
        limit_row.factor_applies,
        period.kq,
        period.kf,
        period.kp,
        period.kv,
        case when limit_row.unit = 'mg/Nm3' then coalesce(period.reference_oxygen, limit_row.reference_oxygen) end as reference_oxygen,
        {{ limit_factor('station.matrix', 'period', 'limit_row.factor_applies') }} as factor
    from {{ ref('int_station_standard') }} as period
    inner join {{ ref('dim_station') }} as station on period.station_id = station.station_id
    inner join {{ ref('dim_limit') }} as limit_row
        on
            period.standard = limit_row.standard
            and station.matrix = limit_row.matrix
            and period.standard_class is not distinct from limit_row.class
            and period.valid_from <= coalesce(limit_row.valid_to, date '9999-12-31')
            and period.valid_to >= coalesce(limit_row.valid_from, date '0001-01-01')
    where limit_row.compared_mean is not null
)

select
    *,
    limit_min as effective_min,
    cast(limit_max * factor as decimal(18, 6)) as effective_max
from in_force
