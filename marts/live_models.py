"""The models tagged `live`, run in this process on a project that stays parsed: a new process would pay 15 s each time."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from dbt.artifacts.resources.types import NodeType
from dbt.cli.main import dbtRunner

from lake.lake import lock
from marts.build import BuildFailed, Built, dbt_environment, dbt_vars, project_hash, served_tables, target_dir
from marts.parsed import kind, nearest, parsed
from tnmt.settings import Settings


class LiveModels:
    """The project as it is: parsed again where it changed, as an upgrade may come while the worker stays."""

    def __init__(self, settings: Settings) -> None:
        """Parses the dbt project; raises BuildFailed where it cannot be parsed."""
        self.settings = settings
        os.environ.update(dbt_environment(settings))
        self._options = ["--target-path", str(target_dir(settings) / "live"), "--quiet"]
        self._parse()

    def _parse(self) -> None:
        self._project = project_hash(self.settings)
        self._manifest = parsed(self.settings)
        nodes: list[Any] = [n for n in self._manifest.nodes.values() if n.resource_type == NodeType.Model and "live" in n.tags]
        served = served_tables(self.settings)
        live = {n.unique_id for n in nodes}
        shown = [n for k, n in self._manifest.nodes.items() if kind(n) == "view" and live & nearest(self._manifest, k)]
        self.tables = sorted(t for n in [*nodes, *shown] if (t := f"{n.schema}.{n.name}") in served)
        """Those of them that are served, and the served views of them, as schema.name."""
        self.lab_days = {t: days for t in self.tables if (days := served[t]) is not None}
        """Days that SQL Lab's serving file keeps of them."""
        self._registers = self._tables_above(nodes)

    def _tables_above(self, nodes: list[Any]) -> dict[str, str]:
        """{schema.name: name} of the tables that live models read, which a changed register leaves behind."""
        found: dict[str, str] = {}
        waiting = [key for n in nodes for key in n.config.meta["built"]["upstream"]]
        while waiting:
            node: Any = self._manifest.nodes[waiting.pop()]
            built = node.config.meta["built"]
            if built["table"] not in found and not built["incremental"] and not built["seed"]:
                found[built["table"]] = node.name
            waiting += built["upstream"]
        return found

    def run(self, now: datetime, planned: Built) -> None:
        """Makes them anew, after the tables above them that the plan calls stale. Raises BuildFailed."""
        if self._project != project_hash(self.settings):
            self._parse()
        registers = [name for table, name in self._registers.items() if table in planned.stale]
        # the relations of the few models are looked up, not those of every schema (2 s)
        lean = ("--no-populate-cache", "--no-write-json")
        command = ["run", "--select", "tag:live", *registers, *lean, *self._options, "--vars", dbt_vars(now, planned.affected_to)]
        with lock(self.settings, "live marts"):
            done = dbtRunner(manifest=self._manifest).invoke(command)
        if not done.success:
            results: Any = done.result
            failed = [f"{r.node.name}: {r.message}" for r in results.results if r.status not in ("success", "skipped")] if results else []
            raise BuildFailed(f"the live models failed: {'; '.join(failed) or done.exception}")
