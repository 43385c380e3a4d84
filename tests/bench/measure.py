"""What our jobs and the peers share; standard library only, as the peers run in an environment of their own."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

MEMORY_GB = 4
"""What DuckDB and Spark may take on series; pandas, Polars and the libraries of quality control know no limit."""


def peak_mib(pid: int | None = None) -> float:
    """Greatest resident memory of this process, and of its largest child that has ended, in MiB; or that of a running process, 0 where Linux does not tell."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if pid is None else 0.0
    try:
        with open(f"/proc/{pid or 'self'}/status") as file:  # getrusage keeps what the parent had before exec
            own = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except OSError:
        pass
    return own if pid else own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def files_below(folder: str) -> list[tuple[str, str]]:
    """(base name, path) of every file, in name order of the folders."""
    found = []
    for base, folders, names in os.walk(folder):
        folders.sort()
        found += [(name, f"{base}/{name}") for name in sorted(names)]
    return found


def main(jobs: dict[str, Callable[..., dict[str, Any]]], argv: Sequence[str] = sys.argv) -> None:
    """Runs `<job> <json of its arguments>` and prints one line for the bench: seconds, answers, peak memory."""
    result = jobs[argv[1]](**json.loads(argv[2]))
    print("RESULT " + json.dumps({"peak_mib": round(peak_mib(), 1), **result}, default=str), flush=True)


class Clock:
    """Wall and processor seconds since it was made; the second tells how much of the first is waiting for a busy machine."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._used()

    @staticmethod
    def _used() -> float:
        t = os.times()
        return t.user + t.system + t.children_user + t.children_system

    def stop(self) -> dict[str, float]:
        """As the bench reports them; with the peak memory so far, before answers are looked at."""
        return {"seconds": time.perf_counter() - self._wall, "cpu_seconds": round(self._used() - self._cpu, 3), "peak_mib": round(peak_mib(), 1)}
