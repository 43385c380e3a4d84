select
    delivery.source,
    coalesce(source.title_vi, delivery.source) as title_vi,
    delivery.day,
    count(*) as deliveries,
    count(*) filter (delivery.status = 'published') as published,
    count(*) filter (delivery.status = 'quarantined') as quarantined,
    count(*) filter (delivery.status in ('blocked', 'set_aside')) as blocked,
    count(*) filter (delivery.status = 'closed') as closed,
    cast(coalesce(sum(delivery.rows_read), 0) as bigint) as rows_read,
    cast(coalesce(sum(delivery.rows_accepted), 0) as bigint) as rows_accepted,
    cast(coalesce(sum(delivery.rows_duplicate), 0) as bigint) as rows_duplicate,
    cast(coalesce(sum(delivery.rows_quarantined), 0) as bigint) as rows_quarantined
from {{ source('ops', 'delivery') }} as delivery
left join {{ source('ops', 'source') }} as source on delivery.source = source.source
group by all
