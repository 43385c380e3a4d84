select
    parcel_id,
    old_commune_code,
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
