"""Spark on a cluster of several processes: the figures of DuckDB while workers and master die, and starts that end with an error instead of hanging."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake.lake import create, latest_snapshot, open_reader, open_writer
from lake.spark.read import problems
from tests.spark_cluster import Cluster, Driver, listening, settings_file
from tests.spark_driver import MANY
from tests.support import free_port, need
from tnmt.settings import Settings

ROWS = 1_000_000
LIMIT = 6
"""Seconds that a start gets which must not succeed, and three times as many where it must register first (3 s on a quiet machine)."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, int]:
    """Readings in partitions, some deleted; and the snapshot that is read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("cluster") / "kho"))
        s = Settings()
        create(s)
    with open_writer(s, "test") as con:
        con.execute("CREATE TABLE lake.clean.measured (id BIGINT, station VARCHAR, measured_at TIMESTAMP, hour INTEGER, value DECIMAL(12,4))")
        con.execute("ALTER TABLE lake.clean.measured SET PARTITIONED BY (month(measured_at))")
        con.execute(
            "INSERT INTO lake.clean.measured SELECT r, 'Trạm ' || r % 211, TIMESTAMP '2025-01-01' + r * INTERVAL 9 SECOND, r // 400, "
            f"(r * 7919 % 100003) / 1000 FROM range({ROWS}) t(r)"
        )
        con.execute("DELETE FROM lake.clean.measured WHERE id % 1013 = 0")
        return s, latest_snapshot(con)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two workers with one core each, secret and encryption on."""
    found = problems()
    need("spark", not found, "; ".join(found))
    with Cluster(tmp_path_factory.mktemp("spark"), workers=2) as made:
        yield made


def _expected(lake: Settings, snapshot: int) -> list[str]:
    with open_reader(lake, snapshot=snapshot) as con:
        groups, n, total, greatest, ids = con.execute(
            f"SELECT count(*), sum(n), sum(total), sum(greatest), sum(ids) FROM (SELECT station, hour, {MANY} * count(*) AS n, {MANY} * sum(value) AS total, "
            f"max(value) AS greatest, {MANY} * sum(id) AS ids FROM lake.clean.measured GROUP BY ALL)"
        ).fetchall()[0]
    return [str(v) for v in (groups, n, total, greatest, ids)]


def test_the_figures_stay_those_of_duckdb_while_workers_and_master_die(cluster: Cluster, lake: tuple[Settings, int], tmp_path: Path) -> None:
    s, snapshot = lake
    expected = _expected(s, snapshot)
    driver = Driver(tmp_path / "driver.log", "tests.spark_driver", "job", TNMT_HOME=str(s.home), SNAPSHOT=str(snapshot), **cluster.environment)
    try:
        started = driver.event("session", 120)
        assert started["listening"] == ["127.0.0.1"] and listening(cluster.pids()) == {"127.0.0.1"}
        assert not started["secret_in_command"], "every user of the machine can read a command line"

        # a worker is killed with its executor while both have tasks and have done some
        driver.tell("2")
        assert len([n for n in driver.event("busy", 60)["tasks"] if n]) == 2
        cluster.stop("w0")
        done = driver.event("done", 120)
        assert done.get("rows") == expected, done
        assert done["lost"] > 0, "nothing was lost, so the worker did not die in the middle of the job"

        # a new worker joins and gets tasks; the master is killed meanwhile, and the job does not need it
        cluster.start_worker("w2")
        cluster.wait_registered("w2")
        driver.tell("2")
        driver.event("busy", 60)
        cluster.stop("master")
        done = driver.event("done", 120)
        assert done.get("rows") == expected, done
    finally:
        driver.close()


def test_a_start_that_cannot_succeed_ends_with_what_to_do(cluster: Cluster, lake: tuple[Settings, int], tmp_path: Path) -> None:
    """In one process, one after the other: after each failure nothing of ours runs, and the next start is not hindered."""
    if "master" in cluster.processes:  # the test before has killed it
        cluster.stop("master")
    driver = Driver(tmp_path / "driver.log", "tests.spark_driver", "starts", TNMT_HOME=str(lake[0].home), **cluster.environment)

    def refused(text: str, seconds: float, **given: object) -> str:
        begun = time.monotonic()
        driver.tell(json.dumps(given))
        found = driver.event("refused", 60)
        assert time.monotonic() - begun < seconds, found
        assert found["kind"] == "SparkStartError" and text in found["text"], found
        assert not found["left"], f"a process of ours stays behind: {found['left']}"
        return str(found["text"])

    boot = 25  # seconds for a JVM to start here when others work too, and to be ended
    try:
        refused(f"expected a master that answers at {cluster.master}, found 127.0.0.1:{cluster.port} Connection refused", 5)
        nobody = f"spark://127.0.0.1:{free_port()}"
        refused(f"expected a master that answers at {nobody}", 5, settings={"spark_master": nobody})
        cluster.start_master()
        other = settings_file(tmp_path / "other.conf", "0" * 64, {})
        none = settings_file(tmp_path / "none.conf", "", {"spark.authenticate": "false", "spark.network.crypto.enabled": "false"})
        none.write_text("\n".join(line for line in none.read_text().splitlines() if "secret" not in line and "io.encryption" not in line))
        for conf in (other, none):
            text = refused("does not register this session", LIMIT + boot, settings={"spark_conf": str(conf), "spark_start_seconds": LIMIT})
            assert cluster.secret not in text and "0" * 64 not in text
        refused(
            "registered and no executor that ran it",
            3 * LIMIT + boot,
            settings={"spark_start_seconds": 3 * LIMIT},
            conf={"spark.executor.memory": "3g"},
        )
        refused("Check that the jars of spark.executor.extraClassPath lie on every node", 60, conf={"spark.executor.extraClassPath": "/nothing/*"})
        # the master that came back knows its workers again, and the process that failed so often starts at last
        driver.tell("{}")
        driver.event("started", 90)
    finally:
        driver.close()
