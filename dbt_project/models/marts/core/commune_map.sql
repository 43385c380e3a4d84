-- Outlines of the new communes, joined from the old ones that went into them, in WGS84 for maps without tiles.
with boundary as (
    -- GEOS throws on what is no valid polygon, and an outline that lacks a part would be a wrong one: such a commune is left out.
    -- The gate lets none in; a lake that is older than that rule may hold some
    select
        commune.commune_code,
        commune.commune_name,
        boundary.is_illustrative,
        boundary.crs,
        boundary.geometry,
        bool_and(coalesce(ST_IsValid(boundary.geometry) and isfinite(ST_Area(boundary.geometry)), false))
            over (partition by commune.commune_code) as is_whole
    from {{ ref('stg_commune_boundary') }} as boundary
    inner join {{ ref('int_commune') }} as commune on boundary.old_commune_code = commune.old_commune_code
    where boundary.geometry is not null
),

outline as (
    select
        commune_code,
        commune_name,
        bool_or(is_illustrative) as is_illustrative,
        coalesce(max(crs), 'EPSG:9212') as crs,
        -- 20 m is less than a pixel of a map of the province
        ST_SimplifyPreserveTopology(ST_Union_Agg(geometry), 20) as geometry
    from boundary
    where is_whole
    group by commune_code, commune_name
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
    -- once a new commune is sent itself, what was sent under the old codes counts no more
    select commune_code, case when bool_or(is_new_unit) then count(*) filter (is_new_unit) else count(*) end as parcels
    from (
        select
            case when sent.commune_valid_from is null then commune.commune_code else sent.commune_code end as commune_code,
            sent.commune_valid_from is not null as is_new_unit
        from {{ ref('stg_parcel') }} as sent
        left join {{ ref('int_commune') }} as commune on sent.old_commune_code = commune.old_commune_code
    ) as parcel
    where commune_code is not null
    group by commune_code
),

station as (
    select commune_code, count(*) as stations
    from {{ ref('dim_station') }}
    group by commune_code
),

drawn as (
    select
        commune_code,
        commune_name,
        is_illustrative,
        cast(
            row_number() over (partition by commune_code order by ST_Area(geometry) desc, ST_AsText(geometry)) as integer
        ) as part,
        -- five decimals of a degree are a metre
        cast(
            ST_AsGeoJSON(ST_ExteriorRing(try(ST_ReducePrecision(geometry, 0.00001)))) -> '$.coordinates' as varchar
        ) as ring_json
    from part
)

select
    drawn.commune_code,
    drawn.commune_name,
    drawn.part,
    drawn.ring_json,
    coalesce(parcel.parcels, 0) as parcels,
    coalesce(station.stations, 0) as stations,
    drawn.is_illustrative
from drawn
left join parcel on drawn.commune_code = parcel.commune_code
left join station on drawn.commune_code = station.commune_code
-- of a part that is narrower than a metre nothing is left to draw
where json_array_length(drawn.ring_json) >= 4
