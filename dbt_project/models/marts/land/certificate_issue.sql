-- what is to be looked up in the register; a certificate is told by delivery and line
with certificate as (
    select * from {{ ref('int_certificate') }}
),

found as (
    select *, 'serial_twice' as kind
    from certificate
    where is_serial_twice
    union all
    select *, 'two_valid_on_parcel' as kind
    from certificate
    where is_holder_twice
    union all
    select *, 'no_parcel' as kind
    from certificate
    where parcels_named = 0
    union all
    select *, 'parcel_not_unique' as kind
    from certificate
    where parcels_named > 1
    union all
    select *, 'parcel_retired' as kind
    from certificate
    where parcel_uid is not null and not is_parcel_current and status = 'valid'
    union all
    select *, 'date_order' as kind
    from certificate
    where issued_on > cast(_as_of as date)
)

select
    md5(concat_ws('|', found.kind, found._delivery_id, found._line)) as issue_id,
    found.kind,
    {{ certificate_issue_vi('found.kind') }} as kind_vi,
    found.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    found.old_commune_code,
    found.parcel_uid,
    coalesce(found.parcel_id, found.parcel_id_on_certificate) as parcel_id,
    found.certificate_type_code,
    found.issued_on,
    found.status,
    found._as_of as as_of,
    found._delivery_id as source_delivery_id,
    found._line as source_line
from found
left join {{ ref('int_new_commune') }} as new_commune on found.commune_code = new_commune.commune_code
