select
    price_id,
    old_commune_code,
    street_or_area,
    land_use_code,
    position,
    price_vnd_m2,
    valid_from,
    valid_to,
    {{ lineage_columns() }}
from {{ source('clean', 'land_price') }}
