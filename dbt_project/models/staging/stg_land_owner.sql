select
    owner_id,
    party_type_code,
    owner_name_token,
    identity_number_token,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'land_owner') }}
