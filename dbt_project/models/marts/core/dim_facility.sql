select
    facility.facility_id,
    facility.facility_name,
    facility.sector_vi,
    {{ commune_columns('facility') }},
    facility.lon,
    facility.lat,
    facility.design_capacity_m3_day,
    facility.permit_number,
    facility.permit_date,
    facility.basin,
    facility.is_industrial_zone,
    facility.is_connected_to_zone,
    facility.is_pollution_risk,
    facility.treats_waste,
    facility.has_incinerator,
    facility.imports_scrap,
    facility.is_subject_to_eia,
    facility.is_large_emission,
    facility.wastewater_fines,
    facility.emission_fines,
    facility.office_address
from {{ ref('stg_facility') }} as facility
{{ join_commune('facility') }}
