select
    scan_dossier_id,
    certificate_id,
    old_commune_code,
    component_type,
    file_name,
    signed_declared,
    shelf_location,
    {{ lineage_columns() }}
from {{ source('clean', 'scan_dossier') }}
