with day as (
    select cast(unnest(generate_series(date '2020-01-01', date '2035-12-31', interval 1 day)) as date) as date_day
)

select
    date_day,
    cast(year(date_day) as integer) as year,
    cast(quarter(date_day) as integer) as quarter,
    cast(month(date_day) as integer) as month,
    cast(weekofyear(date_day) as integer) as iso_week,
    cast(isodow(date_day) as integer) as day_of_week,
    isodow(date_day) >= 6 as is_weekend,
    strftime(date_day, '%d/%m/%Y') as label_vi
from day
