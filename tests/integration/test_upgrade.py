"""A platform that an older version made and filled (tests/fixtures), taken over by this one: nothing is lost, and what changes is named."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingestion.contract import CONTRACTS, load_contracts
from lake.extensions import link_extensions
from lake.lake import open_reader
from tests.support import need
from tests.tiny import tnmt
from tnmt.settings import ROOT, Settings

FIXTURE = ROOT / "tests/fixtures/platform-969acf4.tar.xz"
"""Home of the tiny province (tests/tiny.py) after `tnmt init`, `run` and `serve` of commit 969acf4, without dbt's files, logs and caches."""

SUPERSET = ROOT / ".superset/bin/python"

INTERVALS = "intervals come from past errors of what was shown, by step (docs/forecast.md)"
NO_LEVEL = "a day or hour without an index has a word for it: dashboards said it themselves"
VERSIONS = "a row for each run of equal values (test_every_parcel_of_every_delivery_is_still_there)"
CORRECTED: dict[str, str] = {
    **{f"marts_environment.forecast.{c}": INTERVALS for c in ("lower_bound", "upper_bound", "warning", "warning_vi")},
    "marts_environment.forecast_skill": "more methods are tried, and what was shown has a row of its own",
    "marts_environment.emission_load_monthly.load_kg_estimated": "a month is estimated over its hours; it left out days with few values",
    "marts_environment.reading_qc.is_withdrawn": "ranges and times in use are judged here now, not at the gate",
    "marts_environment.reading_qc.flag_status": "a reading without a status is not suspect for that",
    "marts_environment.aqi_daily.level_vi": NO_LEVEL,
    "marts_environment.aqi_hourly.level_vi": NO_LEVEL,
    "clean.parcel": VERSIONS,
    "clean.parcel_history": VERSIONS,
    "marts_land.land_use_change": "a parcel with another number and the same shape is no parcel that vanished beside a new one",
    "marts_operations.source_freshness": "there is a source more: station_qc_threshold; of those that had one a format there is one",
    "marts_operations.delivery_daily": "formats of one source are counted together (test_days_of_a_source_are_the_sum_of_its_formats)",
    "marts_operations.quarantine_reason.title_vi": "a source with several formats has a title without a format",
}
"""Table, or table.column, whose rows differ from those of the older version, and why."""

HEIRS = {former: contract.source for contract in load_contracts((CONTRACTS,)).values() for former in contract.former_names}
"""Sources of the older version, a format each, and the one of this version that took them over."""

Table = tuple[list[str], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Upgraded:
    """The platform after the first run of this version, and what its lake held before."""

    settings: Settings
    before: dict[str, Table]
    said: str


def tables(settings: Settings) -> dict[str, Table]:
    """Columns and ordered rows of every table that people or marts read, geometry as text."""
    found: dict[str, Table] = {}
    with open_reader(settings) as con:
        con.execute("LOAD spatial")
        for schema, name in con.execute("""
            SELECT table_schema, table_name FROM information_schema.tables
            WHERE table_catalog = 'lake' AND table_type = 'BASE TABLE' AND (table_schema IN ('clean', 'quarantine', 'ops') OR table_schema LIKE 'marts_%')
            ORDER BY ALL""").fetchall():
            columns = con.execute(f"DESCRIBE lake.{schema}.{name}").fetchall()
            picked = ", ".join(f'ST_AsText("{c[0]}")' if str(c[1]).startswith("GEOMETRY") else f'"{c[0]}"' for c in columns)
            found[f"{schema}.{name}"] = [c[0] for c in columns], con.execute(f"SELECT {picked} FROM lake.{schema}.{name} ORDER BY ALL").fetchall()
    return found


def moved(home: Path) -> None:
    """Tells the older catalog where its home lies now, as a copy to the same path would not need."""
    with sqlite3.connect(home / "lake/catalog.sqlite") as con:
        con.execute("UPDATE ducklake_metadata SET value = ? WHERE key = 'data_path'", [f"{home}/lake/data/"])
    for closed in ("lake", "secrets", "landing/closed"):  # an archive that is unpacked as data keeps no such modes
        (home / closed).chmod(0o700)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Upgraded:
    base = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(base, filter="data")
    settings = Settings(home=base / "fx")
    moved(settings.home)
    link_extensions(settings.extensions)
    before = tables(settings)
    done = tnmt(settings.home, "init")
    assert done.returncode == 0, done.stderr
    done = tnmt(settings.home, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return Upgraded(settings, before, done.stdout)


def _on(columns: list[str], table: Table) -> list[tuple[Any, ...]]:
    """Rows of the table in these columns alone, ordered as text; sources by the name that they have now."""
    names, rows = table
    places = [names.index(c) for c in columns]
    return sorted((tuple(HEIRS.get(row[p], row[p]) if names[p] in ("source", "_source") else row[p] for p in places) for row in rows), key=repr)


def test_what_was_landed_and_accepted_is_all_there(upgraded: Upgraded) -> None:
    after = tables(upgraded.settings)
    for name, (columns, rows) in upgraded.before.items():
        if name.startswith(("clean.", "quarantine.")) or name in ("ops.landed", "ops.arrival", "ops.outcome", "ops.handover", "ops.pin"):
            assert set(columns) <= set(after[name][0]), name
            if name in CORRECTED:
                continue
            kept = [c for c in columns if f"{name}.{c}" not in CORRECTED]
            assert _on(kept, after[name]) == _on(kept, (columns, rows)), name


def test_every_parcel_of_every_delivery_is_still_there(upgraded: Upgraded) -> None:
    """What each delivery said of each parcel, where it stood in it, and which of them count now: from the versions and the sightings."""
    names, current = upgraded.before["clean.parcel"]
    past_names, past = upgraded.before["clean.parcel_history"]
    said = [c for c in names if not c.startswith("_") and c not in ("crs", "geometry_area_m2", "xmin", "ymin", "xmax", "ymax", "geometry")]
    columns = [*said, "_delivery_id", "_line", "_as_of"]
    old = _on(columns, (names, current)) + _on(columns, (past_names, past))
    picked = ", ".join(f"v.{c}" for c in said)
    with open_reader(upgraded.settings) as con:
        again = con.execute(f"""
            WITH version AS (
                SELECT * FROM lake.clean.parcel UNION ALL BY NAME SELECT * EXCLUDE (_valid_to, _ended_by, known_to) FROM lake.clean.parcel_history
            )
            SELECT {picked}, s._delivery_id, s._line, s._as_of
            FROM lake.clean.parcel_sighting AS s ASOF JOIN version AS v ON s._scope = v._scope AND s.parcel_id = v.parcel_id AND s._as_of >= v._as_of""").fetchall()
    assert sorted(again, key=repr) == sorted(old, key=repr)
    assert len(upgraded.before["clean.parcel"][1]) == len(tables(upgraded.settings)["clean.parcel"][1])


def test_marts_are_those_of_before_but_for_named_corrections(upgraded: Upgraded) -> None:
    after = tables(upgraded.settings)
    different = []
    for name, (columns, rows) in upgraded.before.items():
        if not name.startswith("marts_") or name in CORRECTED:
            continue
        kept = [c for c in columns if f"{name}.{c}" not in CORRECTED]
        if gone := set(kept) - set(after[name][0]):
            different.append((name, "gone", gone))
            continue
        different += [(name, c) for c in kept if _on([c], after[name]) != _on([c], (columns, rows))]
        if not different and _on(kept, after[name]) != _on(kept, (columns, rows)):
            different.append((name, "rows"))
    assert not different, different


def test_sources_of_one_format_each_are_one_source_now(upgraded: Upgraded) -> None:
    """No table names a former one; deliveries keep their ids, and what is sent again is known, in the old inbox as in the new one."""
    before, after = upgraded.before, tables(upgraded.settings)
    assert set(HEIRS) <= {row[before["ops.source"][0].index("source")] for row in before["ops.source"][1]}
    for name, (columns, rows) in after.items():
        for place in [columns.index(c) for c in ("source", "_source") if c in columns]:
            assert not {row[place] for row in rows} & set(HEIRS), name
    names, landed = before["ops.landed"]
    old = [dict(zip(names, row, strict=True)) for row in landed if row[names.index("source")] in HEIRS and row[names.index("stored")] == "landing"]
    assert {d["source"] for d in old} == {"parcel_gpkg", "parcel_fgdb", "parcel_shp"}
    sent = [next(d for d in old if d["source"] == former) for former in ("parcel_gpkg", "parcel_fgdb", "parcel_shp")]
    for delivery in sent:
        kept = next((upgraded.settings.landing / delivery["sha256"][:2] / delivery["sha256"]).iterdir())
        for folder in (delivery["source"], "parcel"):
            (upgraded.settings.inbox / folder).mkdir(exist_ok=True)
            shutil.copy(kept, upgraded.settings.inbox / folder / delivery["name"])
    done = tnmt(upgraded.settings.home, "run", "--no-marts", "parcel")
    assert done.returncode == 0 and "nothing new" in done.stdout, done.stdout + done.stderr
    again = tables(upgraded.settings)
    assert again["ops.landed"] == after["ops.landed"] and again["clean.parcel"] == after["clean.parcel"]
    assert len(again["ops.arrival"][1]) == len(after["ops.arrival"][1]) + 2 * len(sent)


def test_days_of_a_source_are_the_sum_of_its_formats(upgraded: Upgraded) -> None:
    def sums(table: Table) -> dict[tuple[str, Any], list[int]]:
        names, rows = table
        counts = [n for n in names if n.startswith("rows_") or n in ("deliveries", "published", "quarantined", "blocked")]
        found: dict[tuple[str, Any], list[int]] = {}
        for row in (dict(zip(names, r, strict=True)) for r in rows):
            place = HEIRS.get(row["source"], row["source"]), row["day"]
            found[place] = [a + row[c] for a, c in zip(found.get(place, [0] * len(counts)), counts, strict=True)]
        return found

    name = "marts_operations.delivery_daily"
    assert sums(tables(upgraded.settings)[name]) == sums(upgraded.before[name])


def test_named_corrections_are_of_tables_that_were_there(upgraded: Upgraded) -> None:
    known = {*upgraded.before, *(f"{n}.{c}" for n, (columns, _) in upgraded.before.items() for c in columns)}
    assert set(CORRECTED) <= known, set(CORRECTED) - known


def test_the_next_run_finds_nothing_to_do(upgraded: Upgraded) -> None:
    again = tnmt(upgraded.settings.home, "run")
    assert again.returncode == 0 and "nothing new in the inboxes" in again.stdout and "marts up to date" in again.stdout, again.stdout + again.stderr


def test_doctor_finds_the_lake_sound(upgraded: Upgraded) -> None:
    said = tnmt(upgraded.settings.home, "doctor").stdout
    assert not [line for line in said.splitlines() if line.startswith("bad") and line.split()[1] in ("lake", "contracts", "serving", "personal")], (
        said
    )


def test_dashboards_and_accounts_stay(upgraded: Upgraded) -> None:
    need("superset", SUPERSET.exists(), "no Superset environment; run `make superset`")
    database = upgraded.settings.home / "superset/superset.db"

    def held() -> tuple[list[Any], list[Any], dict[str, int]]:
        with sqlite3.connect(database) as con:
            return (
                con.execute("SELECT id, username, password FROM ab_user ORDER BY id").fetchall(),
                con.execute("SELECT id, slug FROM dashboards ORDER BY id").fetchall(),
                dict(con.execute("SELECT slice_name, id FROM slices").fetchall()),
            )

    users, dashboards, charts = held()
    assert len(users) >= 3 and len(dashboards) >= 2
    done = subprocess.run(
        [str(SUPERSET), "-m", "dashboards.manage", "setup", "--home", str(upgraded.settings.home)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    users_now, dashboards_now, charts_now = held()
    assert [u for u in users_now if u[0] in {i for i, *_ in users}] == users
    assert [d for d in dashboards_now if d[0] in {i for i, *_ in dashboards}] == dashboards
    # addresses of charts stay, though their UUIDs follow from their names now
    assert len(charts) > 20 and not {n for n in charts.keys() & charts_now.keys() if charts[n] != charts_now[n]}
    assert len(charts.keys() & charts_now.keys()) > 20
