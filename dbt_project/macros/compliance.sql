{#-
    Compliance with a limit (seed 000 V.2.3; QCVN 40:2011 mục 2.1, QCVN 19:2009 mục 2.2): Cmax = C × Kq × Kf of wastewater,
    C × Kp × Kv of emission, C itself where no factor applies. Which C is in force on a day: int_limit_in_force.
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

{#- SQL condition on a row of reading_daily or reading_hourly: values came, and no period of the channel register asked for any. -#}
{% macro is_unregistered() -%}
    expected = 0 and unexpected > 0
{%- endmacro %}

{#- Aggregate: the parameters of these rows by name. -#}
{% macro unregistered_parameters() -%}
    string_agg(distinct parameter, ', ' order by parameter)
{%- endmacro %}

{#-
    How much of its limit a mean takes up, 1 at the limit and more beyond it: mean / upper limit, lower limit / mean, the greater where there
    are both (pH). Under a thousandth of the lower limit it is 1,000: no oxygen at all is the worst that can be, not unknown.
-#}
{% macro limit_share(mean, minimum, maximum) -%}
    case
        when {{ mean }} is not null
            then greatest({{ share_of_upper(mean, maximum) }}, {{ share_of_lower(mean, minimum) }})
    end
{%- endmacro %}

{% macro share_of_upper(mean, maximum) -%}
    {{ mean }} / nullif({{ maximum }}, 0)
{%- endmacro %}

{% macro share_of_lower(mean, minimum) -%}
    cast({{ minimum }} as double) / nullif(greatest({{ mean }}, cast({{ minimum }} as double) / 1000), 0)
{%- endmacro %}

{#- Which limit that is: 'min' or 'max'. -#}
{% macro limit_side(mean, minimum, maximum) -%}
    case
        when {{ mean }} is null or coalesce({{ minimum }}, {{ maximum }}) is null then null
        when coalesce({{ share_of_lower(mean, minimum) }} > {{ share_of_upper(mean, maximum) }}, {{ maximum }} is null) then 'min'
        else 'max'
    end
{%- endmacro %}
