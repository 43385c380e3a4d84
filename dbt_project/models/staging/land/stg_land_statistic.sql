select
    year,
    old_commune_code,
    land_use_code,
    area_m2,
    conflict,
    {{ lineage_columns() }}
from {{ source('clean', 'land_statistic') }}
