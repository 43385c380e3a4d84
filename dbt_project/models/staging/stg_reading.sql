select
    station_id,
    parameter,
    measured_at,
    span_minutes,
    value_reported,
    value_valid,
    status,
    reason,
    conflict,
    {{ lineage_columns() }}
from
    {{ known_versions(
        'reading',
        ['station_id', 'parameter', 'measured_at'],
        ['span_minutes', 'value_reported', 'value_valid', 'status', 'reason'],
    ) }} as reading
