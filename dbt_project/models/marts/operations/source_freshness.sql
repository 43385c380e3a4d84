with last_delivery as (
    -- only what was published is news
    select source, max(received_at) as last_received_at
    from {{ source('ops', 'delivery') }}
    where status = 'published' and received_at <= {{ as_of() }}
    group by source
),

aged as (
    select
        source.source,
        source.title_vi,
        source.owner_unit,
        last_delivery.last_received_at,
        date_sub('minute', last_delivery.last_received_at, {{ as_of() }}) as minutes_since,
        cast(source.cadence_minutes + source.lateness_minutes as bigint) as allowed_minutes
    from {{ source('ops', 'source') }} as source
    left join last_delivery on source.source = last_delivery.source
),

judged as (
    select
        *,
        case
            when last_received_at is null then 'never'
            -- a source without a cadence is never late
            when minutes_since > allowed_minutes then 'late'
            else 'fresh'
        end as state
    from aged
)

select
    source,
    title_vi,
    owner_unit,
    last_received_at,
    minutes_since,
    allowed_minutes,
    {{ duration_vi('minutes_since') }} as since_vi,
    coalesce({{ duration_vi('allowed_minutes') }}, 'Không định kỳ') as allowed_vi,
    state,
    {{ source_state_vi('state') }} as state_vi,
    {{ as_of() }} as as_of
from judged
