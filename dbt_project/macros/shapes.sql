{#- GEOS and JTS fail on, or misjudge, what is no valid polygon. An area past the whole country is none: the gate lets no such coordinate in,
    an older lake may hold one. -#}
{% macro is_plain_shape(geometry) -%}
    st_isvalid({{ geometry }}) and st_area({{ geometry }}) < 1e13
{%- endmacro %}

{#- The shape in longitude and latitude, in this order. -#}
{% macro on_the_globe(geometry, crs) -%}
    st_transform({{ geometry }}, {{ crs }}, 'EPSG:4326', always_xy := true)
{%- endmacro %}

{#- The shape grown on all sides by so many metres, or shrunk, with sharp corners. -#}
{% macro grown(geometry, metres) -%}
    st_buffer({{ geometry }}, {{ metres }}, 2, 'CAP_ROUND', 'JOIN_MITRE', 10.0)
{%- endmacro %}
