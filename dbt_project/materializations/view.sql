{#-
    Views only where their text changed: a view whose row of ops.built (macros/built.sql) says its present text is there already, and making
    it again is three statements and a snapshot for nothing. A view of a moment is made by every build.
-#}
{% materialization view, adapter='duckdb' %}
    {%- set own = built_run().rows.get(built_table()) if built_table() -%}
    {%- set there = load_cached_relation(this) -%}
    {%- set same = own and own.hash == built_state().claim.hash and not model.config.meta.built.timed and there and there.is_view -%}
    {%- if not same or flags.FULL_REFRESH or var('affected_from') is not none -%}
        {{ return(replaced(this.incorporate(type='view'))) }}
    {%- endif -%}
    {%- call noop_statement('main', 'UNCHANGED') -%}
        {{ sql }}
    {%- endcall -%}
    {{ return({'relations': [there]}) }}
{% endmaterialization %}
