select
    owner_id,
    party_type_code,
    owner_name_token,
    identity_number_token,
    {{ lineage_columns() }}
from {{ source('clean', 'land_owner') }}
