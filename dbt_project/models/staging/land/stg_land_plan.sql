select
    plan_id,
    plan_name,
    period,
    land_use_code,
    old_commune_code,
    area_m2,
    {{ geometry_columns() }},
    geometry_repaired,
    {{ lineage_columns() }}
from {{ source('clean', 'land_plan') }}
