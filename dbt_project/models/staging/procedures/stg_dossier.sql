select
    dossier_id,
    procedure_code,
    procedure_name_vi,
    old_commune_code,
    commune_code,
    received_on,
    due_on,
    finished_on,
    status,
    channel,
    parcel_id,
    conflict,
    {{ lineage_columns() }}
from {{ source('clean', 'dossier') }}
