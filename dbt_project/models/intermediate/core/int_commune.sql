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
    new_commune.commune_code as old_commune_code,
    cast(null as varchar) as old_commune_name,
    new_commune.commune_code,
    new_commune.commune_name
from {{ ref('int_new_commune') }} as new_commune
left join {{ ref('commune_successor') }} as old on new_commune.commune_code = old.old_commune_code
where old.old_commune_code is null
