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
    {{ lineage_columns() }}
from {{ source('clean', 'programme_indicator') }}
