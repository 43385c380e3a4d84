select
    station_id,
    parameter,
    test,
    valid_from,
    valid_to,
    suspect_min,
    suspect_max,
    reason_vi,
    decided_by,
    document,
    conflict,
    {{ lineage_columns() }}
from
    {{ known_versions(
        'station_qc_threshold',
        ['station_id', 'parameter', 'test', 'valid_from'],
        ['valid_to', 'suspect_min', 'suspect_max', 'reason_vi', 'decided_by', 'document'],
    ) }} as station_qc_threshold
