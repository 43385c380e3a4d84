-- the map has no ground from outside: the boundaries of communes are dots about 500 m apart
with ring as (
    select commune_code, commune_name, cast(ring_json as double[][]) as points
    from {{ ref('commune_map') }}
),

edge as (
    select commune_code, commune_name, unnest(points[:-2]) as a, unnest(points[2:]) as b
    from ring
),

counted as (
    select *, cast(greatest(1, ceil(sqrt(pow(b[1] - a[1], 2) + pow(b[2] - a[2], 2)) / 0.005)) as bigint) as dots
    from edge
),

dot as (
    select *, unnest(range(dots)) as step
    from counted
)

select
    cast(null as varchar) as station_name,
    cast(null as varchar) as matrix_vi,
    'Ranh giới xã (minh họa)' as status_vi,
    commune_code,
    commune_name,
    round(a[1] + step / dots * (b[1] - a[1]), 4) as lon,
    round(a[2] + step / dots * (b[2] - a[2]), 4) as lat,
    cast(150 as double) as radius_m
from dot
union all
select station_name, matrix_vi, status_vi, commune_code, commune_name, lon, lat, cast(2500 as double) as radius_m
from {{ ref('station_status') }}
