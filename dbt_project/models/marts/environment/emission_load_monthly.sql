with station_month as (
    select
        facility_id,
        station_id,
        matrix,
        parameter,
        cast(date_trunc('month', day) as date) as month,
        sum(hours_paired) as hours_paired,
        -- a day may have more hours than were due: they make up for none of another day
        sum(greatest(hours_due - hours_paired, 0)) as hours_missing,
        coalesce(sum(load_kg), 0) as load_kg
    from {{ ref('emission_load_daily') }}
    where facility_id is not null
    group by facility_id, station_id, matrix, parameter, cast(date_trunc('month', day) as date)
),

-- as of a day, over the hours of the month: days without enough of them are made up for as well, so that no estimate is below what was measured;
-- a station without one paired hour (an inlet, or no flow) has part in neither
station_estimate as (
    select
        *,
        case
            when hours_missing = 0 then cast(load_kg as decimal(18, 6))
            when hours_paired >= (hours_paired + hours_missing) * {{ var('completeness_share') }}
                then cast(cast(load_kg as double) / hours_paired * (hours_paired + hours_missing) as decimal(18, 6))
        end as load_kg_estimated
    from station_month
    where hours_paired > 0
),

estimate as (
    select
        facility_id,
        matrix,
        parameter,
        month,
        -- of decimals, so that the sum is the same in any order; none where a station of the facility has none
        case when count(*) = count(load_kg_estimated) then cast(sum(load_kg_estimated) as decimal(18, 6)) end as load_kg_estimated
    from station_estimate
    group by facility_id, matrix, parameter, month
),

month as (
    select
        facility_id,
        min(facility_name) as facility_name,
        min(commune_code) as commune_code,
        -- stations of a facility may stand in two communes: the name is that of the code above
        arg_min(commune_name, commune_code) as commune_name,
        min(basin) as basin,
        matrix,
        min(matrix_vi) as matrix_vi,
        parameter,
        min(parameter_name_vi) as parameter_name_vi,
        cast(date_trunc('month', day) as date) as month,
        count(distinct day) as days,
        count(distinct day) filter (load_kg_estimated is not null) as days_estimated,
        cast(coalesce(sum(load_kg), 0) as decimal(18, 6)) as load_kg,
        cast(sum(volume_m3) as decimal(18, 3)) as volume_m3
    from {{ ref('emission_load_daily') }}
    where facility_id is not null
    group by facility_id, matrix, parameter, cast(date_trunc('month', day) as date)
)

select
    month.facility_id,
    month.facility_name,
    month.commune_code,
    month.commune_name,
    month.basin,
    month.matrix,
    month.matrix_vi,
    month.parameter,
    month.parameter_name_vi,
    month.month,
    month.days,
    month.days_estimated,
    month.load_kg,
    estimate.load_kg_estimated,
    month.volume_m3,
    cast(
        row_number()
            over (partition by month.matrix, month.parameter, month.month order by month.load_kg desc, month.facility_id asc)
        as integer
    ) as rank_in_province,
    cast(month.load_kg as double)
    / nullif(cast(sum(month.load_kg) over (partition by month.matrix, month.parameter, month.month) as double), 0) as share_of_province
from month
left join estimate
    on
        month.facility_id = estimate.facility_id
        and month.matrix = estimate.matrix
        and month.parameter = estimate.parameter
        and month.month = estimate.month
