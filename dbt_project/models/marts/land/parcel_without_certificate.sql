with covered as (
    select distinct parcel_uid
    from {{ ref('int_certificate') }}
    where status = 'valid' and parcel_uid is not null
)

select
    parcel.commune_code,
    parcel.commune_name,
    parcel.old_commune_code,
    parcel.old_commune_name,
    land_use.land_use_code,
    coalesce(land_use.land_use_name_vi, 'Chưa xác định') as land_use_name_vi,
    count(*) as parcels_in_force,
    count(*) filter (covered.parcel_uid is null) as parcels,
    cast(coalesce(sum(parcel.declared_area_m2) filter (covered.parcel_uid is null), 0) as decimal(38, 1)) as area_m2
from {{ ref('parcel_current') }} as parcel
left join covered on parcel.parcel_uid = covered.parcel_uid
left join {{ ref('int_land_use') }} as land_use on parcel.land_use_code = land_use.code_in_record
group by all
