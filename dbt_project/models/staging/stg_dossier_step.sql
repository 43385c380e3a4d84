select
    dossier_id,
    step_number,
    step_name_vi,
    unit_vi,
    started_at,
    due_at,
    finished_at,
    conflict,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'dossier_step') }}
