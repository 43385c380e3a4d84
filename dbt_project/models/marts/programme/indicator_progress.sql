with indicator as (
    select
        *,
        -- the newest period that has been reported speaks for the indicator
        row_number() over (
            partition by indicator_id order by actual is not null desc, period_end desc, period desc
        ) = 1 as is_latest
    from {{ ref('stg_programme_indicator') }}
)

select
    indicator.indicator_id,
    indicator.indicator_name_vi,
    indicator.unit,
    indicator.period,
    indicator.period_end,
    indicator.target,
    indicator.actual,
    cast(indicator.actual as double) / nullif(cast(indicator.target as double), 0) as progress_share,
    case
        when indicator.actual is null and indicator.period_end > {{ environment_day(as_of()) }} then 'Chưa đến kỳ'
        when indicator.actual is null then 'Chưa báo cáo'
        when indicator.actual >= indicator.target then 'Đạt'
        when indicator.period_end > {{ environment_day(as_of()) }} then 'Đang thực hiện'
        else 'Chưa đạt'
    end as status_vi,
    requirement.clause as requirement_clause,
    indicator.is_latest
from indicator
left join {{ ref('requirement') }} as requirement on indicator.indicator_id = requirement.requirement_id
