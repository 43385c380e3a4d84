-- communes in the order of their area, so that a chart can show the largest
with commune as (
    select commune_code, rank() over (order by sum(area_m2) desc, commune_code asc) as commune_rank
    from {{ ref('land_use_area') }}
    group by commune_code
)

-- the columns are those of the mart and the rank, as the contract in land.yml says
select area.*, commune.commune_rank  -- noqa: AM04
from {{ ref('land_use_area') }} as area
inner join commune on area.commune_code = commune.commune_code
