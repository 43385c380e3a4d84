{{ config(meta={'scale_out': true}) }}

with parcel as (
    select
        parcel_uid,
        parcel_id,
        commune_code,
        old_commune_code,
        sheet_number,
        crs,
        geometry
    from {{ ref('int_parcel') }}
    -- parcel_overlay names the others
    where {{ is_plain_shape('geometry') }}
),

met as (
    -- the order of the pair and the CRS stand beside the spatial condition: in the join they would make it one of all with all.
    -- max of one row: a condition on a plain column would be pushed down, and the intersection be computed once for each mention
    select
        one.parcel_uid,
        other.parcel_uid as other_parcel_uid,
        one.parcel_id,
        other.parcel_id as other_parcel_id,
        one.commune_code,
        one.old_commune_code,
        other.commune_code as other_commune_code,
        other.old_commune_code as other_old_commune_code,
        one.sheet_number,
        other.sheet_number as other_sheet_number,
        max(st_area(one.geometry)) as parcel_area_m2,
        max(st_area(other.geometry)) as other_parcel_area_m2,
        max(
            case
                when
                    one.crs = other.crs
                    and (one.parcel_id < other.parcel_id or (one.parcel_id = other.parcel_id and one.parcel_uid < other.parcel_uid))
                    then least(st_area(st_intersection(one.geometry, other.geometry)), st_area(one.geometry), st_area(other.geometry))
            end
        ) as overlap_m2
    from parcel as one
    inner join parcel as other on st_intersects(one.geometry, other.geometry)
    group by
        one.parcel_uid,
        other.parcel_uid,
        one.parcel_id,
        other.parcel_id,
        one.commune_code,
        one.old_commune_code,
        other.commune_code,
        other.old_commune_code,
        one.sheet_number,
        other.sheet_number
)

select
    met.parcel_uid,
    met.other_parcel_uid,
    met.parcel_id,
    met.other_parcel_id,
    met.old_commune_code,
    commune.old_commune_name,
    met.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    met.other_old_commune_code,
    met.sheet_number,
    met.other_sheet_number,
    met.overlap_m2,
    met.overlap_m2 / nullif(met.parcel_area_m2, 0) as parcel_share,
    met.overlap_m2 / nullif(met.other_parcel_area_m2, 0) as other_parcel_share,
    coalesce(met.old_commune_code, met.commune_code) = coalesce(met.other_old_commune_code, met.other_commune_code) as is_same_commune,
    coalesce(
        coalesce(met.old_commune_code, met.commune_code) = coalesce(met.other_old_commune_code, met.other_commune_code)
        and met.sheet_number = met.other_sheet_number,
        false
    ) as is_same_sheet
from met
left join {{ ref('int_new_commune') }} as new_commune on met.commune_code = new_commune.commune_code
left join {{ ref('int_commune') }} as commune on met.old_commune_code = commune.old_commune_code
-- judged by four digits: of what two engines find in the others, some is noise
where cast(met.overlap_m2 as decimal(18, 4)) > {{ var('parcel_overlap_m2') }}
