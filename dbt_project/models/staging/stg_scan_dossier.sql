select
    scan_dossier_id,
    certificate_id,
    old_commune_code,
    component_type,
    file_name,
    signed_declared,
    shelf_location,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'scan_dossier') }}
