select
    facility.facility_id,
    facility.facility_name,
    facility.sector_vi,
    facility.old_commune_code,
    commune.old_commune_name,
    coalesce(commune.commune_code, facility.commune_code) as commune_code,
    commune.commune_name,
    facility.lon,
    facility.lat,
    facility.design_capacity_m3_day,
    facility.permit_number,
    facility.permit_date
from {{ ref('stg_facility') }} as facility
left join {{ ref('int_commune') }} as commune on facility.old_commune_code = commune.old_commune_code
