{#- The moment for which a build speaks, as a TIMESTAMP literal (GMT+7). -#}
{% macro as_of() -%}
    {%- if execute and not var('as_of') -%}
        {{ exceptions.raise_compiler_error("var as_of is required, for instance --vars '{as_of: \"2026-11-24 23:59:00\"}'") }}
    {%- endif -%}
    timestamp '{{ var('as_of') or '1970-01-01 00:00:00' }}'
{%- endmacro %}

{#- The environment day of a stamp that ends its span: (00:00, 24:00], so 00:00 belongs to the day before. -#}
{% macro environment_day(stamp) -%}
    cast({{ stamp }} - interval 1 microsecond as date)
{%- endmacro %}

{#- Whether a day is over. For views, whose text must not name the moment of a build: it is that of the newest status of the stations. -#}
{% macro is_whole_day(day) -%}
    {{ day }} < (select cast(max(status.as_of) as date) from {{ ref('station_status') }} as status)
{%- endmacro %}

{#- A number of minutes as people say it: "3 ngày 4 giờ", "5 giờ 20 phút", "12 phút". -#}
{% macro duration_vi(minutes) -%}
    case
        when {{ minutes }} >= 2880 then ({{ minutes }} // 1440) || ' ngày' || coalesce(' ' || nullif({{ minutes }} % 1440 // 60, 0) || ' giờ', '')
        when {{ minutes }} >= 60 then ({{ minutes }} // 60) || ' giờ' || coalesce(' ' || nullif({{ minutes }} % 60, 0) || ' phút', '')
        else {{ minutes }} || ' phút'
    end
{%- endmacro %}
