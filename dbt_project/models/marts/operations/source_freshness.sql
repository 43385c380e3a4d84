-- who is late, and since when somebody was heard of, is decided in lake/rules.sql, as for `tnmt status`
with last_delivery as (
    select
        source,
        lake.ops.last_published(status, received_at, {{ as_of() }}) as last_received_at
    from {{ source('ops', 'delivery') }}
    group by source
),

judged as (
    select
        source.source,
        source.title_vi,
        source.owner_unit,
        last_delivery.last_received_at,
        unnest(lake.ops.standing(last_delivery.last_received_at, source.cadence_minutes, source.lateness_minutes, {{ as_of() }}))
    from {{ source('ops', 'source') }} as source
    left join last_delivery on source.source = last_delivery.source
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
