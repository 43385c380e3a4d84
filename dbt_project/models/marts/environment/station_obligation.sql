-- who must have a station, class by class (QĐ 355/QĐ-STNMT II.1.3), against who has one that sends
with obliged as (
    select facility.*, class.*
    from {{ ref('dim_facility') }} as facility
    cross join {{ ref('obligation_class') }} as class
    where
        case class.class_id
            when 'R019' then facility.is_industrial_zone
            -- what runs into the central treatment of a zone is the zone's to watch
            when 'R020'
                then facility.is_pollution_risk and facility.design_capacity_m3_day >= class.min_capacity_m3_day and not facility.is_connected_to_zone
            when 'R021' then (facility.treats_waste or facility.imports_scrap) and facility.is_subject_to_eia and not facility.is_connected_to_zone
            when 'R022'
                then
                    facility.design_capacity_m3_day >= class.min_capacity_m3_day
                    and not facility.is_connected_to_zone
                    and not facility.is_pollution_risk
                    and not facility.treats_waste
                    and not facility.imports_scrap
                    and not facility.is_industrial_zone
            when 'R023' then facility.wastewater_fines >= class.min_fines
            when 'R024' then facility.is_large_emission
            when 'R025' then facility.has_incinerator
            when 'R026' then facility.imports_scrap and facility.is_subject_to_eia
            when 'R027' then facility.emission_fines >= class.min_fines
        end
),

installed as (
    select
        station.facility_id,
        station.matrix,
        count(*) as stations,
        count(*) filter (now_at.last_measured_at > {{ as_of() }} - interval {{ var('connected_within_days') }} day) as stations_connected,
        max(now_at.last_measured_at) as last_measured_at
    from {{ ref('dim_station') }} as station
    inner join {{ ref('station_status') }} as now_at on station.station_id = now_at.station_id
    where station.facility_id is not null
    group by station.facility_id, station.matrix
),

judged as (
    select
        obliged.*,
        coalesce(installed.stations, 0) as stations,
        coalesce(installed.stations_connected, 0) as stations_connected,
        installed.last_measured_at,
        case
            when installed.stations_connected > 0 then 'fulfilled'
            when installed.stations > 0 then 'silent'
            else 'missing'
        end as status
    from obliged
    left join installed on obliged.facility_id = installed.facility_id and obliged.matrix = installed.matrix
)

select
    facility_id,
    facility_name,
    sector_vi,
    commune_code,
    commune_name,
    basin,
    office_address,
    class_id,
    class_name_vi,
    condition_vi,
    matrix,
    {{ matrix_vi('matrix') }} as matrix_vi,
    design_capacity_m3_day,
    deadline,
    case when status <> 'fulfilled' then greatest(0, date_diff('day', deadline, cast({{ as_of() }} as date))) end as days_overdue,
    cast(stations as integer) as stations,
    cast(stations_connected as integer) as stations_connected,
    last_measured_at,
    status,
    {{ obligation_status_vi('status') }} as status_vi,
    status <> 'fulfilled' and deadline < cast({{ as_of() }} as date) as needs_letter,
    confidence
from judged
