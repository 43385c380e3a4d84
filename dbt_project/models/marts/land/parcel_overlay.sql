{{ config(meta={'scale_out': true}) }}

with parcel as (
    select
        parcel_uid,
        parcel_id,
        commune_code,
        old_commune_code,
        sheet_number,
        parcel_number,
        crs,
        coalesce({{ is_plain_shape('geometry') }} and st_area(geometry) > 0, false) as is_valid,
        case when {{ is_plain_shape('geometry') }} then st_area(geometry) end as parcel_area_m2
    from {{ ref('int_parcel') }}
),

boundary as (
    select
        old_commune_code,
        is_illustrative,
        crs,
        geometry
    from {{ ref('stg_commune_boundary') }}
    where {{ is_plain_shape('geometry') }}
),

laid as (
    -- the CRS are compared beside the spatial condition: as an equality of the join they would replace it by a hash join of all with all.
    -- max of one row: a condition on a plain column would be pushed down, and the intersection be computed once for each mention
    select
        parcel.parcel_uid,
        boundary.old_commune_code as boundary_commune_code,
        boundary.is_illustrative,
        max(st_area(parcel.geometry)) as parcel_area_m2,
        max(
            case
                when parcel.crs = boundary.crs
                    then least(st_area(st_intersection(parcel.geometry, boundary.geometry)), st_area(parcel.geometry))
            end
        ) as area_m2
    from {{ ref('int_parcel') }} as parcel
    inner join boundary on st_intersects(parcel.geometry, boundary.geometry)
    where {{ is_plain_shape('parcel.geometry') }}
    group by parcel.parcel_uid, boundary.old_commune_code, boundary.is_illustrative
),

part as (
    -- of a parcel that is itself smaller than a sliver, what is nearly all of it counts. An area is judged by four digits: of
    -- what two engines find in the others, some is noise
    select
        parcel_uid,
        boundary_commune_code,
        is_illustrative,
        area_m2
    from laid
    where
        cast(area_m2 as decimal(18, 4)) > 0
        and (
            cast(area_m2 as decimal(18, 4)) > {{ var('boundary_sliver_m2') }}
            or cast(parcel_area_m2 - area_m2 as decimal(18, 4)) <= {{ var('boundary_sliver_m2') }}
        )
),

judged as (
    select
        parcel.parcel_uid,
        parcel.parcel_id,
        parcel.commune_code,
        parcel.old_commune_code,
        parcel.sheet_number,
        parcel.parcel_number,
        parcel.parcel_area_m2,
        case
            when not parcel.is_valid then 'invalid_geometry'
            when boundary.old_commune_code is null then 'no_boundary'
            when parcel.crs <> boundary.crs then 'other_crs'
            when declared.area_m2 is null then 'outside'
            when cast(parcel.parcel_area_m2 - declared.area_m2 as decimal(18, 4)) > {{ var('boundary_sliver_m2') }} then 'astride'
            else 'inside'
        end as placement
    from parcel
    left join boundary on parcel.old_commune_code = boundary.old_commune_code
    left join part as declared
        on
            parcel.parcel_uid = declared.parcel_uid
            and parcel.old_commune_code = declared.boundary_commune_code
)

select
    judged.parcel_uid,
    judged.parcel_id,
    judged.old_commune_code,
    commune.old_commune_name,
    judged.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    judged.sheet_number,
    judged.parcel_number,
    part.boundary_commune_code,
    beneath.old_commune_name as boundary_commune_name,
    coalesce(part.boundary_commune_code = judged.old_commune_code, false) as is_declared,
    part.is_illustrative,
    part.area_m2,
    judged.parcel_area_m2,
    part.area_m2 / nullif(judged.parcel_area_m2, 0) as parcel_share,
    judged.placement,
    {{ placement_vi('judged.placement') }} as placement_vi
from judged
left join part on judged.parcel_uid = part.parcel_uid
left join {{ ref('int_new_commune') }} as new_commune on judged.commune_code = new_commune.commune_code
left join {{ ref('int_commune') }} as commune on judged.old_commune_code = commune.old_commune_code
left join {{ ref('int_commune') }} as beneath on part.boundary_commune_code = beneath.old_commune_code
