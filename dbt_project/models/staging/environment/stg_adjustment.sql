select
    adjustment_id,
    station_id,
    parameter,
    applies_from,
    applies_to,
    action,
    number,
    reason_vi,
    decided_by,
    document,
    conflict,
    {{ lineage_columns() }}
from
    {{ known_versions(
        'adjustment',
        ['adjustment_id'],
        ['station_id', 'parameter', 'applies_from', 'applies_to', 'action', 'number', 'reason_vi', 'decided_by', 'document'],
    ) }} as adjustment
