with certificate as (
    select
        *,
        row_number() over (
            partition by old_commune_code, certificate_type_code, status, parcel_uid order by _delivery_id, _line
        ) = 1 as is_first_of_parcel
    from {{ ref('int_certificate') }}
)

select
    max(certificate._as_of) as as_of,
    certificate.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    certificate.old_commune_code,
    certificate.certificate_type_code,
    coalesce(certificate.certificate_type_vi, 'Loại không có trong danh mục') as certificate_type_vi,
    certificate.status,
    {{ certificate_status_vi('certificate.status') }} as status_vi,
    count(*) as certificates,
    count(distinct certificate.parcel_uid) as parcels,
    cast(coalesce(sum(certificate.declared_area_m2) filter (certificate.is_first_of_parcel), 0) as decimal(38, 1)) as area_m2
from certificate
left join {{ ref('int_new_commune') }} as new_commune on certificate.commune_code = new_commune.commune_code
group by all
