"""Named points between the stages of a run, where a test can kill the process as a power cut would."""

from __future__ import annotations

import os
import signal

STAGES = (
    "landing.before_commit",
    "landing.committed",
    "landing.cleared",
    "gate.read",
    "gate.judged",
    "publish.merged",
    "publish.before_commit",
    "publish.committed",
    "build.before",
    "build.after",
    "serving.built",
    "serving.swapped",
)
"""In the order in which a run comes to them."""

SPARK_COMMIT = "spark.before_commit"
"""Between staging and commit of what Spark writes; a run on DuckDB does not come there."""

UPKEEP = ("maintain.table", "erase.recorded")
"""Points of the nightly upkeep."""


TAKE_OVER = "takeover.before_commit"
"""Of the first run of a version in which a source takes others over."""

EXTRACT = ("extract.logged", "extract.placed")
"""Points of the hand-over of an extract."""


def reach(stage: str) -> None:
    """Marks that the run has come to `stage`; kills the process there where TNMT_KILL_AT names it."""
    if os.environ.get("TNMT_KILL_AT") == stage:
        os.kill(os.getpid(), signal.SIGKILL)
