"""Gating again leaves what a fresh lake would have that gated the same deliveries once, under the contracts, suites and registers of the end."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ingestion.contract import Contract
from ingestion.ingest import contracts_of, register_sources
from ingestion.landing import land
from ingestion.load import load, pending
from ingestion.publish import ensure_target_tables
from ingestion.requeue import requeue
from lake.lake import create, open_writer
from tests.examples import examples
from tests.postgres_kit import new_server, remove
from tests.support import need
from tests.tiny import table_rows
from tnmt.settings import Settings
from tnmt.settings import settings as platform_settings

T0 = datetime(2026, 3, 25)
STATIONS = ("BP_AAAA_NUOTHA", "BP_BBBB_NUOTHA", "BP_CCCC_NUOTHA")
LOADS: dict[str, dict[str, Any]] = {
    "put": {"load": "upsert", "key": ["k", "since"], "affected": {"unit": "k", "day": "since"}},
    "moved": {"load": "upsert", "key": ["k"], "affected": {"unit": "commune", "day": "since"}},
    "change": {"load": "incremental", "key": ["k"]},
    "list": {"load": "snapshot", "key": ["k"]},
    "plot": {"load": "snapshot", "key": ["k"], "scope": ["commune"], "affected": {"unit": "commune"}},
    "kept": {"load": "snapshot", "key": ["k"], "scope": ["commune"], "history": True},
    "log": {"load": "append"},
    "person": {"load": "upsert", "key": ["k"], "sensitivity": "personal"},
}
"""Targets by kind of load."""
RESULTS = (
    "ops.outcome",
    "ops.pending",
    "ops.conflict",
    "ops.affected",
    "ops.gate_result",
    "ops.scope",
    "quarantine.row",
    "quarantine_closed.row",
)
SUITE = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "value", "min_value": 2},
    "meta": {"reason": "too_small", "action": "quarantine", "message_vi": "quá nhỏ"},
}


class Lake:
    """Tables of every kind of load, what befalls them, and the same deliveries gated once."""

    def __init__(self, con: duckdb.DuckDBPyConnection, s: Settings, seed: int) -> None:
        self.con, self.s, self.rng = con, s, random.Random(seed)
        self.minute, self.scope, self.code, self.tolerated, self.strict = 0, "commune", {"x": "ONT"}, 0.5, False
        self.stations: dict[str, str] = {}
        self.largest: float | None = None
        for table in (*RESULTS, "raw.file", "raw_closed.file", "ops.landed", "ops.arrival"):
            con.execute(f"DELETE FROM lake.{table}")
        self.empty()
        self.registers()

    def contracts(self) -> dict[str, Contract]:
        """Those in force now."""
        common = {"title": "t", "owner": {"unit": "u"}, "terms": "t", "as_of": {"from": "file_name"}, "format": {"reader": "csv"}}
        files = {"pattern": r"^f_(?P<as_of>\d{8})_\d+\.csv$", "as_of_format": "%Y%m%d"}
        columns: dict[str, Any] = {"k": {"required": True}, "since": {"type": "timestamp"}, "commune": {}, "district": {}}
        columns |= {"code": {"values": self.code}, "value": {"type": "integer"}}
        made = {}
        for name, what in LOADS.items():
            mine = {**columns, "commune": {"personal": "token"}} if "sensitivity" in what else columns
            scope = {"scope": [self.scope]} if "scope" in what else {}
            small = {**files, "small": what["load"] != "snapshot" and name != "change"}
            suite = {"suite": "strict"} if self.strict and name in ("put", "plot", "kept") else {}
            given_ = {**common, "source": name, "target": name, "files": small, "columns": mine, "tolerated_bad_share": self.tolerated}
            made[name] = Contract(**{**given_, **what, **scope, **suite})
        return made | {"station_txt": contracts_of(self.s)["station_txt"]}

    def empty(self) -> None:
        """No rows, and nothing gated."""
        for name, c in self.contracts().items():
            twins = ["_history"] * (c.history or c.load in ("upsert", "incremental")) + ["_sighting"] * c.history
            tables = [f"clean.{c.target}{twin}" for twin in ("", *twins)]
            for table in [*tables, *(t.replace("clean.", "typed_closed.") for t in tables if name == "person")]:
                self.con.execute(f"DELETE FROM lake.{table}")
        for table in RESULTS:
            self.con.execute(f"DELETE FROM lake.{table}")

    def registers(self) -> None:
        """The stations and channels that are known now."""
        for table in ("station", "station_channel"):
            self.con.execute(f"DELETE FROM lake.clean.{table}")
        for code, former in self.stations.items():
            self.con.execute("INSERT INTO lake.clean.station (station_id, matrix, former_codes) VALUES (?, 'wastewater', ?)", [code, former])
            self.con.execute(
                "INSERT INTO lake.clean.station_channel (station_id, parameter, name_in_file, range_max) VALUES (?, 'COD', 'COD', ?)",
                [code, self.largest],
            )

    def land(self, source: str = "") -> None:
        """A delivery of any source, or of this one."""
        rng, contract = self.rng, self.contracts()[source or self.rng.choice([*LOADS, "station_txt"])]
        self.minute += rng.randint(0, 1)
        folder = self.s.inbox / contract.folder
        folder.mkdir(parents=True, exist_ok=True)
        if contract.source == "station_txt":
            station, stamp = rng.choice(STATIONS), T0 + timedelta(minutes=5 * rng.randint(0, 2))
            rows = [f"COD\t{rng.choice([1, 3, 9])}\t{rng.choice(['mg/L', '?'])}\t{stamp:%Y%m%d%H%M%S}\t00" for _ in range(rng.randint(1, 2))]
            (folder / f"{station}_{stamp:%Y%m%d%H%M%S}.txt").write_text("\n".join(rows) + "\n")
        else:
            head, rows = "k,since,commune,district,code,value", []
            for _ in range(rng.randint(1, 4)):
                at = rng.choice(["2026-01-31 10:00:00", "2026-02-01 10:00:00", "2026-03-05 00:00:00", ""])
                place = rng.choice(["c1,d1", "c2,d1", "c3,d2"])
                rows.append(f"{rng.choice(['A', 'B', 'C'])},{at},{place},{rng.choice('xy')},{rng.choice([1, 2, 3, 'bad'])}")
            (folder / f"f_202603{rng.randint(1, 4):02d}_{rng.randint(1, 99)}.csv").write_text("\n".join([head, *rows]) + "\n")
        land(self.con, self.s, contract, T0 + timedelta(days=1, minutes=self.minute))

    def gate(self) -> None:
        """All that waits, until nothing does: what one source gives back may be another's."""
        contracts = self.contracts()
        for _ in range(50):
            waiting = [n for (n,) in self.con.execute("SELECT DISTINCT source FROM lake.ops.pending ORDER BY 1").fetchall()]
            if not waiting:
                return
            for name in waiting:
                load(self.con, self.s, contracts[name], "r", T0)
        raise AssertionError("deliveries wait for ever")

    def gate_some(self) -> None:
        """A few of what waits, in any order."""
        contract = self.rng.choice(list(self.contracts().values()))
        if waiting := pending(self.con, self.s, contract):
            load(self.con, self.s, contract, "r", T0, self.rng.sample(waiting, self.rng.randint(1, len(waiting))))

    def requeue(self) -> None:
        """Some are to be gated again."""
        name = self.rng.choice(list(self.contracts()))
        how = self.rng.choice([{}, {"reasons": ("too_small", "unknown_station")}, {"day": date(2026, 3, self.rng.randint(1, 4)), "all_of_day": True}])
        requeue(self.con, name, **how)

    def change(self) -> None:
        """Another scope, value list, tolerance, suite or register."""
        rng = self.rng
        match rng.randint(0, 5):
            case 0:
                self.scope = rng.choice(["commune", "district"])
            case 1:
                self.code = rng.choice([{"x": "ONT"}, {"x": "ODT", "y": "ONT"}])
            case 2:
                self.tolerated = rng.choice([0.0, 0.5, 1.0])
            case 3:
                self.strict = not self.strict
            case _:
                known = rng.sample(STATIONS, rng.randint(0, 3))
                self.stations = {c: rng.choice(["", next((o for o in STATIONS if o not in known), "")]) for c in known}
                self.largest = rng.choice([None, 5.0])
                self.registers()

    def again(self) -> None:
        """Everything is gated again."""
        for name, contract in self.contracts().items():
            for (day,) in self.con.execute("SELECT DISTINCT day FROM lake.ops.landed WHERE source = ?", [name]).fetchall():
                requeue(self.con, contract.source, day=day, all_of_day=True)
        self.gate()

    def once(self) -> None:
        """The fresh lake: each delivery gated once, oldest first."""
        self.empty()
        self.con.execute("INSERT INTO lake.ops.pending (delivery_id, source, day) SELECT delivery_id, source, day FROM lake.ops.landed")
        self.gate()

    def state(self) -> dict[str, Any]:
        """All that the deliveries decide. Of the ledger not the split of accepted and duplicate, which is of the moment of gating."""
        found: dict[str, Any] = {schema: table_rows(self.con, schema) for schema in ("clean", "typed_closed", "quarantine", "quarantine_closed")}
        found["winner"] = self.con.execute("""
            SELECT DISTINCT target, scope_key, delivery_id FROM lake.ops.scope
            QUALIFY rank() OVER (PARTITION BY target, scope_key ORDER BY as_of DESC, received_at DESC, delivery_id DESC) = 1 ORDER BY ALL""").fetchall()
        found["conflict"] = self.con.execute("SELECT delivery_id, rows FROM lake.ops.conflict ORDER BY ALL").fetchall()
        found["ledger"] = self.con.execute(
            "SELECT delivery_id, source, status, reason, rows_read, rows_quarantined FROM lake.ops.delivery ORDER BY ALL"
        ).fetchall()
        assert self.con.execute(
            "SELECT count(*) FROM lake.ops.delivery WHERE rows_read <> rows_accepted + rows_duplicate + rows_quarantined OR rows_duplicate < 0"
        ).fetchall() == [(0,)]
        return found


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Table by table, so that a difference is told shortly."""
    for part, tables in expected.items():
        if isinstance(tables, dict):
            for name, rows in tables.items():
                assert found[part][name] == rows, (part, name)
        else:
            assert found[part] == tables, part


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("regate")))
        yield _made(platform_settings())


def _made(s: Settings) -> Settings:
    create(s)
    (s.home / "suites").mkdir(exist_ok=True)
    (s.home / "suites" / "strict.json").write_text(json.dumps({"name": "strict", "expectations": [SUITE], "meta": {}}))
    with open_writer(s, "test") as con:
        register_sources(con, contracts_of(s), T0)
        blank = object.__new__(Lake)
        blank.s, blank.scope, blank.code, blank.tolerated, blank.strict = s, "commune", {"x": "ONT"}, 0.5, False
        for contract in blank.contracts().values():
            ensure_target_tables(con, contract)
    return s


def _any_moves(s: Settings, seed: int, moves: int) -> None:
    with open_writer(s, "test") as con:
        lake = Lake(con, s, seed)
        what = [lake.land] * 8 + [lake.gate] * 2 + [lake.gate_some, lake.requeue, lake.change, lake.change]
        for move in lake.rng.choices(what, k=moves):
            move()
        lake.again()
        again = lake.state()
        lake.once()
        same(again, lake.state())


@pytest.mark.timeout(1800)
@settings(parent=examples(2), phases=(Phase.explicit, Phase.generate))  # a seed does not get smaller
@given(seed=st.integers(0, 2**32))
def test_gating_again_equals_a_fresh_lake(lake: Settings, seed: int) -> None:
    _any_moves(lake, seed, 40)


@pytest.mark.timeout(1800)
def test_gating_again_on_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other catalog, one round of moves."""
    try:
        server = new_server()
    except FileNotFoundError as missing:
        need("postgresql", False, str(missing))
        raise
    try:
        server.execute("CREATE DATABASE regate")
        monkeypatch.setenv("TNMT_HOME", str(tmp_path))
        monkeypatch.setenv("TNMT_CATALOG", f"postgres:{server.dsn('regate')}")
        _any_moves(_made(platform_settings()), 7, 30)
    finally:
        remove(server)


@pytest.mark.timeout(1800)
@settings(parent=examples(2), phases=(Phase.explicit, Phase.generate))
@given(seed=st.integers(0, 2**32))
def test_gating_what_waited_equals_gating_all(lake: Settings, seed: int) -> None:
    """A station enters the register: of its readings only those in quarantine are gated again, and nothing else differs."""
    with open_writer(lake, "test") as con:
        made = Lake(con, lake, seed)
        for _ in range(3):
            for _ in range(made.rng.randint(1, 8)):
                made.land("station_txt")
            made.gate()
            new = made.rng.choice([c for c in STATIONS if c not in made.stations] or [""])
            made.stations |= {new: ""} if new else {}
            made.registers()
            requeue(con, "station_txt", reasons=("unknown_station", "unknown_unit"), only_waiting=True)
            made.gate()
            waited = made.state()
            assert not con.execute("SELECT * FROM lake.ops.pending").fetchall()
            made.again()
            same(waited, made.state())


def test_what_differs_within_a_file_is_counted(lake: Settings) -> None:
    """Two values of one key in one file are a conflict, equal lines are not; the count is told by the publish, kept, and gone with its cause."""
    with open_writer(lake, "test") as con:
        made = Lake(con, lake, 0)
        contract = made.contracts()["moved"]
        folder = lake.inbox / contract.folder
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["A,,c1,d1,x,1", "A,,c1,d1,x,2", "B,,c1,d1,x,3", "B,,c1,d1,x,3", "C,,c1,d1,x,1", "C,,c1,d1,x,2", "C,,c1,d1,x,2"]
        (folder / "f_20260301_1.csv").write_text("\n".join(["k,since,commune,district,code,value", *rows]) + "\n")
        land(con, lake, contract, T0)
        done = load(con, lake, contract, "r", T0)
        assert (done.rows_read, done.rows_accepted, done.rows_duplicate, done.rows_conflict) == (7, 3, 4, 2)
        assert con.execute("SELECT source, rows FROM lake.ops.conflict").fetchall() == [("moved", 2)]
        flagged = [("A", 2, True), ("B", 3, False), ("C", 2, True)]
        assert con.execute("SELECT k, value, conflict FROM lake.clean.moved ORDER BY k").fetchall() == flagged
        requeue(con, "moved", day=date(2026, 3, 1), all_of_day=True)
        assert load(con, lake, contract, "r", T0).rows_conflict == 2
        assert con.execute("SELECT source, rows FROM lake.ops.conflict").fetchall() == [("moved", 2)]


def test_a_correction_meets_a_row_without_delivery(lake: Settings) -> None:
    """A foreign client wrote a row; NULL in its lineage is nobody's, and makes nothing of the others unknown."""
    with open_writer(lake, "test") as con:
        made = Lake(con, lake, 0)
        contract = made.contracts()["moved"]
        con.execute("INSERT INTO lake.clean.moved (k, value, _as_of, _received_at) VALUES ('A', 1, '2026-01-01', '2026-01-01')")
        folder = lake.inbox / contract.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "f_20260301_1.csv").write_text("k,since,commune,district,code,value\nA,,c1,d1,x,2\nB,,c1,d1,x,3\n")
        land(con, lake, contract, T0)
        done = load(con, lake, contract, "r", T0)
        assert (done.rows_accepted, done.rows_duplicate) == (2, 0)
        assert con.execute("SELECT k, value, conflict FROM lake.clean.moved ORDER BY k").fetchall() == [("A", 2, True), ("B", 3, False)]
        assert con.execute("SELECT k, value FROM lake.clean.moved_history").fetchall() == [("A", 1)]
