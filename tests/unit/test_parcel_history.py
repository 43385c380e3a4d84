"""Any history of a cadastre, told by deliveries under old and new codes, gives the parcels, versions and lineage of a plain-dict model of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.extensions import link_extensions
from tests.examples import examples
from tests.marts_kit import compiled, database, records

MERGED = date(2025, 7, 1)
T0 = datetime(2025, 6, 20)
INTERMEDIATE = ("int_parcel_version", "int_parcel_renumbering", "int_parcel_node", "int_parcel_link", "int_parcel_object")
MARTS = ("parcel_version", "parcel_lineage", "parcel_alias", "parcel_current", "parcel_change_period")
VERSION = (
    "parcel_id VARCHAR, parcel_code VARCHAR, origin_parcel_id VARCHAR, old_commune_code VARCHAR, commune_code VARCHAR, commune_valid_from DATE, "
    "sheet_number INTEGER, parcel_number INTEGER, land_use_code VARCHAR, area_m2 DECIMAL(14,1), geometry_area_m2 DECIMAL(16,1), crs VARCHAR, source_crs VARCHAR, "
    "geometry GEOMETRY, valid_from TIMESTAMP, valid_to TIMESTAMP, known_from TIMESTAMP, known_to TIMESTAMP, _delivery_id VARCHAR, _line INTEGER"
)
PAIR = (
    "former_commune_code VARCHAR, former_sheet_number INTEGER, former_parcel_number INTEGER, commune_code VARCHAR, sheet_number INTEGER, "
    "parcel_number INTEGER, effective_on DATE, _delivery_id VARCHAR, _line INTEGER"
)
# the new commune 25195 bears the code of one of the two that went into it
COMMUNES = [("25195", "Phường cũ", "25195", "Phường mới"), ("25198", "Xã cũ", "25195", "Phường mới")]


@dataclass
class Plot:
    """A parcel of the model: what it is, and the number it bears."""

    key: int
    shape: int
    use: str
    unit: str
    sheet: int
    number: int
    parents: tuple[int, ...] = ()

    @property
    def parcel_id(self) -> str:
        return f"{self.unit.removesuffix('@')}.{self.sheet}.{self.number}"

    def row(self) -> tuple[Any, ...]:
        return self.parcel_id, self.sheet, self.number, self.use, self.shape


@dataclass
class Cadastre:
    """Parcels by key, and what was told of them: files by (unit, day), and pairs of the comparison tables."""

    rng: random.Random
    plots: dict[int, Plot] = field(default_factory=dict)
    made: int = 0
    shapes: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    files: dict[tuple[str, int], dict[str, Plot]] = field(default_factory=dict)
    pairs: list[tuple[Any, ...]] = field(default_factory=list)
    states: dict[int, dict[int, tuple[Any, ...]]] = field(default_factory=dict)
    lineage: set[tuple[int, int]] = field(default_factory=set)
    gone: dict[int, Plot] = field(default_factory=dict)

    def number(self, unit: str) -> int:
        """A number that no parcel of the unit has borne."""
        self.numbers[unit] = self.numbers.get(unit, 0) + 1
        return self.numbers[unit]

    def new(self, unit: str, use: str = "CLN", parents: tuple[int, ...] = ()) -> Plot:
        self.made, self.shapes = self.made + 1, self.shapes + 1
        plot = Plot(self.made, self.shapes, use, unit, 1, self.number(unit), parents)
        self.plots[plot.key] = plot
        self.lineage |= {(p, plot.key) for p in parents}
        return plot

    def pair(self, before: Plot, after: Plot, day: int) -> None:
        on = (T0 + timedelta(days=day)).date()
        self.pairs.append((before.unit.removesuffix("@"), before.sheet, before.number, after.unit.removesuffix("@"), after.sheet, after.number, on))

    def move(self, day: int) -> None:
        """Something happens to a parcel."""
        rng = self.rng
        if not self.plots:
            self.new("25195")
            return
        plot = rng.choice(list(self.plots.values()))
        match rng.choice(["use", "shape", "split", "merge", "number", "swap", "delete", "return", "new"]):
            case "use":
                plot.use = rng.choice(["CLN", "ONT", "LUK"])
            case "shape":
                self.shapes += 1
                plot.shape = self.shapes
            case "split":
                del self.plots[plot.key]
                for _ in range(rng.randint(2, 3)):
                    self.pair(plot, self.new(plot.unit, plot.use, (plot.key,)), day)
            case "merge":
                mates = [p for p in self.plots.values() if p.unit == plot.unit][:3]
                if len(mates) > 1:
                    for p in mates:
                        del self.plots[p.key]
                    child = self.new(plot.unit, plot.use, tuple(p.key for p in mates))
                    for p in mates:
                        self.pair(p, child, day)
            case "number":
                before = Plot(**vars(plot))
                plot.sheet, plot.number = 1, self.number(plot.unit)
                self.pair(before, plot, day)
            case "swap":
                mates = [p for p in self.plots.values() if p.unit == plot.unit and p.key != plot.key]
                if mates:
                    other = mates[0]
                    before = Plot(**vars(plot)), Plot(**vars(other))
                    plot.number, other.number = other.number, plot.number
                    self.pair(before[0], plot, day)
                    self.pair(before[1], other, day)
            case "delete":
                self.gone[plot.key] = self.plots.pop(plot.key)
            case "return" if self.gone:
                key, back = self.gone.popitem()
                if back.unit == plot.unit:
                    self.plots[key] = back
            case _:
                self.new(plot.unit)

    def merge_communes(self, day: int) -> None:
        """Every parcel moves into the new commune and gets a number of its own there."""
        self.gone.clear()
        for plot in self.plots.values():
            before = Plot(**vars(plot))
            plot.unit, plot.sheet, plot.number = "25195@", self.rng.randint(1, 2), self.number("25195@")
            self.pair(before, plot, day)

    def tell(self, day: int, units: list[str]) -> None:
        """All parcels of these units are sent as of the day."""
        for unit in units:
            self.files[unit, day] = {p.parcel_id: Plot(**vars(p)) for p in self.plots.values() if p.unit == unit}
        self.states[day] = {p.key: (p.parcel_id, p.use, p.shape) for p in self.plots.values()}


def drawn(seed: int) -> Cadastre:
    rng = random.Random(seed)
    told = Cadastre(rng)
    for unit in ("25195", "25195", "25198", "25198"):
        told.new(unit)
    told.tell(0, ["25195", "25198"])
    touched: set[int] = set()
    for day in (3, 6, 9):
        before = set(told.plots)
        told.move(day)
        told.tell(day, ["25195", "25198"])
        touched |= before ^ set(told.plots)
    told.merge_communes(11)
    told.tell(12, ["25195@"])
    for day in (15, 18):
        told.move(day)
        told.tell(day, ["25195@"])
    return told


def versions(told: Cadastre) -> list[tuple[Any, ...]]:
    """What the lake keeps of these files: runs of equal rows, unit by unit (ingestion.versions, which has its own test)."""
    rows = []
    for unit in {u for u, _ in told.files}:
        days = sorted(d for u, d in told.files if u == unit)
        for parcel_id in sorted({k for d in days for k in told.files[unit, d]}):
            begun: int | None = None
            for n in range(len(days) + 1):
                plot = told.files[unit, days[n]].get(parcel_id) if n < len(days) else None
                at = told.files[unit, days[begun]][parcel_id] if begun is not None else None
                if at is not None and (plot is None or plot.row() != at.row()):
                    new = unit.endswith("@")
                    code = unit.removesuffix("@")
                    start = T0 + timedelta(days=days[begun or 0])
                    end = T0 + timedelta(days=days[n]) if n < len(days) else None
                    rows.append((parcel_id, None, None, None if new else code, code if new else None, MERGED if new else None, at.sheet, at.number,
                                 at.use, 100, 100, "EPSG:9212", "EPSG:9212", at.shape, start, end, start, end, f"{unit}/{days[begun or 0]}", 1))  # fmt: skip
                    begun = None
                if plot is not None and begun is None:
                    begun = n
    return rows


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("history"), [*INTERMEDIATE, *MARTS], "2026-03-12 10:00:00")


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    made = database(
        {
            "staging.stg_parcel_renumbering": (PAIR, []),
            "intermediate.int_commune": ("old_commune_code VARCHAR, old_commune_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR", COMMUNES),
            "intermediate.int_new_commune": ("commune_code VARCHAR, commune_name VARCHAR", [("25195", "Phường mới")]),
        }
    )
    made.execute(f"SET extension_directory = '{link_extensions(tmp_path_factory.mktemp('extensions'))}'")
    made.execute("LOAD spatial")
    made.execute(f"CREATE TABLE lake.staging.stg_parcel_version ({VERSION}); CREATE SCHEMA lake.marts_land")
    yield made
    made.close()


def build(con: duckdb.DuckDBPyConnection, sql: dict[str, str], rows: list[tuple[Any, ...]], pairs: list[tuple[Any, ...]]) -> None:
    """The marts of these versions and comparison tables."""
    con.execute("DELETE FROM lake.staging.stg_parcel_version; DELETE FROM lake.staging.stg_parcel_renumbering")
    values = ", ".join("ST_Point(?, 0)" if n == 13 else "?" for n in range(20))
    con.executemany(f"INSERT INTO lake.staging.stg_parcel_version VALUES ({values})", rows)
    if pairs:
        con.executemany("INSERT INTO lake.staging.stg_parcel_renumbering VALUES (?, ?, ?, ?, ?, ?, ?, 'd', 1)", pairs)
    for schema, names in (("intermediate", INTERMEDIATE), ("marts_land", MARTS)):
        for name in names:
            con.execute(f"CREATE OR REPLACE TABLE lake.{schema}.{name} AS {sql[name]}")


def state(con: duckdb.DuckDBPyConnection, day: int) -> dict[str, tuple[Any, ...]]:
    """The parcels of a day by uid."""
    at = T0 + timedelta(days=day)
    rows = con.execute(
        "SELECT parcel_uid, parcel_id, land_use_code, source_delivery_id FROM lake.marts_land.parcel_version "
        "WHERE valid_from <= $1 AND (valid_to IS NULL OR valid_to > $1)", [at]).fetchall()  # fmt: skip
    return {uid: tuple(rest) for uid, *rest in rows}


@settings(parent=examples(40))
@given(seed=st.integers(0, 2**32))
def test_any_history(con: duckdb.DuckDBPyConnection, sql: dict[str, str], seed: int) -> None:
    told = drawn(seed)
    build(con, sql, versions(told), told.pairs)
    assert not con.execute("SELECT * FROM lake.intermediate.int_parcel_renumbering WHERE resolution = 'ambiguous'").fetchall()
    key_of: dict[str, int] = {}
    for day, plots in sorted(told.states.items()):
        found = state(con, day)
        by_id = {parcel_id: uid for uid, (parcel_id, *_) in found.items()}
        assert sorted((i, u) for i, u, _ in found.values()) == sorted((i, u) for i, u, _ in plots.values()), day
        for key, (parcel_id, *_) in plots.items():
            assert key_of.setdefault(by_id[parcel_id], key) == key, (day, parcel_id)
    assert len(set(key_of.values())) == len(key_of), "a parcel has two identities"
    seen = {k for plots in told.states.values() for k in plots}
    found_lineage = con.execute("SELECT parent_uid, child_uid FROM lake.marts_land.parcel_lineage").fetchall()
    assert {(key_of[p], key_of[c]) for p, c in found_lineage} == {(p, c) for p, c in told.lineage if p in seen and c in seen}


def test_named_cases(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """A re-used code is not the old commune; a parcel of the same shape without a table is unconfirmed; one that is not carried over is missing."""
    told = Cadastre(random.Random(0))
    a, b, c = told.new("25195"), told.new("25198"), told.new("25198")
    told.tell(0, ["25195", "25198"])
    a.unit, a.number = "25195@", 1
    b.unit, b.number = "25195@", 2
    del told.plots[c.key]
    told.tell(12, ["25195@"])
    build(con, sql, versions(told), [])
    rows = records(con, "SELECT parcel_id, change_kind, end_kind, parcel_uid FROM lake.marts_land.parcel_version ORDER BY valid_from, parcel_id")
    assert [(r["parcel_id"], r["change_kind"], r["end_kind"]) for r in rows] == [
        ("25195.1.1", "first", "changed"), ("25198.1.1", "first", "changed"), ("25198.1.2", "first", "missing"),
        ("25195.1.1", "renumbered", None), ("25195.1.2", "renumbered", None)]  # fmt: skip
    links = con.execute("SELECT DISTINCT basis, is_confirmed, kind FROM lake.intermediate.int_parcel_link").fetchall()
    assert links == [("geometry", False, "renumber")]
    aliases = con.execute("SELECT identifier, is_new_unit, valid_to IS NULL FROM lake.marts_land.parcel_alias ORDER BY ALL").fetchall()
    assert aliases == [
        ("25195.1.1", False, False),
        ("25195.1.1", True, True),
        ("25195.1.2", True, True),
        ("25198.1.1", False, False),
        ("25198.1.2", False, False),
    ]
    current = con.execute("SELECT parcel_id, commune_code, old_commune_code FROM lake.marts_land.parcel_current ORDER BY 1").fetchall()
    assert current == [("25195.1.1", "25195", "25195"), ("25195.1.2", "25195", "25198")]


def test_a_table_that_names_no_parcel(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Numbers that nobody knows are told as that; of a split that is known in part, what is known is no renumbering."""
    told = Cadastre(random.Random(0))
    told.new("25195")
    second, third = told.new("25195"), told.new("25195")
    told.tell(0, ["25195"])
    del told.plots[second.key]
    told.merge_communes(11)
    told.tell(12, ["25195@"])
    pairs = [
        *told.pairs,
        ("25195", 9, 9, "25195", 8, 8, MERGED),
        ("25195", 1, 2, "25195", 7, 7, MERGED),
        ("25195", 1, 3, "25195", 7, 8, MERGED),
    ]
    build(con, sql, versions(told), pairs)
    found = con.execute("SELECT kind, resolution, count(*) FROM lake.intermediate.int_parcel_renumbering GROUP BY ALL ORDER BY ALL").fetchall()
    assert found == [("renumber", "former_unknown", 1), ("renumber", "present_unknown", 1), ("renumber", "resolved", 1),
                     ("split", "present_unknown", 1), ("split", "resolved", 1)]  # fmt: skip
    lineage = con.execute("SELECT kind, basis FROM lake.marts_land.parcel_lineage").fetchall()
    assert lineage == [("split", "comparison_table")] and third.key in told.plots
    assert con.execute("SELECT count(*), count(DISTINCT parcel_uid) FROM lake.marts_land.parcel_version").fetchall() == [(5, 4)]
