with parcel as (
    select parcel_uid, parcel_id, commune_code, old_commune_code, sheet_number, crs, xmin, ymin, geometry
    from {{ ref('int_parcel') }}
    where {{ is_plain_shape('geometry') }}
),

tile as (
    -- the union of all is that of the unions of squares of 2 km, which is less work
    select crs, st_union_agg(geometry) as shape
    from parcel
    group by crs, floor(xmin / 2000), floor(ymin / 2000)
),

whole as (
    -- to a tenth of a millimetre here and below: what growing and shrinking move by less would be hairs that join far gaps
    select crs, st_reduceprecision(st_union_agg(shape), 0.0001) as shape
    from tile
    group by crs
),

part as (
    -- grown by 1 mm, so that parcels that meet in one point enclose what lies between them
    select crs, unnest(st_dump({{ grown('shape', 0.001) }})).geom as shape
    from whole
),

filled as (
    select
        crs,
        st_reduceprecision({{ grown('st_union_agg(st_makepolygon(st_exteriorring(shape)))', -0.001) }}, 0.0001) as shape
    from part
    group by crs
),

found as (
    -- what parcels enclose on all sides
    select filled.crs, true as is_enclosed, unnest(st_dump(st_difference(filled.shape, whole.shape))).geom as shape
    from filled
    inner join whole on filled.crs = whole.crs
    union all
    -- what is narrow and open: all that is nearer than half of the width to parcels on both sides is filled by growing and shrinking
    -- again, with sharp corners, so that a corner of the outline is not taken for a gap
    select
        crs,
        false as is_enclosed,
        unnest(st_dump(st_difference(
            st_reduceprecision({{ grown(grown('shape', var('gap_open_m') ~ ' / 2.0'), '-' ~ var('gap_open_m') ~ ' / 2.0') }}, 0.0001),
            shape
        ))).geom as shape
    from filled
),

measured as (
    -- rounded: in the last digits two runs may differ
    select
        crs,
        is_enclosed,
        -- by its outline: st_distance and st_dwithin of DuckDB 1.5 call two squares in one line touching that are 20 m apart
        st_buffer(shape, 0.01) as reach,
        round(st_area(shape), 2) as area_m2,
        round(2 * st_area(shape) / nullif(st_perimeter(shape), 0), 3) as width_m,
        round(st_x(st_pointonsurface(shape)), 2) as x,
        round(st_y(st_pointonsurface(shape)), 2) as y
    from found
    where st_area(shape) > {{ var('parcel_gap_m2') }}
),

beside as (
    select
        gap.crs,
        gap.x,
        gap.y,
        gap.is_enclosed,
        gap.area_m2,
        gap.width_m,
        parcel.parcel_uid,
        parcel.parcel_id,
        parcel.commune_code,
        parcel.old_commune_code,
        coalesce(parcel.old_commune_code, parcel.commune_code) as unit_code,
        parcel.sheet_number,
        drawn.drawn_on
    from measured as gap
    inner join parcel on st_intersects(gap.reach, parcel.geometry)
    inner join {{ ref('int_parcel_drawn') }} as drawn on parcel.parcel_uid = drawn.parcel_uid
    where gap.crs = parcel.crs
),

gap as (
    select
        crs,
        x,
        y,
        is_enclosed,
        area_m2,
        width_m,
        count(*) as neighbours,
        string_agg(parcel_id, ', ' order by parcel_id, parcel_uid) as neighbour_ids,
        string_agg(parcel_uid, ',' order by parcel_uid) as neighbour_uids,
        min_by(parcel_uid, parcel_id || '|' || parcel_uid) as parcel_uid,
        min(parcel_id) as parcel_id,
        min_by(commune_code, parcel_id || '|' || parcel_uid) as commune_code,
        min_by(old_commune_code, parcel_id || '|' || parcel_uid) as old_commune_code,
        count(distinct unit_code) = 1 as is_same_commune,
        count(distinct unit_code || '|' || coalesce(sheet_number, 0)) = 1 as is_same_sheet,
        max(drawn_on) as open_since
    from beside
    group by crs, x, y, is_enclosed, area_m2, width_m
),

told as (
    select
        *,
        case
            when not is_enclosed then 'open'
            when width_m < {{ var('gap_open_m') }} then 'sliver'
            else 'hole'
        end as gap_kind,
        row_number() over (partition by neighbour_uids, is_enclosed order by area_m2, x, y) as turn,
        {{ on_the_globe('st_point(x, y)', 'crs') }} as place
    from gap
)

select
    md5(concat_ws('|', told.neighbour_uids, told.is_enclosed, told.turn)) as gap_id,
    told.gap_kind,
    {{ gap_kind_vi('told.gap_kind') }} as gap_kind_vi,
    told.area_m2,
    told.width_m,
    told.neighbours,
    told.neighbour_ids,
    told.parcel_uid,
    told.parcel_id,
    told.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    told.old_commune_code,
    told.is_same_commune,
    told.is_same_sheet,
    told.open_since,
    round(st_x(told.place), 6) as lon,
    round(st_y(told.place), 6) as lat
from told
left join {{ ref('int_new_commune') }} as new_commune on told.commune_code = new_commune.commune_code
