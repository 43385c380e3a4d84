select
    -- a code alone is no key: new communes re-use codes of old ones
    unit_code || '@' || coalesce(cast(valid_from as varchar), '') as unit_key,
    unit_code,
    unit_name,
    unit_type,
    level,
    parent_code,
    valid_from,
    valid_to,
    lon,
    lat,
    area_km2,
    in_old_binh_phuoc
from {{ ref('administrative_unit') }}
