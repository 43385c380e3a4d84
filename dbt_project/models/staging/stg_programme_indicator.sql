select
    indicator_id,
    indicator_name_vi,
    unit,
    period,
    period_end,
    target,
    actual,
    reported_by,
    note,
    conflict,
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
from {{ source('clean', 'programme_indicator') }}
