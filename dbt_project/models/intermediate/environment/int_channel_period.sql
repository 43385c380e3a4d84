with period as (
    select
        station_id,
        parameter,
        cadence_minutes,
        valid_from,
        -- the next period ends the one before, so that no stamp is due under two cadences
        least(valid_to, lead(valid_from) over (partition by station_id, parameter order by valid_from asc, _source asc, _line asc)) as valid_to
    from {{ ref('stg_station_channel') }}
    where cadence_minutes > 0
)

select
    period.station_id,
    period.parameter,
    period.cadence_minutes,
    greatest(period.valid_from, cast(station.in_use_from as timestamp)) as due_from,
    least(period.valid_to, cast(station.in_use_to + 1 as timestamp), timestamp '9999-12-31 00:00:00') as due_to
from period
inner join {{ ref('stg_station') }} as station on period.station_id = station.station_id
where
    greatest(period.valid_from, cast(station.in_use_from as timestamp))
    < least(period.valid_to, cast(station.in_use_to + 1 as timestamp), timestamp '9999-12-31 00:00:00')
