select
    old_commune_code,
    commune_name,
    is_illustrative,
    {{ geometry_columns() }},
    {{ lineage_columns() }}
from {{ source('clean', 'commune_boundary') }}
