select
    approval_id,
    station_id,
    parameter,
    first_day,
    last_day,
    grade,
    reason_vi,
    decided_by,
    document,
    conflict,
    {{ lineage_columns() }}
from
    {{ known_versions(
        'approval',
        ['approval_id'],
        ['station_id', 'parameter', 'first_day', 'last_day', 'grade', 'reason_vi', 'decided_by', 'document'],
    ) }} as approval
