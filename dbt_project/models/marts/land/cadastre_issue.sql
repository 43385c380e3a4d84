-- an issue lasts as long as the versions that break the rule follow one another
with marked as (
    select
        *,
        not coalesce(lag(valid_to) over (partition by rule_id, object_id order by valid_from) = valid_from, false) as is_begun
    from {{ ref('int_cadastre_finding') }}
),

numbered as (
    select *, count(*) filter (is_begun) over (partition by rule_id, object_id order by valid_from) as turn
    from marked
),

issue as (
    select
        rule_id,
        object_id,
        min(valid_from) as found_on,
        case when bool_and(valid_to is not null) then max(valid_to) end as fixed_on,
        max_by(detail_vi, valid_from) as detail_vi,
        max_by(parcel_uid, valid_from) as parcel_uid,
        max_by(parcel_id, valid_from) as parcel_id,
        max_by(commune_code, valid_from) as commune_code,
        max_by(old_commune_code, valid_from) as old_commune_code,
        max_by(source_delivery_id, valid_from) as source_delivery_id,
        max_by(source_line, valid_from) as source_line
    from numbered
    group by rule_id, object_id, turn
),

placed as (
    select
        issue.*,
        {{ on_the_globe('st_pointonsurface(parcel.geometry)', 'parcel.crs') }} as place
    from issue
    left join {{ ref('int_parcel') }} as parcel on issue.parcel_uid = parcel.parcel_uid
)

select
    md5(concat_ws('|', placed.rule_id, placed.object_id, placed.found_on)) as issue_id,
    placed.rule_id,
    rule.severity,
    {{ severity_vi('rule.severity') }} as severity_vi,
    rule.sentence_vi || coalesce(': ' || placed.detail_vi, '') as message_vi,
    rule.office_vi,
    placed.parcel_uid,
    placed.parcel_id,
    placed.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    placed.old_commune_code,
    placed.found_on,
    placed.fixed_on,
    placed.fixed_on is null as is_open,
    round(st_x(placed.place), 6) as lon,
    round(st_y(placed.place), 6) as lat,
    placed.source_delivery_id,
    placed.source_line
from placed
inner join {{ ref('cadastre_rule') }} as rule on placed.rule_id = rule.rule_id
left join {{ ref('int_new_commune') }} as new_commune on placed.commune_code = new_commune.commune_code
