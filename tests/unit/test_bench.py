"""The bench itself: what ends a cell is told apart, answers that differ are found, losses are printed as losses."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.bench import past, series
from tests.bench.__main__ import document, table
from tests.bench.measure import cold_and_warm
from tests.bench.runner import Bench
from tests.bench.series import differing
from tnmt.settings import ROOT


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)  # the tests keep their processors
    (tmp_path / "work").mkdir()
    return Bench(tmp_path / "work")


def _job(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> str:
    """A module that does `body`; its name."""
    (folder / "a_job.py").write_text(body)
    monkeypatch.setattr("tests.bench.runner.ROOT", folder)
    return "a_job"


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("print('RESULT {\"seconds\": 1}')", "OK"),
        ("raise SystemExit('no')", "ABORTED"),
        ("print('nothing')", "ABORTED"),
        ("raise MemoryError", "OOM"),
        ("import sys; sys.exit('_duckdb.OutOfMemoryException: Out of Memory Error: could not allocate')", "OOM"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "OOM"),
    ],
)
def test_how_a_cell_ended(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, outcome: str) -> None:
    assert bench.run(sys.executable, _job(tmp_path, monkeypatch, body), "x", {})["outcome"] == outcome


def test_a_cell_that_takes_too_long_ends_with_what_it_started(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child"
    body = f"import subprocess, pathlib; p = subprocess.Popen(['sleep', '60']); pathlib.Path({str(child)!r}).write_text(str(p.pid)); p.wait()"
    assert bench.run(sys.executable, _job(tmp_path, monkeypatch, body), "x", {}, cap=3) == {"outcome": "TIMEOUT", "seconds": 3}
    status = Path(f"/proc/{child.read_text()}/status")
    for _ in range(50):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.1)
    pytest.fail("the child of the cell lives on")


def test_cold_is_the_first_run_and_warm_the_median_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"x" * 10_000)
    pauses = iter([0.3, 0.01, 0.1, 0.02])
    used, answer = cold_and_warm(lambda: time.sleep(next(pauses)) or "done", [tmp_path], 3)
    assert answer == "done" and used["cold"] >= 0.3
    assert 0.02 <= used["seconds"] < 0.1


@pytest.mark.parametrize(
    ("right", "different"),
    [
        ("(1, 5, 1e-8), (2, 6, 100.0)", {}),
        ("(1, 5, 1.1e-8), (2, 6, 100.0)", {"q.near": 1}),  # small figures are compared too
        ("(1, 5, 1e-8), (2, 6, 100.00005)", {}),
        ("(1, 5, 1e-8), (2, 6, 100.0002)", {"q.near": 1}),
        ("(1, 5, NULL), (2, 6, 100.0)", {"q.near": 1}),
        ("(1, 4, 1e-8), (2, 6, 100.0)", {"q.equal": 1}),
        ("(1, 5, 1e-8)", {"q: rows": 1, "q.equal": 1, "q.near": 1}),
        ("(1, 5, 1e-8), (2, 6, 100.0), (2, 6, 100.0)", {"q: rows twice": 1}),
    ],
)
def test_answers_that_differ_are_found(tmp_path: Path, right: str, different: dict[str, int]) -> None:
    con = duckdb.connect()
    for name, rows in (("left", "(1, 5, 1e-8), (2, 6, 100.0)"), ("right", right)):
        con.execute(f'COPY (SELECT * FROM (VALUES {rows}) AS t("key", "equal", "near")) TO \'{tmp_path / name}.parquet\'')
    found, _ = differing(con, f"{tmp_path}/left.parquet", f"{tmp_path}/right.parquet", "q", ["key"], ["equal"], ["near"], 1e-6, 1e-12)
    assert found == different


def _done(seconds: float) -> dict[str, Any]:
    return {"outcome": "OK", "seconds": seconds, "cold": 2 * seconds, "peak_mib": 100.0, "load": 0.0}


def test_losses_are_printed_as_losses(bench: Bench) -> None:
    late = {"outcome": "TIMEOUT", "seconds": 900}
    past.against(bench, "won", {"duckdb": _done(2.0), "geopandas": _done(6.0), "postgis": late}, equal={"duckdb": True, "geopandas": True})
    past.against(bench, "lost", {"duckdb": _done(4.0), "sedonadb": _done(1.0)}, equal={"duckdb": False, "sedonadb": False})
    past.against(bench, "not done", {"duckdb": {"outcome": "OOM", "error": "no"}, "sedonadb": _done(1.0)})
    lines = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in table(bench.figures).splitlines()[2:]}
    assert lines["won: GeoPandas / ours"] == ["3", "x", ">= 1", "met", "equal"]
    assert lines["won: PostGIS / ours"] == ["TIMEOUT", "x", ">= 1", "met", "-"]
    assert lines["lost: SedonaDB / ours"] == ["0.25", "x", ">= 1", "**missed**", "**DIFFERENT**"]
    assert lines["not done"][0] == "OOM"
    assert lines["not done: SedonaDB / ours"] == ["ours OOM, 1 s", "x", ">= 1", "**missed**", "-"]
    page = document("S", ["spatial"], bench.figures, dict.fromkeys(("machine", "system", "python", "ours", "peers", "threads", "date"), "?"), "0", 60)
    assert "| won: PostGIS / ours | PostGIS | TIMEOUT | - | 900 |" in page and "| not done | DuckDB | OOM | - | - |" in page


def test_the_peers_are_given_every_table_that_they_read() -> None:
    asked = set(re.findall(r"\{folder\}/([a-z_]+\.[a-z_]+)\.parquet", (ROOT / "tests/bench/peers.py").read_text()))
    assert asked and asked <= {table for tables in series.TABLES.values() for table in tables}
