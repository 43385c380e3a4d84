{#-
    Compliance with a limit (seed 000 V.2.3; QCVN 40:2011 mục 2.1, QCVN 19:2009 mục 2.2): Cmax = C × Kq × Kf of wastewater,
    C × Kp × Kv of emission, C itself where no factor applies.
-#}

{#- Product of the factors of a station for a limit; NULL where one that applies is not in the register. -#}
{% macro limit_factor(matrix, station, applies) -%}
    case
        when not {{ applies }} then cast(1 as decimal(8, 4))
        when {{ matrix }} = 'wastewater' then cast({{ station }}.kq * {{ station }}.kf as decimal(8, 4))
        when {{ matrix }} = 'emission' then cast({{ station }}.kp * {{ station }}.kv as decimal(8, 4))
    end
{%- endmacro %}

{#- A unit as limits and stations compare it: µg/Nm3 of QCVN 05:2023 is stated at 25 °C and 1 atm, as analysers report µg/m3. -#}
{% macro comparable_unit(unit) -%}
    replace({{ unit }}, 'µg/Nm3', 'µg/m3')
{%- endmacro %}
