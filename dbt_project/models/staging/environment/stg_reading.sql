select
    station_id,
    parameter,
    measured_at,
    span_minutes,
    value_reported,
    -- the range of the register is judged by the marts; rows of when the gate judged it still carry its word
    case when reason = 'out_of_range' then value_reported else value_valid end as value_valid,
    status,
    case when reason = 'out_of_range' then case when status is null then 'status_missing' end else reason end as reason,
    conflict,
    {{ lineage_columns() }}
from
    {{ known_versions(
        'reading',
        ['station_id', 'parameter', 'measured_at'],
        ['span_minutes', 'value_reported', 'value_valid', 'status', 'reason'],
    ) }} as reading
