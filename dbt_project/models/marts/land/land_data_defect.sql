with defect as (
    select commune_code, commune_name, 'computed' as basis, unnest(string_split(missing_codes, ';')) as defect_code, missing_count = 1 as is_only
    from {{ ref('land_data_state') }}
    where missing_codes is not null
    union all
    select
        commune_code,
        commune_name,
        'reported' as basis,
        -- of the way to the defect the last two words: what it lies in, and what it is
        regexp_extract(unnest(string_split(reported_defects, ';')), '[^|]+([|][^|]+)?$') as defect_code,
        not contains(reported_defects, ';') as is_only
    from {{ ref('land_data_state') }}
    where reported_defects is not null
)

select
    defect.commune_code,
    defect.commune_name,
    defect.basis,
    {{ defect_basis_vi('defect.basis') }} as basis_vi,
    defect.defect_code,
    case defect.basis
        when 'computed' then {{ land_data_defect_vi('defect.defect_code') }}
        else coalesce(known.name_vi, 'Mã chưa có trong danh mục: ' || defect.defect_code)
    end as defect_vi,
    count(*) as parcels,
    count(*) filter (defect.is_only) as only_this_defect
from defect
left join {{ ref('land_data_defect_code') }} as known on defect.basis = 'reported' and defect.defect_code = known.defect_code
group by all
