select
    certificate_id,
    serial_number,
    book_number,
    parcel_id,
    owner_id,
    certificate_type_code,
    issued_on,
    status,
    old_commune_code,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'land_certificate') }}
