{{ config(materialized='table') }}

with change as (
    select parcel_uid, valid_from as changed_at, commune_code, change_kind, declared_area_m2 from {{ ref('parcel_version') }}
    union all
    select parcel_uid, valid_to as changed_at, commune_code, end_kind as change_kind, declared_area_m2
    from {{ ref('parcel_version') }}
    where end_kind in ('retired', 'missing')
)

select
    last_day(cast(change.changed_at as date)) as period_end,
    change.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    change.change_kind,
    {{ parcel_change_vi('change.change_kind') }} as change_kind_vi,
    count(*) as parcels,
    cast(sum(change.declared_area_m2) as decimal(38, 1)) as area_m2
from change
left join {{ ref('int_new_commune') }} as new_commune on change.commune_code = new_commune.commune_code
group by all
