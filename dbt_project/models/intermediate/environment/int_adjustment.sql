-- decisions may overlap: between two of their bounds the one recorded last holds, so that a reading has at most one
with decision as (
    select *
    from {{ ref('stg_adjustment') }}
    where action <> 'withdraw' and applies_from < applies_to
),

bound as (
    select station_id, parameter, applies_from as bound_at from decision
    union
    select station_id, parameter, applies_to as bound_at from decision
),

span as (
    select
        station_id,
        parameter,
        bound_at as span_from,
        lead(bound_at) over (partition by station_id, parameter order by bound_at) as span_to
    from bound
)

select
    span.station_id,
    span.parameter,
    span.span_from,
    span.span_to,
    decision.adjustment_id,
    decision.action,
    decision.number,
    decision.reason_vi
from span
inner join decision
    on
        span.station_id = decision.station_id
        and span.parameter = decision.parameter
        and span.span_from >= decision.applies_from
        and span.span_to <= decision.applies_to
qualify
    row_number() over (
        partition by span.station_id, span.parameter, span.span_from
        order by decision._as_of desc, decision._received_at desc, decision._delivery_id desc, decision._line desc
    ) = 1
