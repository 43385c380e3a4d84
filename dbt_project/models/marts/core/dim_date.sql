with day as (
    select cast(unnest(generate_series(date '2020-01-01', date '2035-12-31', interval 1 day)) as date) as date_day
),

known as (
    select distinct year(date_day) as year from {{ ref('calendar_exception') }}
),

judged as (
    select
        day.date_day,
        isodow(day.date_day) >= 6 as is_weekend,
        coalesce(exception.is_working_day, isodow(day.date_day) < 6) as is_working_day,
        exception.name_vi as exception_vi,
        known.year is null as is_provisional
    from day
    left join {{ ref('calendar_exception') }} as exception on day.date_day = exception.date_day
    left join known on year(day.date_day) = known.year
)

select
    date_day,
    cast(year(date_day) as integer) as year,
    cast(quarter(date_day) as integer) as quarter,
    cast(month(date_day) as integer) as month,
    cast(weekofyear(date_day) as integer) as iso_week,
    cast(isodow(date_day) as integer) as day_of_week,
    is_weekend,
    is_working_day,
    exception_vi,
    is_provisional,
    -- the difference of two days' numbers is the working days after the one, to the other
    count(*) filter (is_working_day) over (order by date_day) as working_day_number,
    strftime(date_day, '%d/%m/%Y') as label_vi
from judged
