{#-
    Which (station, day) an incremental build recomputes: those that publishes changed since the model was built last (macros/built.sql), and
    every day that was still running then. A change of a register can move what was due on any day, so it recomputes all: registers
    are the targets that the model reads and whose rows name no days. Bounds are constants in the SQL, so that the lake opens only the
    files of those days.
-#}

{#- {all, first_day, open_from}: whether everything is recomputed, else the first day touched and the first day that was still running. -#}
{% macro recompute_window() %}
    {% if var('known_first_day') %}
        {{ return({'all': false, 'open_from': var('known_first_day'), 'first_day': var('known_first_day')}) }}
    {% elif not execute or not is_incremental() %}
        {{ return({'all': true, 'first_day': none, 'open_from': none}) }}
    {% else %}
        {% set state = built_state() %}
        {% if 'window' in state %}
            {{ return(state.window) }}
        {% endif %}
        {% set moment = modules.datetime.datetime.fromisoformat(var('as_of')) %}
        {% set open_from = ([moment, state.as_of or moment] | min - modules.datetime.timedelta(microseconds=1)).date() | string %}
        {% set touched = new_targets() %}
        {% set first_day = open_from %}
        {% if touched | reject('in', dated_targets()) | list %}
            {% set first_day = none %}
        {% elif touched or model.config.meta.built.open %}
            {% set query = "select cast(least(date '" ~ open_from ~ "', (select min(day) from " ~ affected_day() ~ ")) as varchar)" %}
            {% set first_day = run_query(query).rows[0][0] | string %}
        {% endif %}
        {% do state.update({'window': {'all': first_day is none, 'open_from': open_from, 'first_day': first_day}}) %}
        {{ return(state.window) }}
    {% endif %}
{% endmacro %}

{#- SQL condition: a row of ops.affected is of a publish that the model has not seen. -#}
{% macro is_new_publish() -%}
    seq > {{ built_state().since }} and seq <= {{ built_state().to }}
{%- endmacro %}

{#-
    Subquery of the (unit, day) that publishes changed since the last build: of readings, and every day that a decision of an
    affected station speaks of or spoke of.
-#}
{% macro affected_reading() -%}
    (
        select unit, day
        from {{ source('ops', 'affected') }}
        where target = 'reading' and {{ is_new_publish() }}
        {%- for table, columns, first, last in [
            ('adjustment', 'applies_from, applies_to', environment_day('applies_from + interval 1 microsecond'), environment_day('applies_to')),
            ('approval', 'first_day, last_day', 'first_day', 'last_day'),
        ] %}
        union
        select station_id, cast(unnest(generate_series({{ first }}, least({{ last }}, {{ environment_day(as_of()) }}), interval 1 day)) as date)
        from (
            select station_id, {{ columns }} from {{ source('clean', table) }}
            union all
            select station_id, {{ columns }} from {{ source('history', table ~ '_history') }}
        ) as decision
        where station_id in (select unit from {{ source('ops', 'affected') }} where target = '{{ table }}' and {{ is_new_publish() }})
        {%- endfor %}
    )
{%- endmacro %}

{#-
    Subquery of the days that publishes changed since the last build: of affected_reading, and those of files with new rows in quarantine,
    which explain a silence (int_station_hour); the slots of a file end up to five minutes before its time.
-#}
{% macro affected_day() -%}
    (
        select day from {{ affected_reading() }} as affected
        {%- if execute and model.config.get('meta', {}).get('built', {}).get('open') %}
        union
        select cast(landed.as_of - part.n * interval 6 minute as date)
        from lake.ops.outcome as outcome
        inner join lake.ops.landed as landed on outcome.delivery_id = landed.delivery_id and outcome.day = landed.day
        cross join (select unnest(range(2)) as n) as part
        where {{ is_new_publish() }} and outcome.rows_quarantined > 0
        {%- endif %}
    )
{%- endmacro %}

{#- SQL condition: the (station, day) in these columns is recomputed. A rule that looks back over midnight names how many `days_after` a change it still sees. -#}
{% macro is_recomputed(station_id, day, window, days_after=0) -%}
    {%- if window.all -%}
        true
    {%- else -%}
        {{ day }} >= date '{{ window.first_day }}'
        and (
            {{ day }} >= date '{{ window.open_from }}'
            or ({{ station_id }}, {{ day }}) in (
                select affected.unit, affected.day + later.days
                from {{ affected_reading() }} as affected
                cross join (select cast(unnest(range({{ days_after + 2 }})) as integer) as days) as later
            )
        )
    {%- endif -%}
{%- endmacro %}

{#- SQL condition: the day is recomputed for every station, since what one station sent changes how the silence of others is explained. The day before the first that was still running too: its last slots may not have been late yet. -#}
{% macro is_recomputed_day(day, window) -%}
    {%- if window.all -%}
        true
    {%- else -%}
        {{ day }} >= date '{{ window.first_day }}' - 1
        and (
            {{ day }} >= date '{{ window.open_from }}' - 1
            or {{ day }} in (
                select affected.day + later.days
                from {{ affected_day() }} as affected
                cross join (select cast(unnest(range(2)) as integer) as days) as later
            )
        )
    {%- endif -%}
{%- endmacro %}

{#- Pre-hook: the same for days. -#}
{% macro delete_recomputed_days() -%}
    {%- if execute and is_incremental() -%}
        delete from {{ this }} where {{ is_recomputed_day('day', recompute_window()) }}
    {%- endif -%}
{%- endmacro %}

{#- Pre-hook: takes out what the model is about to insert again, in the same transaction; rows that vanished at the source go too. -#}
{% macro delete_recomputed(days_after=0) -%}
    {%- if execute and is_incremental() -%}
        delete from {{ this }} where {{ is_recomputed('station_id', 'day', recompute_window(), days_after) }}
    {%- endif -%}
{%- endmacro %}

{#- SQL condition: a day of this (station, period) is recomputed. A period is 'month', 'quarter' or 'year', from its first day `period_start` on. -#}
{% macro is_recomputed_period(station_id, period, period_start, window, days_after=0) -%}
    {%- if window.all -%}
        true
    {%- else -%}
        {{ period_start }} >= date_trunc('year', date '{{ window.first_day }}')
        and (
            {{ period_start }} >= date_trunc({{ period }}, date '{{ window.open_from }}')
            or ({{ station_id }}, {{ period }}, {{ period_start }}) in (
                select affected.unit, kind.period, cast(date_trunc(kind.period, affected.day + later.days) as date)
                from {{ affected_reading() }} as affected
                cross join (select unnest(['month', 'quarter', 'year']) as period) as kind
                cross join (select cast(unnest(range({{ days_after + 2 }})) as integer) as days) as later
            )
        )
    {%- endif -%}
{%- endmacro %}

{#- Pre-hook: the same for periods. -#}
{% macro delete_recomputed_periods(days_after=0) -%}
    {%- if execute and is_incremental() -%}
        delete from {{ this }} where {{ is_recomputed_period('station_id', 'period', 'period_start', recompute_window(), days_after) }}
    {%- endif -%}
{%- endmacro %}

{#- Aggregate: the first time at which a quantity takes its greatest (or least) value. -#}
{% macro first_at(at, value, extreme='max') -%}
    {%- if extreme == 'max' -%}
        arg_max({{ at }}, ({{ value }}, -epoch_us({{ at }}))) filter ({{ value }} is not null)
    {%- else -%}
        arg_min({{ at }}, ({{ value }}, epoch_us({{ at }}))) filter ({{ value }} is not null)
    {%- endif -%}
{%- endmacro %}
