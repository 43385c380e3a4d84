"""`tnmt-dbt`: dbt on the project as it was parsed last.

dbt parses the whole project, which takes seconds, whenever a variable or the lake's address differs from the last time: at every build. What
a parse finds depends on neither, so here the project is parsed again only where it changed, or dbt did. Arguments, output and exit codes are
those of `dbt`; without an environment of its own it works on the platform of TNMT_HOME.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from contextlib import nullcontext, suppress
from importlib.metadata import version
from typing import Any

import yaml
from dbt.cli.exceptions import DbtUsageException
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from lake.lake import RULES_SQL, LakeError, build_lock
from lake.lock import LakeLocked
from marts.build import LOCKED, BuildFailed, by_part, dbt_environment, decided_path, forecasts_hash, project_hash
from tnmt.settings import Settings, settings

OWN = {"parse", "--target", "-t"}
"""With these dbt parses for itself: `parse` is asked to, and another target names another database."""


WRITES = {"build", "run", "seed", "snapshot"}
"""Commands that write into the lake."""

RUN_VARS = {"as_of", "affected_from", "affected_to", "engine", "known_at", "known_first_day"}
"""Variables of one build: what is computed may depend on them, how does not."""
EVERYWHERE = ("macro.tnmt.create_table_as",)
"""Macros that decide every table though no model names them: they stand in for dbt's own."""


def describe(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Notes in `config.meta.built` of every node what follows from the graph; returns the same by unique id, without the views.

    table: schema.name. incremental, seed: whether it is one. code: hash of its SQL or CSV, of the macros and columns, and of the same of
    all that it reads. vars: the variables that this code names. timed: whether the moment of a build decides it. upstream: the nearest
    tables, incremental models and seeds that it reads; views: the views between. targets: the clean tables that it reads, through anything.
    open: whether it also reads the ledger, which every publish changes. Of a view only what its text depends on is noted: it stands in the
    lake as it was made last, so that a build of a selection may read one of another version or moment.
    """
    found: dict[str, dict[str, Any]] = {}
    views: dict[str, dict[str, Any]] = {}
    nodes = manifest.nodes
    for key, node in nodes.items():
        if str(node.resource_type) not in ("model", "seed"):
            continue
        if kind(node) == "view":
            code = _code(manifest, key)
            views[key] = {
                "table": f"{node.schema}.{node.name}",
                "code": hashlib.sha256(code.encode()).hexdigest()[:16],
                "vars": _variables(code),
                "timed": _is_timed(manifest, key),
                "upstream": [],
                "views": [],
                "incremental": False,
                "seed": False,
                "targets": [],
                "open": False,
            }
            continue
        above = _above(manifest, key)
        sources = [manifest.sources[k] for k in above if k in manifest.sources]
        code = "\n".join(sorted(_code(manifest, k) for k in above if k in nodes))
        clean = {s.name.removesuffix("_history") for s in sources if s.source_name in ("clean", "history")}
        found[key] = {
            "table": f"{node.schema}.{node.name}",
            "incremental": kind(node) == "incremental",
            "seed": str(node.resource_type) == "seed",
            "code": hashlib.sha256(code.encode()).hexdigest()[:16],
            "vars": _variables(code),
            "timed": any(_is_timed(manifest, k) for k in above if k in nodes),
            "upstream": sorted(nearest(manifest, key)),
            "views": sorted(_views(manifest, key)),
            "targets": sorted(clean),
            "open": any(s.source_name not in ("clean", "history") for s in sources),
        }
    for key, built in (found | views).items():
        nodes[key].config.meta["built"] = built
    return found


def _variables(code: str) -> list[str]:
    """The variables that this code names, without those of one build."""
    return sorted(set(re.findall(r"""var\(\s*['"](\w+)['"]""", code)) - RUN_VARS)


def kind(node: Any) -> str:
    """How a model is made (view, table, incremental), or `seed`."""
    return "seed" if str(node.resource_type) == "seed" else str(node.config.materialized)


def _reads(manifest: Manifest, key: str) -> list[str]:
    node = manifest.nodes.get(key)
    return [] if node is None else list(getattr(node.depends_on, "nodes", []))


def _above(manifest: Manifest, key: str) -> set[str]:
    """The node, and all that it reads."""
    found, waiting = {key}, [key]
    while waiting:
        new = set(_reads(manifest, waiting.pop())) - found
        found |= new
        waiting += new
    return found


def nearest(manifest: Manifest, key: str) -> set[str]:
    """The nearest nodes above that are no views."""
    found: set[str] = set()
    for above in _reads(manifest, key):
        if above in manifest.nodes:
            found |= {above} if kind(manifest.nodes[above]) != "view" else nearest(manifest, above)
    return found


def _views(manifest: Manifest, key: str) -> set[str]:
    """The views between the node and the nearest that are none."""
    found: set[str] = set()
    for above in _reads(manifest, key):
        if above in manifest.nodes and kind(manifest.nodes[above]) == "view":
            found |= {above} | _views(manifest, above)
    return found


def _code(manifest: Manifest, key: str) -> str:
    """What of a node itself decides its rows: SQL or CSV, how it is made, columns, macros."""
    node: Any = manifest.nodes[key]
    if str(node.resource_type) == "seed":
        return f"{key} {node.checksum.checksum} {json.dumps(node.config.column_types, sort_keys=True)}"
    columns = {c.name: c.data_type for c in node.columns.values()}
    how = [node.config.materialized, node.config.extra.get("partitioned_by") if hasattr(node.config, "extra") else None]
    hooks = " ".join(h.sql for h in [*node.config.pre_hook, *node.config.post_hook])
    sql = "\n".join(manifest.macros[m].macro_sql for m in sorted(_macros(manifest, [*node.depends_on.macros, *EVERYWHERE])))
    python = forecasts_hash() if "forecasts(" in node.raw_code else ""
    rules = RULES_SQL.read_text(encoding="utf-8") if "lake.ops." in node.raw_code else ""
    return f"{key} {how} {json.dumps(columns, sort_keys=True)}\n{node.raw_code}\n{hooks}\n{sql}{python}{rules}"


def _macros(manifest: Manifest, names: list[str]) -> set[str]:
    """These macros of the project and all that they call, without those that only write down what was built."""
    found, waiting = set[str](), list(names)
    while waiting:
        if (name := waiting.pop()).startswith("macro.tnmt.") and name not in found | BOOKKEEPING:
            found.add(name)
            waiting += manifest.macros[name].depends_on.macros
    return found


def _is_timed(manifest: Manifest, key: str) -> bool:
    """Whether a node's own SQL or a macro that it names asks for the moment of the build."""
    node: Any = manifest.nodes[key]
    return str(node.resource_type) == "model" and ("var('as_of')" in node.raw_code or "macro.tnmt.as_of" in _macros(manifest, node.depends_on.macros))


BOOKKEEPING = {
    f"macro.tnmt.{n}" for n in ("built_run", "built_state", "record_built", "record_run", "forget_built", "built_values", "built_table", "decided_by")
}
"""Macros that write down what was built, and compute none of it."""


def parts(manifest: Manifest) -> dict[str, list[str]]:
    """The tables and views (schema.name) of each part."""
    made = (n for n in manifest.nodes.values() if str(n.resource_type) in ("model", "seed"))
    return by_part((n.schema, n.fqn, f"{n.schema}.{n.name}") for n in made)


def _described(settings: Settings, manifest: Manifest) -> Manifest:
    """The manifest with `config.meta.built`, which is also written for those who plan builds without dbt (marts.build)."""
    describe(manifest)
    built = {key: node.config.meta["built"] for key, node in manifest.nodes.items() if "built" in node.config.meta}
    # what macros see as `graph`, which msgpack does not keep; dbt gives the method no types
    manifest.build_flat_graph()  # type: ignore[no-untyped-call]
    path = decided_path(settings)
    values = yaml.safe_load((settings.dbt_project / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
    decided = json.dumps({"nodes": built, "vars": values, "parts": parts(manifest)}, default=str)
    if not path.exists() or path.read_text(encoding="utf-8") != decided:  # a newer version of this module may see more in the same project
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("decided-*.json"):
            old.unlink(missing_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(decided, encoding="utf-8")
        temporary.replace(path)
    return manifest


def parsed(settings: Settings) -> Manifest:
    """The project as a parse leaves it, with the variables of dbt_project.yml; raises BuildFailed where it cannot be parsed.

    Kept beside the project, for every platform of this installation, as Python keeps its compiled modules: where that folder
    cannot be written, each call parses anew. The environment must be that of `dbt_environment`.
    """
    folder = settings.dbt_project / "target"
    kept = folder / f"parsed-{project_hash(settings)}-{version('dbt-core')}-{version('dbt-duckdb')}.msgpack"
    try:
        return _described(settings, Manifest.from_msgpack(kept.read_bytes()))
    except OSError:
        pass
    done: Any = dbtRunner().invoke(["parse", "--quiet"])
    if not done.success:
        raise BuildFailed(f"the dbt project cannot be parsed: {done.exception}")
    fresh: Manifest = done.result
    temporary = kept.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(exist_ok=True)
        temporary.write_bytes(fresh.to_msgpack())
        for old in folder.glob("parsed-*.msgpack"):
            old.unlink(missing_ok=True)
        temporary.replace(kept)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
    return _described(settings, fresh)


def main() -> None:
    """Runs dbt with the arguments of the process and ends it as `dbt` would: 0, 1 where something failed, 2 where dbt could not go on."""
    arguments = sys.argv[1:]
    here = settings()
    # who calls dbt as a step holds the lock of the build (marts.build); by hand it is taken here
    alone = LOCKED not in os.environ and not WRITES.isdisjoint(arguments) and OWN.isdisjoint(arguments)
    for name, value in dbt_environment(here).items():
        os.environ.setdefault(name, value)
    try:
        manifest = parsed(here) if OWN.isdisjoint(arguments) else None
    except BuildFailed as error:
        sys.exit(f"Error: {error}")
    try:
        with build_lock(here, f"dbt {arguments[0]}") if alone else nullcontext():
            done = dbtRunner(manifest=manifest).invoke(arguments)
    except (LakeError, LakeLocked) as error:
        sys.exit(f"Error: {error}")
    if isinstance(done.exception, DbtUsageException):  # all else dbt has told by itself
        sys.stderr.write(f"{done.exception}\n")
    sys.exit(0 if done.success else 2 if done.exception else 1)
