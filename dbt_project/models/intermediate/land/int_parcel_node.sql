{{ config(materialized='table') }}

-- a number that is given anew on a day, within one commune, names another parcel from that day on
with given as (
    select unit_key, present_parcel_id as parcel_id, effective_on from {{ ref('int_parcel_renumbering') }}
    where resolution = 'resolved' and unit_key = former_unit_key
    union
    select former_unit_key as unit_key, former_parcel_id as parcel_id, effective_on from {{ ref('int_parcel_renumbering') }}
    where resolution = 'resolved' and unit_key = former_unit_key
),

counted as (
    select version.unit_key, version.parcel_id, version.valid_from, count(*) as times
    from {{ ref('int_parcel_version') }} as version
    inner join given on version.unit_key = given.unit_key and version.parcel_id = given.parcel_id and given.effective_on <= cast(version.valid_from as date)
    group by version.unit_key, version.parcel_id, version.valid_from
)

select
    version.unit_key || '|' || version.parcel_id || '|' || coalesce(counted.times, 0) as node_id,
    version.unit_key,
    version.parcel_id,
    version.unit_code,
    version.is_new_unit,
    version.place_code,
    version.sheet_number,
    version.parcel_number,
    version.parcel_code,
    version.origin_parcel_id,
    version.land_use_code,
    version.area_m2,
    version.geometry_area_m2,
    version.crs,
    version.source_crs,
    version.geometry_hash,
    version.valid_from,
    version.valid_to,
    version.known_from,
    version.known_to,
    version._delivery_id,
    version._line
from {{ ref('int_parcel_version') }} as version
left join counted on version.unit_key = counted.unit_key and version.parcel_id = counted.parcel_id and version.valid_from = counted.valid_from
