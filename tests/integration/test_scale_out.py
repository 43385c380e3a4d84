"""The models that opted in give the same rows on Spark: of a small province at each build, of sizes S and M by `make parity`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from ingestion.ingest import ingest
from lake.lake import create, open_writer
from lake.spark import read as layer
from lake.spark.write import staging_root
from marts.scale_out import RUNNER, Plugin
from simulator.sample import generate
from simulator.size import SIZES
from tests.bench import marts as bench
from tests.parity import Marts, newest
from tests.postgres_kit import Server
from tests.spark_cluster import Cluster, wait_until
from tests.tiny import AS_OF, END
from tnmt.settings import Settings
from tnmt.settings import settings as platform_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OPTED_IN = {
    "intermediate.int_station_silence",
    "marts_environment.interruption",
    "marts_environment.reading_8h",
    "marts_environment.reading_daily",
    "marts_environment.reading_hourly",
    "marts_environment.reading_qc",
    "marts_land.land_use_change",
    "marts_land.parcel_overlap",
    "marts_land.parcel_overlay",
}


def _taken_in(tmp: Path, size: str = "S", **environment: str) -> Marts:
    """A sample on a lake of its own, taken in and its marts made by DuckDB. The environment stays changed."""
    os.environ.update(environment, TNMT_HOME=str(tmp / "home"))
    s = platform_settings()
    create(s)
    generate(s.inbox, s.reference, 1, END, SIZES[size])
    assert not ingest(s, now=AS_OF, run_id="first").errors
    return Marts(s, tmp, AS_OF)


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """As it was, after the module."""
    before = dict(os.environ)
    yield
    RUNNER.staged.close()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module", params=["XS", pytest.param("S", marks=pytest.mark.parity)])
def province(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Marts:
    """On files and a SQLite catalog."""
    return _taken_in(tmp_path_factory.mktemp("scale-out"), request.param)


def _rows(s: Settings, tables: list[str]) -> dict[str, int]:
    with open_writer(s, "count") as con:
        return {t: con.execute(f"SELECT count(*) FROM lake.{t}").fetchall()[0][0] for t in tables}


def test_a_whole_build(province: Marts, spark: SparkSession) -> None:
    assert set(province.tables) == OPTED_IN
    assert all(_rows(province.settings, province.tables).values())
    snapshot = newest(province.settings)
    assert province.on("spark", affected_from=-1) == {}
    assert newest(province.settings) >= snapshot + len(OPTED_IN)  # they were made anew


def test_an_incremental_build_of_every_day_touched(province: Marts, spark: SparkSession) -> None:
    # days that are gone come back, and what is there is made again
    with open_writer(province.settings, "test") as con:
        for table in ("reading_hourly", "reading_8h", "reading_daily", "reading_qc"):
            con.execute(f"DELETE FROM lake.marts_environment.{table} WHERE day >= DATE '{END - timedelta(days=1)}' AND day < DATE '{END}'")
    assert province.on("spark", affected_from=0, affected_to=10**6) == {}
    RUNNER.staged.close()  # as the end of the process does
    assert not list(Path(staging_root(province.settings)).iterdir())


def test_the_engine_is_one_of_two(province: Marts) -> None:
    with pytest.raises(AssertionError, match="var engine: expected duckdb or spark, found flink"):
        province.on("flink", "interruption")


def test_what_keeps_spark_from_it_is_said_and_nothing_is_written(
    province: Marts, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    con = duckdb.connect()
    Plugin("scale_out", {}).configure_connection(con)
    for query, told in {
        "SELECT station_id FROM lake.clean.station LIMIT 3": "not portable: LIMIT",
        "SELECT no_column FROM lake.clean.station": "no_column",
        "SELECT 1 // (lon::INTEGER - lon::INTEGER) AS v FROM lake.clean.station": "DIVIDE_BY_ZERO",
    }.items():
        with pytest.raises(duckdb.Error, match=told):
            con.execute("SELECT spark_select(?)", [query])
    snapshot = newest(province.settings)
    monkeypatch.setattr(layer, "LAYER", tmp_path / "no-layer")
    monkeypatch.setattr(layer.require, "__defaults__", (tmp_path / "no-layer", layer.HASHES))
    monkeypatch.delitem(RUNNER.__dict__, "spark")
    with pytest.raises(AssertionError, match=r"(?s)Spark cannot start:.*expected pyspark in .*run `make scale-out`"):
        province.on("spark", "interruption")
    assert newest(province.settings) == snapshot


@pytest.mark.parity
def test_size_m(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month of 213 stations, and 50,000 parcels."""
    monkeypatch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("month")))
    print(bench.fill(31, parcels=50_000))
    province = Marts(platform_settings(), tmp_path_factory.mktemp("dbt"), bench.AS_OF)
    print(_rows(province.settings, province.tables))
    assert province.on("spark", affected_from=-1) == {}
    print(province.seconds)
    assert province.on("spark", affected_from=0, affected_to=10**6) == {}
    print(province.seconds)
    RUNNER.staged.close()


@pytest.mark.parity
def test_on_a_cluster_while_a_worker_is_killed_with_its_executor(province: Marts, tmp_path: Path) -> None:
    with Cluster(tmp_path / "spark", workers=2) as cluster:
        in_the_middle: list[bool] = []

        def kill() -> None:
            # what a worker has computed for the next stage lies in its scratch folder: a job is in its middle
            scratch = cluster.folder / "scratch-w0"
            wait_until(lambda: len(list(scratch.rglob("shuffle_*.data"))) > 1, 300, lambda: cluster.log("master")[-2000:])
            cluster.stop("w0")
            root = Path(staging_root(province.settings))
            in_the_middle.append(bool(list(root.iterdir())) and not list(root.glob("*/*/_SUCCESS")))

        killer = threading.Thread(target=kill)
        killer.start()
        told, log = province.by_child(**cluster.environment)
        killer.join()
        assert in_the_middle == [True], "the model was done when the worker died"
    assert told == {}
    assert "ERROR=0" in log


@pytest.mark.parity
def test_on_object_storage(tmp_path: Path, store: dict[str, str]) -> None:
    stored = _taken_in(tmp_path, **store)
    told, _ = stored.by_child()
    assert told == {}


@pytest.mark.parity
def test_on_a_postgresql_catalog(tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TNMT_DATA", "TNMT_S3_ENDPOINT", "TNMT_S3_KEY_ID", "TNMT_S3_SECRET"):
        monkeypatch.delenv(name, raising=False)
    postgres.execute("CREATE DATABASE scale_out")
    told, _ = _taken_in(tmp_path, TNMT_CATALOG="postgres:" + postgres.dsn("scale_out")).by_child()
    assert told == {}
