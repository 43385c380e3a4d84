{{ config(materialized='table') }}

-- Certificates with the parcel that each names, and what is told of it now. Numbers and holders are compared here and go no further: a
-- certificate is known by delivery and line.
with scan as (
    select
        dossier.certificate_id,
        bool_or(not found.is_damaged) as has_scan,
        bool_or(not found.is_damaged and found.has_signature) as is_scan_signed
    from {{ ref('stg_scan_dossier') }} as dossier
    inner join {{ ref('stg_scan_file') }} as found on parse_filename(dossier.file_name) = parse_filename(found.file_name)
    group by dossier.certificate_id
),

certificate as (
    select
        sent.*,
        coalesce(named.parcels, 0) as parcels_named,
        named.parcel_uid
    from {{ ref('stg_land_certificate') }} as sent
    left join {{ ref('int_parcel_named') }} as named
        on sent.parcel_id = named.identifier and cast(sent._as_of as date) = named.named_on and named.is_of_old_unit
)

select
    certificate.certificate_type_code,
    kind.name_vi as certificate_type_vi,
    certificate.issued_on,
    certificate.status,
    certificate.parcel_id as parcel_id_on_certificate,
    certificate.parcels_named,
    certificate.parcel_uid,
    parcel.parcel_uid is not null as is_parcel_current,
    parcel.parcel_id,
    parcel.declared_area_m2,
    coalesce(parcel.old_commune_code, certificate.old_commune_code) as old_commune_code,
    coalesce(parcel.commune_code, commune.commune_code) as commune_code,
    (certificate.serial_number is not null and count(*) over (partition by certificate.serial_number) > 1) as is_serial_twice,
    -- co-holders may have one each (Luật 31/2024/QH15, Điều 135): two of one holder are one too many
    (
        certificate.status = 'valid'
        and certificate.parcel_uid is not null
        and certificate.owner_id is not null
        and count(*) filter (certificate.status = 'valid') over (partition by certificate.parcel_uid, certificate.owner_id) > 1
    ) as is_holder_twice,
    {{ is_placeholder('certificate.book_number') }} as is_placeholder,
    coalesce(scan.has_scan, false) as has_scan,
    coalesce(scan.is_scan_signed, false) as is_scan_signed,
    certificate._as_of,
    certificate._delivery_id,
    certificate._line
from certificate
left join scan on certificate.certificate_id = scan.certificate_id
left join {{ ref('parcel_current') }} as parcel on certificate.parcel_uid = parcel.parcel_uid
left join {{ ref('int_commune') }} as commune on certificate.old_commune_code = commune.old_commune_code
left join {{ ref('land_certificate_type') }} as kind on certificate.certificate_type_code = kind.certificate_type_code
