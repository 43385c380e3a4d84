with limit_row as (
    select
        qcvn.standard,
        case qcvn.matrix
            when 'industrial_wastewater' then 'wastewater'
            when 'industrial_emission' then 'emission'
            when 'surface_water_river' then 'surface_water'
            else qcvn.matrix
        end as matrix,
        qcvn.class,
        case
            when qcvn.parameter in ('NH4-N', 'N-NH4') then 'NH4'
            -- Cl of the regulation is chloride; what loggers call Cl may be free chlorine, so the two never meet unasked
            when qcvn.parameter = 'Cl' then 'Chloride'
            else qcvn.parameter
        end as parameter,
        qcvn.statistic,
        -- the mean that the limit is compared with; a maximum of an effluent, emission or water standard is one of the day (seed 000 V.2.3)
        case
            when qcvn.statistic in ('1h', '8h', 'year') then qcvn.statistic
            when qcvn.statistic in ('24h', 'max', 'class limit', 'Cmax basis C') or qcvn.statistic like 'C basis%' then '24h'
            -- QCVN 19:2024 limits a kind of plant, which no register names yet
        end as compared_mean,
        replace(qcvn.unit, 'Pt/Co', 'Pt-Co') as unit,
        qcvn.limit_min,
        qcvn.limit_max,
        qcvn.factor_applies,
        qcvn.reference_oxygen,
        -- a limit that changed inside its standard has dates of its own
        coalesce(qcvn.valid_from, standard.valid_from) as valid_from,
        coalesce(qcvn.valid_to, standard.valid_to) as valid_to,
        qcvn.confidence,
        qcvn.source
    from {{ ref('qcvn_limit') }} as qcvn
    left join {{ ref('qcvn_standard') }} as standard on qcvn.standard = standard.standard
)

select
    concat_ws('|', standard, matrix, coalesce(class, ''), parameter, statistic, coalesce(cast(valid_from as varchar), '')) as limit_key,
    *
from limit_row
