{{ config(materialized='table') }}

with keyed as (
    select
        version.parcel_id,
        version.parcel_code,
        version.origin_parcel_id,
        version.sheet_number,
        version.parcel_number,
        version.land_use_code,
        version.area_m2,
        version.geometry_area_m2,
        version.crs,
        version.source_crs,
        version.valid_from,
        version.valid_to,
        version.known_from,
        version.known_to,
        version._delivery_id,
        version._line,
        md5(st_aswkb(version.geometry)) as geometry_hash,
        case
            when version.commune_valid_from is null then coalesce(commune.commune_code, version.commune_code, version.old_commune_code)
            else version.commune_code
        end as place_code,
        version.commune_valid_from is not null or ({{ is_new_code() }}) as is_new_unit,
        case when version.commune_valid_from is null then version.old_commune_code else version.commune_code end as unit_code
    from {{ ref('stg_parcel_version') }} as version
    left join {{ ref('int_commune') }} as commune on version.old_commune_code = commune.old_commune_code
),

closed as (
    -- the first delivery of a new commune closes the communes that went into it
    select place_code, min(valid_from) as closed_at
    from keyed
    where is_new_unit
    group by place_code
)

select
    -- a code alone is no key: the new commune bears the code of one of its old ones
    case when keyed.is_new_unit then keyed.unit_code || '@' || '{{ var("communes_merged_on") }}' else keyed.unit_code end as unit_key,
    keyed.parcel_id,
    keyed.unit_code,
    keyed.is_new_unit,
    keyed.place_code,
    keyed.sheet_number,
    keyed.parcel_number,
    keyed.parcel_code,
    keyed.origin_parcel_id,
    keyed.land_use_code,
    keyed.area_m2,
    keyed.geometry_area_m2,
    keyed.crs,
    keyed.source_crs,
    keyed.geometry_hash,
    keyed.valid_from,
    case when keyed.is_new_unit then keyed.valid_to else least(keyed.valid_to, closed.closed_at) end as valid_to,
    keyed.known_from,
    keyed.known_to,
    keyed._delivery_id,
    keyed._line
from keyed
left join closed on keyed.place_code = closed.place_code
where keyed.is_new_unit or coalesce(keyed.valid_from < closed.closed_at, true)
