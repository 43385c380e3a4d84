{#-
    Tables, and views, are replaced in one transaction. dbt's own way makes a second table, renames twice, commits, and drops the old one by a
    commit of its own: on DuckLake each commit is a snapshot, after which the catalog is read anew.
-#}
{% materialization table, adapter='duckdb', supported_languages=['sql'] %}
    {{ return(replaced(this.incorporate(type='table'))) }}
{% endmaterialization %}

{#- Makes the model at hand in place of what stands under its name. -#}
{% macro replaced(target) %}
    {%- set standing = load_cached_relation(this) -%}
    {#- what a killed build of an older version has left -#}
    {{ drop_relation_if_exists(load_cached_relation(make_intermediate_relation(target))) }}
    {{ drop_relation_if_exists(load_cached_relation(make_backup_relation(target, target.type))) }}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% call statement('main') -%}
        {%- if standing is not none %}
            drop {{ standing.type }} if exists {{ standing }};
        {%- endif %}
        {% if target.is_view %}{{ get_create_view_as_sql(target, sql) }}{% else %}{{ create_table_as(False, target, compiled_code) }}{% endif %}
    {%- endcall %}
    {% do persist_docs(target, model) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmacro %}
