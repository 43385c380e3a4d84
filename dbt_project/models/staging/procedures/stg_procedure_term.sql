select
    procedure_code,
    procedure_name_vi,
    authority_vi,
    term_days,
    valid_from,
    legal_basis_vi,
    {{ lineage_columns() }}
from {{ source('clean', 'procedure_term') }}
