-- gaps between parcels, under the first of their neighbours
select
    gap.gap_id as object_id,
    gap.gap_kind,
    gap.area_m2,
    gap.width_m,
    gap.neighbour_ids,
    gap.parcel_uid,
    gap.parcel_id,
    gap.commune_code,
    gap.old_commune_code,
    gap.open_since as valid_from,
    cast(null as timestamp) as valid_to,
    drawn.source_delivery_id,
    drawn.source_line
from {{ ref('parcel_gap') }} as gap
inner join {{ ref('int_parcel_drawn') }} as drawn on gap.parcel_uid = drawn.parcel_uid
