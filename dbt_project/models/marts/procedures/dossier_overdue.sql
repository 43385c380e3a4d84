with dossier as (
    select
        *,
        status = 'finished' as is_finished,
        status = 'open' as is_open,
        finished_on - received_on as days_to_finish,
        -- due on a day means: before that day ends
        due_on < {{ environment_day(as_of()) }} as is_past_due
    from {{ ref('stg_dossier') }}
)

select
    coalesce(commune.commune_code, dossier.commune_code) as commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    dossier.procedure_code,
    dossier.procedure_name_vi,
    cast(date_trunc('month', dossier.received_on) as date) as received_month,
    count(*) as received,
    count(*) filter (dossier.is_finished) as finished,
    count(*) filter (dossier.is_finished and coalesce(dossier.finished_on <= dossier.due_on, true)) as finished_on_time,
    count(*) filter (dossier.is_finished and dossier.finished_on > dossier.due_on) as finished_late,
    count(*) filter (dossier.status = 'returned') as returned,
    count(*) filter (dossier.is_open and not coalesce(dossier.is_past_due, false)) as open_in_time,
    count(*) filter (dossier.is_open and dossier.is_past_due) as open_overdue,
    cast(sum(dossier.days_to_finish) filter (dossier.is_finished) as double)
    / nullif(count(dossier.days_to_finish) filter (dossier.is_finished), 0) as mean_days_to_finish
from dossier
{{ join_commune('dossier') }}
group by all
