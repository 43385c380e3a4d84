select
    old_commune_code,
    commune_name,
    is_illustrative,
    geometry,
    crs,
    geometry_area_m2,
    xmin,
    ymin,
    xmax,
    ymax,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'commune_boundary') }}
