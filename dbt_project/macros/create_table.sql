{#-
    How the table of a model is made. Every materialisation (table, incremental, microbatch) comes through `create_table_as`:
    * a model with meta.scale_out is computed by Spark where var `engine` says so; dbt and DuckDB keep all the rest (marts/scale_out.py);
    * on DuckDB, a model whose SQL names `whole_from()` and `whole_to()` is made month by month where it is made of all readings: sorting
      years of them at once takes tens of gigabytes of disk, a month a few of memory. Run as it stands, the SQL is that of all time.
-#}
{% macro create_table_as(temporary, relation, compiled_code, language='sql', partitioned_by=none, sorted_by=none) -%}
    {%- set parts = [compiled_code] -%}
    {%- if language == 'sql' and is_on_spark() -%}
        {%- set parts = [spark_select(compiled_code)] -%}
    {%- elif language == 'sql' -%}
        {%- set parts = split_in_months(compiled_code) -%}
    {%- endif -%}
    {{ adapter.dispatch('create_table_as', 'dbt')(temporary, relation, parts[0], language, partitioned_by=partitioned_by, sorted_by=sorted_by) }}
    {%- for part in parts[1:] %}
        ;
        insert into {{ relation.include(database=(not temporary), schema=(not temporary)) }} ({{ part }})
    {%- endfor %}
{%- endmacro %}

{#- Whether Spark computes the model at hand. -#}
{% macro is_on_spark() %}
    {% if var('engine') not in ['duckdb', 'spark'] %}
        {{ exceptions.raise_compiler_error("var engine: expected duckdb or spark, found " ~ var('engine')) }}
    {% endif %}
    {{ return(execute and var('engine') == 'spark' and config.get('meta', {}).get('scale_out', false)) }}
{% endmacro %}

{#- The SELECT by which DuckDB reads what Spark made of this one. -#}
{% macro spark_select(compiled_code) %}
    {{ return(run_query("select spark_select('" ~ compiled_code | replace("'", "''") ~ "')").rows[0][0]) }}
{% endmacro %}

{% macro whole_from() -%}
    date '0001-02-01'
{%- endmacro %}

{% macro whole_to() -%}
    date '9999-11-30'
{%- endmacro %}

{#- [SQL of a month, …] in the order of time. -#}
{% macro split_in_months(compiled_code) %}
    {% if whole_from() not in compiled_code %}
        {{ return([compiled_code]) }}
    {% endif %}
    {% set query %}
        select
            strftime(month, '%Y-%m-%d') as first_day,
            strftime(last_day(month), '%Y-%m-%d') as last_day
        from (
            select unnest(generate_series(date_trunc('month', min({{ environment_day('measured_at') }})), {{ environment_day(as_of()) }}, interval 1 month)) as month
            from {{ source('clean', 'reading') }}
        )
        order by month
    {% endset %}
    {% set parts = [] %}
    {% for first_day, last_day in run_query(query).rows %}
        {% do parts.append(
            compiled_code.replace(whole_from(), "date '" ~ first_day ~ "'").replace(whole_to(), "date '" ~ last_day ~ "'")
        ) %}
    {% endfor %}
    {{ return(parts or [compiled_code]) }}
{% endmacro %}
