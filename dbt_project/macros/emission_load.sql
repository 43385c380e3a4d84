{#- Mass of a concentration (mg/L or mg/Nm3) in the flow of an hour (m3/h): kg, to the milligram, so that sums are exact. -#}
{% macro hourly_load_kg(flow, concentration, matrix) -%}
    cast({{ flow }} * {{ concentration }} / case {{ matrix }} when 'wastewater' then 1e3 when 'emission' then 1e6 end as decimal(18, 6))
{%- endmacro %}
