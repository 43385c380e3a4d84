{{ config(materialized='table') }}

with number as (
    -- under which numbers a parcel was known, and when
    select
        unit_key,
        unit_code,
        is_new_unit,
        place_code,
        parcel_id,
        sheet_number,
        parcel_number,
        min(valid_from) as first_seen,
        case when count(*) = count(valid_to) then max(valid_to) end as last_seen
    from {{ ref('int_parcel_version') }}
    group by all
),

-- a commune is named by the code that was in force: before the day for the former number, on it for the new one. Where a code was that
-- of an old commune and is that of a new one, the parcel that was there at the time is meant
former as (
    select
        pair.former_commune_code,
        pair.former_sheet_number,
        pair.former_parcel_number,
        pair.effective_on,
        number.unit_key,
        number.parcel_id,
        coalesce(number.first_seen < pair.effective_on and (number.last_seen >= pair.effective_on or number.last_seen is null), false) as is_there
    from (select distinct former_commune_code, former_sheet_number, former_parcel_number, effective_on from {{ ref('stg_parcel_renumbering') }}) as pair
    inner join number
        on
            pair.former_commune_code = number.unit_code
            and pair.former_sheet_number = number.sheet_number
            and pair.former_parcel_number = number.parcel_number
    where not number.is_new_unit or pair.effective_on > date '{{ var("communes_merged_on") }}'
),

present as (
    select
        pair.commune_code,
        pair.sheet_number,
        pair.parcel_number,
        pair.effective_on,
        number.unit_key,
        number.parcel_id,
        number.place_code,
        coalesce(number.last_seen > pair.effective_on, true) as is_there
    from (select distinct commune_code, sheet_number, parcel_number, effective_on from {{ ref('stg_parcel_renumbering') }}) as pair
    inner join number
        on
            pair.commune_code = number.unit_code
            and pair.sheet_number = number.sheet_number
            and pair.parcel_number = number.parcel_number
            and number.is_new_unit = (pair.effective_on >= date '{{ var("communes_merged_on") }}')
),

former_found as (
    select
        former_commune_code,
        former_sheet_number,
        former_parcel_number,
        effective_on,
        count(*) as found,
        min(unit_key) as unit_key,
        min(parcel_id) as parcel_id
    from (
        select * from former
        qualify is_there or not bool_or(is_there) over (partition by former_commune_code, former_sheet_number, former_parcel_number, effective_on)
    ) as one
    group by all
),

present_found as (
    select
        commune_code,
        sheet_number,
        parcel_number,
        effective_on,
        count(*) as found,
        min(unit_key) as unit_key,
        min(parcel_id) as parcel_id,
        min(place_code) as place_code
    from (
        select * from present
        qualify is_there or not bool_or(is_there) over (partition by commune_code, sheet_number, parcel_number, effective_on)
    ) as one
    group by all
)

select
    pair.former_commune_code,
    pair.former_sheet_number,
    pair.former_parcel_number,
    pair.commune_code,
    pair.sheet_number,
    pair.parcel_number,
    pair.effective_on,
    pair._delivery_id,
    pair._line,
    case when former.found = 1 then former.unit_key end as former_unit_key,
    case when former.found = 1 then former.parcel_id end as former_parcel_id,
    case when present.found = 1 then present.unit_key end as unit_key,
    case when present.found = 1 then present.parcel_id end as present_parcel_id,
    present.place_code,
    -- by all rows of the table: of a split that is known in part the known part is no renumbering
    case
        when pair.parts = 1 and pair.sources = 1 then 'renumber'
        when pair.sources = 1 then 'split'
        when pair.parts = 1 then 'merge'
        else 'reparcel'
    end as kind,
    case
        when former.found is null then 'former_unknown'
        when present.found is null then 'present_unknown'
        when former.found > 1 or present.found > 1 then 'ambiguous'
        else 'resolved'
    end as resolution
from (
    select
        *,
        count(*) over (partition by former_commune_code, former_sheet_number, former_parcel_number, effective_on) as parts,
        count(*) over (partition by commune_code, sheet_number, parcel_number, effective_on) as sources
    from {{ ref('stg_parcel_renumbering') }}
) as pair
left join former_found as former
    on
        pair.former_commune_code = former.former_commune_code
        and pair.former_sheet_number = former.former_sheet_number
        and pair.former_parcel_number = former.former_parcel_number
        and pair.effective_on = former.effective_on
left join present_found as present
    on
        pair.commune_code = present.commune_code
        and pair.sheet_number = present.sheet_number
        and pair.parcel_number = present.parcel_number
        and pair.effective_on = present.effective_on
