-- the limit is that of the newest day that was judged; one that is not sure is not drawn
select
    day.station_id,
    day.station_name,
    day.commune_code,
    day.commune_name,
    day.parameter,
    day.parameter_name_vi,
    day.unit,
    day.day,
    day.mean_valid,
    case when judged.limit_confidence in ('verified', 'cross-checked') then cast(judged.effective_max as double) end as limit_24h
from {{ ref('reading_daily') }} as day
asof left join {{ ref('compliance_daily') }} as judged
    on day.station_id = judged.station_id and day.parameter = judged.parameter and day.day >= judged.day
where day.matrix = 'ambient_air' and {{ is_whole_day('day.day') }}
