{{ config(materialized='table') }}

with life as (
    select
        node_id,
        unit_key,
        parcel_id,
        place_code,
        is_new_unit,
        min(valid_from) as began_at,
        case when count(*) = count(valid_to) then max(valid_to) end as ended_at,
        arg_min(crs || geometry_hash, valid_from) as first_shape,
        arg_max(crs || geometry_hash, valid_from) as last_shape,
        arg_min(origin_parcel_id, valid_from) as origin_parcel_id
    from {{ ref('int_parcel_node') }}
    group by node_id, unit_key, parcel_id, place_code, is_new_unit
),

declared as (
    -- the comparison table: of a number that was given anew, the parcel before the day and the one from it on
    select
        parent.node_id as from_node,
        child.node_id as to_node,
        pair.effective_on as changed_on,
        pair.kind
    from {{ ref('int_parcel_renumbering') }} as pair
    inner join life as parent on pair.former_unit_key = parent.unit_key and pair.former_parcel_id = parent.parcel_id
    inner join life as child on pair.unit_key = child.unit_key and pair.present_parcel_id = child.parcel_id
    where
        pair.resolution = 'resolved'
        and parent.began_at < child.began_at
        and (pair.unit_key <> pair.former_unit_key or cast(parent.began_at as date) < pair.effective_on)
        and (pair.unit_key <> pair.former_unit_key or cast(child.began_at as date) >= pair.effective_on)
    window
        one_pair as (
            partition by pair.former_unit_key, pair.former_parcel_id, pair.effective_on, pair.unit_key, pair.present_parcel_id
        )
    qualify
        parent.began_at = max(parent.began_at) over one_pair
        and child.began_at = min(child.began_at) over one_pair
),

from_table as (
    select
        from_node,
        to_node,
        changed_on,
        'comparison_table' as basis,
        true as is_confirmed,
        kind
    from declared
    -- tables of two days may name one parcel twice: whose number it bears is then not known
    qualify kind <> 'renumber' or (count(*) over (partition by from_node, kind) = 1 and count(*) over (partition by to_node, kind) = 1)
),

-- what the table does not name: an identifier that is no number of its commune goes over to the new commune
by_identifier as (
    select
        parent.node_id as from_node,
        child.node_id as to_node,
        cast(child.began_at as date) as changed_on,
        'identifier' as basis,
        true as is_confirmed,
        'renumber' as kind
    from life as parent
    inner join life as child
        on parent.place_code = child.place_code and parent.parcel_id = child.parcel_id and not parent.is_new_unit and child.is_new_unit
    where
        not {{ is_written_number('parent.parcel_id') }}
        and parent.node_id not in (select from_table.from_node from from_table)
        and child.node_id not in (select from_table.to_node from from_table)
    qualify count(*) over (partition by parent.node_id) = 1 and count(*) over (partition by child.node_id) = 1
),

-- a parcel declares the one that it was cut from (THUAGOCID)
by_origin as (
    select
        parent.node_id as from_node,
        child.node_id as to_node,
        cast(child.began_at as date) as changed_on,
        'declared' as basis,
        true as is_confirmed,
        'split' as kind
    from life as child
    inner join life as parent
        on child.place_code = parent.place_code and child.origin_parcel_id = parent.parcel_id and child.began_at > parent.began_at
    where
        parent.node_id <> child.node_id
        and child.node_id not in (select from_table.to_node from from_table)
        and child.node_id not in (select by_identifier.to_node from by_identifier)
    qualify count(*) over (partition by child.node_id) = 1
),

told as (
    select * from from_table
    union all
    select * from by_identifier
    union all
    select * from by_origin
),

-- nobody says anything, and a parcel of the same shape begins where another ends
by_shape as (
    select
        parent.node_id as from_node,
        child.node_id as to_node,
        cast(child.began_at as date) as changed_on,
        'geometry' as basis,
        false as is_confirmed,
        'renumber' as kind
    from life as parent
    inner join life as child on parent.place_code = child.place_code and parent.last_shape = child.first_shape and parent.ended_at = child.began_at
    where
        parent.node_id <> child.node_id
        and parent.node_id not in (select told.from_node from told)
        and child.node_id not in (select told.to_node from told)
    qualify count(*) over (partition by parent.node_id) = 1 and count(*) over (partition by child.node_id) = 1
)

select * from told
union all
select * from by_shape
