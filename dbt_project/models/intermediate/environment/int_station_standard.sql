-- what judged a station on any day: the period of the dated register that holds it, else the register of stations
with dated as (
    select
        *,
        -- the next period ends the one before, so that no day has two
        coalesce(
            least(valid_to, lead(valid_from) over (partition by station_id order by valid_from) - 1), date '9999-12-31'
        ) as last_day
    from {{ ref('stg_station_period') }}
),

-- the days before the first period, between two, and after the last
gap as (
    select
        station.station_id,
        coalesce(lag(dated.last_day) over by_time + 1, date '0001-01-01') as valid_from,
        coalesce(dated.valid_from - 1, date '9999-12-31') as valid_to
    from {{ ref('stg_station') }} as station
    left join dated on station.station_id = dated.station_id
    window by_time as (partition by station.station_id order by dated.valid_from)
    union all
    select station_id, max(last_day) + 1 as valid_from, date '9999-12-31' as valid_to
    from dated
    group by station_id
    having max(last_day) < date '9999-12-31'
)

select
    station_id,
    valid_from,
    last_day as valid_to,
    standard,
    standard_class,
    kq,
    kf,
    kp,
    kv,
    reference_oxygen,
    permit
from dated
union all
select
    gap.station_id,
    gap.valid_from,
    gap.valid_to,
    station.standard,
    station.standard_class,
    station.kq,
    station.kf,
    station.kp,
    station.kv,
    cast(null as decimal(4, 1)) as reference_oxygen,
    station.permit
from gap
inner join {{ ref('stg_station') }} as station on gap.station_id = station.station_id
where gap.valid_from <= gap.valid_to
