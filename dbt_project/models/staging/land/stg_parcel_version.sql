-- every version that a delivery brought, the current ones among them; what the change of land use needs, no address and no geometry
with version as (
    select parcel_id, old_commune_code, land_use_code, area_m2, {{ lineage_columns() }} from {{ source('clean', 'parcel') }}
    union all
    select parcel_id, old_commune_code, land_use_code, area_m2, {{ lineage_columns() }} from {{ source('history', 'parcel_history') }}
)

select
    parcel_id,
    old_commune_code,
    land_use_code,
    area_m2,
    {{ lineage_columns() }}
from version
