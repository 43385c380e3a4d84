"""Where a reading stands does not depend on when a register comes: gated in any order, the lake is the one of registers first."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.contract import Contract
from ingestion.ingest import REFERENCE_REASONS, contracts_of, register_sources
from ingestion.landing import land
from ingestion.load import load, pending
from ingestion.registers import last_gates, requeue_moved
from ingestion.requeue import requeue
from lake.lake import open_writer
from simulator.registers import write_channel_register, write_station_register
from tests.conftest import own_platform
from tests.examples import examples
from tests.tiny import table_rows
from tnmt.settings import Settings

T0 = datetime(2026, 3, 25)
CODES = ("BP_AAAA_NUOTHA", "BP_BBBB_NUOTHA", "BP_CCCC_NUOTHA")
READINGS, STATIONS, CHANNELS = "station_txt", "station_register", "station_channel_register"
LEDGER = ("raw.file", "ops.landed", "ops.arrival")
RESULTS = ("ops.outcome", "ops.pending", "ops.affected", "ops.gate_result", "ops.scope", "ops.resolution", "quarantine.row")
RESULTS += tuple(f"clean.{t}" for t in ("reading", "reading_history", "station", "station_channel"))

MATRIX = st.sampled_from(["Nước thải", "Nước mặt", "Khí thải"])
stations = st.dictionaries(st.sampled_from(CODES), st.tuples(MATRIX, st.sampled_from(["", *CODES])), min_size=1)
"""A version of the register: station -> its matrix, and a code that it bore before."""
channels = st.lists(
    st.tuples(st.sampled_from(CODES), st.sampled_from(["COD", "TSS", "NH4"]), st.sampled_from([None, "Q1", "TSS", "Amoni"])), max_size=5
)
"""A version of the register: station, parameter and how its files spell it."""
files = st.lists(
    st.tuples(
        st.sampled_from(CODES),
        st.lists(
            st.tuples(st.sampled_from(["COD", "Q1", "TSS", "Amoni", "NH4"]), st.integers(1, 3), st.sampled_from(["mg/L", "mg/Nm3"])), min_size=1
        ),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with own_platform(tmp_path_factory.mktemp("registers")) as s:
        with open_writer(s, "test") as con:
            register_sources(con, contracts_of(s), T0)
        yield s


def _write(s: Settings, registers: list[tuple[dict[str, Any], list[tuple[str, str, str | None]]]], sent: list[tuple[str, list[Any]]]) -> None:
    for n, (of_stations, of_channels) in enumerate(registers, 1):
        write_station_register(
            s.inbox / STATIONS / f"tram_2026010{n}.xlsx",
            [
                {"station_id": c, "station_name": c, "matrix": m, "old_commune": "25195", "lon": 106.9, "lat": 11.5, "former_codes": former or None}
                for c, (m, former) in of_stations.items()
            ],
        )
        rows = {(s, p): name for s, p, name in of_channels}
        write_channel_register(
            s.inbox / CHANNELS / f"thong_so_2026010{n}.csv",
            [
                {
                    "station_id": c,
                    "parameter": p,
                    "unit": "mg/L",
                    "minutes": 5,
                    "valid_from": "01/01/2026 00:00",
                    "valid_to": "",
                    "name_in_file": name,
                }
                for (c, p), name in rows.items()
            ],
        )
    for k, (code, lines) in enumerate(sent):
        at = T0 + timedelta(minutes=5 * k)
        path = s.inbox / READINGS / f"{code}_{at:%Y%m%d%H%M%S}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\t{value}\t{unit}\t{at:%Y%m%d%H%M%S}\t00\n" for name, value, unit in lines))


def _gate(con: Any, s: Settings, contract: Contract, deliveries: list[Any] | None = None) -> None:
    """As `take_in` does it, of what is named or of all that waits."""
    if contract.source == READINGS:
        requeue(con, contract.source, reasons=REFERENCE_REASONS)
        requeue_moved(con, s, contract, last_gates(con, contracts_of(s).values()))
    load(con, s, contract, "run", T0, deliveries)


@pytest.mark.timeout(1800)
@examples(6)
@given(registers=st.lists(st.tuples(stations, channels), min_size=1, max_size=2), sent=files, seed=st.integers(0, 2**16))
def test_readings_and_registers_in_any_order(lake: Settings, registers: Any, sent: Any, seed: int) -> None:
    rng = random.Random(seed)
    with open_writer(lake, "test") as con:
        contracts = {n: contracts_of(lake)[n].model_copy(update={"tolerated_bad_share": 1.0}) for n in (STATIONS, CHANNELS, READINGS)}
        for table in (*LEDGER, *RESULTS):
            con.execute(f"DELETE FROM lake.{table}")
        _write(lake, registers, sent)
        waiting: list[tuple[str, Any]] = []
        for name, contract in contracts.items():
            land(con, lake, contract, T0 + timedelta(hours=2))
            waiting += [(name, d) for d in pending(con, lake, contract)]
        for name in (STATIONS, CHANNELS, READINGS):
            _gate(con, lake, contracts[name], [d for n, d in waiting if n == name])
        wanted = table_rows(con, "clean") | table_rows(con, "quarantine")
        for table in RESULTS:
            con.execute(f"DELETE FROM lake.{table}")
        rng.shuffle(waiting)
        for name, delivery in waiting:
            _gate(con, lake, contracts[name], [delivery])
        for name in (STATIONS, CHANNELS, READINGS):
            _gate(con, lake, contracts[name])
        assert table_rows(con, "clean") | table_rows(con, "quarantine") == wanted
        assert con.execute(
            "SELECT count(*) FROM lake.ops.delivery WHERE rows_read <> rows_accepted + rows_duplicate + rows_quarantined"
        ).fetchall() == [(0,)]


def test_a_register_that_moves_nothing_gates_nothing_again(lake: Settings) -> None:
    """Another range, another cadence, a spelling that everybody knows: the marts' matter. A spelling that meant something else: only its files."""
    with open_writer(lake, "test") as con:
        contracts = {n: contracts_of(lake)[n] for n in (STATIONS, CHANNELS, READINGS)}
        for table in (*LEDGER, *RESULTS):
            con.execute(f"DELETE FROM lake.{table}")
        two = dict.fromkeys(CODES[:2], ("Nước thải", ""))
        _write(
            lake,
            [(two, [(CODES[0], "COD", None)])],
            [(CODES[0], [("COD", 1, "mg/L")]), (CODES[0], [("TSS", 2, "mg/L")]), (CODES[1], [("COD", 1, "mg/L")])],
        )
        for contract in contracts.values():
            land(con, lake, contract, T0 + timedelta(hours=2))
        for contract in contracts.values():
            _gate(con, lake, contract)

        def again(rows: list[dict[str, Any]], day: int) -> list[str]:
            common = {"unit": "mg/L", "minutes": 5, "valid_from": "01/01/2026 00:00", "valid_to": ""}
            write_channel_register(lake.inbox / CHANNELS / f"thong_so_2026020{day}.csv", [common | r for r in rows])
            land(con, lake, contracts[CHANNELS], T0 + timedelta(hours=3))
            _gate(con, lake, contracts[CHANNELS])
            requeue_moved(con, lake, contracts[READINGS], last_gates(con, contracts.values()))
            found = con.execute("SELECT name FROM lake.ops.landed SEMI JOIN lake.ops.pending USING (delivery_id) ORDER BY 1").fetchall()
            _gate(con, lake, contracts[READINGS])
            return [n for (n,) in found]

        assert again([{"station_id": CODES[0], "parameter": "COD", "range_min": "0", "range_max": "9", "minutes": 60}], 1) == []
        assert again([{"station_id": CODES[0], "parameter": "COD", "name_in_file": "COD"}], 2) == []
        assert again([{"station_id": CODES[0], "parameter": "COD", "name_in_file": "TSS"}], 3) == [
            f"{CODES[0]}_{T0 + timedelta(minutes=5):%Y%m%d%H%M%S}.txt"
        ]
        assert con.execute("SELECT station_id, parameter, value_reported::INTEGER FROM lake.clean.reading ORDER BY ALL").fetchall() == [
            (CODES[0], "COD", 1),
            (CODES[0], "COD", 2),
            (CODES[1], "COD", 1),
        ]
