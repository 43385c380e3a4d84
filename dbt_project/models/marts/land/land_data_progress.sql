-- what the national system said at the end of each week, from the first week of any commune to the last
with event as (
    select commune_code, valid_from as changed_at, 1 as step, is_group_1, is_synced, owner_check
    from {{ ref('stg_land_data_group_version') }}
    union all
    select commune_code, valid_to as changed_at, -1 as step, is_group_1, is_synced, owner_check
    from {{ ref('stg_land_data_group_version') }}
    where valid_to is not null
),

weekly as (
    select
        commune_code,
        cast(date_trunc('week', changed_at) + interval 6 day as date) as week_end,
        sum(step) as parcels,
        coalesce(sum(step) filter (is_group_1), 0) as group_1,
        coalesce(sum(step) filter (is_synced), 0) as synced,
        coalesce(sum(step) filter (owner_check = 'matched'), 0) as owner_matched
    from event
    group by all
),

first_week as (
    select commune_code, min(week_end) as week_end
    from weekly
    group by commune_code
),

last_week as (
    select max(week_end) as week_end from weekly
),

spine as (
    select
        first_week.commune_code,
        cast(unnest(generate_series(first_week.week_end, last_week.week_end, interval 7 day)) as date) as week_end
    from first_week
    cross join last_week
),

summed as (
    select
        spine.week_end,
        spine.commune_code,
        cast(sum(coalesce(weekly.parcels, 0)) over commune as bigint) as parcels,
        cast(sum(coalesce(weekly.synced, 0)) over commune as bigint) as synced,
        cast(sum(coalesce(weekly.owner_matched, 0)) over commune as bigint) as owner_matched,
        cast(sum(coalesce(weekly.group_1, 0)) over commune as bigint) as group_1
    from spine
    left join weekly on spine.commune_code = weekly.commune_code and spine.week_end = weekly.week_end
    window commune as (partition by spine.commune_code order by spine.week_end)
),

sent as (
    select commune_code, max(_as_of) as as_of
    from {{ ref('stg_land_data_group') }}
    group by commune_code
)

select
    summed.week_end,
    summed.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    summed.parcels,
    summed.synced,
    summed.owner_matched,
    summed.group_1,
    summed.parcels - summed.group_1 as group_2,
    summed.group_1 / nullif(summed.parcels, 0) as group_1_share,
    lag(summed.group_1) over (partition by summed.commune_code order by summed.week_end) as group_1_last_week,
    cast({{ var('group_1_target_share') }} as double) as target_share,
    date '{{ var('group_1_target_on') }}' - summed.week_end as days_left,
    sent.as_of
from summed
left join sent on summed.commune_code = sent.commune_code
left join {{ ref('int_new_commune') }} as new_commune on summed.commune_code = new_commune.commune_code
