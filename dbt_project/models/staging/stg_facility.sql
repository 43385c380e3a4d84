select
    facility_id,
    facility_name,
    sector_vi,
    old_commune_code,
    commune_code,
    lon,
    lat,
    design_capacity_m3_day,
    permit_number,
    permit_date,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'facility') }}
