{#-
    What a table is made of, in lake.ops.built: a row a model or seed, with
    * affected_to: the newest publish (ops.affected.seq) that its rows have seen, never more than what it reads has seen itself;
    * as_of: the moment for which they speak, the earliest of what it reads; NULL where no moment decides them;
    * hash: of what decides them (its SQL, macros, variables, and the same of all it reads); '' where something it reads was not up to it.
    A view's row has the moment and the hash of its own text: it says them until it is made again, whoever reads it.
    An incremental model's row is written in the transaction of its rows, in a partition of its own, so that of two builds of one model side
    by side one fails. Each model reads its own row: any selection may be built, in any order. `config.meta.built` (marts/parsed.py)
    has what follows from the graph.
-#}

{#- Targets whose rows name the days that they change; a publish of any other target recomputes every day of what reads it. -#}
{% macro dated_targets() %}
    {{ return(['reading', 'adjustment', 'approval']) }}
{% endmacro %}

{#- The hash of a node, with the variables as they are in this run. -#}
{% macro decided_by(built) %}
    {%- set parts = [built.code] -%}
    {%- for name in built.vars -%}
        {%- do parts.append(name ~ '=' ~ var(name)) -%}
    {%- endfor -%}
    {{ return(local_md5(parts | join('|'))) }}
{% endmacro %}

{#-
    What this run knows, asked once: `rows` of ops.built by table (kept up with what the run builds), `newest`, the newest publish,
    `to`, the newest that the run covers, and `first`: {affected_to: {target: the first publish of it after that}}.
-#}
{% macro built_run() %}
    {%- set kept = graph.get('built_run') -%}
    {%- if kept and kept.run == invocation_id -%}
        {{ return(kept) }}
    {%- endif -%}
    {%- set asked -%}
        select model, affected_to, strftime(as_of, '%Y-%m-%d %H:%M:%S.%f'), hash, (select coalesce(max(seq), 0) from lake.ops.gate_result)
        from lake.ops.built
        union all
        select null, null, null, null, coalesce(max(seq), 0) from lake.ops.gate_result
    {%- endset -%}
    {%- set kept = {'run': invocation_id, 'newest': 0, 'to': 0, 'rows': {}, 'first': {}, 'made': {}, 'states': {}} -%}
    {%- set known = graph.nodes.values() | selectattr('config.meta.built', 'defined') | map(attribute='config.meta.built.table') | list -%}
    {%- for row in run_query(asked).rows -%}
        {%- do kept.update({'newest': row[4] | int, 'to': (row[4] if var('affected_to') is none else var('affected_to')) | int}) -%}
        {%- if row[0] in known -%}
            {%- set as_of = modules.datetime.datetime.fromisoformat(row[2]) if row[2] else none -%}
            {%- do kept.rows.update({row[0]: {'affected_to': row[1] | int, 'as_of': as_of, 'hash': row[3]}}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set since = kept.rows.values() | map(attribute='affected_to') | list + ([var('affected_from') | int] if var('affected_from') is not none else []) -%}
    {%- set since = since | unique | select('lt', kept.to) | list -%}
    {%- for value in since -%}
        {%- do kept.first.update({value: {}}) -%}
    {%- endfor -%}
    {%- if since -%}
        {%- set asked -%}
            select since.seq, published.target, min(published.seq)
            from (select distinct target, seq from lake.ops.affected where seq > {{ since | min }} and seq <= {{ kept.to }}) as published
            inner join (select unnest({{ since }}) as seq) as since on published.seq > since.seq
            group by all
        {%- endset -%}
        {%- for row in run_query(asked).rows -%}
            {%- do kept.first[row[0] | int].update({row[1]: row[2] | int}) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- do graph.update({'built_run': kept}) -%}
    {{ return(kept) }}
{% endmacro %}

{#- The newest publish that a table has seen: what came since of what it does not read changes nothing of it. -#}
{% macro seen_to(run, built, row) %}
    {%- if built.open or row.affected_to not in run.first -%}
        {{ return(row.affected_to) }}
    {%- endif -%}
    {%- set seen = [run.to] -%}
    {%- for target, seq in run.first[row.affected_to].items() if target in built.targets -%}
        {%- do seen.append(seq - 1) -%}
    {%- endfor -%}
    {{ return(seen | min) }}
{% endmacro %}

{#-
    Of the model at hand: `anew`, whether it is made as a whole; else `since`, the publish after which it recomputes, and `as_of`, the moment
    for which it spoke; `claim`, what its rows will have seen. Asked before the model reads anything, so that it never claims too much.
-#}
{% macro built_state() %}
    {%- set built = model.config.get('meta', {}).get('built') if execute and model.config else none -%}
    {%- if not execute or not built -%}
        {{ return({'anew': true, 'since': -1, 'to': -1, 'as_of': none, 'claim': none}) }}
    {%- endif -%}
    {%- set run = built_run() -%}
    {%- if model.unique_id in run.states -%}
        {{ return(run.states[model.unique_id]) }}
    {%- endif -%}
    {%- set hash = decided_by(built) -%}
    {%- set own = run.rows.get(built.table) -%}
    {%- set claim = {'affected_to': run.to, 'as_of': modules.datetime.datetime.fromisoformat(var('as_of')) if built.timed else none, 'hash': hash, 'read': {}} -%}
    {%- for key in built.upstream -%}
        {%- set above = graph.nodes[key].config.meta.built -%}
        {%- set row = run.rows.get(above.table) -%}
        {%- if not row or row.hash != decided_by(above) -%}
            {%- do claim.update({'hash': ''}) -%}
        {%- endif -%}
        {%- if row -%}
            {%- do claim.update({'affected_to': [claim.affected_to, seen_to(run, above, row)] | min}) -%}
            {%- if row.as_of -%}
                {%- do claim.update({'as_of': [claim.as_of, row.as_of] | min}) -%}
            {%- endif -%}
            {%- if above.incremental -%}
                {%- do claim.read.update({above.table: row.affected_to}) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for key in built.views -%}
        {%- set above = graph.nodes[key].config.meta.built -%}
        {%- set row = run.rows.get(above.table) -%}
        {%- if not row or row.hash != decided_by(above) -%}
            {%- do claim.update({'hash': ''}) -%}
        {%- elif above.timed -%}
            {%- do claim.update({'as_of': [claim.as_of, row.as_of] | min}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set forced = var('affected_from') -%}
    {%- set state = {
        'anew': forced | int < 0 if forced is not none else not own or own.hash != hash,
        'since': forced | int if forced is not none else own.affected_to if own else -1,
        'to': run.to,
        'as_of': own.as_of if own else none,
        'claim': claim,
    } -%}
    {%- do run.states.update({model.unique_id: state}) -%}
    {{ return(state) }}
{% endmacro %}

{#- Targets of which there are publishes that the model at hand reads and has not seen. -#}
{% macro new_targets() %}
    {%- set since = built_state().since -%}
    {%- set targets = model.config.meta.built.targets -%}
    {{ return(built_run().first.get(since, {}).keys() | select('in', targets) | list) }}
{% endmacro %}

{#- dbt asks this whether an incremental model (or a seed) is made as a whole. -#}
{% macro should_full_refresh() %}
    {%- set configured = config.get('full_refresh') -%}
    {{ return(flags.FULL_REFRESH or built_state().anew if configured is none else configured) }}
{% endmacro %}

{#- Pre-hook, committed by itself: a model that is made as a whole claims nothing until it is there, as that is no single transaction. -#}
{% macro forget_built() -%}
    {%- if execute and built_table() and config.get('materialized') == 'incremental' and should_full_refresh() and built_table() in built_run().rows -%}
        delete from lake.ops.built where model = '{{ built_table() }}'
    {%- endif -%}
{%- endmacro %}

{#- Name of the model at hand in ops.built; none where nothing is recorded of it. -#}
{% macro built_table() %}
    {%- set built = model.config.get('meta', {}).get('built') -%}
    {{ return(built.table if built and not var('known_at') else none) }}
{% endmacro %}

{% macro built_values(table, claim) -%}
    ('{{ table }}', {{ claim.affected_to }}, {{ "timestamp '" ~ claim.as_of ~ "'" if claim.as_of else 'cast(null as timestamp)' }}, '{{ claim.hash }}')
{%- endmacro %}

{#-
    Post-hook. Where another build took back what this model has read, or is making it as a whole, the claim goes back too. Seeds, tables and
    views are noted, and written together at the end of the run (see forget_run for one that is killed before).
-#}
{% macro record_built() -%}
    {%- if execute and built_table() -%}
        {%- set run = built_run() -%}
        {%- set claim = built_state().claim -%}
        {%- do run.rows.update({built_table(): claim}) -%}
        {%- if config.get('materialized') == 'incremental' -%}
            merge into lake.ops.built using (
                select
                    claimed.model,
                    least(claimed.affected_to, lowered.affected_to) as affected_to,
                    claimed.as_of,
                    case when lowered.tables = {{ claim.read | length }} then claimed.hash else '' end as hash,
                    claimed.model as part
                from (values {{ built_values(built_table(), claim) }}) as claimed (model, affected_to, as_of, hash)
                cross join (
                    {%- if claim.read %}
                        select
                            count(*) as tables,
                            min(case {% for table, seq in claim.read.items() %}when part = '{{ table }}' and affected_to < {{ seq }} then affected_to {% endfor %}end)
                                as affected_to
                        from lake.ops.built
                        where part in ('{{ claim.read | join("', '") }}')
                    {%- else %}
                        select 0 as tables, null as affected_to
                    {%- endif %}
                ) as lowered
            ) as made on built.model = made.model
            when matched then update set affected_to = made.affected_to, as_of = made.as_of, hash = made.hash
            when not matched then insert values (made.model, made.affected_to, made.as_of, made.hash, made.part)
        {%- else -%}
            {%- do run.made.update({model.unique_id: built_values(built_table(), claim)}) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#-
    On the start of a build: the rows of what it will make of another text or moment go, as they are written on its end. A build that is killed
    between leaves tables, seeds and views that nobody vouches for, not some that pass for those of before. Increments of the live worker make
    theirs at every look and need no such row.
-#}
{% macro forget_run() -%}
    {%- if execute and flags.WHICH in ['build', 'seed'] and not var('known_at') -%}
        {%- set run = built_run() -%}
        {%- set moment = modules.datetime.datetime.fromisoformat(var('as_of')) if var('as_of') else none -%}
        {%- set gone = [] -%}
        {%- for key in selected_resources if key in graph.nodes and graph.nodes[key].config.get('meta', {}).get('built') -%}
            {%- set built = graph.nodes[key].config.meta.built -%}
            {%- set row = run.rows.get(built.table) -%}
            {%- if row and graph.nodes[key].config.materialized != 'incremental' and (row.hash != decided_by(built) or (built.timed and row.as_of != moment)) -%}
                {%- do gone.append(built.table) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if gone -%}
            {%- do gone.sort() -%}
            delete from lake.ops.built where model in ('{{ gone | join("', '") }}')
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#- On the end of a run: the rows of seeds, tables and views that were made. -#}
{% macro record_run(results) -%}
    {%- set kept = graph.get('built_run') -%}
    {%- if execute and kept and kept.run == invocation_id and kept.made -%}
        {%- set made = [] -%}
        {%- for result in results if result.status == 'success' and result.node.unique_id in kept.made -%}
            {%- do made.append(kept.made[result.node.unique_id]) -%}
        {%- endfor -%}
        {%- if made -%}
            merge into lake.ops.built using (values {{ made | join(', ') }}) as made (model, affected_to, as_of, hash) on built.model = made.model
            when matched then update set affected_to = made.affected_to, as_of = made.as_of, hash = made.hash
            when not matched then insert values (made.model, made.affected_to, made.as_of, made.hash, '')
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
