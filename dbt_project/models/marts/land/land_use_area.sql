select
    parcel.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    parcel.old_commune_code,
    commune.old_commune_name,
    coalesce(land_use.land_use_code, parcel.land_use_code) as land_use_code,
    coalesce(
        land_use.land_use_name_vi,
        case when parcel.land_use_code is null then 'Thiếu mã loại đất' else 'Mã không có trong danh mục' end
    ) as land_use_name_vi,
    coalesce(land_use.land_use_group_vi, 'Chưa xác định nhóm') as land_use_group_vi,
    count(*) as parcels,
    cast(sum(parcel.area_m2) as decimal(38, 1)) as area_m2,
    cast(sum(parcel.geometry_area_m2) as decimal(38, 1)) as geometry_area_m2
from {{ ref('int_parcel') }} as parcel
left join {{ ref('int_new_commune') }} as new_commune on parcel.commune_code = new_commune.commune_code
left join {{ ref('int_commune') }} as commune on parcel.old_commune_code = commune.old_commune_code
left join {{ ref('int_land_use') }} as land_use on parcel.land_use_code = land_use.code_in_record
group by all
