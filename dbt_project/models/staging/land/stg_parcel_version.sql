-- every version of a parcel, the current ones among them; no address
with version as (
    select * exclude (address), cast(null as timestamp) as _valid_to, cast(null as timestamp) as known_to
    from {{ source('clean', 'parcel') }}
    union all by name
    select * exclude (address, _ended_by) from {{ source('history', 'parcel_history') }}
)

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
    geometry_area_m2,
    crs,
    source_crs,
    geometry,
    _as_of as valid_from,
    _valid_to as valid_to,
    known_from,
    known_to,
    {{ lineage_columns() }}
from version
