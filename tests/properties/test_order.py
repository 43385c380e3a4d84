"""The lake is a function of the landed deliveries and their recorded arrivals: not of order, not of the number of runs."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.contract import Contract
from ingestion.ingest import contracts_of, register_sources
from ingestion.landing import land
from ingestion.load import load, pending
from ingestion.publish import ensure_target_tables
from ingestion.requeue import requeue
from lake.lake import create, open_writer
from tests.examples import examples
from tests.tiny import table_rows
from tnmt.settings import Settings
from tnmt.settings import settings as platform_settings

T0 = datetime(2026, 3, 25)
STATIONS, PARAMETERS = ("BP_AAAA_NUOTHA", "BP_BBBB_NUOTHA"), ("COD", "TSS")


def _prices(s: Settings) -> Contract:
    """The contract of land prices, keeping its history."""
    return contracts_of(s)["land_price"].model_copy(update={"tolerated_bad_share": 1.0, "history": True})


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("order")))
        s = platform_settings()
        create(s)
        with open_writer(s, "test") as con:
            contracts = contracts_of(s)
            register_sources(con, contracts, T0)
            ensure_target_tables(con, _prices(s))
            for code in STATIONS:
                con.execute("INSERT INTO lake.clean.station (station_id, matrix) VALUES (?, 'wastewater')", [code])
    return s


def _empty(con) -> None:
    for table in (
        "raw.file",
        "ops.landed",
        "ops.arrival",
        "ops.outcome",
        "ops.pending",
        "ops.affected",
        "ops.gate_result",
        "ops.scope",
        "quarantine.row",
        "clean.reading",
        "clean.reading_history",
        "clean.dossier",
        "clean.dossier_history",
        "clean.land_price",
        "clean.land_price_history",
        "clean.land_price_sighting",
    ):
        con.execute(f"DELETE FROM lake.{table}")


# a file: station, minute of its stamp, minute at which it arrives, folder (the same name twice), lines of (parameter, minute, value, status)
lines = st.lists(
    st.tuples(st.sampled_from(PARAMETERS), st.integers(0, 2), st.sampled_from(["1", "2", "x", "---"]), st.sampled_from(["00", "02", ""])),
    min_size=1,
    max_size=4,
)
files = st.lists(
    st.tuples(st.sampled_from((*STATIONS, "BP_XXXX_NUOTHA")), st.integers(0, 2), st.integers(0, 2), st.sampled_from("ab"), lines),
    min_size=1,
    max_size=6,
)


@pytest.mark.timeout(1800)
@examples(7)
@given(files=files, seed=st.integers(0, 2**16))
def test_readings_in_any_order(lake: Settings, files, seed: int) -> None:
    rng = random.Random(seed)
    with open_writer(lake, "test") as con:
        contract = contracts_of(lake)["station_txt"]
        _empty(con)
        # landing, in the order of arrival
        for arrival in range(3):
            for station, minute, arrives, folder, content in files:
                if arrives == arrival:
                    stamp = T0 + timedelta(minutes=5 * minute)
                    path = lake.inbox / "station_txt" / folder / f"{station}_{stamp:%Y%m%d%H%M%S}.txt"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("".join(f"{p}\t{v}\tmg/L\t{T0 + timedelta(minutes=5 * m):%Y%m%d%H%M%S}\t{s}\n" for p, m, v, s in content))
            land(con, lake, contract, T0 + timedelta(hours=1, minutes=arrival))
        deliveries = pending(con, lake, contract)
        load(con, lake, contract, "one", T0)
        once = table_rows(con, "clean") | table_rows(con, "quarantine")
        # again: another order, several runs, some of them twice
        _empty_results(con)
        rng.shuffle(deliveries)
        cuts = sorted(rng.sample(range(len(deliveries) + 1), min(2, len(deliveries) + 1)))
        parts = [deliveries[a:b] for a, b in zip([0, *cuts], [*cuts, len(deliveries)], strict=True)]
        for part in parts:
            load(con, lake, contract, "many", T0, part)
        again = rng.choice(parts)
        load(con, lake, contract, "again", T0, again)
        assert table_rows(con, "clean") | table_rows(con, "quarantine") == once
        assert con.execute(
            "SELECT count(*) FROM lake.ops.delivery WHERE rows_read <> rows_accepted + rows_duplicate + rows_quarantined"
        ).fetchall() == [(0,)]
        assert requeue(con, "station_txt", day=T0.date(), all_of_day=True) == len(deliveries)
        load(con, lake, contract, "replay", T0)
        assert table_rows(con, "clean") | table_rows(con, "quarantine") == once


def _empty_results(con) -> None:
    for table in (
        "ops.outcome",
        "ops.affected",
        "ops.gate_result",
        "ops.scope",
        "quarantine.row",
        "clean.reading",
        "clean.reading_history",
        "clean.land_price",
        "clean.land_price_history",
        "clean.land_price_sighting",
    ):
        con.execute(f"DELETE FROM lake.{table}")


prices = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 2), st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from([1, 2, -1])), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
    unique_by=lambda f: (f[0], f[1]),
)


@pytest.mark.timeout(1800)
@examples(6)
@given(files=prices, seed=st.integers(0, 2**16))
def test_snapshots_in_any_order(lake: Settings, files, seed: int) -> None:
    """The newest snapshot stands, in whatever order they are gated; what was known at a moment is one delivery, the newest received by then."""
    from simulator.files import write_xlsx

    rng = random.Random(seed)
    with open_writer(lake, "test") as con:
        contract = _prices(lake)
        _empty(con)
        for day, arrival, rows in sorted(files, key=lambda f: f[1]):
            write_xlsx(
                lake.inbox / "land_price" / f"bang_gia_dat_202603{day:02d}.xlsx",
                "Bảng giá",
                ["Mã giá", "Mã xã", "Đường/khu vực", "Loại đất", "Vị trí", "Giá (nghìn đồng/m2)", "Từ ngày", "Đến ngày"],
                [[key, "25195", "x", "ONT", 1, value, None, None] for key, value in rows],
            )
            land(con, lake, contract, T0 + timedelta(days=5, minutes=arrival))
        deliveries = pending(con, lake, contract)
        load(con, lake, contract, "one", T0)
        once = table_rows(con, "clean") | table_rows(con, "quarantine")
        for (moment,) in con.execute("SELECT DISTINCT received_at FROM lake.ops.landed").fetchall():
            newest = "SELECT delivery_id FROM lake.ops.landed WHERE received_at <= ? ORDER BY as_of DESC, received_at DESC, delivery_id DESC LIMIT 1"
            good = f"SELECT rows_read - rows_quarantined FROM lake.ops.outcome WHERE delivery_id = ({newest})"
            known = con.execute(
                f"""SELECT count(*), count(*) FILTER (price_id IN (SELECT price_id FROM lake.clean.land_price_sighting WHERE _delivery_id = ({newest}))), ({good})
                FROM (FROM lake.clean.land_price SELECT price_id, known_from, TIMESTAMP '9999-01-01' AS known_to
                      UNION ALL FROM lake.clean.land_price_history SELECT price_id, known_from, known_to)
                WHERE known_from <= ? AND ? < known_to""",
                [moment] * 4,
            ).fetchall()[0]
            assert len(set(known)) == 1, (moment, known)
        _empty_results(con)
        rng.shuffle(deliveries)
        for delivery in [*deliveries, rng.choice(deliveries)]:
            load(con, lake, contract, "many", T0, [delivery])
        assert table_rows(con, "clean") | table_rows(con, "quarantine") == once
