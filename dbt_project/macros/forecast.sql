{# Methods of the forecasts, a line each: name, baseline or model, Vietnamese name for hours, for days. Simplest first: of two that err
   alike the first is shown. Names of columns of int_forecast, made by marts/forecasting.py; a baseline has nothing learnt. #}
{% macro forecast_methods() -%}
persistence|baseline|Giữ nguyên giá trị cuối|Giữ nguyên giá trị cuối
seasonal_naive|baseline|Như cùng giờ hôm trước|Như cùng thứ tuần trước
climatology|baseline|Trung bình cùng giờ nhiều ngày|Trung bình cùng thứ nhiều tuần
mean|baseline|Trung bình nhiều ngày|Trung bình nhiều ngày
recent_mean|model|Trung bình 24 giờ gần nhất|Trung bình 7 ngày gần nhất
recent_climatology|model|Trung bình cùng giờ, ưu tiên ngày gần|Trung bình cùng thứ, ưu tiên tuần gần
ets_level_slow|model|San bằng mũ (ETS), chậm|San bằng mũ (ETS), chậm
ets_level_fast|model|San bằng mũ (ETS), nhanh|San bằng mũ (ETS), nhanh
ets_season_slow|model|San bằng mũ (ETS) theo giờ trong ngày, chậm|San bằng mũ (ETS) theo thứ, chậm
ets_season_fast|model|San bằng mũ (ETS) theo giờ trong ngày, nhanh|San bằng mũ (ETS) theo thứ, nhanh
anomaly|model|Trung bình cùng giờ cộng độ lệch hiện tại|Trung bình cùng thứ cộng độ lệch hiện tại
combination|model|Tổ hợp các phương pháp, trọng số theo tầm dự báo|Tổ hợp các phương pháp, trọng số theo tầm dự báo
{%- endmacro %}

{# Seasons, steps and origins of the two kinds of forecast, one row a kind: what `forecasts` takes. An origin's steps are all over `gap`
   origins later. #}
{% macro forecast_kinds() %}
select
    'hour' as kind,
    interval 1 hour as unit,
    24 as season,
    24 as steps,
    24 * {{ var('forecast_hour_history_days') }} as length,
    {{ var('forecast_hour_stride') }} as stride,
    -- a last value older than this stands for nothing
    24 as patience,
    -- fewer values than these and there are baselines only
    4 * 24 as least,
    {{ var('forecast_hour_origins') }} as origins,
    cast(ceil(24 / {{ var('forecast_hour_stride') }}) as integer) as gap,
    date_trunc('hour', {{ as_of() }}) as newest
union all
select
    'day' as kind,
    interval 1 day as unit,
    7 as season,
    2 as steps,
    {{ var('forecast_day_history_days') }} as length,
    1 as stride,
    7 as patience,
    2 * 7 as least,
    {{ var('forecast_day_origins') }} as origins,
    2 as gap,
    cast({{ environment_day(as_of()) }} - 1 as timestamp) as newest
{% endmacro %}

{# The group of steps that a method is chosen for. #}
{% macro forecast_horizon(kind, step) -%}
    case when {{ kind }} = 'day' then {{ step }} || 'd' when {{ step }} <= 6 then '1-6h' when {{ step }} <= 12 then '7-12h' else '13-24h' end
{%- endmacro %}

{% macro forecast_method_vi(kind, method) -%}
    case {{ method }}
        {%- for line in forecast_methods().splitlines() %}
        {%- set name, role, hour, day = line.split('|') %}
        when '{{ name }}' then {% if hour == day %}'{{ hour }}'{% else %}case {{ kind }} when 'hour' then '{{ hour }}' else '{{ day }}' end{% endif %}
        {%- endfor %}
    end
{%- endmacro %}

{# Days back that histories and origins of a kind reach. #}
{% macro forecast_reach(kind) -%}
    {%- set days = {
        'hour': (var('forecast_hour_origins') | int) * (var('forecast_hour_stride') | int) / 24 + (var('forecast_hour_history_days') | int),
        'day': (var('forecast_day_origins') | int) + (var('forecast_day_history_days') | int),
    } -%}
    {{ days[kind] | round(0, 'ceil') | int + 1 }}
{%- endmacro %}

{# The expression for each method, or each baseline, its name in place of @. #}
{% macro forecast_each(expression, separator=',', baselines=false) -%}
    {%- set names = [] -%}
    {%- for line in forecast_methods().splitlines() if not baselines or line.split('|')[1] == 'baseline' -%}
        {%- do names.append(expression | replace('@', line.split('|')[0])) -%}
    {%- endfor -%}
    {{ names | join(separator ~ '\n        ') }}
{%- endmacro %}

{# Which methods are baselines, and which of two that err alike is shown. #}
{% macro forecast_places() -%}
    select
        unnest([{{ forecast_each("'@'") }}]) as method,
        unnest(range(1, {{ forecast_methods().splitlines() | length }} + 1)) as place,
        method in ({{ forecast_each("'@'", baselines=true) }}) as is_baseline
{%- endmacro %}

{#- A mean of the running day: what was measured so far, and a forecast for the rest of it. A channel at zero reads a little below it too; what is forecast is not. -#}
{% macro rest_of_day(forecast) -%}
    case
        when {{ forecast }} is not null then greatest(
            coalesce(running.mean_valid * running.elapsed, 0) + {{ forecast }} * case when running.mean_valid is null then 1 else 1 - running.elapsed end, 0
        )
    end
{%- endmacro %}
