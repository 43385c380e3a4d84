with unit as (
    select unit_code, unit_name, valid_from
    from {{ ref('administrative_unit') }}
    where level = 'commune' and valid_from >= date '{{ var("communes_merged_on") }}'
),

-- a code lives on under a new name when a commune is upgraded: the newest name is shown
named as (
    select unit_code as commune_code, unit_name as commune_name
    from unit
    qualify row_number() over (partition by unit_code order by valid_from desc, unit_name asc) = 1
    union all
    -- a successor that the list of units does not hold keeps the name of the list of mergers
    select successor.new_commune_code as commune_code, min(successor.new_commune_name) as commune_name
    from {{ ref('commune_successor') }} as successor
    left join unit on successor.new_commune_code = unit.unit_code
    where unit.unit_code is null
    group by successor.new_commune_code
),

-- back to an old code only where one commune alone went into the new one
predecessor as (
    select new_commune_code, min(old_commune_code) as old_commune_code, min(old_commune_name) as old_commune_name
    from {{ ref('commune_successor') }}
    group by new_commune_code
    having count(*) = 1
)

select
    named.commune_code,
    named.commune_name,
    predecessor.old_commune_code,
    predecessor.old_commune_name
from named
left join predecessor on named.commune_code = predecessor.new_commune_code
