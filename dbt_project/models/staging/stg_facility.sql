select
    facility_id,
    facility_name,
    sector_vi,
    old_commune_code,
    commune_code,
    lon,
    lat,
    design_capacity_m3_day,
    permit_number,
    permit_date,
    {{ lineage_columns() }}
from {{ source('clean', 'facility') }}
