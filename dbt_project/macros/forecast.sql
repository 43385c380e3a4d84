{# Methods of the forecasts, simplest first: of two that err alike the first is shown. Names of columns of int_forecast, made by
   orchestration/forecasting.py; a baseline has nothing learnt. #}
{% macro forecast_methods() %}
    {{ return([
        {'name': 'persistence', 'is_baseline': true, 'hour': 'Giữ nguyên giá trị cuối', 'day': 'Giữ nguyên giá trị cuối'},
        {'name': 'seasonal_naive', 'is_baseline': true, 'hour': 'Như cùng giờ hôm trước', 'day': 'Như cùng thứ tuần trước'},
        {'name': 'climatology', 'is_baseline': true, 'hour': 'Trung bình cùng giờ nhiều ngày', 'day': 'Trung bình cùng thứ nhiều tuần'},
        {'name': 'mean', 'is_baseline': true, 'hour': 'Trung bình nhiều ngày', 'day': 'Trung bình nhiều ngày'},
        {'name': 'recent_mean', 'is_baseline': false, 'hour': 'Trung bình 24 giờ gần nhất', 'day': 'Trung bình 7 ngày gần nhất'},
        {'name': 'recent_climatology', 'is_baseline': false, 'hour': 'Trung bình cùng giờ, ưu tiên ngày gần', 'day': 'Trung bình cùng thứ, ưu tiên tuần gần'},
        {'name': 'ets_level_slow', 'is_baseline': false, 'hour': 'San bằng mũ (ETS), chậm', 'day': 'San bằng mũ (ETS), chậm'},
        {'name': 'ets_level_fast', 'is_baseline': false, 'hour': 'San bằng mũ (ETS), nhanh', 'day': 'San bằng mũ (ETS), nhanh'},
        {'name': 'ets_season_slow', 'is_baseline': false, 'hour': 'San bằng mũ (ETS) theo giờ trong ngày, chậm', 'day': 'San bằng mũ (ETS) theo thứ, chậm'},
        {'name': 'ets_season_fast', 'is_baseline': false, 'hour': 'San bằng mũ (ETS) theo giờ trong ngày, nhanh', 'day': 'San bằng mũ (ETS) theo thứ, nhanh'},
        {'name': 'anomaly', 'is_baseline': false, 'hour': 'Trung bình cùng giờ cộng độ lệch hiện tại', 'day': 'Trung bình cùng thứ cộng độ lệch hiện tại'},
        {'name': 'combination', 'is_baseline': false, 'hour': 'Tổ hợp các phương pháp, trọng số theo tầm dự báo', 'day': 'Tổ hợp các phương pháp, trọng số theo tầm dự báo'},
    ]) }}
{% endmacro %}

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
        {%- for one in forecast_methods() %}
        when '{{ one.name }}' then {% if one.hour == one.day %}'{{ one.hour }}'{% else %}case {{ kind }} when 'hour' then '{{ one.hour }}' else '{{ one.day }}' end{% endif %}
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
    {%- for one in forecast_methods() if one.is_baseline or not baselines %}
        {{ expression | replace('@', one.name) }}{{ separator if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{# Which methods are baselines, and which of two that err alike is shown. #}
{% macro forecast_places() -%}
    select unnest([{% for one in forecast_methods() %}
        {'method': '{{ one.name }}', 'is_baseline': {{ one.is_baseline | lower }}, 'place': {{ loop.index }}}{{ ',' if not loop.last }}
    {%- endfor %}], recursive := true)
{%- endmacro %}
