-- the columns are those of the mart, as the contract in environment.yml says
select *  -- noqa: AM04
from {{ ref('wqi_daily') }}
qualify row_number() over (partition by station_id order by day desc) = 1
