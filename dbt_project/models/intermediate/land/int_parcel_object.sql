{{ config(materialized='table') }}

-- from each node back to the first sighting of its parcel, and past splits and mergers to the number of the old commune that it descends
-- from; each round doubles the way, so that eight suffice for 256 steps
with node as (
    select distinct node_id, unit_key, unit_code, is_new_unit from {{ ref('int_parcel_node') }}
),

parent as (
    -- of several parents one speaks for all where they lay in one commune
    select link.to_node, min(link.from_node) as from_node
    from {{ ref('int_parcel_link') }} as link
    inner join node on link.from_node = node.node_id
    group by link.to_node
    having count(distinct node.unit_key) = 1
),

round_0 as (
    select
        node.node_id,
        coalesce(link.from_node, node.node_id) as root,
        case when link.from_node is null then 0 else 1 end as renumbered,
        coalesce(parent.from_node, node.node_id) as ancestor
    from node
    left join {{ ref('int_parcel_link') }} as link on node.node_id = link.to_node and link.kind = 'renumber'
    left join parent on node.node_id = parent.to_node
),
{% for n in range(8) %}
    round_{{ n + 1 }} as (
        select
            one.node_id,
            further.root,
            one.renumbered + further.renumbered as renumbered,
            older.ancestor
        from round_{{ n }} as one
        inner join round_{{ n }} as further on one.root = further.node_id
        inner join round_{{ n }} as older on one.ancestor = older.node_id
    ),

{% endfor %}
placed as (
    select * from round_8
)

select
    placed.node_id,
    md5(placed.root) as parcel_uid,
    placed.renumbered,
    case
        when not node.is_new_unit then node.unit_code
        when not ancestor.is_new_unit then ancestor.unit_code
    end as old_commune_code
from placed
inner join node on placed.node_id = node.node_id
inner join node as ancestor on placed.ancestor = ancestor.node_id
