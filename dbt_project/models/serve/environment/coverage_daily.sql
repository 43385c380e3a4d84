select
    matrix,
    matrix_vi,
    commune_code,
    commune_name,
    day,
    cast(sum(expected) as bigint) as expected,
    cast(sum(valid) as bigint) as valid
from {{ ref('reading_daily') }}
where {{ is_whole_day('day') }}
group by matrix, matrix_vi, commune_code, commune_name, day
