select
    cast(date_trunc('month', step.finished_at) as date) as month,
    dossier.procedure_code,
    dossier.procedure_name_vi,
    step.step_name_vi,
    step.unit_vi as office_vi,
    count(*) as dossiers,
    median(date_diff('minute', step.started_at, step.finished_at)) / 60 as median_hours,
    quantile_cont(date_diff('minute', step.started_at, step.finished_at), 0.9) / 60 as p90_hours,
    count(*) filter (step.finished_at > step.due_at) / nullif(count(step.due_at), 0) as late_share
from {{ ref('stg_dossier_step') }} as step
inner join {{ ref('stg_dossier') }} as dossier on step.dossier_id = dossier.dossier_id
where step.finished_at is not null and step.started_at <= step.finished_at and step.step_kind = 'work'
group by all
