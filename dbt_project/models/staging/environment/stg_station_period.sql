select
    station_id,
    valid_from,
    valid_to,
    standard,
    standard_class,
    kq,
    kf,
    kp,
    kv,
    reference_oxygen,
    permit,
    {{ lineage_columns() }}
from {{ source('clean', 'station_period') }}
