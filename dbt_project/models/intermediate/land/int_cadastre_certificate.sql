-- what is to be looked up of certificates, as the rules of the cadastre see it
select
    issue_id as object_id,
    kind,
    parcel_uid,
    parcel_id,
    commune_code,
    old_commune_code,
    as_of as valid_from,
    cast(null as timestamp) as valid_to,
    source_delivery_id,
    source_line
from {{ ref('certificate_issue') }}
