select
    change_id,
    parcel_id,
    transaction_code,
    changed_on,
    certificate_id,
    dossier_id,
    updated_at,
    conflict,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'land_change') }}
