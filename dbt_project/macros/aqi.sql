{#- VN_AQI, QĐ 1459/QĐ-TCMT (12/11/2019). Breakpoints, bands and their sources: seeds vn_aqi_breakpoint and vn_aqi_band. -#}

{#- The parameters of the decree and the suffix of their columns, in the order in which a tie names the responsible one. -#}
{% macro aqi_parameters() %}
    {{ return({'PM2.5': 'pm2_5', 'PM10': 'pm10', 'O3': 'o3', 'NO2': 'no2', 'SO2': 'so2', 'CO': 'co'}) }}
{% endmacro %}

{#- SQL list of those parameters. -#}
{% macro aqi_parameter_list() -%}
    '{{ aqi_parameters().keys() | join("', '") }}'
{%- endmacro %}

{#- SQL condition: the station measures ambient air; chimneys measure SO2, NO2 and CO too. -#}
{% macro is_ambient_air(station_id) -%}
    {{ station_id }} in (select station.station_id from {{ ref('dim_station') }} as station where station.matrix = 'ambient_air')
{%- endmacro %}

{#-
    Subquery of the segments between two breakpoints: (parameter, averaging, concentration_from, concentration_to, aqi_from,
    aqi_to). A concentration lies in (from, to]; 0 lies in the first. Above the last breakpoint the index stays at its 500.
-#}
{% macro aqi_segment() -%}
    (
        select *
        from (
            select
                parameter,
                averaging,
                breakpoint as concentration_from,
                coalesce(lead(breakpoint) over step_order, case when is_open_upper = 1 then 1e12 end) as concentration_to,
                aqi as aqi_from,
                coalesce(lead(aqi) over step_order, aqi) as aqi_to
            from {{ ref('vn_aqi_breakpoint') }}
            window step_order as (partition by parameter, averaging order by step)
        ) as bound
        where concentration_from is not null and concentration_to is not null
    )
{%- endmacro %}

{#- SQL condition: the concentration (µg/m3) lies in the segment of alias `segment`. -#}
{% macro in_aqi_segment(concentration) -%}
    {{ concentration }} <= segment.concentration_to
    and ({{ concentration }} > segment.concentration_from or ({{ concentration }} = 0 and segment.concentration_from = 0))
{%- endmacro %}

{#-
    The sub-index of a concentration in its segment, rounded half up as the decree's examples are (109.5 becomes 110). 1e-9 is far
    below what one step of the sixth decimal of a concentration moves the index by, and far above the error of a double.
-#}
{% macro aqi_index(concentration) -%}
    cast(
        floor(
            segment.aqi_from
            + (segment.aqi_to - segment.aqi_from)
            * ({{ concentration }} - segment.concentration_from) / (segment.concentration_to - segment.concentration_from)
            + 0.5 + 1e-9
        ) as integer
    )
{%- endmacro %}

{#- Columns aqi_<parameter> (one each) from long rows (parameter, sub_index). -#}
{% macro aqi_pivot(value, prefix) -%}
    {%- for parameter, suffix in aqi_parameters().items() %}
    max({{ value }}) filter (parameter = '{{ parameter }}') as {{ prefix }}_{{ suffix }}{{ "," if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- The index of all parameters: the greatest sub-index, where PM10 or PM2.5 is there (the decree makes one of them mandatory). -#}
{% macro aqi_of_all() -%}
    case
        when coalesce(aqi_pm2_5, aqi_pm10) is not null
            then greatest({% for suffix in aqi_parameters().values() %}aqi_{{ suffix }}{{ ", " if not loop.last }}{% endfor %})
    end
{%- endmacro %}

{#- The parameter whose sub-index is the index. -#}
{% macro aqi_responsible() -%}
    case aqi
        {%- for parameter, suffix in aqi_parameters().items() %}
        when aqi_{{ suffix }} then '{{ parameter }}'
        {%- endfor %}
    end
{%- endmacro %}

{#- Query of the rows of CTE `concentration` (parameter, averaging, concentration, …) with their `sub_index`; NULL where no segment holds it. -#}
{% macro aqi_indexed() -%}
    select
        concentration.*,
        {{ aqi_index('concentration.concentration') }} as sub_index
    from concentration
    left join {{ aqi_segment() }} as segment
        on
            concentration.parameter = segment.parameter
            and concentration.averaging = segment.averaging
            and {{ in_aqi_segment('concentration.concentration') }}
{%- endmacro %}
