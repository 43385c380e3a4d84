"""Cells in processes of their own, the figures they give, and the tables of the pages."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers" / "bin" / "python"
THREADS = 2
STATIONS = 200
OUT_OF_MEMORY = re.compile(r"MemoryError|OutOfMemory|Out of Memory|out of memory|Resources exhausted", re.ASCII)


@dataclass
class Figure:
    """One line of the table and of results.json."""

    figure: str
    value: float | str | None
    unit: str
    goal: str
    met: bool | None
    answers_equal: bool | None
    peers: dict[str, Any] = field(default_factory=dict)


class Bench:
    """Runs jobs, keeps figures, and remembers whether any answer differed."""

    def __init__(self, work: Path) -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])  # of every job too, whatever its program believes
        self.work, self.began = work, time.perf_counter()
        self.figures: list[Figure] = []
        self.wrong: list[str] = []
        self.inputs = work / "inputs"
        self.series: dict[str, dict[str, int]] = {}
        self.agreement: list[dict[str, Any]] = []

    def run(self, python: Path | str, module: str, job: str, arguments: dict[str, Any], home: Path | None = None, cap: float = 900) -> dict[str, Any]:
        """The job's result with `outcome` OK, ABORTED, OOM or TIMEOUT."""
        env = {**os.environ, "TNMT_HOME": str(home or self.work / "none"), "TNMT_THREADS": str(THREADS), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}
        load = os.getloadavg()[0]
        process = subprocess.Popen(
            [str(python), "-m", module, job, json.dumps(arguments)],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, told = process.communicate(timeout=cap)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the JVM that it started
            process.communicate()
            return {"outcome": "TIMEOUT", "seconds": cap}
        line = next((x for x in out.splitlines() if x.startswith("RESULT ")), None)
        if process.returncode or line is None:
            full = process.returncode == -signal.SIGKILL or OUT_OF_MEMORY.search(told)
            return {"outcome": "OOM" if full else "ABORTED", "error": (told.strip().splitlines() or ["no message"])[-1][:300]}
        return {"outcome": "OK", "load": round(load, 1), **json.loads(line[7:])}

    def ours(self, job: str, home: Path, module: str = "jobs", cap: float = 900, **arguments: Any) -> dict[str, Any]:
        """A job of ours; its failure ends the bench."""
        result = self.run(sys.executable, f"tests.bench.{module}", job, arguments, home, cap)
        if result["outcome"] != "OK":
            raise SystemExit(f"bench: our job {job} {result['outcome']}: {result.get('error', '')}")
        return result

    def peer(self, job: str, cap: float = 900, module: str = "peers", **arguments: Any) -> dict[str, Any]:
        """A peer's job, in the environment of the peers."""
        return self.run(PEERS, f"tests.bench.{module}", job, {**arguments, "threads": THREADS}, cap=cap)

    def say(self, text: str) -> None:
        print(f"· {time.perf_counter() - self.began:4.0f} s  {text}", flush=True)

    def save(self) -> None:
        """Writes what is known so far, so that a bench that is stopped has not measured for nothing."""
        text = json.dumps([asdict(f) for f in self.figures], ensure_ascii=False, indent=1)
        (self.work.parent / "results.json").write_text(text + "\n", encoding="utf-8")

    def compare(self, what: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
        """Whether the answers are the same; a difference is printed and remembered."""
        different = [f"{k}: {ours.get(k)!r} and {theirs.get(k)!r}" for k in theirs if ours.get(k) != theirs[k]]
        if different:
            self.wrong.append(f"{what}: {'; '.join(different)}")
        return not different

    def lake(self, name: str, stations: int = STATIONS) -> Path:
        """A new lake that holds its registers."""
        home = self.work / name
        self.ours("make", home, stations=stations)
        return home


def short(result: dict[str, Any]) -> dict[str, Any]:
    """What of a run goes into results.json."""
    kept = (
        "outcome",
        "cold",
        "seconds",
        "cpu_seconds",
        "peak_mib",
        "load",
        "error",
        "with_open_seconds",
        "starting",
        "loading",
        "planning",
        "opening",
        "names",
        "cutting",
        "typing",
        "rows",
        "bytes",
    )
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in result.items() if k in kept}


def middle(runs: list[dict[str, Any]], key: str = "seconds") -> float:
    return float(median(r[key] for r in runs))


def ratio_of(b: Bench, title: str, runs: list[dict[str, Any]], mine: float, goal: float) -> Figure | None:
    """Adds how many times longer a peer takes; returns the figure, or None where the peer did not come to an end."""
    peers = {title.removesuffix(" / ours"): [short(r) for r in runs]}
    failed = next((r["outcome"] for r in runs if r["outcome"] != "OK"), None)
    times = None if failed else middle(runs) / mine
    figure = Figure(title, failed or round(times or 0.0, 2), "x", f">= {goal:g}", None if times is None else times >= goal, None, peers)
    b.figures.append(figure)
    return None if failed else figure


def environment() -> dict[str, str]:
    """Machine and versions."""
    model = platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    ours = {n: importlib.metadata.version(n) for n in ("duckdb", "pyarrow", "great-expectations")}
    listed = subprocess.run(  # noqa: PLW1510  # what it prints is all that counts
        [
            str(PEERS),
            "-c",
            "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in ('dlt', 'duckdb', 'polars', 'pandas', 'pyarrow', 'ioos-qc', 'saqc', 'pyspark', 'sedonadb', 'geopandas', 'spatialbench-cli')), sep=', ')",
        ],
        capture_output=True,
        text=True,
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "ours": ", ".join(f"{n} {v}" for n, v in ours.items()),
        "peers": listed,
        "threads": str(THREADS),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d"),
    }


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""

    def words(f: Figure) -> str:
        return "-" if f.met is None else "met" if f.met else "**missed**"

    def answers(f: Figure) -> str:
        return "-" if f.answers_equal is None else "equal" if f.answers_equal else "**DIFFERENT**"

    rows = [
        ("figure", "value", "unit", "goal", "", "answers"),
        *(
            (
                f.figure,
                "-" if f.value is None else f"{f.value:g}" if isinstance(f.value, float) else str(f.value),
                f.unit,
                f.goal,
                words(f),
                answers(f),
            )
            for f in figures
        ),
    ]
    widths = [max(len(r[i]) for r in rows) for i in range(6)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |" for r in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
