with month as (
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
        -- rounded to the gram before the sum, so that it is the same in any order
        cast(sum(cast(load_kg_estimated as decimal(18, 3))) as decimal(18, 3)) as load_kg_estimated,
        cast(sum(volume_m3) as decimal(18, 3)) as volume_m3
    from {{ ref('emission_load_daily') }}
    where facility_id is not null
    group by facility_id, matrix, parameter, cast(date_trunc('month', day) as date)
)

select
    *,
    cast(
        row_number() over (partition by matrix, parameter, month order by load_kg desc, facility_id asc) as integer
    ) as rank_in_province,
    cast(load_kg as double) / nullif(cast(sum(load_kg) over (partition by matrix, parameter, month) as double), 0) as share_of_province
from month
