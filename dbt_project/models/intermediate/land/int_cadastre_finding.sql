-- Derived by `python -m dictionary.derive` from dictionary/cadastre_rules.yaml: change it there.
select
    'shape_invalid' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where not is_shape_valid
union all
select
    'area_missing' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where coalesce(declared_area_m2 <= 0, true)
union all
select
    'area_differs_much' as rule_id,
    'khai ' || declared_area_m2 || ' m², bản đồ ' || computed_area_m2 || ' m²' as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where is_shape_valid and area_difference_share > 0.1
union all
select
    'area_differs' as rule_id,
    'khai ' || declared_area_m2 || ' m², bản đồ ' || computed_area_m2 || ' m²' as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where is_shape_valid and area_difference_share > 0.02 and area_difference_share <= 0.1
union all
select
    'number_missing' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where coalesce(sheet_number <= 0, true) or coalesce(parcel_number <= 0, true)
union all
select
    'number_twice' as rule_id,
    'tờ ' || sheet_number || ', thửa ' || parcel_number as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where is_number_twice
union all
select
    'code_malformed' as rule_id,
    parcel_code as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where not regexp_full_match(parcel_code, '[0-9B-HJKMNP-Z]{12}')
union all
select
    'code_elsewhere' as rule_id,
    parcel_code as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where regexp_full_match(parcel_code, '[0-9B-HJKMNP-Z]{12}') and not is_code_in_parcel
union all
select
    'land_use_missing' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where land_use_code is null
union all
select
    'land_use_former' as rule_id,
    land_use_code as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where is_land_use_legacy and valid_from >= timestamp '2024-08-01'
union all
select
    'outside_commune' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where placement = 'outside'
union all
select
    'astride_boundary' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_parcel') }}
where placement = 'astride'
union all
select
    'overlap_identical' as rule_id,
    'trùng với thửa ' || other_parcel_id as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_overlap') }}
where overlap_kind = 'identical'
union all
select
    'overlap_contained' as rule_id,
    'thửa ' || other_parcel_id || ', ' || round(overlap_m2, 1) || ' m²' as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_overlap') }}
where overlap_kind = 'contained'
union all
select
    'overlap_partial' as rule_id,
    'thửa ' || other_parcel_id || ', ' || round(overlap_m2, 1) || ' m², rộng ' || round(width_m, 2) || ' m' as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_overlap') }}
where overlap_kind = 'partial'
union all
select
    'overlap_sliver' as rule_id,
    'thửa ' || other_parcel_id || ', ' || round(overlap_m2, 1) || ' m², rộng ' || round(width_m, 2) || ' m' as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_overlap') }}
where overlap_kind = 'sliver'
union all
select
    'gap_sliver' as rule_id,
    round(area_m2, 1) || ' m², rộng ' || round(width_m, 2) || ' m, giữa các thửa ' || neighbour_ids as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_gap') }}
where gap_kind <> 'hole'
union all
select
    'gap_hole' as rule_id,
    round(area_m2, 1) || ' m², giữa các thửa ' || neighbour_ids as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_gap') }}
where gap_kind = 'hole'
union all
select
    'certificate_serial_twice' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_certificate') }}
where kind = 'serial_twice'
union all
select
    'certificate_two_valid' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_certificate') }}
where kind = 'two_valid_on_parcel'
union all
select
    'certificate_without_parcel' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_certificate') }}
where kind in ('no_parcel', 'parcel_not_unique')
union all
select
    'certificate_parcel_retired' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_certificate') }}
where kind = 'parcel_retired'
union all
select
    'certificate_date_order' as rule_id,
    cast(null as varchar) as detail_vi,
    object_id,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    valid_from,
    valid_to,
    source_delivery_id,
    source_line
from {{ ref('int_cadastre_certificate') }}
where kind = 'date_order'
