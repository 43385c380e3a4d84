{{ config(materialized='table') }}

with certificate as (
    -- of several valid ones the best speaks: one that is scanned and signed will do
    select
        parcel_uid,
        bool_or(has_scan) as has_scan,
        bool_or(is_scan_signed) as is_scan_signed,
        bool_and(is_placeholder) as is_placeholder
    from {{ ref('int_certificate') }}
    where status = 'valid' and parcel_uid is not null
    group by parcel_uid
),

reported as (
    select
        version.parcel_uid,
        sent.is_group_1,
        sent.is_synced,
        sent.owner_check,
        sent.is_in_operation,
        sent.defect_paths,
        sent._as_of
    from {{ ref('stg_land_data_group') }} as sent
    inner join {{ ref('parcel_version') }} as version
        on
            sent.commune_code = version.unit_code
            and sent.sheet_number = version.sheet_number
            and sent.parcel_number = version.parcel_number
    where version.valid_to is null and version.is_new_unit
),

judged as (
    select
        parcel.parcel_uid,
        parcel.parcel_id,
        parcel.commune_code,
        parcel.old_commune_code,
        certificate.parcel_uid is not null as has_certificate,
        land_use.land_use_code is not null
        and coalesce(parcel.area_m2 > 0, false)
        and parcel.sheet_number is not null
        and parcel.parcel_number is not null as has_attributes,
        coalesce(parcel.geometry_area_m2 > 0 and st_isvalid(parcel.geometry), false) as has_geometry,
        coalesce(certificate.has_scan, false) as has_scan,
        coalesce(certificate.is_scan_signed, false) as is_scan_signed,
        coalesce(certificate.is_placeholder, false) as is_placeholder,
        coalesce(reported.owner_check, 'unknown') as owner_check,
        reported.is_in_operation,
        reported.is_synced,
        reported.is_group_1,
        reported.defect_paths,
        reported._as_of as reported_at
    from {{ ref('int_parcel') }} as parcel
    left join certificate on parcel.parcel_uid = certificate.parcel_uid
    left join reported on parcel.parcel_uid = reported.parcel_uid
    left join {{ ref('int_land_use') }} as land_use on parcel.land_use_code = land_use.code_in_record
),

listed as (
    select
        *,
        list_filter([
            case when not has_certificate then 'no_certificate' end,
            case when not has_attributes then 'no_attributes' end,
            case when not has_geometry then 'no_geometry' end,
            case when has_certificate and not has_scan then 'no_scan' end,
            case when has_scan and not is_scan_signed then 'not_signed' end,
            case when owner_check <> 'matched' then 'owner_' || owner_check end,
            case when is_placeholder then 'placeholder' end
        ], lambda code: code is not null) as missing
    from judged
)

select
    listed.parcel_uid,
    listed.parcel_id,
    listed.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    listed.old_commune_code,
    listed.has_certificate,
    listed.has_attributes,
    listed.has_geometry,
    listed.has_scan,
    listed.is_scan_signed,
    listed.is_placeholder,
    listed.owner_check,
    listed.is_in_operation,
    listed.is_synced,
    nullif(array_to_string(listed.missing, ';'), '') as missing_codes,
    len(listed.missing) as missing_count,
    case when listed.missing = [] then 1 when listed.has_attributes and listed.has_geometry then 2 else 3 end as group_computed,
    case when listed.is_group_1 then 1 when not listed.is_group_1 then 2 end as group_reported,
    nullif(listed.defect_paths, '') as reported_defects,
    listed.reported_at
from listed
left join {{ ref('int_new_commune') }} as new_commune on listed.commune_code = new_commune.commune_code
