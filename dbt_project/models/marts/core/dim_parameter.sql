select
    matrix,
    {{ matrix_vi('matrix') }} as matrix_vi,
    parameter,
    parameter_name_vi,
    unit,
    decimals,
    string_agg(matrix, ', ' order by matrix) over (partition by parameter) as matrices,
    source,
    confidence
from {{ ref('parameter') }}
