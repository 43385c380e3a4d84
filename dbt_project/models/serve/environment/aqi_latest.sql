-- the columns are those of the mart, as the contract in environment.yml says
select *  -- noqa: AM04
from {{ ref('aqi_hourly') }}
qualify row_number() over (partition by station_id order by hour_end desc) = 1
