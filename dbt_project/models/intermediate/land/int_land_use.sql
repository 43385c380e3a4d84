{{ config(materialized='table') }}  -- a table, since Spark has no recursive query

with recursive lineage as (
    select land_use_code, land_use_name_vi, land_use_code as group_code, land_use_name_vi as group_name_vi
    from {{ ref('land_use_code') }}
    where parent is null
    union all
    select child.land_use_code, child.land_use_name_vi, lineage.group_code, lineage.group_name_vi
    from {{ ref('land_use_code') }} as child
    inner join lineage on child.parent = lineage.land_use_code
),

legacy as (
    -- an old code is reported under its successor of 2024 where there is exactly one
    select
        old.legacy_code,
        coalesce(lineage.land_use_code, old.legacy_code) as land_use_code,
        coalesce(lineage.land_use_name_vi, old.name_vi) as land_use_name_vi,
        lineage.group_name_vi
    from {{ ref('land_use_code_legacy') }} as old
    left join lineage on old.land_use_code = lineage.land_use_code
    where old.legacy_code not in (select current.land_use_code from {{ ref('land_use_code') }} as current)
)

select
    land_use_code as code_in_record,
    land_use_code,
    land_use_name_vi,
    group_name_vi as land_use_group_vi,
    false as is_legacy
from lineage
union all
select
    legacy_code as code_in_record,
    land_use_code,
    land_use_name_vi,
    coalesce(group_name_vi, 'Chưa xác định nhóm') as land_use_group_vi,
    true as is_legacy
from legacy
