"""The zoo (tests/zoo.py) in two orders, run twice, under several time zones and on both catalogs: the same tables, and no animal stops another."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestion.names import on_disk
from lake.lake import open_reader
from simulator.sample import generate
from tests.postgres_kit import Server
from tests.tiny import END, TINY, TNMT, prepare, table_rows, tnmt
from tests.zoo import place, zoo
from tnmt.settings import Settings

ANIMALS = zoo()
REGISTERS = ("station_register", "station_channel_register", "station_period_register", "facility_register", "commune_boundary")
MEMORY = 3 << 30
"""Most that a run over the zoo may keep in memory (resident, bytes); the largest animals unpack to more than that."""

ZONES = ("UTC", "Asia/Ho_Chi_Minh", "America/St_Johns")


def _run(home: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [TNMT, "run", "--no-marts"], env={**os.environ, "TNMT_HOME": str(home), **extra}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), done.stderr[-3000:]
    assert "Traceback" not in done.stderr and "failed:" not in done.stderr, done.stderr[-3000:]
    return done


def keep(home: Path, registers: Path, *, reverse: bool, zone: str, catalog: str = "") -> dict[str, Any]:
    """Runs the zoo in two halves on a platform of its own, and once more; returns what the lake holds then."""
    extra = {"TZ": zone} | ({"TNMT_CATALOG": catalog} if catalog else {})
    prepare(home, registers, **extra)
    halves = [ANIMALS[::2], ANIMALS[1::2]]
    for half in reversed(halves) if reverse else halves:
        place(half, home / "inbox")
        _run(home, **extra)
    again = _run(home, **extra)
    assert "nothing new in the inboxes" in again.stdout, again.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MEMORY
    status = tnmt(home, "status", **extra)
    assert status.returncode == 0, status.stderr
    settings = Settings(home=home, **({"catalog": catalog} if catalog else {}))
    with open_reader(settings) as con:
        con.execute("LOAD spatial")
        held = {schema: table_rows(con, schema) for schema in ("clean", "quarantine")}
        ledger = con.execute("""
            SELECT source, name, status, reason, rows_read, rows_accepted, rows_duplicate, rows_quarantined FROM lake.ops.delivery ORDER BY ALL""").fetchall()
    return held | {"ledger": ledger}


@pytest.fixture(scope="module")
def registers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inboxes with the registers of the tiny province alone."""
    base = tmp_path_factory.mktemp("registers")
    generate(base / "sample", Settings().reference, 1, END, TINY)
    for source in REGISTERS:
        shutil.copytree(base / "sample" / source, base / "inbox" / source)
    return base / "inbox"


@pytest.fixture(scope="module")
def kept(registers: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The zoo in its own order, in UTC, on SQLite."""
    home = tmp_path_factory.mktemp("zoo") / "home"
    return home, keep(home, registers, reverse=False, zone="UTC")


def test_there_are_at_least_three_hundred() -> None:
    assert len({(a.source, a.name) for a in ANIMALS}) == len(ANIMALS) >= 300


def _outcomes(kept: dict[str, Any]) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {(source, name): tuple(rest) for source, name, *rest in kept["ledger"]}


def test_each_has_the_fate_that_it_should(kept: tuple[Path, dict[str, Any]]) -> None:
    home, held = kept
    outcomes = _outcomes(held)
    wrong = []
    for animal in ANIMALS:
        found = [v for (source, name), v in outcomes.items() if source == animal.source and on_disk(name) == os.fsdecode(animal.name)]
        lies = os.path.lexists(os.fsencode(home / "inbox" / animal.source) + b"/" + animal.name)
        if animal.fate in ("left", "removed"):
            if found or lies != (animal.fate == "left"):
                wrong.append((animal.label, animal.fate, found, lies))
            continue
        if len(found) != 1:
            wrong.append((animal.label, animal.fate, found, lies))
            continue
        status, _, read, accepted, duplicate, refused = found[0]
        kept_rows = (accepted or 0) + (duplicate or 0)
        fate = "refused" if not kept_rows else "partly" if refused else "taken"
        if fate != animal.fate or (status != "blocked" and read != kept_rows + refused):
            wrong.append((animal.label, animal.fate, fate, found[0]))
    assert not wrong, "\n".join(map(repr, wrong))


def test_every_refusal_says_what_was_expected_and_found_and_what_to_do(kept: tuple[Path, dict[str, Any]]) -> None:
    _, held = kept
    mute = [
        r for r in held["ledger"] if r[2] in ("blocked", "quarantined", "set_aside") and not all(w in r[3] for w in ("cần:", "gặp:", "cách xử lý:"))
    ]
    assert not mute, mute[:5]


def _compare(found: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    # which of two equal rows was there first is told as it was when each was gated: accepted and duplicate are one here
    ledgers = [[(*r[:5], (r[5] or 0) + (r[6] or 0), r[7]) for r in held["ledger"]] for held in (found, expected)]
    assert ledgers[0] == ledgers[1], what
    for schema in ("clean", "quarantine"):
        for name, rows in expected[schema].items():
            assert found[schema][name] == rows, (what, schema, name)


def test_another_order_in_another_zone_gives_the_same_tables(kept: tuple[Path, dict[str, Any]], registers: Path, tmp_path: Path) -> None:
    _compare(keep(tmp_path / "home", registers, reverse=True, zone="America/St_Johns"), kept[1], "reversed")


def _variants() -> Iterator[Any]:
    for catalog in ("sqlite", "postgres"):
        for zone in ZONES:
            for reverse in (False, True):
                yield pytest.param(catalog, zone, reverse, id=f"{catalog}-{zone.split('/')[-1]}-{'reversed' if reverse else 'in order'}")


@pytest.mark.long
@pytest.mark.parametrize("catalog, zone, reverse", _variants())
def test_all_orders_zones_and_catalogs_give_the_same_tables(
    catalog: str, zone: str, reverse: bool, kept: tuple[Path, dict[str, Any]], registers: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = ""
    if catalog == "postgres":
        server: Server = request.getfixturevalue("postgres")
        name = f"zoo_{zone.split('/')[-1].lower()}_{int(reverse)}"
        server.execute(f"CREATE DATABASE {name}")
        address = f"postgres:{server.dsn(name)}"
    _compare(keep(tmp_path / "home", registers, reverse=reverse, zone=zone, catalog=address), kept[1], catalog)
