select
    old_commune_code,
    commune_name,
    is_illustrative,
    {{ geometry_columns() }},
    geometry_repaired,
    {{ lineage_columns() }}
from {{ source('clean', 'commune_boundary') }}
