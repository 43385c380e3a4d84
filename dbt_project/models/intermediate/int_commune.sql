select
    successor.old_commune_code,
    successor.old_commune_name,
    successor.new_commune_code as commune_code,
    new_commune.commune_name
from {{ ref('commune_successor') }} as successor
inner join {{ ref('int_new_commune') }} as new_commune on successor.new_commune_code = new_commune.commune_code
union all
-- registers and maps made after the merger name communes by their new codes: those that no old commune bore mean one thing only
select
    commune_code as old_commune_code,
    cast(null as varchar) as old_commune_name,
    commune_code,
    commune_name
from {{ ref('int_new_commune') }}
where commune_code not in (select old.old_commune_code from {{ ref('commune_successor') }} as old)
