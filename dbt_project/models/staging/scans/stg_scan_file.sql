select
    file_name,
    format,
    bytes,
    sha256,
    pages,
    dpi_min,
    width_px,
    height_px,
    is_damaged,
    damage_reason,
    pdfa_declared,
    has_signature,
    is_encrypted,
    conflict,
    {{ lineage_columns() }}
from {{ source('clean', 'scan_file') }}
