select
    year,
    old_commune_code,
    land_use_code,
    area_m2,
    conflict,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'land_statistic') }}
