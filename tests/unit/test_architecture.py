"""The house (docs: DESIGN): arrows between rooms, and who may know which tool."""

from __future__ import annotations

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import pytest

from tnmt.settings import ROOT

ROOMS: dict[str, set[str]] = {
    "tnmt": set(),
    "lake": {"tnmt"},
    "quality": {"lake", "tnmt"},
    "ingestion": {"quality", "lake", "tnmt"},
    "intake": {"ingestion", "lake", "tnmt"},
    "dictionary": {"ingestion", "tnmt"},
    "marts": {"dictionary", "ingestion", "lake", "tnmt"},
    "sharing": {"dictionary", "marts", "quality", "lake", "tnmt"},
    "simulator": {"ingestion", "lake", "tnmt"},
    "orchestration": {"dictionary", "ingestion", "intake", "marts", "quality", "lake", "sharing", "simulator", "tnmt"},
    "cli": {"orchestration", "dictionary", "ingestion", "intake", "marts", "quality", "lake", "sharing", "simulator", "tnmt"},
    "dashboards": set(),
}
"""Each room, and the rooms that it may read."""
CLOCK = {"orchestration", "cli"}
"""Who may ask what time it is: everybody else is told."""
SQL = {"lake", "quality", "ingestion", "marts", "sharing", "simulator"}
"""Rooms whose Python asks the lake in SQL; of the marts only dbt_project/ makes them."""
STATEMENT = re.compile(r"\b(FROM|INTO|JOIN|UPDATE)\s+lake\.")
ALONE = {
    "dagster": "orchestration/defs",
    "dagster_dbt": "orchestration/defs",
    "dbt": "marts",
    "typer": "cli",
    "rich": "cli",
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


def _modules() -> dict[str, Path]:
    files = (path for room in ROOMS for path in _files(room))
    return {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path for path in files}


def test_the_rooms_are_those_of_the_plan() -> None:
    """No room without a module, and no package beside the rooms."""
    lying = {p.parent.name for p in ROOT.glob("*/__init__.py")} | {"dashboards"}
    assert lying - {"tests"} == set(ROOMS)
    for room in ROOMS:
        assert [p for p in _files(room) if p.name != "__init__.py" and ast.parse(p.read_text(encoding="utf-8")).body], f"{room}/ is empty"
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(shipped) == set(ROOMS) - {"dashboards"}


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room: str) -> None:
    for path in _files(room):
        for module in _imports(path):
            top = module.split(".")[0]
            if top not in ROOMS or top == room:
                continue
            where = path.relative_to(ROOT)
            assert top in ROOMS[room], f"{where} imports {module}: {room} may use {', '.join(sorted(ROOMS[room])) or 'no room'} only"
            assert not module.startswith("tnmt.clock") or room in CLOCK, f"{where} imports {module}: {room} is told the time"


def test_no_circle_of_imports() -> None:
    """Modules stand in an order in which each reads earlier ones only, imports inside functions counted too."""
    modules = _modules()
    reads = {}
    for name, path in modules.items():
        found = _imports(path)
        reads[name] = {
            m for m in found if m in modules and m != name and not any(longer.startswith(f"{m}.") and longer in modules for longer in found)
        }
    graphlib.TopologicalSorter(reads).prepare()  # CycleError names the circle


@pytest.mark.parametrize("room", sorted(set(ROOMS) - SQL))
def test_sql_on_the_lake_stays_in_its_rooms(room: str) -> None:
    """What asks tables of the lake stands where they are made; other rooms call it by name. Superset's own files see the serving file alone."""
    for path in _files(room):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value):
                raise AssertionError(f"{path.relative_to(ROOT)}, line {node.lineno}: SQL belongs into {', '.join(sorted(SQL))}: {node.value[:80]}")


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


def test_what_one_file_makes_and_another_reads_is_listed() -> None:
    """Temporary objects of the writing connection stand in the docstring of the room, each with who makes and who reads it."""
    texts = {p: p.read_text(encoding="utf-8") for p in [*_files("ingestion"), *(ROOT / "ingestion").glob("*.sql")] if p.name != "__init__.py"}
    made: dict[str, set[Path]] = {}
    for path, text in texts.items():
        for name in re.findall(r"TEMP (?:TABLE|VIEW) ([a-z_]+)\b(?!\{)", text) + re.findall(r'con\.register\(\s*"(\w+)"', text):
            made.setdefault(name, set()).add(path)
    shared = {
        name
        for name, makers in made.items()
        for path, text in texts.items()
        if path not in makers and re.search(rf"(?:FROM|JOIN|UPDATE|INTO)\s+{name}\b", text) and not re.search(rf"\b{name} AS \(", text)
    }
    listed = set(re.findall(r"[a-z_]+", (ROOT / "ingestion/__init__.py").read_text(encoding="utf-8")))
    assert {"batch_deliveries", "changed", "good"} <= shared <= listed, shared - listed


def test_who_is_late_is_said_once() -> None:
    """What a source may be late by goes into `standing` of lake/rules.sql and nowhere else; the contract knows the sum without a moment, for Dagster."""
    keep = {"lake/rules.sql", "lake/schema.sql", "ingestion/contract.py", "ingestion/ingest.py"}
    files = [p for room in ROOMS for p in _files(room)] + [*(ROOT / "lake").glob("*.sql"), *(ROOT / "ingestion").glob("*.sql")]
    files += [p for kind in ("models", "macros", "tests") for p in (ROOT / "dbt_project" / kind).rglob("*.sql")]
    files += [p for p in (ROOT / "dashboards").rglob("*.yaml") if p.name != "columns.yaml"]
    asking = set()
    for path in files:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        others = re.findall(r"[\w.]*lateness\w*", re.sub(r"\bstanding\([^()]*(\([^()]*\))?[^()]*\)", "", text))
        assert name in keep or not others, f"{name} computes with {', '.join(others)}: ask lake.ops.standing (lake/rules.sql)"
        asking |= {name} if "last_published(" in text and name != "lake/rules.sql" else set()
    assert asking == {"ingestion/ledger.py", "dbt_project/models/marts/operations/source_freshness.sql"}
    contract = (ROOT / "ingestion/contract.py").read_text(encoding="utf-8")
    assert len(re.findall(r"\+ self\.lateness_minutes", contract)) == 1


FIXTURES = {"platform", "undisturbed", "blank", "home", "postgres", "new_postgres"}
"""Of tests/conftest.py: what they give is a lake or a server."""
MAKERS = {"lake.lake.create", "dbt.cli.main.dbtRunner", "tests.marts_kit.dbt", "tests.tiny.tnmt", "tests.tiny.prepare", "orchestration.run.run"}
"""What makes a lake, takes files in, builds marts or starts the platform's programs. `tests.marts_kit.compiled` makes text: one lake a process, empty."""


def test_unit_tests_make_no_platform() -> None:
    """`make check` is for every commit and takes minutes: what needs a lake, a build, a server or a program of the platform stands in tests/integration."""
    for path in sorted((ROOT / "tests/unit").glob("*.py")):
        found = {m for m in _imports(path) if m in MAKERS or m.startswith("tests.conftest")}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (node.name.startswith("test_") or any("fixture" in ast.unparse(d) for d in node.decorator_list)):
                found |= {f"fixture {a.arg}" for a in node.args.args if a.arg in FIXTURES}
        assert not found, f"{path.name} uses {', '.join(sorted(found))}: it belongs into tests/integration"
