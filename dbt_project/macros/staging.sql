{#- What every row of a source carries: where it came from, and when. -#}
{% macro lineage_columns() -%}
    _source,
    _delivery_id,
    _line,
    _as_of,
    _received_at
{%- endmacro %}

{#- A geometry and what the gate derived from it (see ingestion.targets). -#}
{% macro geometry_columns() -%}
    geometry,
    crs,
    geometry_area_m2,
    xmin,
    ymin,
    xmax,
    ymax
{%- endmacro %}
