-- the parcels in force, with their shapes: where a new commune has spoken, what was sent under the old codes is no more
select
    parcel.parcel_uid,
    parcel.parcel_id,
    parcel.old_commune_code,
    parcel.commune_code,
    parcel.sheet_number,
    parcel.parcel_number,
    parcel.land_use_code,
    parcel.declared_area_m2 as area_m2,
    sent.geometry,
    sent.crs,
    sent.source_crs,
    sent.geometry_area_m2,
    sent.xmin,
    sent.ymin,
    sent.xmax,
    sent.ymax
from {{ ref('parcel_current') }} as parcel
inner join {{ ref('stg_parcel') }} as sent on parcel.source_delivery_id = sent._delivery_id and parcel.source_line = sent._line
