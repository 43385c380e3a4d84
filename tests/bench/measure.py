"""What our jobs and the peers share; standard library only, as the peers run in an environment of their own."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
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


def processor_seconds(pid: int) -> float:
    """Of a running process, from Linux; 0 where it does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    """Wall and processor seconds since it was made; the second tells how much of the first is waiting for a busy machine.

    `beside` is a running process whose processor time and memory count too: a JVM, a backend of a server.
    """

    def __init__(self, beside: int | None = None) -> None:
        self._beside = beside
        self._wall, self._cpu = time.perf_counter(), self._used()

    def _used(self) -> float:
        t = os.times()
        return t.user + t.system + t.children_user + t.children_system + (processor_seconds(self._beside) if self._beside else 0.0)

    def stop(self) -> dict[str, float]:
        """As the bench reports them; with the peak memory so far, before answers are looked at."""
        wall = time.perf_counter() - self._wall
        peak = peak_mib() + (peak_mib(self._beside) if self._beside else 0.0)
        return {"seconds": wall, "cpu_seconds": round(self._used() - self._cpu, 3), "peak_mib": round(peak, 1)}


def cold_and_warm(run: Callable[[], Any], inputs: Sequence[Path], warm: int, beside: int | None = None) -> tuple[dict[str, float], Any]:
    """Times `run`, first with its input files out of the page cache (`cold`), then `warm` times or for a minute (`seconds`, the median); and its last answer.

    A cold run is the first of its process: what an engine prepares once is in it.
    """
    forget(inputs)
    clock = Clock(beside)
    answer = run()
    first = clock.stop()
    again = []
    for _ in range(warm):
        if sum(used["seconds"] for used in again) > 60:
            break
        clock = Clock(beside)
        answer = run()
        again.append(clock.stop())
    middle = sorted(again or [first], key=lambda used: used["seconds"])[len(again) // 2]
    return {**middle, "cold": round(first["seconds"], 3), "peak_mib": max(used["peak_mib"] for used in (first, *again))}, answer


def forget(paths: Sequence[Path]) -> None:
    """Asks Linux to drop the files, or those below folders, from its page cache."""
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                fd = os.open(file, os.O_RDONLY)
                os.fsync(fd)  # what is not written yet would stay
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)
