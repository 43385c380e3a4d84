{{ config(materialized='table') }}

select
    version.parcel_uid,
    version.parcel_code,
    version.parcel_id,
    version.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    version.old_commune_code,
    commune.old_commune_name,
    version.sheet_number,
    version.parcel_number,
    version.land_use_code,
    version.declared_area_m2,
    version.computed_area_m2,
    version.source_crs,
    version.valid_from,
    version.change_kind,
    version.source_delivery_id,
    version.source_line
from {{ ref('parcel_version') }} as version
left join {{ ref('int_commune') }} as commune on version.old_commune_code = commune.old_commune_code
left join {{ ref('int_new_commune') }} as new_commune on version.commune_code = new_commune.commune_code
where version.valid_to is null
