select
    former_commune_code,
    former_sheet_number,
    former_parcel_number,
    commune_code,
    sheet_number,
    parcel_number,
    effective_on,
    {{ lineage_columns() }}
from {{ source('clean', 'parcel_renumbering') }}
