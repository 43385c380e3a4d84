with new_commune as (
    -- a code lives on under a new name when a commune is upgraded: the newest name is shown
    select unit_code, unit_name
    from {{ ref('administrative_unit') }}
    where level = 'commune' and valid_from >= date '2025-07-01'
    qualify row_number() over (partition by unit_code order by valid_from desc) = 1
)

select
    successor.old_commune_code,
    successor.old_commune_name,
    successor.new_commune_code as commune_code,
    coalesce(new_commune.unit_name, successor.new_commune_name) as commune_name
from {{ ref('commune_successor') }} as successor
left join new_commune on successor.new_commune_code = new_commune.unit_code
