{{ config(materialized='table') }}

with identifier as (
    select
        'commune_sheet_number' as scheme,
        unit_code || '.' || sheet_number || '.' || parcel_number as identifier,
        parcel_uid,
        is_new_unit,
        commune_code,
        valid_from,
        valid_to
    from {{ ref('parcel_version') }}
    where sheet_number is not null and parcel_number is not null
    union all
    select 'geohash12' as scheme, parcel_code as identifier, parcel_uid, is_new_unit, commune_code, valid_from, valid_to
    from {{ ref('parcel_version') }}
    where parcel_code is not null
    union all
    select 'mplis_id' as scheme, parcel_id as identifier, parcel_uid, is_new_unit, commune_code, valid_from, valid_to
    from {{ ref('parcel_version') }}
    where not {{ is_written_number('parcel_id') }}
)

select
    scheme,
    identifier,
    min(valid_from) as valid_from,
    case when count(*) = count(valid_to) then max(valid_to) end as valid_to,
    parcel_uid,
    is_new_unit,
    commune_code
from identifier
group by scheme, identifier, parcel_uid, is_new_unit, commune_code
