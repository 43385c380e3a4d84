{{ config(materialized='table') }}

-- The two clocks of a dossier. The system's: the day that it was promised for. Ours: working days after the day of receipt (the first
-- counts from the next day: Bộ luật Dân sự 91/2015/QH13, Điều 147), without those that waited for the citizen or for the tax notice,
-- against the term that was in force on the day of receipt.
with build as (
    select {{ environment_day(as_of()) }} as built_on
),

step as (
    select
        *,
        row_number() over (partition by dossier_id order by finished_at is null desc, step_number desc) as from_last
    from {{ ref('stg_dossier_step') }}
),

waited as (
    select
        step.dossier_id,
        step.step_kind,
        greatest(cast(step.started_at as date), dossier.received_on) as from_day,
        least(
            coalesce(cast(step.finished_at as date), dossier.finished_on, build.built_on),
            coalesce(dossier.finished_on, build.built_on)
        ) as to_day
    from step
    inner join {{ ref('stg_dossier') }} as dossier on step.dossier_id = dossier.dossier_id
    cross join build
    where step.step_kind <> 'work'
),

pause as (
    -- a day on which two steps waited is one day
    select waited.dossier_id, count(distinct day.date_day) as paused_days
    from waited
    inner join {{ ref('dim_date') }} as day
        on waited.from_day < day.date_day and waited.to_day >= day.date_day and day.is_working_day
    group by waited.dossier_id
),

returned as (
    select dossier_id, count(*) as times_returned
    from waited
    where step_kind = 'waiting_citizen'
    group by dossier_id
),

term as (
    select
        procedure_code,
        term_days,
        authority_vi,
        valid_from,
        lead(valid_from) over (partition by procedure_code order by valid_from) as valid_to
    from {{ ref('stg_procedure_term') }}
),

counted as (
    select
        dossier.dossier_id,
        dossier.procedure_code,
        dossier.procedure_name_vi,
        dossier.old_commune_code,
        dossier.commune_code,
        dossier.received_on,
        dossier.due_on,
        dossier.finished_on,
        dossier.status,
        build.built_on,
        term.term_days,
        term.authority_vi,
        last_step.step_name_vi as current_step_vi,
        last_step.unit_vi as office_vi,
        coalesce(pause.paused_days, 0) as paused_days,
        coalesce(returned.times_returned, 0) as times_returned,
        ended.working_day_number - received.working_day_number - coalesce(pause.paused_days, 0) as working_days_used,
        case
            when due.working_day_number is not null and ended.working_day_number is not null
                then greatest(ended.working_day_number - due.working_day_number, 0)
        end as late_days_system,
        received.is_provisional or ended.is_provisional as is_provisional
    from {{ ref('stg_dossier') }} as dossier
    cross join build
    left join {{ ref('dim_date') }} as received on dossier.received_on = received.date_day
    -- only what is open goes on: one that is said to be finished, on no day, has no end
    left join {{ ref('dim_date') }} as ended
        on coalesce(dossier.finished_on, case when dossier.status = 'open' then build.built_on end) = ended.date_day
    left join {{ ref('dim_date') }} as due on dossier.due_on = due.date_day
    left join pause on dossier.dossier_id = pause.dossier_id
    left join returned on dossier.dossier_id = returned.dossier_id
    left join step as last_step on dossier.dossier_id = last_step.dossier_id and last_step.from_last = 1
    left join term
        on
            dossier.procedure_code = term.procedure_code
            and dossier.received_on >= term.valid_from
            and coalesce(dossier.received_on < term.valid_to, true)
)

select
    *,
    case when working_days_used is not null and term_days is not null then greatest(working_days_used - term_days, 0) end as late_days_real,
    case
        when status = 'returned' then 'returned'
        when due_on is null and term_days is null then 'no_deadline'
        when working_days_used is null or coalesce(term_days, late_days_system) is null then 'unknown'
        when working_days_used > term_days then 'late'
        when term_days is null and late_days_system > 0 then 'late'
        when late_days_system > 0 then 'late_by_system_only'
        else 'on_time'
    end as timeliness
from counted
