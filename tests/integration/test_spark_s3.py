"""The lake on object storage: DuckDB writes to it and Spark reads it, equal at every snapshot. Run by `make parity`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from lake.lake import LakeError, create, latest_snapshot, open_reader, open_writer
from tests.spark_cluster import Cluster, Driver
from tnmt.settings import Settings

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def lake(store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[int]]:
    """A lake on the store: inserts, deletes, an update and a merge of files; and its snapshots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("s3") / "kho"))
        for name, value in store.items():
            patch.setenv(name, value)
        s = Settings()
    create(s)
    snapshots = []
    with open_writer(s, "test") as con:
        con.execute("CREATE TABLE lake.clean.measured (id BIGINT, station VARCHAR, measured_at TIMESTAMP, value DECIMAL(12,4), place GEOMETRY)")
        con.execute("ALTER TABLE lake.clean.measured SET PARTITIONED BY (month(measured_at))")
        for statement in (
            "INSERT INTO lake.clean.measured SELECT r, 'Trạm ' || r % 7, TIMESTAMP '2025-01-01' + r * INTERVAL 4 MINUTE, r / 8, "
            "ST_Point(r, 2 * r) FROM range(100000) t(r)",
            "DELETE FROM lake.clean.measured WHERE id % 97 = 0",
            "UPDATE lake.clean.measured SET value = value + 1 WHERE id % 1009 = 5",
            "INSERT INTO lake.clean.measured SELECT r, 'Trạm mới', TIMESTAMP '2025-05-05 00:00:00', -1, NULL FROM range(100000, 100500) t(r)",
            "DELETE FROM lake.clean.measured WHERE id % 89 = 3",
            "CALL ducklake_merge_adjacent_files('lake')",
        ):
            con.execute(statement)
            snapshots.append(latest_snapshot(con))
    return s, snapshots


AGGREGATES = ["count(*)", "sum(id)", "sum(value)", "min(measured_at)", "max(measured_at)", "count(place)", "count(DISTINCT station)"]


def test_spark_reads_object_storage_as_duckdb_does(lake: tuple[Settings, list[int]], store: dict[str, str], tmp_path: Path) -> None:
    s, snapshots = lake
    driver = Driver(tmp_path / "driver.log", "tests.spark_driver", "s3", TNMT_HOME=str(s.home), **store)
    try:
        assert not driver.event("session", 120)["secret_in_command"]

        def same(snapshot: int, columns: list[str], where: list[tuple[str, str, str]] | None = None) -> tuple[int, int]:
            condition = " AND ".join(f"{c} {op} '{v}'" for c, op, v in where or []) or "true"
            with open_reader(s, snapshot=snapshot) as con:
                con.execute("LOAD spatial")
                rows = con.execute(f"SELECT {', '.join(columns)} FROM lake.clean.measured WHERE {condition}").fetchall()
            driver.tell(json.dumps({"table": "clean.measured", "snapshot": snapshot, "columns": columns, "where": where or []}))
            found = driver.event("rows", 90)
            assert found["rows"] == sorted([[str(v) for v in row] for row in rows]), snapshot
            return found["files"], found["total"]

        seen = [same(snapshot, AGGREGATES) for snapshot in snapshots]
        assert len(set(snapshots)) == 6 and all(files == total > 5 for files, total in seen)
        files, total = same(snapshots[4], AGGREGATES, [("measured_at", ">=", "2025-09-15 00:00:00")])
        assert 0 < files < total, "the predicate pruned nothing"
        some = [("measured_at", ">=", "2025-05-04 23:00:00"), ("measured_at", "<=", "2025-05-05 01:00:00")]
        same(snapshots[4], ["id", "station", "measured_at", "value", "ST_AsText(place)"], some)
    finally:
        driver.close()


def test_a_cluster_reads_object_storage(lake: tuple[Settings, list[int]], store: dict[str, str], tmp_path: Path) -> None:
    """Executors get the keys from the driver, encrypted: no key stands on their command lines or in the settings of the nodes."""
    s, snapshots = lake
    with Cluster(tmp_path / "cluster", workers=1) as cluster:
        driver = Driver(tmp_path / "driver.log", "tests.spark_driver", "s3", TNMT_HOME=str(s.home), **{**store, **cluster.environment})
        try:
            driver.event("session", 120)
            driver.tell(json.dumps({"table": "clean.measured", "snapshot": snapshots[-1], "columns": AGGREGATES}))
            with open_reader(s, snapshot=snapshots[-1]) as con:
                rows = con.execute(f"SELECT {', '.join(AGGREGATES)} FROM lake.clean.measured").fetchall()
            assert driver.event("rows", 120)["rows"] == [[str(v) for v in row] for row in rows]
            lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in cluster.pids()]
            assert len([line for line in lines if b"CoarseGrainedExecutorBackend" in line]) == 1
            secrets_of = [store["TNMT_S3_SECRET"].encode(), cluster.secret.encode()]
            assert not [line for line in lines if any(word in line for word in secrets_of)]
        finally:
            driver.close()


def test_keys_are_kept_nowhere(lake: tuple[Settings, list[int]], store: dict[str, str]) -> None:
    s, _ = lake
    kept = [p for p in s.home.rglob("*") if p.is_file() and not p.is_symlink()]
    assert any(p.name == "catalog.sqlite" for p in kept)
    for path in kept:
        assert store["TNMT_S3_SECRET"].encode() not in path.read_bytes(), path
    with sqlite3.connect(s.lake_dir / "catalog.sqlite") as con:
        assert con.execute("SELECT value FROM ducklake_metadata WHERE key = 'data_path'").fetchall() == [("s3://kho/ho/",)]
    with open_reader(s) as con:
        (secret,) = con.execute("SELECT secret_string, persistent, scope FROM duckdb_secrets()").fetchall()
        assert store["TNMT_S3_SECRET"] not in secret[0] and secret[1:] == (False, ["s3://kho"])


def test_wrong_keys_end_with_an_error_that_holds_none(lake: tuple[Settings, list[int]], store: dict[str, str]) -> None:
    s, _ = lake
    wrong = Settings(**{**s.model_dump(), "s3_secret": "x" * 40})
    with open_reader(wrong) as con, pytest.raises(Exception, match=r"403|Forbidden|SignatureDoesNotMatch") as error:
        con.execute("SELECT sum(id) FROM lake.clean.measured").fetchall()
    assert "x" * 40 not in str(error.value)
    with pytest.raises(LakeError, match="expected TNMT_S3_KEY_ID and TNMT_S3_SECRET"):
        open_reader(Settings(**{**s.model_dump(), "s3_secret": None}))
