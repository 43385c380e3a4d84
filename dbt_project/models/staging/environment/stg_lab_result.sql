select
    sample_id,
    station_id,
    sampled_at,
    parameter,
    result_text,
    unit,
    detection_limit,
    method,
    laboratory,
    certificate,
    conflict,
    case when result_text in ('KPH', 'ND') then '<' else coalesce(qualifier, case when starts_with(result_text, '<') then '<' end) end as qualifier,
    case
        when result_text in ('KPH', 'ND') then detection_limit
        -- rows that were gated before the gate read the figure itself
        else coalesce(value, try_cast(replace(ltrim(result_text, '< '), ',', '.') as decimal(18, 6)))
    end as value,
    {{ lineage_columns() }}
from {{ source('clean', 'lab_result') }}
