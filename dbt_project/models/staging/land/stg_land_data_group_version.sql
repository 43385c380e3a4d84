-- every version of the national system's classification of a parcel, the current ones among them
with version as (
    select *, cast(null as timestamp) as _valid_to, cast(null as timestamp) as known_to
    from {{ source('clean', 'land_data_group') }}
    union all by name
    select * exclude (_ended_by) from {{ source('history', 'land_data_group_history') }}
)

select
    commune_code,
    sheet_number,
    parcel_number,
    is_synced,
    owner_check,
    is_in_operation,
    is_group_1,
    _as_of as valid_from,
    _valid_to as valid_to,
    known_from,
    known_to,
    {{ lineage_columns() }}
from version
