"""What runs in the drivers of tests/integration/test_spark_cluster.py and test_spark_s3.py: one Spark session a process."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from lake.lake import LakeError
from lake.spark.plan import plan
from lake.spark.read import read, session
from tests.spark_cluster import children, listening, wait_until
from tnmt.settings import Settings, settings

MANY = 8
"""How often each reading is counted: what makes a job last."""


def tell(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}, default=str), flush=True)


def job() -> None:
    """For each line that comes in: the same read and aggregate, with word when every one of N executors is in the middle of it."""
    s = settings()
    begun = time.monotonic()
    spark = session(
        s, conf={"spark.sql.files.maxPartitionBytes": "256k", "spark.sql.files.openCostInBytes": "0", "spark.sql.adaptive.enabled": "false"}
    )
    (jvm,) = children(os.getpid())
    command = Path(f"/proc/{jvm}/cmdline").read_text()
    secret = spark.sparkContext.getConf().get("spark.authenticate.secret")
    tell("session", seconds=time.monotonic() - begun, listening=sorted(listening({jvm, os.getpid()})), secret_in_command=secret in command)
    tracker = spark.sparkContext._jsc.sc().statusTracker()

    def running() -> list[int]:
        """Tasks of each executor; the driver is the one with no port of its own among them, and runs none."""
        return [i.numRunningTasks() for i in tracker.getExecutorInfos()]

    def work(found: dict[str, Any]) -> None:
        try:
            readings = read(spark, s, "clean.measured", snapshot=int(os.environ["SNAPSHOT"]))
            readings.selectExpr("*", f"explode(sequence(1, {MANY})) AS k").createOrReplaceTempView("measured")
            rows = spark.sql(
                "SELECT count(*), sum(n), sum(total), sum(greatest), sum(ids) FROM (SELECT station, hour, count(*) AS n, sum(value) AS total, "
                "max(value) AS greatest, sum(id) AS ids FROM measured GROUP BY ALL)"
            ).collect()
            found["rows"] = [str(v) for v in rows[0]]
        except Exception as error:
            found["error"] = str(error)[:2000]

    for line in sys.stdin:
        executors = int(line)
        wait_until(lambda n=executors: spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() > n, 60, lambda: "an executor is missing")
        found: dict[str, Any] = {}
        thread = threading.Thread(target=work, args=[found])
        begun = time.monotonic()
        thread.start()
        while thread.is_alive():
            if executors and sum(n > 0 for n in running()) >= executors and _tasks_done(spark) >= 4:
                tell("busy", tasks=running())
                executors = 0
            time.sleep(0.05)
        tell("done", seconds=time.monotonic() - begun, lost=_lost(spark), **found)
    spark.stop()


def _tasks_done(spark: Any) -> int:
    """Finished tasks of the stages that run now."""
    tracker = spark.sparkContext.statusTracker()
    return sum(i.numCompletedTasks for s in tracker.getActiveStageIds() if (i := tracker.getStageInfo(s)))


def _lost(spark: Any) -> int:
    """Failed tasks of the last attempts of all stages, and attempts that were given up before them."""
    tracker = spark.sparkContext.statusTracker()
    return sum(i.numFailedTasks + i.currentAttemptId for s in range(200) if (i := tracker.getStageInfo(s)))


def starts() -> None:
    """For each line – settings as JSON – tries to start a session and tells how that ends, and which processes of ours are there then."""
    for line in sys.stdin:
        given = json.loads(line)
        begun = time.monotonic()
        try:
            spark = session(Settings(**given.get("settings", {})), conf=given.get("conf"))
            spark.stop()
            tell("started", seconds=time.monotonic() - begun)
        except LakeError as error:
            tell("refused", kind=type(error).__name__, text=str(error), seconds=time.monotonic() - begun, left=sorted(children(os.getpid())))


def s3() -> None:
    """Counts, sums and ids of each snapshot of a lake on object storage, and how many files a predicate leaves."""
    s = settings()
    spark = session(s, conf={"spark.sql.shuffle.partitions": "1"})
    (jvm,) = children(os.getpid())
    command = Path(f"/proc/{jvm}/cmdline").read_text()
    assert s.s3_secret
    tell("session", secret_in_command=s.s3_secret.get_secret_value() in command)
    for line in sys.stdin:
        given = json.loads(line)
        where = [(c, op, datetime.fromisoformat(v)) for c, op, v in given.get("where", [])]
        planned = plan(s, given["table"], snapshot=given["snapshot"], where=where)
        df = read(spark, s, given["table"], snapshot=given["snapshot"], where=where)
        rows = sorted([[str(v) for v in row] for row in df.selectExpr(*given["columns"]).collect()])
        tell("rows", rows=rows, files=len(planned.files), total=planned.total)
    spark.stop()


if __name__ == "__main__":
    {"job": job, "starts": starts, "s3": s3}[sys.argv[1]]()
