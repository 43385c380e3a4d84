select
    commune_code,
    sheet_number,
    parcel_number,
    is_in_cadastral_book,
    is_synced,
    has_attributes_only,
    owner_check,
    is_in_operation,
    is_group_1,
    defect_paths,
    {{ lineage_columns() }}
from {{ source('clean', 'land_data_group') }}
