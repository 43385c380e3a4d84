select
    change_id,
    parcel_id,
    transaction_code,
    changed_on,
    certificate_id,
    dossier_id,
    updated_at,
    conflict,
    {{ lineage_columns() }}
from {{ source('clean', 'land_change') }}
