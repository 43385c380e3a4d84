"""A model that fails holds back what hangs on it; the rest is built and served, and whoever runs, asks or looks is told."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

import duckdb
import pytest

from ingestion.ingest import contracts_of, register_sources
from lake.lake import open_writer
from lake.serving import current
from marts.build import plan, target_dir
from orchestration.run import run
from simulator.registers import write_channel_register, write_station_register
from tests.conftest import new_platform
from tests.tiny import tnmt

DAY = date(2026, 3, 10)
START = datetime(2026, 3, 10, 8)
STATION = "BP_AAAA_NUOTHA"


def test_a_failed_model_holds_back_what_hangs_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNMT_HOME", "")
    s = new_platform(tmp_path / "home")
    common = {"matrix": "Nước thải", "old_commune": "25195", "lon": 106.9, "lat": 11.5, "in_use_from": DAY}
    write_station_register(s.inbox / "station_register" / "tram_20260310.xlsx", [{"station_id": STATION, "station_name": "Trạm", **common}])
    write_channel_register(
        s.inbox / "station_channel_register" / "thong_so_20260310.csv",
        [{"station_id": STATION, "parameter": "pH", "unit": "-", "minutes": 60, "valid_from": "10/03/2026 00:00"}],
    )
    # before the first build a table of the lake is not as the models want it
    with open_writer(s, "test") as con:
        register_sources(con, contracts_of(s), START)
        con.execute("ALTER TABLE lake.clean.dossier RENAME TO dossier_away")

    def serve(run_id: str) -> tuple[set[str], dict[str, tuple[datetime, str]], int]:
        ran = run(s, now=START, as_of=START, run_id=run_id)
        assert ran.built is not None
        with duckdb.connect(str(current(s)), read_only=True) as con:
            told = {r[0]: r[1:] for r in con.execute("SELECT table_name, since, reason_vi FROM marts_operations.held_back").fetchall()}
            rows = con.execute("SELECT count(*) FROM marts_procedures.dossier_overdue").fetchall()[0][0]
            as_of = con.execute("SELECT max(as_of) FROM marts_environment.station_status").fetchall()[0][0]
        assert as_of == START  # the rest is of now
        return {h.table for h in ran.built.held}, told, rows

    held, told, rows = serve("first")
    assert {"marts_procedures.dossier_overdue", "staging.stg_dossier"} <= held
    # of land what asks how long a change took from the receipt of its dossier, and nothing else
    assert {h for h in held if "procedures" not in h} == {"staging.stg_dossier", "intermediate.int_dossier", "marts_land.transaction_month"}
    assert told["marts_procedures.dossier_overdue"] == (START, "Chờ bảng «Hồ sơ thủ tục hành chính» được sửa; số liệu giữ như lần tính đạt gần nhất")
    assert rows == 0

    # it is not forgotten by the next run, nor by those who ask
    (s.home / "sample.json").write_text(json.dumps({"size": "x", "seed": 1, "end": str(DAY), "as_of": START.isoformat()}))
    done = tnmt(s.home, "run")
    assert done.returncode == 3, done.stderr
    assert "held back:" in done.stderr and "stg_dossier failed" in done.stderr and "dossier_overdue" in done.stderr
    asked = json.loads(tnmt(s.home, "status", "--json").stdout)["held_back"]
    assert {(h["table"], h["since"]) for h in asked} >= {("marts_procedures.dossier_overdue", str(START))}

    with open_writer(s, "test") as con:
        con.execute("ALTER TABLE lake.clean.dossier_away RENAME TO dossier")
    held, told, rows = serve("mended")
    assert (held, told, rows) == (set(), {}, 0)
    assert not plan(s, START).done
    # a run makes what was held back, what changed, and what hangs on either: nothing else of any domain
    results = json.loads((target_dir(s) / "run_results.json").read_text(encoding="utf-8"))["results"]
    children = json.loads((target_dir(s) / "manifest.json").read_text(encoding="utf-8"))["child_map"]
    behind, waiting = set[str](), ["model.tnmt.stg_dossier"]
    while waiting:
        behind.add(key := waiting.pop())
        waiting += [child for child in children.get(key, ()) if child.startswith("model.") and child not in behind]
    assert {r["unique_id"] for r in results if r["unique_id"].startswith("model.")} == behind
    assert 5 < len(behind) < 20
