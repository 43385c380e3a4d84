-- Outlines of the new communes, joined from the old ones that went into them, in WGS84 for maps without tiles.
with outline as (
    select
        commune.commune_code,
        commune.commune_name,
        bool_or(boundary.is_illustrative) as is_illustrative,
        coalesce(max(boundary.crs), 'EPSG:9212') as crs,
        -- 20 m is less than a pixel of a map of the province
        ST_SimplifyPreserveTopology(ST_Union_Agg(boundary.geometry), 20) as geometry
    from {{ ref('stg_commune_boundary') }} as boundary
    inner join {{ ref('int_commune') }} as commune on boundary.old_commune_code = commune.old_commune_code
    where boundary.geometry is not null
    group by commune.commune_code, commune.commune_name
),

part as (
    select
        commune_code,
        commune_name,
        is_illustrative,
        unnest(ST_Dump(ST_Transform(geometry, crs, 'EPSG:4326', always_xy := true))).geom as geometry
    from outline
),

parcel as (
    select commune.commune_code, count(*) as parcels
    from {{ ref('stg_parcel') }} as parcel
    inner join {{ ref('int_commune') }} as commune on parcel.old_commune_code = commune.old_commune_code
    group by commune.commune_code
),

station as (
    select commune_code, count(*) as stations
    from {{ ref('dim_station') }}
    group by commune_code
)

select
    part.commune_code,
    part.commune_name,
    cast(
        row_number() over (partition by part.commune_code order by ST_Area(part.geometry) desc, ST_AsText(part.geometry)) as integer
    ) as part,
    -- five decimals of a degree are a metre
    cast(
        ST_AsGeoJSON(ST_ExteriorRing(ST_ReducePrecision(part.geometry, 0.00001))) -> '$.coordinates' as varchar
    ) as ring_json,
    coalesce(parcel.parcels, 0) as parcels,
    coalesce(station.stations, 0) as stations,
    part.is_illustrative
from part
left join parcel on part.commune_code = parcel.commune_code
left join station on part.commune_code = station.commune_code
