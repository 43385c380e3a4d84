-- registered changes with the parcel that each names; a parcel that is no more has the commune of its last version
with last_version as (
    select parcel_uid, commune_code, declared_area_m2
    from {{ ref('parcel_version') }}
    qualify row_number() over (partition by parcel_uid order by valid_from desc) = 1
)

select
    change.change_id,
    change.transaction_code,
    coalesce(kind.name_vi, change.transaction_code) as transaction_vi,
    change.changed_on,
    change.parcel_id as parcel_id_in_record,
    named.parcel_uid,
    coalesce(version.commune_code, 'unknown') as commune_code,
    version.declared_area_m2,
    change.dossier_id,
    change._as_of
from {{ ref('stg_land_change') }} as change
left join {{ ref('int_parcel_named') }} as named
    on
        change.parcel_id = named.identifier
        and change.changed_on is not distinct from named.named_on
        and named.is_of_old_unit = coalesce(change.changed_on < date '{{ var('communes_merged_on') }}', false)
left join last_version as version on named.parcel_uid = version.parcel_uid
left join {{ ref('land_transaction_code') }} as kind on change.transaction_code = kind.transaction_code
