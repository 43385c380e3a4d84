{{ config(materialized='table') }}  -- a table: a view with functions of shapes could be read only where these are loaded

-- pairs of parcels that overlap, with the kind and the mean width of what both cover
with measured as (
    select
        pair.parcel_uid,
        pair.other_parcel_uid,
        pair.parcel_id,
        pair.other_parcel_id,
        pair.commune_code,
        pair.old_commune_code,
        pair.overlap_m2,
        pair.parcel_share,
        pair.other_parcel_share,
        -- of a strip, its width: the area by half of what goes round it
        2 * pair.overlap_m2 / nullif(st_perimeter(st_intersection(one.geometry, other.geometry)), 0) as width_m
    from {{ ref('parcel_overlap') }} as pair
    inner join {{ ref('int_parcel') }} as one on pair.parcel_uid = one.parcel_uid
    inner join {{ ref('int_parcel') }} as other on pair.other_parcel_uid = other.parcel_uid
)

select
    measured.parcel_uid || '/' || measured.other_parcel_uid as object_id,
    measured.parcel_uid,
    measured.other_parcel_uid,
    measured.parcel_id,
    measured.other_parcel_id,
    measured.commune_code,
    measured.old_commune_code,
    measured.overlap_m2,
    measured.width_m,
    case
        when least(measured.parcel_share, measured.other_parcel_share) >= 0.99 then 'identical'
        when greatest(measured.parcel_share, measured.other_parcel_share) >= 0.99 then 'contained'
        when measured.width_m < {{ var('overlap_sliver_m') }} then 'sliver'
        else 'partial'
    end as overlap_kind,
    greatest(one.drawn_on, other.drawn_on) as valid_from,
    cast(null as timestamp) as valid_to,
    one.source_delivery_id,
    one.source_line
from measured
inner join {{ ref('int_parcel_drawn') }} as one on measured.parcel_uid = one.parcel_uid
inner join {{ ref('int_parcel_drawn') }} as other on measured.other_parcel_uid = other.parcel_uid
