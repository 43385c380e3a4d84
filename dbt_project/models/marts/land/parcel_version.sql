{{ config(materialized='table') }}

with placed as (
    select
        object.parcel_uid,
        object.renumbered,
        object.old_commune_code,
        node.*
    from {{ ref('int_parcel_node') }} as node
    inner join {{ ref('int_parcel_object') }} as object on node.node_id = object.node_id
),

parent as (
    select distinct from_node
    from {{ ref('int_parcel_link') }}
    where kind <> 'renumber'
),

succeeded as (
    select parcel_uid, renumbered - 1 as renumbered, min(valid_from) as succeeded_at
    from placed
    group by parcel_uid, renumbered
),

version as (
    -- a number that stays in the files beside the one that took its place says nothing more of the parcel
    select placed.*
    from placed
    left join succeeded on placed.parcel_uid = succeeded.parcel_uid and placed.renumbered = succeeded.renumbered
    where coalesce(placed.valid_from < succeeded.succeeded_at, true)
),

ordered as (
    select
        *,
        least(valid_to, lead(valid_from) over parcel) as ends_at,
        lead(valid_from) over parcel as next_from,
        lag(valid_to) over parcel as previous_to,
        lag(node_id) over parcel as previous_node,
        lag(crs) over parcel as previous_crs,
        lag(geometry_hash) over parcel as previous_hash,
        lag(land_use_code) over parcel as previous_use
    from version
    window parcel as (partition by parcel_uid order by valid_from)
),

judged as (
    select
        *,
        previous_node is not null and previous_node <> node_id as is_renumbered,
        previous_node is not null and (previous_crs is distinct from crs or previous_hash is distinct from geometry_hash) as is_boundary_changed,
        previous_node is not null and (previous_use is distinct from land_use_code) as is_land_use_changed
    from ordered
)

select
    judged.parcel_uid,
    judged.valid_from,
    judged.ends_at as valid_to,
    judged.known_from,
    judged.known_to,
    case
        when judged.previous_node is null then 'first'
        when judged.previous_to < judged.valid_from then 'returned'
        when judged.is_renumbered then 'renumbered'
        when judged.is_boundary_changed then 'boundary'
        when judged.is_land_use_changed then 'land_use'
        else 'attribute'
    end as change_kind,
    case
        when judged.ends_at is null then null
        when judged.next_from = judged.ends_at then 'changed'
        when parent.from_node is not null then 'retired'
        else 'missing'
    end as end_kind,
    judged.is_renumbered,
    judged.is_boundary_changed,
    judged.is_land_use_changed,
    judged.parcel_id,
    judged.parcel_code,
    judged.unit_code,
    judged.is_new_unit,
    judged.old_commune_code,
    judged.place_code as commune_code,
    judged.sheet_number,
    judged.parcel_number,
    judged.land_use_code,
    judged.area_m2 as declared_area_m2,
    judged.geometry_area_m2 as computed_area_m2,
    judged.source_crs,
    judged._delivery_id as source_delivery_id,
    judged._line as source_line
from judged
left join parent on judged.node_id = parent.from_node
