-- since when a parcel has had the shape that it has (or had at its end), and the line that says it last
select
    parcel_uid,
    max(case when is_boundary_changed or change_kind in ('first', 'returned') then valid_from end) as drawn_on,
    max_by(source_delivery_id, valid_from) as source_delivery_id,
    max_by(source_line, valid_from) as source_line
from {{ ref('parcel_version') }}
group by parcel_uid
