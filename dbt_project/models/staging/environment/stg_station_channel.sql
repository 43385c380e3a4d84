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
    {{ lineage_columns() }}
from {{ source('clean', 'station_channel') }}
