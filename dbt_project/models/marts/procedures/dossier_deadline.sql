select
    cast(date_trunc('month', received_on) as date) as month,
    procedure_code,
    procedure_name_vi,
    coalesce(office_vi, 'Chưa có bước xử lý') as office_vi,
    commune_code,
    commune_name,
    count(*) as received,
    count(*) filter (status = 'finished' and timeliness = 'on_time') as finished_on_time,
    count(*) filter (status = 'finished' and timeliness = 'late') as finished_late,
    count(*) filter (status = 'finished' and timeliness = 'late_by_system_only') as late_by_system_only,
    count(*) filter (status = 'finished' and timeliness in ('no_deadline', 'unknown')) as finished_not_judged,
    count(*) filter (status = 'returned') as returned,
    count(*) filter (status = 'open' and timeliness = 'late') as open_overdue,
    count(*) filter (status = 'open' and timeliness <> 'late' and term_days - working_days_used <= 3) as open_due_3_days,
    count(*) filter (
        status = 'open' and timeliness in ('on_time', 'late_by_system_only') and coalesce(term_days - working_days_used > 3, true)
    ) as open_in_time,
    count(*) filter (status = 'open' and timeliness in ('no_deadline', 'unknown')) as open_not_judged,
    (
        count(*) filter (status = 'finished' and timeliness in ('on_time', 'late_by_system_only'))
        / nullif(count(*) filter (status = 'finished' and timeliness not in ('no_deadline', 'unknown')), 0)
    ) as on_time_share
from {{ ref('dossier') }}
group by all
