"""`make bench`: figures of speed and memory against named peers, on the same files, answers compared first.

Every cell runs in a process of its own; its clock starts after the imports. Exit code 1 where answers differ or a job of
ours fails; never for a goal that is missed. Writes `bench/results.json` and `bench/benchmarks.md` under TNMT_HOME.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from simulator.size import SIZES
from tests.bench import agreement, day, past
from tests.bench.measure import MEMORY_GB
from tests.bench.runner import PEERS, STATIONS, THREADS, Bench, Figure, environment, middle, ratio_of, short, table

DLT_CAP = 300
# first day and days of each month of the lakes under an increment; the last ends the day before the increment
MONTH = [("2026-03-01", 30)]
HALF_YEAR = [("2025-10-01", 31), ("2025-11-01", 30), ("2025-12-01", 31), ("2026-01-01", 31), ("2026-02-01", 28), *MONTH]
TEN_DAYS = [("2026-03-21", 10)]
YEAR = [("2025-04-01", 30), ("2025-05-01", 31), ("2025-06-01", 30), ("2025-07-01", 31), ("2025-08-01", 31), ("2025-09-01", 30), *HALF_YEAR]
PARTS = ("day", "parse", "dlt", "increment", "live", "qc", "aggregates", "marts", *past.PARTS)
AGGREGATES = ["reading_hourly", "reading_8h", "reading_daily"]
SERIES_DAYS = 6
COPIES = 2
"""How often each station of the sample stands in the input of the aggregates."""
METHOD = [
    "How it is measured: every cell in a process of its own, on the same files, its clock after the imports; warm (the files were just written and lie "
    "in the page cache). Our figures, the floor, ioos_qc and Polars on series are medians of 3 (a day of files and their parsing at size S: one run); another peer, and our run beside dlt, runs once (on series of size M three times). Answers are compared before a figure counts: rows, sums, "
    "first and last time, stations; for the damaged day every quarantined line with its reason, worked out by the generator alone. "
    "A figure `a / b` is how many times longer a takes.",
    "",
    "What the peers do not do: `read_csv`, Polars and the script stop at, or swallow, damaged files, so they get the undamaged ones; dlt appends rows and keeps "
    "neither ledger of files, nor quarantine, nor versions of a key.",
    "",
    f"Quality control and aggregates: the simulator's province (size S: 20 stations; M and L: 213) of {SERIES_DAYS} days at 5 minutes goes through ingest and dbt, untimed; the inputs of the "
    "models are then written as Parquet. Ours is the SQL of the models as dbt compiles it for a full build, in DuckDB in memory on these files; the lake, dbt's start and its tests are not in it. "
    "In the time of each: reading the Parquet, the calculation, the result in memory. Ours of quality control is the whole mart `reading_qc` with its twelve flags (every reading kept), sorted; the libraries make "
    "four of them. Ours of aggregates is `reading_hourly`, `reading_8h` and `reading_daily` with the causes of what is missing, grades and names; the peers make counts, means, minima, maxima and completeness. "
    f"The aggregates' input holds each station {COPIES} times. DuckDB and Spark may take {MEMORY_GB} GB; pandas, Polars and the libraries know no limit; pandas, ioos_qc and SaQC use one thread. "
    "Spark's session is started before its clock (column `starting` of results.json) and computes once, cold, as a batch does; its memory is that of Python and the JVM. "
    "Answers: flags reading by reading, each difference in an explained class ([qc/peers.md](qc/peers.md)); of aggregates, equal rows and counts, figures within 1e-9 (relative above 1).",
    "",
]
ANSWER = ("rows", "sum", "low", "high", "stations")


def whole_day(b: Bench, repeats: int) -> None:
    """57,600 files, 1 % damaged, from inbox to published."""
    pristine = b.lake("day")
    kept = b.work / "day.pristine"
    shutil.copytree(pristine, kept, symlinks=True)
    runs, equal = [], True
    for i in range(repeats):
        b.say(f"a day of 57,600 files, 1 % damaged, inbox to published ({i + 1} of {repeats})")
        shutil.rmtree(pristine)
        shutil.copytree(kept, pristine, symlinks=True)
        want = day.write_day(pristine / "inbox" / day.SOURCE, STATIONS)
        runs.append(b.ours("publish", pristine, now=day.NOW.isoformat()))
        equal &= b.compare("day of station files", b.ours("look", pristine), want.answers())
    wall, peak = middle(runs), max(r["peak_mib"] for r in runs)
    own = {"ours": [short(r) for r in runs]}
    b.figures += [
        Figure("a day of 57,600 files (1 % damaged), inbox to published", round(wall, 2), "s", "<= 5", wall <= 5, equal, own),
        Figure("its peak memory", round(peak), "MiB", "<= 1536", peak <= 1536, equal),
        Figure(
            "its quarantine: lines and reasons as expected",
            len(want.quarantined),
            "lines",
            "exact",
            equal,
            equal,
            {"damaged_files": want.damaged, "kinds": len(want.kinds)},
        ),
    ]
    shutil.rmtree(kept)
    shutil.rmtree(pristine)


def parsing(b: Bench, repeats: int, home: Path) -> None:
    """Parsing alone against opening and reading, and against what else reads such files."""
    folder = str(b.inputs)
    floor, own = [], []
    b.run(sys.executable, "tests.bench.jobs", "read_only", {"folder": folder}, home)  # warms the page cache
    for i in range(repeats):
        b.say(f"opening and reading, then parsing, the same files ({i + 1} of {repeats})")
        floor.append(b.ours("read_only", home, folder=folder))
        own.append(b.ours("parse", home, folder=folder))
    mine = middle(own)
    ratio = mine / middle(floor)
    b.figures.append(
        Figure(
            "parsing / opening and reading the same files, warm, one process each",
            round(ratio, 2),
            "x",
            "<= 2",
            ratio <= 2,
            all(r["rows"] == own[0]["rows"] for r in own) and own[0]["rows"] == STATIONS * 288 * 10,
            {"ours": [short(r) for r in own], "open + read (os.open, os.read)": [short(r) for r in floor]},
        )
    )
    answer = {k: own[0][k] for k in ANSWER}
    for job, goal in (("read_csv", 10.0), ("polars", None), ("pandas", None)):
        b.say(f"the same files with {job}")
        result = b.peer(job, folder=folder)
        name = {"read_csv": "DuckDB read_csv", "polars": "Polars scan_csv", "pandas": "csv module + pandas"}[job]
        if result["outcome"] == "OK":
            equal = b.compare(name, answer, {k: result[k] for k in ANSWER})
            times = result["seconds"] / mine
            b.figures.append(
                Figure(
                    f"{name} / parsing",
                    round(times, 2),
                    "x",
                    f">= {goal:g}" if goal else "-",
                    times >= goal if goal else None,
                    equal,
                    {name: short(result)},
                )
            )
        else:
            b.figures.append(Figure(f"{name} / parsing", result["outcome"], "x", f">= {goal:g}" if goal else "-", None, None, {name: short(result)}))


def against_dlt(b: Bench, ways: tuple[bool, ...]) -> None:
    """Inbox to published against dlt (its rows as Arrow or as dicts), on the undamaged files; dlt appends, without ledger, quarantine or upsert."""
    home = b.lake("undamaged")
    inbox = home / "inbox" / day.SOURCE
    b.say("the undamaged files, inbox to published")
    want = day.write_day(inbox, STATIONS, damage=False)
    mine = b.ours("publish", home, now=day.NOW.isoformat())
    found = b.ours("look", home)
    equal = b.compare("undamaged day", found, want.answers())
    shutil.rmtree(home)
    for arrow in ways:
        work = b.work / f"dlt-{arrow}"
        work.mkdir()
        b.say(f"dlt on the same files, {'Arrow tables of 1,000 files' if arrow else 'rows as dicts'} (at most {DLT_CAP} s)")
        result = b.peer("dlt", cap=DLT_CAP, folder=str(b.inputs), work=str(work), arrow=arrow)
        name = f"dlt, {'Arrow' if arrow else 'dicts'}"
        peers = {name: short(result), "ours": short(mine)}
        if result["outcome"] == "ABORTED":
            b.figures.append(Figure(f"{name} / inbox to published", "ABORTED", "x", ">= 10", None, None, peers))
            continue
        same = None
        if result["outcome"] == "OK":
            same = equal and b.compare(name, {"rows": found["accepted"], "sum": found["reported_sum"]}, {k: result[k] for k in ("rows", "sum")})
        times = result["seconds"] / mine["seconds"]
        late = result["outcome"] == "TIMEOUT"
        b.figures.append(
            Figure(
                f"{name} / inbox to published",
                f"TIMEOUT, > {times:.1f}" if late else round(times, 2),
                "x",
                ">= 10",
                True if times >= 10 else None if late else False,
                same,
                peers,
            )
        )
        shutil.rmtree(work)


def increments(b: Bench, lakes: dict[str, list[tuple[str, int]]], repeats: int) -> None:
    """200 files of 8 lines into lakes of several ages, taken in turn so that a busy moment hits all alike."""
    homes: dict[str, Path] = {}
    filled: dict[str, dict[str, Any]] = {}
    for name, months in lakes.items():
        b.say(f"filling a lake of {name} by SQL")
        homes[name] = b.lake(f"lake-{len(homes)}")
        filled[name] = b.ours("fill", homes[name], months=months, stations=STATIONS)
    runs: dict[str, list[dict[str, Any]]] = {n: [] for n in lakes}
    equal = dict.fromkeys(lakes, True)
    for i in range(repeats):
        slot = range(100 + i, 101 + i)
        now = datetime.combine(day.DAY, datetime.min.time()).replace(hour=8, minute=0) + (i + 5) * (datetime(2026, 1, 1, 0, 5) - datetime(2026, 1, 1))
        for name, home in homes.items():
            b.say(f"one increment into the lake of {name} ({i + 1} of {repeats})")
            day.write_day(home / "inbox" / day.SOURCE, STATIONS, slot, damage=False, lines=8, seed=i)
            runs[name].append(b.ours("publish", home, now=now.isoformat()))
            equal[name] &= b.compare(f"increment into {name}", runs[name][-1], {"read": 1600, "accepted": 1600, "duplicate": 0, "quarantined": 0})
            equal[name] &= b.compare(
                f"lake of {name}",
                b.ours("count", home),
                {"day_rows": 1600 * (i + 1), "rows": filled[name]["rows"] + 1600 * (i + 1), "quarantined": 0},
            )
    first = next(iter(lakes))
    for name in lakes:
        wall = middle(runs[name])
        b.figures.append(
            Figure(
                f"200 files into a lake of {name} ({filled[name]['rows'] / 1e6:.1f} M readings)",
                round(wall, 3),
                "s",
                "<= 0.5",
                wall <= 0.5,
                equal[name],
                {"ours": [short(r) for r in runs[name]], "filling": short(filled[name])},
            )
        )
        if name != first:
            growth = wall / middle(runs[first])
            b.figures.append(Figure(f"growth from {first} to {name}", round(growth, 2), "x", "< 1.3", growth < 1.3, equal[name]))
    for home in homes.values():
        shutil.rmtree(home)


def latency(b: Bench, rounds: int) -> None:
    """From file to fresh serving file, in the live worker."""
    b.say(f"{rounds} rounds of files in the live worker")
    home = b.work / "live"
    result = b.run(sys.executable, "tests.bench.live", "live", {"increments": rounds}, home)
    if result["outcome"] != "OK":
        raise SystemExit(f"bench: our job live {result['outcome']}: {result.get('error', '')}")
    if not result["equal"]:
        b.wrong.append("a round of the live worker did not show every station at its time")
    p95, peers = result["seconds"], {"ours": short(result), "rounds": result["rounds"]}
    name = f"file to fresh serving file, {result['stations']} stations, p95 of {rounds} rounds"
    b.figures.append(Figure(name, round(p95, 1), "s", "< 20", p95 < 20, result["equal"], peers))
    b.figures.append(Figure("its median", round(result["median"], 1), "s", "-", None, result["equal"]))
    shutil.rmtree(home)


def marts(b: Bench, lakes: dict[str, int], repeats: int) -> None:
    """All environment marts of lakes of several ages, and a day more in each; in the first also all anew, which must give the same rows."""
    walls: list[float] = []
    for name, days in lakes.items():
        home = b.work / f"marts-{days}"
        job = partial(b.ours, home=home, module="marts", cap=3600)
        b.say(f"marts: filling a lake of {name}")
        rows = job("fill", days=days)["rows"]
        b.say(f"marts: all of {name}")
        whole = job("build")
        runs = []
        for n in range(1, repeats + 1):
            job("add_day", days=n)
            b.say(f"marts: a day more in a lake of {name} ({n} of {repeats})")
            runs.append(job("build", days=n))
        tests = job("check", days=repeats)
        equal: bool | None = None
        if not walls:
            found = job("digest")
            b.say(f"marts: all of {name} anew, which must be equal")
            job("build", days=repeats, full=True)
            equal = b.compare(
                f"marts of {name}, incremental and anew", found, {k: v for k, v in job("digest").items() if k not in ("load", "peak_mib")}
            )
        wall = middle(runs)
        seconds, goal = whole["seconds"], 600 * (days / 365)
        b.figures += [
            Figure(
                f"a day more through the environment marts, lake of {name} ({rows / 1e6:.1f} M readings)",
                round(wall, 1),
                "s",
                "<= 30",
                wall <= 30,
                equal,
                {"ours": [short(r) for r in runs], "its tests": short(tests)},
            ),
            Figure(f"all environment marts of {name} anew", round(seconds, 1), "s", f"<= {goal:.0f}", seconds <= goal, equal, {"ours": short(whole)}),
            Figure("its peak memory", round(whole["peak_mib"]), "MiB", "<= 8192", whole["peak_mib"] <= 8192, equal),
        ]
        if walls:
            b.figures.append(Figure(f"growth of a day more to {name}", round(wall / walls[0], 2), "x", "<= 1.2", wall <= walls[0] * 1.2, None))
        walls.append(wall)
        shutil.rmtree(home)


def write_series(b: Bench, size: str) -> None:
    """Readings of the simulator's province as Parquet, for the two figures after it."""
    province = SIZES["S" if size == "S" else "sample"]
    stations = {k: getattr(province, k) for k in ("wastewater", "emission", "surface_water", "ambient_air")}
    b.say(f"{SERIES_DAYS} days of {province.stations} stations through ingest and dbt, to Parquet")
    b.series = b.ours("prepare", b.work / "series", "series", folder=str(b.inputs), stations=stations, days=SERIES_DAYS, copies=COPIES)
    shutil.rmtree(b.work / "series")


def quality(b: Bench, repeats: int, slow_repeats: int) -> None:
    """Flags of readings against ioos_qc and SaQC, reading by reading; then how long each takes."""
    name = f"quality control of {b.series['qc']['rows'] / 1e6:.2f} M readings in {b.series['qc']['series']:,} series"
    folder, out = b.inputs / "qc", b.work / "qc"
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "ioos_qc": [], "saqc": []}
    for i in range(repeats):
        b.say(f"quality control of readings ({i + 1} of {repeats})")
        runs["ours"].append(b.ours("run_models", b.work, "series", folder=str(folder), models=["reading_qc"], out=str(out / "ours")))
        for peer, times in (("ioos_qc", repeats), ("saqc", slow_repeats)):
            if i < times:
                runs[peer].append(b.peer(peer, folder=str(folder), out=str(out / peer)))
    mine = middle(runs["ours"])
    b.figures.append(Figure(name, round(mine, 2), "s", "-", None, None, {"ours": [short(r) for r in runs["ours"]]}))
    for peer, goal in (("ioos_qc", 5), ("saqc", 1)):
        title = f"{agreement.NAMES[peer]}, series by series / ours"
        if (ratio := ratio_of(b, title, runs[peer], mine, goal)) is None:
            continue
        flags = b.ours(
            "agree",
            b.work,
            "agreement",
            folder=str(folder),
            ours=str(out / "ours/reading_qc.parquet"),
            theirs=str(out / peer / "flags.parquet"),
            peer=peer,
        )
        b.agreement += flags["classes"]
        unexplained = {r["rule"]: r["readings"] for r in flags["classes"] if r["class"] == "unexplained" and r["readings"]}
        if unexplained:
            b.wrong.append(f"flags of {peer} differ without explanation: {unexplained}")
        ratio.answers_equal = not unexplained
        differing = sum(r["readings"] for r in flags["classes"] if r["class"] not in ("equal", "unexplained"))
        whole = sum(r["readings"] for r in flags["classes"])
        b.figures.append(
            Figure(
                f"flags that differ from {agreement.NAMES[peer]}'s, each explained",
                round(100 * differing / whole, 2),
                "%",
                "-",
                None,
                not unexplained,
            )
        )
    (b.work.parent / "qc-peers.md").write_text(agreement.page(b.agreement), encoding="utf-8")


def aggregates(b: Bench, repeats: int, slow_repeats: int) -> None:
    """Hourly, eight-hour and daily figures against pandas, Polars and Spark."""
    name = f"hourly, 8-hour and daily figures of {b.series['aggregates']['rows'] / 1e6:.2f} M readings"
    folder, out = b.inputs / "aggregates", b.work / "aggregates"
    titles = {"pandas": "pandas", "polars": "Polars", "spark": f"Spark local[{THREADS}], session started"}
    runs: dict[str, list[dict[str, Any]]] = {p: [] for p in ("ours", *titles)}
    for i in range(repeats):
        b.say(f"hourly, eight-hour and daily figures ({i + 1} of {repeats})")
        runs["ours"].append(b.ours("run_models", b.work, "series", folder=str(folder), models=AGGREGATES, out=str(out / "ours")))
        for peer in titles:
            if i < (repeats if peer == "polars" else slow_repeats):
                runs[peer].append(b.peer(f"{peer}_aggregates", folder=str(folder), out=str(out / peer)))
    mine = middle(runs["ours"])
    b.figures.append(Figure(name, round(mine, 2), "s", "-", None, None, {"ours": [short(r) for r in runs["ours"]]}))
    for peer, title in titles.items():
        if (ratio := ratio_of(b, f"{title} / ours", runs[peer], mine, 1)) is None:
            continue
        found = b.ours("same", b.work, "series", ours=str(out / "ours"), theirs=str(out / peer))
        ratio.answers_equal = b.compare(f"aggregates of {title}", {"different": {}}, {"different": found["different"]})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def document(size: str, parts: list[str], figures: list[Figure], about: dict[str, str], load: str, seconds: float) -> str:
    """A page of docs/benchmarks*.md: the figures of these parts, how they were measured, and every run."""
    beyond = set(parts) <= {*past.PARTS}
    method = past.METHOD.split("\n") if beyond else [*METHOD, "", *past.METHOD.split("\n")] if {*past.PARTS} & set(parts) else METHOD
    command = f"make bench SIZE={size}" if parts == [*PARTS] else f"python -m tests.bench --size {size} " + " ".join(f"--only {p}" for p in parts)
    detail = []
    for f in figures:
        for name, runs in f.peers.items():
            for r in runs if isinstance(runs, list) else [runs]:
                if isinstance(r, dict) and "outcome" in r:
                    detail.append(
                        f"| {f.figure} | {name} | {r['outcome']} | {r.get('cold', '-')} | {_number(r.get('seconds'))} | {r.get('cpu_seconds', '-')} | {r.get('peak_mib', '-')} | {r.get('load', '-')} |"
                    )
    return "\n".join(
        [
            "# Benchmarks past one machine" if beyond else "# Benchmarks",
            "",
            f"Printed by `{command}` on {about['date']}; it took {seconds / 60:.1f} min. {about['machine']}; {about['system']}; Python {about['python']}. "
            f"Load of the machine: {load}.",
            "",
            f"Ours: {about['ours']}. Peers: {about['peers']}. {about['threads']} threads for all.",
            "",
            table(figures),
            "",
            *method,
            "",
            "| figure | who | outcome | cold s | wall s | processor s | peak MiB | load before |",
            "|---|---|---|---|---|---|---|---|",
            *detail,
            "",
        ]
    )


def main() -> int:
    """Runs the bench; returns the exit code."""
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("--size", choices="SML", default="S", help="S under 10 minutes; M and L add a lake of a year")
    options.add_argument("--only", choices=[*PARTS], action="append", help="only these figures")
    options.add_argument("--document", type=Path, help="also write the page to this path")
    chosen = options.parse_args()
    parts = chosen.only or PARTS
    if not PEERS.exists():
        print("the environment of the peers is missing; run `make peers`", file=sys.stderr)
        return 2
    home = Path(os.environ["TNMT_HOME"]).resolve() if os.environ.get("TNMT_HOME") else Path(tempfile.mkdtemp(prefix="tnmt-bench-"))
    out = home / "bench"
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(prefix="work-", dir=out) as work:
        b = Bench(Path(work))
        if "day" in parts:
            whole_day(b, 1 if chosen.size == "S" else 3)
            b.save()
        if {"parse", "dlt"} & set(parts):
            day.write_day(b.inputs, STATIONS, damage=False)
        if "parse" in parts:
            parsing(b, 1 if chosen.size == "S" else 3, b.lake("parsing", 2))
            b.save()
        if "dlt" in parts:
            against_dlt(b, (True,) if chosen.size == "S" else (False, True))
            b.save()
        shutil.rmtree(b.inputs, ignore_errors=True)
        if "increment" in parts:
            big = chosen.size != "S"
            increments(b, {"a month": MONTH, "a year": YEAR} if big else {"ten days": TEN_DAYS, "a month": MONTH}, 3)
            if not big:
                b.figures.append(
                    Figure("200 files into a lake of a year (168 M readings)", "not run", "s", "<= 0.5", None, None, {"needs": "SIZE=M"})
                )
        if "live" in parts:
            if chosen.size == "S" and chosen.only is None:
                b.figures.append(Figure("file to fresh serving file", "not run", "s", "< 20", None, None, {"needs": "SIZE=M, or --only live"}))
            else:
                latency(b, 8 if chosen.size == "S" else 20)
            b.save()
        if "marts" in parts:
            if chosen.size == "S":
                b.figures.append(Figure("a day more through the environment marts", "not run", "s", "<= 30", None, None, {"needs": "SIZE=M"}))
            else:
                marts(b, {"a month": 30, **({"a year": 365} if chosen.size == "M" else {"two years": 730})}, 2)
            b.save()
        if {"qc", "aggregates"} & set(parts):
            write_series(b, chosen.size)
            slow = 1 if chosen.size == "S" else 3
            if "qc" in parts:
                quality(b, 3, slow)
                b.save()
            if "aggregates" in parts:
                aggregates(b, 3, slow)
                b.save()
        for part in past.PARTS:
            if part in parts:
                past.RUN[part](b, chosen.size)
                b.save()
        if set(parts) - {*past.PARTS}:
            b.figures += [
                Figure("make run on a fresh machine", "not run here", "s", "<= 360", None, None),
                Figure("make run, second time", "not run here", "s", "<= 90", None, None),
            ]
        b.save()
    load.append(os.getloadavg()[0])
    about = environment()
    seconds = time.perf_counter() - began
    words = f"{load[0]:.1f} at the start, {load[1]:.1f} at the end"
    (out / "environment.json").write_text(json.dumps({**about, "size": chosen.size, "load": load}, indent=1) + "\n", encoding="utf-8")
    page = document(chosen.size, [p for p in PARTS if p in parts], b.figures, about, words, seconds)
    (out / "benchmarks.md").write_text(page, encoding="utf-8")
    if chosen.document:
        chosen.document.write_text(page, encoding="utf-8")
    print(f"\n{table(b.figures)}\n\n{about['machine']}; load {words}; {seconds / 60:.1f} min; {out / 'results.json'}")
    if b.agreement:
        print(f"\n{agreement.table(b.agreement)}")
    for text in b.wrong:
        print(f"ANSWERS DIFFER: {text}", file=sys.stderr)
    return 1 if b.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
