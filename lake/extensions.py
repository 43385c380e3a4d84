"""DuckDB extensions from their wheels, never from the network.

The wheels hold the original signed binaries; DuckDB looks for them under
`<extension_directory>/v<version>/<platform>/`, so links there are all that a closed network needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import duckdb

NAMES = ("ducklake", "spatial", "sqlite_scanner", "postgres_scanner")
OBJECT_STORAGE = ("httpfs",)
"""Linked for a lake on `s3://` only: elsewhere no statement can reach the network through it."""


class ExtensionMissing(Exception):
    """The wheel of an extension is not installed."""


def link_extensions(directory: Path, names: Sequence[str] = NAMES) -> Path:
    """Links every extension of `names` into `directory` (made where missing) and returns it."""
    with duckdb.connect() as con:
        platform = con.execute("PRAGMA platform").fetchall()[0][0]
    target = directory / f"v{duckdb.__version__}" / str(platform)
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or spec.origin is None:
            raise ExtensionMissing(
                f"DuckDB extension {name}: the wheel duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__} "
                "was expected in this environment and is not installed; run `make setup`"
            )
        file = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if not file.exists():
            raise ExtensionMissing(
                f"DuckDB extension {name}: expected {file.name} for DuckDB {duckdb.__version__} in its wheel; "
                "the wheel is of another version: run `make setup`"
            )
        link = target / file.name
        if not (link.is_symlink() and link.resolve() == file.resolve()):
            link.unlink(missing_ok=True)
            link.symlink_to(file)
    return directory
