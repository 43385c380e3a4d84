select
    price_id,
    old_commune_code,
    street_or_area,
    land_use_code,
    position,
    price_vnd_m2,
    valid_from,
    valid_to,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'land_price') }}
