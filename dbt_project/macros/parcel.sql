{#- SQL condition: the identifier is the number of a parcel as it is written (commune.sheet.number), which another parcel may bear later. -#}
{% macro is_written_number(parcel_id) -%}
    regexp_matches({{ parcel_id }}, '^[0-9]{5}[.]')
{%- endmacro %}

{#- SQL condition: what stands there was put in to fill the field (`--\\--`, `000`, `.`), as commune tools do to pass the check of the national system. -#}
{% macro is_placeholder(text) -%}
    coalesce(regexp_full_match({{ text }}, '[^0-9A-Za-zĐđ]*|[^1-9A-Za-zĐđ]+|(CS|CH|VP)?0+|[Xx]+'), true)
{%- endmacro %}
