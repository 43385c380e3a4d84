"""Versions of a snapshot that keeps its history equal what a plain reading of all its deliveries says, whatever their order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.contract import Contract
from ingestion.merge import ensure_table, snapshot
from tests.examples import examples

T0 = datetime(2026, 3, 1)
COLUMNS = {"k": "VARCHAR", "commune": "VARCHAR", "district": "VARCHAR", "value": "INTEGER"}
LAKE = """
    CREATE TABLE lake.ops.scope (source VARCHAR, target VARCHAR, scope_key VARCHAR, delivery_id VARCHAR, as_of TIMESTAMP, received_at TIMESTAMP);
    CREATE TABLE lake.ops.landed (delivery_id VARCHAR, source VARCHAR)"""


@dataclass
class Sent:
    """A delivery: what it says, and what of it was refused."""

    name: str
    as_of: datetime
    received_at: datetime
    rows: dict[str, tuple[str, str, int]]
    refused: set[str] = field(default_factory=set)

    @property
    def rank(self) -> tuple[datetime, datetime, str]:
        return self.as_of, self.received_at, self.name


def contract(scope: str) -> Contract:
    return Contract(**{
        "source": "plot", "target": "plot", "title": "t", "owner": {"unit": "u"}, "terms": "t", "as_of": {"from": "file_name"},
        "format": {"reader": "csv"}, "files": {"pattern": r"^f_(?P<as_of>\d{8})\.csv$", "as_of_format": "%Y%m%d"},
        "load": "snapshot", "key": ["k"], "scope": [scope], "history": True, "affected": {"unit": "commune"},
        "columns": {"k": {"required": True}, "commune": {}, "district": {}, "value": {"type": "integer"}},
    })  # fmt: skip


class Lake:
    """The tables of a target in DuckDB, and what is merged into them."""

    def __init__(self) -> None:
        self.con = duckdb.connect()
        self.con.execute("ATTACH ':memory:' AS lake; CREATE SCHEMA lake.clean; CREATE SCHEMA lake.ops")
        self.con.execute(LAKE)
        ensure_table(self.con, contract("commune"), "clean.plot", COLUMNS)
        self.gated: set[str] = set()

    def gate(self, sent: list[Sent], scope: str = "commune") -> list[tuple[Any, ...]]:
        """Merges these deliveries as one batch; the rows that count as accepted."""
        con = self.con
        con.execute(
            "CREATE OR REPLACE TEMP TABLE batch_deliveries (delivery_id VARCHAR, name VARCHAR, as_of TIMESTAMP, received_at TIMESTAMP, day DATE)"
        )
        con.execute("""CREATE OR REPLACE TEMP TABLE batch (k VARCHAR, commune VARCHAR, district VARCHAR, value INTEGER, _source VARCHAR,
            _delivery_id VARCHAR, _line INTEGER, _as_of TIMESTAMP, _received_at TIMESTAMP, _reasons VARCHAR[])""")
        for d in sent:
            con.execute("INSERT INTO batch_deliveries VALUES (?, ?, ?, ?, ?)", [d.name, d.name, d.as_of, d.received_at, d.as_of.date()])
            if d.name not in self.gated:
                con.execute("INSERT INTO lake.ops.landed VALUES (?, 'plot')", [d.name])
            for line, (k, values) in enumerate(d.rows.items(), 1):
                con.execute("INSERT INTO batch VALUES (?, ?, ?, ?, 'plot', ?, ?, ?, ?, ?)",
                            [k, *values, d.name, line, d.as_of, d.received_at, ["bad"] if k in d.refused else []])  # fmt: skip
        con.execute("CREATE OR REPLACE TEMP VIEW good AS SELECT * FROM batch WHERE len(_reasons) = 0")
        con.execute("CREATE OR REPLACE TEMP VIEW speaking AS FROM batch_deliveries")
        regated = any(d.name in self.gated for d in sent)
        snapshot(con, contract(scope), "clean.plot", list(COLUMNS), regated)
        self.gated |= {d.name for d in sent}
        return con.execute("SELECT _delivery_id, _line FROM merged ORDER BY ALL").fetchall()

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        names = "k, commune, district, value, _scope, _source, _delivery_id, _line, _as_of, _received_at, known_from"
        return {
            "now": self.con.execute(f"SELECT {names} FROM lake.clean.plot ORDER BY ALL").fetchall(),
            "past": self.con.execute(f"SELECT {names}, _valid_to, _ended_by, known_to FROM lake.clean.plot_history ORDER BY ALL").fetchall(),
            "seen": self.con.execute(
                "SELECT _scope, k, _delivery_id, _line, _as_of, _received_at FROM lake.clean.plot_sighting ORDER BY ALL"
            ).fetchall(),
        }


def model(deliveries: list[Sent], scope: str, moved: frozenset[str] = frozenset()) -> dict[str, list[tuple[Any, ...]]]:
    """The same by a plain reading: of each scope all deliveries in their order, key by key.

    Of the deliveries `moved` to another scope without being gated again it is not known which scopes their refused rows speak for.
    """
    at = {"commune": 0, "district": 1}[scope]
    found: dict[str, list[tuple[Any, ...]]] = {"now": [], "past": [], "seen": []}
    lines = {(d.name, k): line for d in deliveries for line, k in enumerate(d.rows, 1)}
    for place in sorted({v[at] for d in deliveries for v in d.rows.values()}):
        speaking = sorted(
            (d for d in deliveries if any(v[at] == place for k, v in d.rows.items() if not (d.name in moved and k in d.refused))),
            key=lambda d: d.rank,
        )
        says = [{k: v for k, v in d.rows.items() if v[at] == place and k not in d.refused} for d in speaking]
        for key in sorted({k for one in says for k in one}):
            begun: int | None = None
            for n in range(len(speaking) + 1):
                value = says[n].get(key) if n < len(speaking) else None
                if n < len(speaking) and value is not None:
                    d = speaking[n]
                    found["seen"].append((place, key, d.name, lines[d.name, key], d.as_of, d.received_at))
                if begun is not None and (n == len(speaking) or value != says[begun][key]):
                    first = speaking[begun]
                    known_from = min(d.received_at for d in speaking[begun:n])
                    row = (key, *says[begun][key], place, "plot", first.name, lines[first.name, key], first.as_of, first.received_at, known_from)
                    if n == len(speaking):
                        found["now"].append(row)
                    else:
                        known_to = max(known_from, min(d.received_at for d in speaking[n:]))
                        found["past"].append((*row, speaking[n].as_of, speaking[n].name, known_to))
                    begun = None
                if value is not None and begun is None:
                    begun = n
    return {name: sorted(rows) for name, rows in found.items()}


def drawn(rng: random.Random, count: int) -> list[Sent]:
    """Deliveries that say much the same, with rows that fail, communes that move between files, and equal times."""
    sent = []
    for n in range(count):
        rows = {}
        for k in rng.sample("ABCDE", rng.randint(0, 5)):
            commune = rng.choice(["c1", "c1", "c2", "c3"])
            rows[k] = (commune, "d2" if commune == "c3" else "d1", rng.choice([1, 1, 2]))
        refused = {k for k in rows if rng.random() < 0.15}
        at = T0 + timedelta(days=rng.randint(0, 4))
        sent.append(Sent(f"f{n}", at, T0 + timedelta(days=10, hours=rng.randint(0, 5)), rows, refused))
    return sent


@settings(parent=examples(25))
@given(seed=st.integers(0, 2**32))
def test_any_order_of_gating(seed: int) -> None:
    rng = random.Random(seed)
    sent = drawn(rng, rng.randint(1, 6))
    lake = Lake()
    rng.shuffle(sent)
    done = []
    while len(done) < len(sent):
        batch = sent[len(done) : len(done) + rng.randint(1, 2)]
        lake.gate(batch)
        done += batch
        assert lake.state() == model(done, "commune")


@settings(parent=examples(25))
@given(seed=st.integers(0, 2**32))
def test_gated_again_with_other_rows_and_scopes(seed: int) -> None:
    """A suite or a contract changes: what is gated again is taken back first, and a scope that is named otherwise moves all."""
    rng = random.Random(seed)
    sent = drawn(rng, 4)
    lake = Lake()
    for d in sent:
        lake.gate([d])
    for _ in range(3):
        d = rng.choice(sent)
        d.refused = {k for k in d.rows if rng.random() < 0.3}
        lake.gate([d])
        assert lake.state() == model(sent, "commune")
    again = rng.choice(sent)
    lake.gate([again], "district")
    moved = frozenset(d.name for d in sent if d is not again)
    assert lake.state() == model(sent, "district", moved)
    late = Sent("late", T0 + timedelta(days=rng.randint(0, 4)), T0 + timedelta(days=11), {"A": ("c1", "d1", rng.choice([1, 2]))})
    lake.gate([late], "district")
    assert lake.state() == model([*sent, late], "district", moved)
    lake.gate(sent, "district")
    assert lake.state() == model([*sent, late], "district")


@settings(parent=examples(25))
@given(seed=st.integers(0, 2**32))
def test_a_lake_that_kept_every_row(seed: int) -> None:
    """An earlier version kept all rows of all deliveries: the first delivery after it makes versions of them."""
    rng = random.Random(seed)
    sent = drawn(rng, 4)
    lake = Lake()
    con = lake.con
    for d in sent:
        lake.gate([d])
    seen = con.execute("""
        SELECT s.k, s._delivery_id, s._line, s._as_of, s._received_at, max(s._as_of) OVER (PARTITION BY s._scope) FROM lake.clean.plot_sighting AS s""").fetchall()
    for table in ("plot", "plot_history", "plot_sighting"):
        con.execute(f"DELETE FROM lake.clean.{table}")
    values = {(d.name, k): v for d in sent for k, v in d.rows.items()}
    for k, name, line, as_of, received_at, newest in seen:
        con.execute(f"INSERT INTO lake.clean.{'plot' if as_of == newest else 'plot_history'} "
                    "(k, commune, district, value, _source, _delivery_id, _line, _as_of, _received_at) VALUES (?, ?, ?, ?, 'plot', ?, ?, ?, ?)",
                    [k, *values[name, k], name, line, as_of, received_at])  # fmt: skip
    new = Sent("new", T0 + timedelta(days=rng.randint(0, 6)), T0 + timedelta(days=11), {"A": ("c1", "d1", 1)})
    lake.gate([new])
    assert lake.state() == model([*sent, new], "commune")


def test_what_counts_as_accepted() -> None:
    """A row that says the same again is a duplicate; a late one that goes into the history is accepted."""
    lake = Lake()

    def one(name: str, day: int, hour: int, **values: int) -> Sent:
        return Sent(name, T0 + timedelta(days=day), T0 + timedelta(days=9, hours=hour), {k: ("c1", "d1", v) for k, v in values.items()})

    first, last, late = one("a", 0, 0, A=1, B=1), one("c", 4, 1, A=1, B=2, C=1), one("b", 2, 2, A=1, B=3)
    assert lake.gate([first]) == [("a", 1), ("a", 2)]
    assert lake.gate([last]) == [("c", 2), ("c", 3)]
    assert lake.gate([late]) == [("b", 2)]
    assert [r[:4] for r in lake.state()["past"]] == [("B", "c1", "d1", 1), ("B", "c1", "d1", 3)]
