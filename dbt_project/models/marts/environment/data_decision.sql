with decision as (
    select
        adjustment_id as decision_id,
        'adjustment' as kind,
        'Hiệu chỉnh' as kind_vi,
        station_id,
        parameter,
        applies_from,
        applies_to,
        action as decision,
        {{ decision_vi('action') }} as decision_vi,
        number,
        reason_vi,
        decided_by,
        document,
        _received_at as recorded_at
    from {{ ref('stg_adjustment') }}
    union all
    select
        approval_id as decision_id,
        'approval' as kind,
        'Phê duyệt' as kind_vi,
        station_id,
        parameter,
        cast(first_day as timestamp) as applies_from,
        cast(last_day as timestamp) + interval 1 day as applies_to,
        grade as decision,
        {{ grade_vi('grade') }} as decision_vi,
        null as number,
        reason_vi,
        decided_by,
        document,
        _received_at as recorded_at
    from {{ ref('stg_approval') }}
)

select
    decision.decision_id,
    decision.kind,
    decision.kind_vi,
    decision.station_id,
    station.station_name,
    station.commune_name,
    decision.parameter,
    decision.applies_from,
    decision.applies_to,
    decision.decision,
    decision.decision_vi,
    decision.number,
    decision.reason_vi,
    decision.decided_by,
    decision.document,
    decision.recorded_at
from decision
left join {{ ref('dim_station') }} as station on decision.station_id = station.station_id
