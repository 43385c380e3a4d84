select
    dossier_id,
    step_number,
    step_name_vi,
    unit_vi,
    step_kind,
    started_at,
    due_at,
    finished_at,
    conflict,
    {{ lineage_columns() }}
from {{ source('clean', 'dossier_step') }}
