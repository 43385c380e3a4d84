select
    cast(date_trunc('month', registered.changed_on) as date) as month,
    nullif(registered.commune_code, 'unknown') as commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    registered.transaction_code,
    registered.transaction_vi,
    count(*) as transactions,
    count(distinct registered.parcel_uid) as parcels,
    cast(coalesce(sum(registered.declared_area_m2), 0) as decimal(38, 1)) as area_m2,
    median(registered.changed_on - dossier.received_on) as median_days,
    max(registered._as_of) as as_of
from {{ ref('int_land_transaction') }} as registered
left join {{ ref('stg_dossier') }} as dossier on registered.dossier_id = dossier.dossier_id
left join {{ ref('int_new_commune') }} as new_commune on registered.commune_code = new_commune.commune_code
where registered.changed_on is not null
group by all
