"""What a build held back, read from what dbt leaves behind: failed models, failed tests and all that hangs on either."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from marts import build as marts
from marts.build import Held, read_held, target_dir, told_held
from tnmt.settings import ROOT, Settings

NOW, BEFORE = datetime(2026, 3, 11), datetime(2026, 3, 9)


def node(name: str, *above: str, kind: str = "model", attached: str | None = None) -> dict[str, Any]:
    return {"schema": "marts", "name": name, "resource_type": kind, "depends_on": {"nodes": list(above)}, "attached_node": attached}


def held(home: Path, nodes: dict[str, dict[str, Any]], results: dict[str, tuple[str, str | None]], before: tuple[Held, ...] = ()) -> tuple[Held, ...]:
    settings = Settings(home=home)
    folder = target_dir(settings)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"nodes": nodes, "unit_tests": {}}))
    rows = [{"unique_id": key, "status": status, "message": message} for key, (status, message) in results.items()]
    (folder / "run_results.json").write_text(json.dumps({"results": rows}))
    return read_held(settings, NOW, before)


def test_a_failed_model_and_what_hangs_on_it(tmp_path: Path) -> None:
    nodes = {"m.a": node("a"), "m.b": node("b", "m.a"), "m.c": node("c", "m.b"), "m.d": node("d")}
    results = {"m.a": ("error", "Runtime Error\n  no such column"), "m.b": ("skipped", None), "m.c": ("skipped", None), "m.d": ("success", "OK")}
    before = (Held("marts.c", "a", "", BEFORE, False),)
    reason = "a: Runtime Error no such column"
    assert held(tmp_path, nodes, results, before) == (
        Held("marts.a", "a", reason, NOW, False),
        Held("marts.b", "a", reason, NOW, False),
        Held("marts.c", "a", reason, BEFORE, False),
    )


def test_a_failed_test_holds_back_the_model_that_it_judged(tmp_path: Path) -> None:
    nodes = {"m.a": node("a"), "t.a": node("a_rows", "m.a", kind="test", attached="m.a"), "m.b": node("b", "m.a")}
    found = held(tmp_path, nodes, {"m.a": ("success", "OK"), "t.a": ("fail", "Got 3 results"), "m.b": ("skipped", None)})
    assert found == (Held("marts.a", "a", "a_rows: Got 3 results", NOW, True), Held("marts.b", "a", "a_rows: Got 3 results", NOW, False))
    assert told_held(found) == "held back: marts.a, marts.b (since 2026-03-11 00:00:00); a failed: a_rows: Got 3 results"


def test_a_reader_is_told_in_words_why() -> None:
    """The model that failed is not named as the code names it."""
    titles = {"stg_dossier": "Hồ sơ thủ tục hành chính"}

    def reason(cause: str) -> str:
        return marts._reason_vi(Held("marts.x", cause, "", NOW, False), titles)

    assert reason("stg_dossier").startswith("Chờ bảng «Hồ sơ thủ tục hành chính» được sửa;")
    assert reason("stg_gone").startswith("Chờ bảng mà nó đọc được sửa;") and "stg_" not in reason("stg_gone")
    assert reason("x").startswith("Lần tính mới bị lỗi;")


def test_what_met_another_writer_is_made_again_and_nothing_that_failed_by_itself() -> None:
    def one(cause: str, reason: str) -> Held:
        return Held(f"marts.{cause}", cause, reason, NOW, False)

    met = [one("b", f"b: {marts.CONFLICT}: table changed"), one("a", f"a: {marts.CONFLICT}")]
    assert marts.met_another_writer(met) == ["a", "b"]
    assert marts.met_another_writer([*met, one("c", "c: division by zero")]) == [] == marts.met_another_writer([])


@pytest.mark.parametrize("kind", ["models", "seeds"])
def test_every_table_has_words(kind: str) -> None:
    """What may be named as a cause has a description, and not in English."""
    folder = ROOT / "dbt_project" / kind
    described = {}
    for file in folder.rglob("*.yml"):
        found = yaml.safe_load(file.read_text("utf-8")).get(kind)
        described |= {m["name"]: str(m.get("description", "")) for m in found or [] if isinstance(m, dict)}
    tables = {p.stem for p in folder.rglob("*.sql" if kind == "models" else "*.csv")}
    assert not [t for t in sorted(tables) if described.get(t, "").partition(".")[0].isascii()]
