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
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'reading') }}
