-- days that somebody decided on; of several decisions on a day the one recorded last speaks
select
    station_id,
    parameter,
    cast(unnest(generate_series(first_day, least(last_day, {{ environment_day(as_of()) }}), interval 1 day)) as date) as day,
    grade,
    approval_id,
    _as_of,
    _received_at,
    _delivery_id,
    _line
from {{ ref('stg_approval') }}
