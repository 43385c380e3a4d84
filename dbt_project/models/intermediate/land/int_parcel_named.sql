{{ config(materialized='table') }}

-- An identifier that several parcels of one commune bore is that of those which bore it on the day of the record; where none did, of all that
-- ever did. Certificates name the old commune. A change names it before the merger; from then on its code may be of the old commune or of
-- the new one that bears the same code, and where both have such a parcel none is chosen.
with record as (
    select distinct parcel_id as identifier, cast(_as_of as date) as named_on, true as is_of_old_unit
    from {{ ref('stg_land_certificate') }}
    where parcel_id is not null
    union
    select distinct
        parcel_id as identifier,
        changed_on as named_on,
        coalesce(changed_on < date '{{ var('communes_merged_on') }}', false) as is_of_old_unit
    from {{ ref('stg_land_change') }}
    where parcel_id is not null
),

candidate as (
    select
        record.identifier,
        record.named_on,
        record.is_of_old_unit,
        alias.parcel_uid,
        alias.is_new_unit,
        coalesce(
            cast(alias.valid_from as date) <= record.named_on
            and coalesce(cast(alias.valid_to as date) > record.named_on, true),
            false
        ) as is_of_the_day
    from record
    inner join {{ ref('parcel_alias') }} as alias
        on
            record.identifier = alias.identifier
            and not (record.is_of_old_unit and alias.is_new_unit and alias.scheme = 'commune_sheet_number')
),

chosen as (
    select
        identifier,
        named_on,
        is_of_old_unit,
        parcel_uid,
        is_of_the_day = bool_or(is_of_the_day) over (partition by identifier, named_on, is_of_old_unit, is_new_unit) as is_chosen
    from candidate
)

select
    record.identifier,
    record.named_on,
    record.is_of_old_unit,
    count(distinct chosen.parcel_uid) as parcels,
    case when count(distinct chosen.parcel_uid) = 1 then min(chosen.parcel_uid) end as parcel_uid
from record
left join chosen
    on
        record.identifier = chosen.identifier
        and record.named_on is not distinct from chosen.named_on
        and record.is_of_old_unit = chosen.is_of_old_unit
        and chosen.is_chosen
group by record.identifier, record.named_on, record.is_of_old_unit
