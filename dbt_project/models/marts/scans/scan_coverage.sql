with scan as (
    -- a catalogue may name the file with its folder, the check names it as found
    select
        dossier.certificate_id,
        dossier.old_commune_code,
        found.file_name,
        found.is_damaged,
        found.has_signature
    from {{ ref('stg_scan_file') }} as found
    left join {{ ref('stg_scan_dossier') }} as dossier on parse_filename(found.file_name) = parse_filename(dossier.file_name)
),

file as (
    -- a file that the catalogue names in two communes is one file: it counts in the first by code
    select
        file_name,
        min(old_commune_code) as old_commune_code,
        bool_or(is_damaged) as is_damaged,
        bool_or(has_signature) as has_signature
    from scan
    group by file_name
),

file_count as (
    select
        old_commune_code,
        count(*) as scan_files,
        count(*) filter (is_damaged) as scan_files_damaged,
        count(*) filter (has_signature) as scan_files_signed
    from file
    group by old_commune_code
),

readable as (
    select distinct certificate_id
    from scan
    where not is_damaged
),

certificate_count as (
    select
        certificate.old_commune_code,
        count(*) as certificates,
        count(readable.certificate_id) as certificates_with_scan
    from {{ ref('stg_land_certificate') }} as certificate
    left join readable on certificate.certificate_id = readable.certificate_id
    where certificate.status = 'valid'
    group by certificate.old_commune_code
),

joined as (
    select
        commune.commune_code,
        coalesce(commune.commune_name, 'Chưa xác định') as commune_name,
        sum(coalesce(certificate_count.certificates, 0)) as certificates,
        sum(coalesce(certificate_count.certificates_with_scan, 0)) as certificates_with_scan,
        sum(coalesce(file_count.scan_files, 0)) as scan_files,
        sum(coalesce(file_count.scan_files_damaged, 0)) as scan_files_damaged,
        sum(coalesce(file_count.scan_files_signed, 0)) as scan_files_signed
    from certificate_count
    full join file_count on certificate_count.old_commune_code is not distinct from file_count.old_commune_code
    left join {{ ref('int_commune') }} as commune
        on coalesce(certificate_count.old_commune_code, file_count.old_commune_code) = commune.old_commune_code
    group by all
)

select
    commune_code,
    commune_name,
    cast(certificates as bigint) as certificates,
    cast(certificates_with_scan as bigint) as certificates_with_scan,
    cast(certificates_with_scan as double) / nullif(certificates, 0) as coverage_share,
    cast(scan_files as bigint) as scan_files,
    cast(scan_files_damaged as bigint) as scan_files_damaged,
    cast(scan_files_damaged as double) / nullif(scan_files, 0) as damaged_share,
    cast(scan_files_signed as double) / nullif(scan_files, 0) as signed_share
from joined
