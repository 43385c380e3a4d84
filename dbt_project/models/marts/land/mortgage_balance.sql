-- of each parcel in order: a registration opens one, a deletion closes one where one is open; a deletion without a registration is told
with event as (
    select
        coalesce(parcel_uid, parcel_id_in_record) as parcel_key,
        commune_code,
        changed_on,
        change_id,
        case transaction_code when 'TC' then 1 else -1 end as step
    from {{ ref('int_land_transaction') }}
    where transaction_code in ('TC', 'XC') and changed_on is not null
),

summed as (
    select *, sum(step) over (partition by parcel_key order by changed_on, change_id) as total
    from event
),

clamped as (
    -- what a sum that never falls below 0 is: the sum, less the lowest that it has been
    select
        *,
        total - least(0, min(total) over (partition by parcel_key order by changed_on, change_id)) as open_after
    from summed
),

counted as (
    select
        *,
        coalesce(lag(open_after) over (partition by parcel_key order by changed_on, change_id), 0) as open_before
    from clamped
),

monthly as (
    select
        commune_code,
        cast(date_trunc('month', changed_on) as date) as month,
        count(*) filter (step = 1) as registered,
        count(*) filter (step = -1 and open_before > 0) as cleared,
        count(*) filter (step = -1 and open_before = 0) as cleared_without_registration,
        sum(open_after - open_before) as opened,
        count(*) filter (open_before = 0 and open_after = 1) - count(*) filter (open_before = 1 and open_after = 0) as parcels_opened
    from counted
    group by all
),

-- each month from the first event of the commune to the last of all, so that a month without events has its balance too
first_month as (
    select commune_code, min(month) as month
    from monthly
    group by commune_code
),

last_month as (
    select max(month) as month from monthly
),

spine as (
    select
        first_month.commune_code,
        cast(unnest(generate_series(first_month.month, last_month.month, interval 1 month)) as date) as month
    from first_month
    cross join last_month
)

select
    spine.month,
    nullif(spine.commune_code, 'unknown') as commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    coalesce(monthly.registered, 0) as registered,
    coalesce(monthly.cleared, 0) as cleared,
    coalesce(monthly.cleared_without_registration, 0) as cleared_without_registration,
    cast(sum(coalesce(monthly.opened, 0)) over commune as bigint) as open_at_end,
    cast(sum(coalesce(monthly.parcels_opened, 0)) over commune as bigint) as parcels_open
from spine
left join monthly on spine.commune_code = monthly.commune_code and spine.month = monthly.month
left join {{ ref('int_new_commune') }} as new_commune on spine.commune_code = new_commune.commune_code
window commune as (partition by spine.commune_code order by spine.month)
