select
    parcel_id,
    parcel_code,
    origin_parcel_id,
    old_commune_code,
    commune_code,
    commune_valid_from,
    sheet_number,
    parcel_number,
    land_use_code,
    area_m2,
    legal_area_m2,
    address,
    surveyed_on,
    status,
    {{ geometry_columns() }},
    {{ lineage_columns() }}
from {{ source('clean', 'parcel') }}
