{{ config(materialized='table') }}  -- its shapes are judged once, not once for each rule

-- what the rules of the cadastre judge of a parcel, for each of its versions
with twice as (
    select distinct one.parcel_uid, one.valid_from
    from {{ ref('parcel_version') }} as one
    inner join {{ ref('parcel_version') }} as other
        on
            one.unit_code = other.unit_code
            and one.is_new_unit = other.is_new_unit
            and one.sheet_number = other.sheet_number
            and one.parcel_number = other.parcel_number
    where
        one.parcel_uid <> other.parcel_uid
        and one.valid_from < coalesce(other.valid_to, timestamp 'infinity')
        and other.valid_from < coalesce(one.valid_to, timestamp 'infinity')
),

placed as (
    select distinct parcel_uid, placement from {{ ref('parcel_overlay') }}
),

coded as (
    select
        version.parcel_uid,
        version.valid_from,
        st_transform(sent.geometry, sent.crs, 'EPSG:4326', always_xy := true) as shape,
        {{ geohash_bits('version.parcel_code') }} as bits
    from {{ ref('parcel_version') }} as version
    inner join {{ ref('stg_parcel_version') }} as sent on version.source_delivery_id = sent._delivery_id and version.source_line = sent._line
    where regexp_full_match(version.parcel_code, '[0-9B-HJKMNP-Z]{12}') and st_isvalid(sent.geometry)
),

cell as (
    select
        parcel_uid,
        valid_from,
        shape,
        {{ geohash_number('bits', 0) }} * 360.0 / power(2, 30) - 180 as west,
        {{ geohash_number('bits', 1) }} * 180.0 / power(2, 30) - 90 as south
    from coded
),

code as (
    -- the point that the code was made of may lie at the edge of its cell, so that the cell need only touch the parcel
    select
        parcel_uid,
        valid_from,
        st_intersects(shape, st_makeenvelope(west, south, west + 360.0 / power(2, 30), south + 180.0 / power(2, 30))) as is_code_in_parcel
    from cell
)

select
    version.parcel_uid as object_id,
    version.parcel_uid,
    version.parcel_id,
    version.parcel_code,
    version.commune_code,
    version.old_commune_code,
    version.sheet_number,
    version.parcel_number,
    version.land_use_code,
    version.declared_area_m2,
    version.computed_area_m2,
    abs(version.declared_area_m2 - version.computed_area_m2) / nullif(version.computed_area_m2, 0) as area_difference_share,
    st_isvalid(sent.geometry) and st_area(sent.geometry) > 0 as is_shape_valid,
    coalesce(land_use.is_legacy, false) as is_land_use_legacy,
    twice.parcel_uid is not null as is_number_twice,
    code.is_code_in_parcel,
    case when version.valid_to is null then placed.placement end as placement,
    version.valid_from,
    version.valid_to,
    version.source_delivery_id,
    version.source_line
from {{ ref('parcel_version') }} as version
inner join {{ ref('stg_parcel_version') }} as sent on version.source_delivery_id = sent._delivery_id and version.source_line = sent._line
left join twice on version.parcel_uid = twice.parcel_uid and version.valid_from = twice.valid_from
left join code on version.parcel_uid = code.parcel_uid and version.valid_from = code.valid_from
left join placed on version.parcel_uid = placed.parcel_uid
left join {{ ref('int_land_use') }} as land_use on version.land_use_code = land_use.code_in_record
