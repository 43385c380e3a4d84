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

judged as (
    select
        version.*,
        sent.geometry,
        sent.crs,
        st_isvalid(sent.geometry) as is_valid,
        case when regexp_full_match(version.parcel_code, '[0-9B-HJKMNP-Z]{12}') then {{ geohash_bits('version.parcel_code') }} end as code_bits
    from {{ ref('parcel_version') }} as version
    inner join {{ ref('stg_parcel_version') }} as sent on version.source_delivery_id = sent._delivery_id and version.source_line = sent._line
),

celled as (
    select
        *,
        {{ geohash_number('code_bits', 0) }} * 360.0 / power(2, 30) - 180 as west,
        {{ geohash_number('code_bits', 1) }} * 180.0 / power(2, 30) - 90 as south
    from judged
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
    version.is_valid and st_area(version.geometry) > 0 as is_shape_valid,
    coalesce(land_use.is_legacy, false) as is_land_use_legacy,
    twice.parcel_uid is not null as is_number_twice,
    -- the point that the code was made of may lie at the edge of its cell, so that the cell need only touch the parcel
    case
        when version.is_valid and version.code_bits is not null
            then st_intersects(
                {{ on_the_globe('version.geometry', 'version.crs') }},
                st_makeenvelope(version.west, version.south, version.west + 360.0 / power(2, 30), version.south + 180.0 / power(2, 30))
            )
    end as is_code_in_parcel,
    case when version.valid_to is null then placed.placement end as placement,
    version.valid_from,
    version.valid_to,
    version.source_delivery_id,
    version.source_line
from celled as version
left join twice on version.parcel_uid = twice.parcel_uid and version.valid_from = twice.valid_from
left join placed on version.parcel_uid = placed.parcel_uid
left join {{ ref('int_land_use') }} as land_use on version.land_use_code = land_use.code_in_record
