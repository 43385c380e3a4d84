select
    station_id,
    parameter,
    unit,
    cadence_minutes,
    valid_from,
    valid_to,
    name_in_file,
    range_min,
    range_max,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'station_channel') }}
