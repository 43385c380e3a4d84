{{ config(meta={'scale_out': true}) }}
{%- set compared_from = "timestamp '" ~ var('land_use_change_from') ~ "'" if var('land_use_change_from') else "date_trunc('year', " ~ as_of() ~ ")" %}

with known_before as (
    select
        version.parcel_uid,
        version.commune_code,
        version.old_commune_code,
        version.declared_area_m2 as area_m2,
        coalesce(land_use.land_use_code, version.land_use_code) as land_use_code
    from {{ ref('parcel_version') }} as version
    left join {{ ref('int_land_use') }} as land_use on version.land_use_code = land_use.code_in_record
    where version.valid_from <= {{ compared_from }} and coalesce(version.valid_to > {{ compared_from }}, true)
),

-- communes of which something was known on the day; of a parcel without an old commune, the new one
spoken as (
    select commune_code, cast(null as varchar) as old_commune_code
    from {{ ref('parcel_version') }}
    where valid_from <= {{ compared_from }}
    union
    select commune_code, old_commune_code
    from {{ ref('parcel_version') }}
    where valid_from <= {{ compared_from }} and old_commune_code is not null
),

known_now as (
    select
        parcel.parcel_uid,
        parcel.commune_code,
        parcel.old_commune_code,
        parcel.area_m2,
        coalesce(land_use.land_use_code, parcel.land_use_code) as land_use_code,
        spoken.commune_code is not null as is_spoken
    from {{ ref('int_parcel') }} as parcel
    left join spoken on parcel.commune_code = spoken.commune_code and coalesce(parcel.old_commune_code, '') = coalesce(spoken.old_commune_code, '')
    left join {{ ref('int_land_use') }} as land_use on parcel.land_use_code = land_use.code_in_record
),

compared as (
    select
        coalesce(known_now.commune_code, known_before.commune_code) as commune_code,
        coalesce(known_now.old_commune_code, known_before.old_commune_code) as old_commune_code,
        known_before.land_use_code as land_use_code_from,
        known_now.land_use_code as land_use_code_to,
        known_before.area_m2 as area_before_m2,
        known_now.area_m2 as area_after_m2,
        case
            when known_now.parcel_uid is null then 'vanished'
            when known_before.parcel_uid is not null and coalesce(known_before.land_use_code, '') = coalesce(known_now.land_use_code, '') then 'unchanged'
            when known_before.parcel_uid is not null then 'changed'
            when known_now.is_spoken then 'new'
            else 'not_known_before'
        end as change
    from known_before
    full join known_now on known_before.parcel_uid = known_now.parcel_uid
),

counted as (
    select
        commune_code,
        old_commune_code,
        land_use_code_from,
        land_use_code_to,
        change,
        count(*) as parcels,
        cast(sum(area_before_m2) as decimal(38, 1)) as area_before_m2,
        cast(sum(area_after_m2) as decimal(38, 1)) as area_after_m2
    from compared
    group by commune_code, old_commune_code, land_use_code_from, land_use_code_to, change
)

select
    {{ compared_from }} as compared_from,
    counted.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    counted.old_commune_code,
    commune.old_commune_name,
    counted.land_use_code_from,
    case
        when counted.change = 'new' then 'Chưa có thửa'
        when counted.change = 'not_known_before' then 'Chưa có số liệu'
        when counted.land_use_code_from is null then 'Thiếu mã loại đất'
        else coalesce(use_from.land_use_name_vi, 'Mã không có trong danh mục')
    end as land_use_name_from_vi,
    counted.land_use_code_to,
    case
        when counted.change = 'vanished' then 'Không còn thửa'
        when counted.land_use_code_to is null then 'Thiếu mã loại đất'
        else coalesce(use_to.land_use_name_vi, 'Mã không có trong danh mục')
    end as land_use_name_to_vi,
    counted.change,
    {{ land_use_change_vi('counted.change') }} as change_vi,
    counted.parcels,
    counted.area_before_m2,
    counted.area_after_m2
from counted
left join {{ ref('int_new_commune') }} as new_commune on counted.commune_code = new_commune.commune_code
left join {{ ref('int_commune') }} as commune on counted.old_commune_code = commune.old_commune_code
left join {{ ref('int_land_use') }} as use_from on counted.land_use_code_from = use_from.code_in_record
left join {{ ref('int_land_use') }} as use_to on counted.land_use_code_to = use_to.code_in_record
