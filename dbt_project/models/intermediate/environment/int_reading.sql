-- reported, valid and final value side by side: what the file said, what registers and quality control left of it, and what people decided
with judged as (
    select
        reading.*,
        coalesce(quality.is_withdrawn, false) as is_withdrawn,
        quality.withdrawn_reason,
        adjustment.adjustment_id,
        adjustment.action,
        adjustment.number
    from {{ ref('stg_reading') }} as reading
    left join {{ ref('reading_qc') }} as quality
        on
            reading.station_id = quality.station_id
            and reading.parameter = quality.parameter
            and reading.measured_at = quality.measured_at
            and quality.is_withdrawn
    left join {{ ref('int_adjustment') }} as adjustment
        on
            reading.station_id = adjustment.station_id
            and reading.parameter = adjustment.parameter
            and reading.measured_at > adjustment.span_from
            and reading.measured_at <= adjustment.span_to
    -- an empty cell of a wide export is not a value that came: nothing stands in it, neither figure nor status nor a mark
    where {{ is_received('reading') }} or adjustment.action in ('accept', 'replace')
)

select
    station_id,
    parameter,
    measured_at,
    span_minutes,
    value_reported,
    case when not is_withdrawn then value_valid end as value_valid,
    case
        when action = 'accept' then value_reported
        when action = 'replace' then number
        when action = 'reject' or is_withdrawn then null
        when action = 'offset' then value_valid + number
        when action = 'scale' then cast(value_valid * number as decimal(18, 6))
        else value_valid
    end as value_adjusted,
    status,
    case
        when action = 'reject' then 'rejected'
        when action in ('accept', 'replace') then null
        when is_withdrawn then withdrawn_reason
        else reason
    end as reason,
    adjustment_id,
    action,
    conflict,
    {{ lineage_columns() }}
from judged
