{#- SQL condition: the identifier is the number of a parcel as it is written (commune.sheet.number), which another parcel may bear later. -#}
{% macro is_written_number(parcel_id) -%}
    regexp_matches({{ parcel_id }}, '^[0-9]{5}[.]')
{%- endmacro %}
