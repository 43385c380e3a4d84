with closed as (
    select delivery_id
    from {{ source('ops', 'delivery') }}
    where status = 'closed'
),

quarantined as (
    select refused.source, refused.day, unnest(refused.reasons) as reason
    from {{ source('quarantine', 'row') }} as refused
    left join closed on refused.delivery_id = closed.delivery_id
    -- nobody has to mend what was sent again
    where closed.delivery_id is null
),

-- a column as its sender knows it
label as (
    select source, column_name, coalesce(headers[1], column_name) as header
    from {{ source('ops', 'source_column') }}
)

select
    quarantined.source,
    coalesce(source.title_vi, quarantined.source) as title_vi,
    quarantined.day,
    quarantined.reason,
    coalesce(
        reason.reason_vi,
        case
            when suffix(quarantined.reason, '_unreadable') then 'Không đọc được cột «' || label.header || '»'
            when suffix(quarantined.reason, '_missing') then 'Thiếu giá trị ở cột «' || label.header || '»'
        end,
        quarantined.reason
    ) as reason_vi,
    count(*) as rows
from quarantined
left join {{ source('ops', 'source') }} as source on quarantined.source = source.source
left join {{ ref('quarantine_reason_code') }} as reason on quarantined.reason = reason.reason
left join label
    on
        quarantined.source = label.source
        and quarantined.reason in (label.column_name || '_unreadable', label.column_name || '_missing')
group by all
