-- where a concentration lies in the table of its parameter: between two points, or outside its ends
with point as (
    select
        *,
        lead(breakpoint) over by_concentration as next_breakpoint,
        lead(q) over by_concentration as next_q,
        lag(breakpoint) over by_concentration is null as is_first
    from {{ ref('vn_wqi_breakpoint') }}
    where operator in ('=', '<=', '>=')
    window by_concentration as (partition by parameter order by breakpoint)
),

outside as (
    select
        parameter,
        bool_or(operator = '<') as has_below,
        bool_or(operator = '>') as has_above
    from {{ ref('vn_wqi_breakpoint') }}
    group by parameter
),

segment as (
    -- [this point, the next one); at and above the last point its own q
    select
        parameter,
        wqi_group,
        unit,
        breakpoint as concentration_from,
        coalesce(next_breakpoint, breakpoint) as concentration_to,
        q as q_from,
        coalesce(next_q, q) as q_to,
        case when next_breakpoint is not null then 'between' else 'from' end as kind
    from point
    union all
    select
        parameter,
        wqi_group,
        unit,
        breakpoint as concentration_from,
        breakpoint as concentration_to,
        q as q_from,
        q as q_to,
        'below' as kind
    from point
    where
        is_first
        and parameter not in (
            select outside.parameter
            from outside
            where outside.has_below
        )
    union all
    select
        parameter,
        wqi_group,
        unit,
        breakpoint as concentration_from,
        breakpoint as concentration_to,
        q as q_from,
        q as q_to,
        case operator when '<' then 'below' else 'above' end as kind
    from {{ ref('vn_wqi_breakpoint') }}
    where operator in ('<', '>')
)

select
    segment.parameter,
    segment.wqi_group,
    segment.unit,
    segment.concentration_from,
    segment.concentration_to,
    segment.q_from,
    segment.q_to,
    -- the last point holds for itself alone where the table says what comes above it
    case when segment.kind = 'from' and outside.has_above then 'at' else segment.kind end as kind
from segment
inner join outside on segment.parameter = outside.parameter
