-- how many break each rule in each commune, now and 30 days ago; a rule that nobody breaks has its row too
with moment as (
    select {{ as_of() }} as as_of, {{ as_of() }} - interval 30 day as before
),

checked as (
    select unnest(['parcel', 'overlap', 'gap']) as object_kind, commune_code, count(*) as checked
    from {{ ref('parcel_current') }}
    group by commune_code
    union all
    select 'certificate' as object_kind, commune_code, count(*) as checked
    from {{ ref('int_certificate') }}
    group by commune_code
),

failed as (
    select
        issue.rule_id,
        issue.commune_code,
        count(*) filter (issue.is_open and issue.found_on <= moment.as_of) as failed,
        count(*) filter (issue.found_on <= moment.before and coalesce(issue.fixed_on > moment.before, true)) as failed_before,
        count(*) filter (issue.fixed_on > moment.before and issue.fixed_on <= moment.as_of) as fixed_in_30_days
    from {{ ref('cadastre_issue') }} as issue
    cross join moment
    group by issue.rule_id, issue.commune_code
),

place as (
    select rule.rule_id, checked.commune_code, checked.checked
    from {{ ref('cadastre_rule') }} as rule
    inner join checked on rule.object_kind = checked.object_kind
),

judged as (
    select
        coalesce(place.rule_id, failed.rule_id) as rule_id,
        coalesce(place.commune_code, failed.commune_code) as commune_code,
        coalesce(place.checked, 0) as checked,
        coalesce(failed.failed, 0) as failed,
        coalesce(failed.failed_before, 0) as failed_before,
        coalesce(failed.fixed_in_30_days, 0) as fixed_in_30_days
    from place
    full outer join failed on place.rule_id = failed.rule_id and place.commune_code is not distinct from failed.commune_code
)

select
    judged.rule_id,
    rule.sentence_vi as rule_vi,
    rule.severity,
    {{ severity_vi('rule.severity') }} as severity_vi,
    rule.rule_source,
    judged.commune_code,
    coalesce(new_commune.commune_name, 'Chưa xác định') as commune_name,
    moment.as_of,
    judged.checked,
    judged.failed,
    judged.failed / nullif(judged.checked, 0) as failed_share,
    judged.failed_before,
    judged.fixed_in_30_days
from judged
cross join moment
inner join {{ ref('cadastre_rule') }} as rule on judged.rule_id = rule.rule_id
left join {{ ref('int_new_commune') }} as new_commune on judged.commune_code = new_commune.commune_code
