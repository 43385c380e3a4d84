-- the codes that a station's files bear or bore
select station_id, station_id as code
from {{ ref('stg_station') }}
union
select station_id, trim(unnest(string_split(former_codes, ';'))) as code
from {{ ref('stg_station') }}
where former_codes is not null
