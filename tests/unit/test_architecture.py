"""The house (docs: DESIGN): arrows between rooms, and who may know which tool."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tnmt.settings import ROOT

ROOMS = {
    "lake": {"tnmt"},
    "quality": {"lake", "tnmt"},
    "ingestion": {"quality", "lake", "tnmt"},
    "intake": {"ingestion", "lake", "tnmt"},
    "sharing": {"quality", "lake", "tnmt"},
    "simulator": {"ingestion", "lake", "tnmt"},
    "orchestration": {"ingestion", "intake", "quality", "lake", "sharing", "simulator", "tnmt"},
    "tnmt": {"orchestration", "ingestion", "intake", "quality", "lake", "sharing", "simulator"},
    "dashboards": set(),
}
ALONE = {
    "dagster": "orchestration/defs",
    "dagster_dbt": "orchestration/defs",
    "superset": "dashboards",
    "pyftpdlib": "intake",
    "asyncssh": "intake",
    "great_expectations": "quality",
    "pyspark": "lake",
    "sedona": "lake",
}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room: str) -> None:
    for path in _files(room):
        for module in _imports(path):
            top = module.split(".")[0]
            if top not in ROOMS or top == room:
                continue
            allowed = ROOMS[room]
            if room != "tnmt" and top == "tnmt":
                assert module.startswith("tnmt.settings") or (room == "orchestration" and module.startswith("tnmt.clock")), (
                    f"{path.relative_to(ROOT)} imports {module}: of tnmt a room may read the settings only"
                )
            assert top in allowed, f"{path.relative_to(ROOT)} imports {module}: {room} may use {', '.join(sorted(allowed)) or 'no room'} only"


@pytest.mark.parametrize("tool", ALONE)
def test_one_room_knows_a_tool(tool: str) -> None:
    for room in ROOMS:
        for path in _files(room):
            if any(m.split(".")[0] == tool for m in _imports(path)):
                where = path.relative_to(ROOT).as_posix()
                assert where.startswith(ALONE[tool]) or (tool == "dagster" and where == "orchestration/definitions.py"), (
                    f"{where} imports {tool}; only {ALONE[tool]} may"
                )


def test_only_the_lake_knows_ducklake() -> None:
    words = ("ducklake_", "ducklake:", "set_option(")
    for room in ("ingestion", "quality", "sharing", "simulator", "tnmt", "orchestration"):
        for path in _files(room):
            text = path.read_text(encoding="utf-8")
            if path.relative_to(ROOT).as_posix() in ("tnmt/settings.py",):
                continue
            assert not [w for w in words if w in text], path


def test_mart_sql_lives_in_dbt() -> None:
    for room in ("ingestion", "quality", "lake", "orchestration", "simulator"):
        for path in _files(room):
            assert "lake.marts_" not in path.read_text(encoding="utf-8"), path


def test_nothing_reads_the_clock_but_the_clock() -> None:
    for room in ("ingestion", "quality", "lake", "sharing", "simulator", "orchestration"):
        for path in _files(room):
            text = path.read_text(encoding="utf-8")
            if path.name == "lock.py":
                continue  # who holds the lock since when: for people only
            assert "datetime.now" not in text and "date.today" not in text, path
