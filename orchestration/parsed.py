"""`tnmt-dbt`: dbt on the project as it was parsed last.

dbt parses the whole project, which takes seconds, whenever a variable or the lake's address differs from the last time: at every build. What
a parse finds depends on neither, so here the project is parsed again only where it changed, or dbt did. Arguments, output and exit codes are
those of `dbt`; without an environment of its own it works on the platform of TNMT_HOME.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from dbt.cli.exceptions import DbtUsageException
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from orchestration.marts import BuildFailed, dbt_environment, project_hash
from tnmt.settings import Settings, settings

OWN = {"parse", "--target", "-t"}
"""With these dbt parses for itself: `parse` is asked to, and another target names another database."""


def parsed(settings: Settings) -> Manifest:
    """The project as a parse leaves it, with the variables of dbt_project.yml; raises BuildFailed where it cannot be parsed.

    Kept beside the project, for every platform of this installation, as Python keeps its compiled modules: where that folder
    cannot be written, each call parses anew. The environment must be that of `dbt_environment`.
    """
    folder = settings.dbt_project / "target"
    kept = folder / f"parsed-{project_hash(settings)}-{version('dbt-core')}-{version('dbt-duckdb')}.msgpack"
    try:
        manifest = Manifest.from_msgpack(kept.read_bytes())
        # what macros see as `graph`, which msgpack does not keep; dbt gives the method no types
        manifest.build_flat_graph()  # type: ignore[no-untyped-call]
        return manifest
    except OSError:
        pass
    done: Any = dbtRunner().invoke(["parse", "--quiet"])
    if not done.success:
        raise BuildFailed(f"the dbt project cannot be parsed: {done.exception}")
    fresh: Manifest = done.result
    half = kept.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(exist_ok=True)
        half.write_bytes(fresh.to_msgpack())
        for old in folder.glob("parsed-*.msgpack"):
            old.unlink(missing_ok=True)
        half.replace(kept)
    except OSError:
        with suppress(OSError):
            half.unlink()
    return fresh


def main() -> None:
    """Runs dbt with the arguments of the process and ends it as `dbt` would: 0, 1 where something failed, 2 where dbt could not go on."""
    arguments = sys.argv[1:]
    here = settings()
    for name, value in dbt_environment(here).items():
        os.environ.setdefault(name, value)
    try:
        manifest = parsed(here) if OWN.isdisjoint(arguments) else None
    except BuildFailed as error:
        sys.exit(f"Error: {error}")
    done = dbtRunner(manifest=manifest).invoke(arguments)
    if isinstance(done.exception, DbtUsageException):  # all else dbt has told by itself
        sys.stderr.write(f"{done.exception}\n")
    sys.exit(0 if done.success else 2 if done.exception else 1)
