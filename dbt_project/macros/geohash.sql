{#- GeoHash: five bits a letter, of the alphabet without a, i, l and o; from the first on they halve longitude and latitude in turn. -#}

{#- The 60 bits of a code of 12 letters as a number. -#}
{% macro geohash_bits(code) -%}
    cast(list_sum(list_transform(
        range(12),
        lambda i: cast(strpos('0123456789BCDEFGHJKMNPQRSTUVWXYZ', substr({{ code }}, i + 1, 1)) - 1 as bigint) << (5 * (11 - i))
    )) as bigint)
{%- endmacro %}

{#- Every other of these bits as a number of 30 bits: from the first on (0) the longitude, from the second on (1) the latitude. -#}
{% macro geohash_number(bits, first) -%}
    list_sum(list_transform(range(30), lambda i: (({{ bits }} >> (59 - {{ first }} - 2 * i)) & 1) << (29 - i)))
{%- endmacro %}
