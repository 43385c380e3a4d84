-- A dossier is expected to be late where fewer working days are left of its term than the median that finished dossiers of its procedure
-- took from the beginning of the same step on. Where fewer than 10 were finished nothing is expected.
with remaining as (
    select
        step.step_name_vi,
        dossier.procedure_code,
        median(ended.working_day_number - began.working_day_number) as median_days
    from {{ ref('stg_dossier_step') }} as step
    inner join {{ ref('int_dossier') }} as dossier on step.dossier_id = dossier.dossier_id and dossier.status = 'finished'
    inner join {{ ref('dim_date') }} as began on cast(step.started_at as date) = began.date_day
    inner join {{ ref('dim_date') }} as ended on dossier.finished_on = ended.date_day
    group by all
    having count(*) >= 10
),

open_dossier as (
    select
        dossier.office_vi,
        dossier.current_step_vi,
        dossier.received_on,
        dossier.built_on,
        dossier.timeliness = 'late' as is_overdue,
        dossier.term_days - dossier.working_days_used as days_left,
        remaining.median_days
    from {{ ref('int_dossier') }} as dossier
    left join remaining on dossier.procedure_code = remaining.procedure_code and dossier.current_step_vi = remaining.step_name_vi
    where dossier.status = 'open'
)

select
    coalesce(office_vi, 'Chưa có bước xử lý') as office_vi,
    coalesce(current_step_vi, 'Chưa có bước xử lý') as step_name_vi,
    count(*) as open_dossiers,
    count(*) filter (is_overdue) as overdue,
    -- what is due on a working day of this week, that of the build among them
    count(*) filter (not is_overdue and days_left <= greatest(5 - isodow(built_on), 0)) as due_this_week,
    count(*) filter (not is_overdue and days_left < median_days) as expected_late,
    max(built_on - received_on) as oldest_days,
    max(built_on) as as_of
from open_dossier
group by all
