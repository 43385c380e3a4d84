with quarantined as (
    select source, day, unnest(reasons) as reason
    from {{ source('quarantine', 'row') }}
)

select
    quarantined.source,
    coalesce(source.title_vi, quarantined.source) as title_vi,
    quarantined.day,
    quarantined.reason,
    coalesce(
        reason.reason_vi,
        case
            when suffix(quarantined.reason, '_unreadable')
                then 'Không đọc được cột ' || replace(quarantined.reason, '_unreadable', '')
        end,
        quarantined.reason
    ) as reason_vi,
    count(*) as rows
from quarantined
left join {{ source('ops', 'source') }} as source on quarantined.source = source.source
left join {{ ref('quarantine_reason_code') }} as reason on quarantined.reason = reason.reason
group by all
