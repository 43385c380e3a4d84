{#- VN_WQI, QĐ 1460/QĐ-TCMT (12/11/2019). Points and bands: seeds vn_wqi_breakpoint and vn_wqi_band. -#}

{#- SQL condition: the value lies in the segment of this alias. -#}
{% macro in_wqi_segment(value, segment) -%}
    case {{ segment }}.kind
        when 'below' then {{ value }} < {{ segment }}.concentration_to
        when 'between' then {{ value }} >= {{ segment }}.concentration_from and {{ value }} < {{ segment }}.concentration_to
        when 'at' then {{ value }} = {{ segment }}.concentration_from
        when 'from' then {{ value }} >= {{ segment }}.concentration_from
        when 'above' then {{ value }} > {{ segment }}.concentration_from
    end
{%- endmacro %}

{#- Oxygen at saturation (mg/L) in water of this temperature (°C). -#}
{% macro oxygen_saturation(temperature) -%}
    (14.652 - 0.41022 * {{ temperature }} + 0.0079910 * power({{ temperature }}, 2) - 0.000077774 * power({{ temperature }}, 3))
{%- endmacro %}

{#- Sub-indices of a group as a list in the order of their parameters, so that products and means are the same to the bit. -#}
{% macro wqi_group_list(wqi_group) -%}
    list(q order by parameter) filter (wqi_group = '{{ wqi_group }}')
{%- endmacro %}

{#- SQL condition: VN_WQI needs the parameter of a station: itself, or for N-NH4 and the saturation of oxygen. -#}
{% macro is_of_wqi(parameter) -%}
    {{ parameter }} in (select breakpoint.parameter from {{ ref('vn_wqi_breakpoint') }} as breakpoint union all select unnest(['NH4', 'DO', 'Temp']))
{%- endmacro %}
