select
    file.format,
    coalesce(reason.damage_reason_vi, file.damage_reason, 'Không rõ') as damage_reason_vi,
    count(*) as files
from {{ ref('stg_scan_file') }} as file
left join {{ ref('damage_reason') }} as reason on file.damage_reason = reason.damage_reason
where file.is_damaged
group by all
