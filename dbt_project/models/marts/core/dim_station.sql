select
    station.station_id,
    station.station_name,
    station.facility_id,
    facility.facility_name,
    station.matrix,
    {{ matrix_vi('station.matrix') }} as matrix_vi,
    {{ commune_columns('station') }},
    station.lon,
    station.lat,
    station.standard,
    station.standard_class,
    station.kq,
    station.kf,
    station.kp,
    station.kv,
    station.in_use_from,
    station.in_use_to,
    station.contact_unit,
    station.former_codes,
    station.permit,
    station.calibrated_on,
    station.verified_until
from {{ ref('stg_station') }} as station
left join {{ ref('stg_facility') }} as facility on station.facility_id = facility.facility_id
{{ join_commune('station') }}
