{{ config(materialized='table') }}

select
    parent.parcel_uid as parent_uid,
    child.parcel_uid as child_uid,
    link.changed_on,
    link.kind,
    {{ lineage_kind_vi('link.kind') }} as kind_vi,
    link.basis,
    {{ lineage_basis_vi('link.basis') }} as basis_vi,
    link.is_confirmed
from {{ ref('int_parcel_link') }} as link
inner join {{ ref('int_parcel_object') }} as parent on link.from_node = parent.node_id
inner join {{ ref('int_parcel_object') }} as child on link.to_node = child.node_id
where link.kind <> 'renumber'
