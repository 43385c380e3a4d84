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
    {{ lineage_columns() }}
from {{ source('clean', 'land_certificate') }}
