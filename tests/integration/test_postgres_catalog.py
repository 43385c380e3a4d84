"""The same marts on the SQLite and the PostgreSQL catalog: one setting apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lake.lake import open_reader
from simulator.sample import generate
from tests.conftest import AS_OF, END, table_rows
from tests.faults.test_kill import TINY
from tests.postgres_kit import Server
from tnmt.settings import Settings

TNMT = str(Path(sys.executable).parent / "tnmt")


def _platform(home: Path, sample: Path, **extra: str) -> dict:
    environment = {**os.environ, "TNMT_HOME": str(home), **extra}
    for arguments in (["init"], ["run"]):
        if arguments == ["run"]:
            shutil.copytree(sample, home / "inbox", dirs_exist_ok=True)
            (home / "sample.json").write_text(f'{{"size": "tiny", "seed": 1, "end": "{END}", "as_of": "{AS_OF.isoformat()}"}}')
        done = subprocess.run([TNMT, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    catalog = extra.get("TNMT_CATALOG", "sqlite")
    with open_reader(Settings(home=home, catalog=catalog)) as con:
        con.execute("LOAD spatial")
        schemas = [r[0] for r in con.execute("SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_catalog = 'lake'").fetchall()]
        return {s: table_rows(con, s) for s in schemas if s in ("clean", "quarantine") or s.startswith("marts_")}


def test_same_marts_on_both_catalogs(postgres: Server, tmp_path: Path) -> None:
    postgres.execute("CREATE DATABASE lake_catalog")
    # one sample for both: a File Geodatabase holds the time of its making, so two would be two deliveries
    sample = tmp_path / "sample"
    generate(sample, Settings().reference, 1, END, TINY)
    embedded = _platform(tmp_path / "sqlite", sample)
    served = _platform(tmp_path / "postgres", sample, TNMT_CATALOG=f"postgres:{postgres.dsn('lake_catalog')}")
    assert embedded.keys() == served.keys()
    for schema, tables in embedded.items():
        for name, rows in tables.items():
            # tokens differ: each platform has a key of its own
            if name == "land_owner":
                assert [r[:2] for r in served[schema][name]] == [r[:2] for r in rows]
            else:
                assert served[schema][name] == rows, (schema, name)
