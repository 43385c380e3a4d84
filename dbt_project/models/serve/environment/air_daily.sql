-- a limit that is not sure is not drawn as one
select
    station_id,
    station_name,
    commune_code,
    commune_name,
    parameter,
    parameter_name_vi,
    unit,
    day,
    mean_valid,
    case when limit_confidence in ('verified', 'cross-checked') then cast(effective_max as double) end as limit_24h
from {{ ref('compliance_daily') }}
where matrix = 'ambient_air' and {{ is_whole_day('day') }}
