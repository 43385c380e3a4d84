"""The parts past one machine: the bridge to Spark, writing back, spatial questions, SpatialBench, and the models on either engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lake.spark.read import problems
from tests.bench.runner import PEERS, THREADS, Bench, Figure, short
from tests.bench.spatial_queries import LAND_QUERIES, TRIP_QUERIES
from tests.postgres_kit import new_server, remove

PARTS = ("bridge", "write_back", "spatial", "spatialbench", "engines")
READ_ROWS = {"S": 1_000_000, "M": 20_000_000, "L": 200_000_000}
WRITTEN = {"S": 1_000_000, "M": 20_000_000, "L": 100_000_000}
PARCELS = {"S": 20_000, "M": 500_000, "L": 2_000_000}
SCALES = {"S": (0.02,), "M": (0.1, 1), "L": (1,)}
Q12_SCALE = {"S": 0.0002}
"""Trips of question 12 where they are fewer: without a join by k nearest it measures every trip to every building."""
LAKES = {"S": ("XS",), "M": ("S", 10), "L": (30, 60, 120)}
"""Of the engines: a size of the simulator's province, or days of 213 stations."""
WARM = {"S": 1, "M": 3, "L": 3}
ROUNDS = {"S": 1, "M": 3, "L": 3}
"""Of the bridge and of writing back: processes of each side, taken in turn so that a busy moment hits both."""
CAP = {"S": 240, "M": 300, "L": 3600}
"""Seconds of a cell; what takes longer is printed as TIMEOUT."""
SPARK = f"Spark local[{THREADS}] + Sedona"
NAMES = {"duckdb": "DuckDB", "sedonadb": "SedonaDB", "geopandas": "GeoPandas", "postgis": "PostGIS", "spark": SPARK}
TITLES = {
    "overlay": "parcels x communes, area of intersection",
    "within": "points within communes",
    "overlap": "overlapping pairs of parcels",
    "nearest": "nearest commune point of each parcel",
}
NO_SPARK = "not run: needs `make scale-out`"

METHOD = """How it is measured past one machine:

* *cold* is the first run of a process with its input out of Linux's page cache (PostGIS: the first of its connection, its buffers as loading left them), *wall* the median of the warm runs after it, which end with the third or after a minute; at size S one, and an engine answers all spatial questions in one process, so its memory is the greatest so far.
* DuckDB, SedonaDB and Spark's JVM may take 4 GB, PostGIS 1 GB of shared buffers and 256 MB a sort; GeoPandas knows no limit. All processes are bound to two processors. The start of a Spark session, and opening the lake (0.3 s), are not in its time (`starting` in results.json); its memory is that of Python and the JVM, PostGIS' that of one backend, shared buffers that it touched with it.
* `TIMEOUT`, `OOM` and `ABORTED` stand where a time would; where ours did not finish, the peer wins. `TIMEOUT at 0.1`: not asked again of more rows than those of that scale.
* *Bridge*: a year of readings of 24 stations by month; a column renamed, one added with a default before the last month came, one reading of a hundred of June deleted. Spark "on the files" is told their paths, types and field ids, and knows neither deletes nor defaults: over the half-year without deletes both must give the same sums (the default apart), over the whole only the bridge must give DuckDB's.
* *Bridge* and *write back* run three times at sizes M and L, each time in a new process, the sides in turn; printed is the run of the middle.
* *Plan*: a catalog of two tables of 10,000 files, 20 columns and 1,000 delete files each, made by SQL; catalog bytes are of both.
* *Write back*: `lake.spark.write.write` (staging, INSERT by DuckDB, commit) against Spark's own Parquet writer and `ducklake_add_data_files`; what was written is read back by DuckDB and hashed.
* *Spatial*: quadrangles as parcels, 111 communes with wavy borders of 80 corners, WKB in Parquet, decoding in the time; PostGIS holds indexed tables, loaded apart. Answers are compared row by row (1e-6, relative above 1 m or m²). DuckDB has no join by nearest: it measures every pair.
* *SpatialBench*: tables by Apache's generator `spatialbench-cli` of the given scale, except that buildings are always those of scale 1 (below 0.5 the generator makes none) and at size S question 12 has trips of scale 0.0002. Its questions without a zone, written anew for the views of this bench: the figures are **not official**. Answers are compared with ours row by row, 1e-6 relative.
* *Engines*: every model with `meta.scale_out`, whole, by dbt; seconds are the sum of dbt's of each model, rows compared by `tests/parity.py`. Where days are named, 213 stations at 5 minutes. Each engine makes them once, in a new process: what Spark compiles in its first minutes is in it, as in a batch."""


def against(
    b: Bench, title: str, runs: dict[str, dict[str, Any]], goal: str = "-", met: bool | None = None, equal: dict[str, bool | None] | None = None
) -> None:
    """Figures of one question: ours in seconds, then how many times longer each peer takes. The first of `runs` is ours."""
    (ours, mine), *peers = runs.items()
    equal = equal or {}
    done = mine["outcome"] == "OK"
    value = round(mine["seconds"], 3) if done else mine["outcome"]
    b.figures.append(Figure(title, value, "s", goal, met if done or goal == "-" else False, equal.get(ours), {NAMES.get(ours, ours): short(mine)}))
    for name, found in peers:
        who = NAMES.get(name, name)
        if found["outcome"] != "OK":
            value, won = found["outcome"], True if done else None
        elif not done:
            value, won = f"ours {mine['outcome']}, {found['seconds']:.3g} s", False
        else:
            value, won = round(found["seconds"] / mine["seconds"], 2), found["seconds"] >= mine["seconds"]
        b.figures.append(Figure(f"{title}: {who} / ours", value, "x", ">= 1", won, equal.get(name), {who: short(found)}))
    b.save()


def has_spark(b: Bench, *titles: str) -> bool:
    """Whether Spark can start; where it cannot, the figures say so."""
    if not problems():
        return True
    b.figures += [Figure(title, NO_SPARK, "x", "-", None, None) for title in titles]
    return False


def bridge(b: Bench, size: str) -> None:
    """Reading the lake by the bridge, by Spark on the same files, and by DuckDB."""
    home, rows = b.work / "bridge", READ_ROWS[size]
    plan_home = b.work / "plan"
    b.say("the plan of a table of 10,000 files")
    planned = b.ours("plan_files", plan_home, "bridge", repeats=3)
    b.figures += [
        Figure(
            "plan of a table of 10,000 files",
            round(planned["seconds"], 2),
            "s",
            "< 2",
            planned["seconds"] < 2,
            planned["rows"] == 10_000,
            {"ours": short(planned)},
        ),
        Figure("its catalog: bytes a file of 20 columns", round(planned["bytes"] / 20_000), "B", "-", None, None),
    ]
    if planned["rows"] != 10_000:
        b.wrong.append(f"plan of 10,000 files: {planned['rows']}")
    shutil.rmtree(plan_home)
    if not has_spark(b, "bridge / Spark on the files"):
        return
    b.say(f"{rows:,} readings with deletes, a renamed and an added column")
    filled = b.ours("fill", home, "bridge", rows=rows, cap=CAP[size])
    titles = {
        "half": f"six months of {rows / 1e6:g} M readings, no deletes",
        "whole": f"{rows / 1e6:g} M readings in {filled['files']} files, {filled['deletes']:,} deleted",
        "month": "one month of them",
    }

    def read(side: str) -> dict[str, Any]:
        b.say(f"reading them by {side}")
        return b.run(sys.executable, "tests.bench.bridge", "reads", {"side": side, "warm": WARM[size]}, home, CAP[size])

    sides = _in_turn(("duckdb", "bridge", "files"), read, size, [*titles])
    if failed := [f"{n}: {r.get('error', r['outcome'])}" for n, r in sides.items() if r["outcome"] != "OK"]:
        b.wrong.append(f"reads: {failed}")
        b.figures.append(Figure("bridge / Spark on the files", "; ".join(failed), "x", "<= 1.2", False, None))
        return
    for name, title in titles.items():
        got = {side: found[name] for side, found in sides.items()}
        same = b.compare(f"{title}, bridge", {"sums": got["duckdb"]["answer"]}, {"sums": got["bridge"]["answer"]})
        alike: bool | None = None
        if name != "whole":  # the files know no deletes
            alike = b.compare(f"{title}, on the files", {"sums": got["bridge"]["answer"][:4]}, {"sums": got["files"]["answer"][:4]})
        details = {
            who: short({**found, "outcome": "OK", "load": sides[side]["load"], "starting": sides[side]["starting"]})
            for side, who in (("bridge", "bridge"), ("files", "Spark on the files"), ("duckdb", "DuckDB"))
            for found in [got[side]]
        }
        ratio = got["bridge"]["seconds"] / got["files"]["seconds"]
        goal = name == "half"
        b.figures += [
            Figure(
                f"{title}: bridge / Spark on the files",
                round(ratio, 2),
                "x",
                "<= 1.2" if goal else "-",
                ratio <= 1.2 if goal else None,
                _both(same, alike),
                details,
            ),
            Figure(f"{title}: bridge / DuckDB", round(got["bridge"]["seconds"] / got["duckdb"]["seconds"], 1), "x", "-", None, same),
        ]
    b.save()
    shutil.rmtree(home)


def _in_turn(sides: tuple[str, ...], run: Callable[[str], dict[str, Any]], size: str, parts: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The run of the middle of each side (of each part of it), of so many rounds; or the first that did not come to an end."""
    rounds = [{side: run(side) for side in sides} for _ in range(ROUNDS[size])]
    kept = {}
    for side in sides:
        runs = [r[side] for r in rounds]
        if failed := [r for r in runs if r["outcome"] != "OK"]:
            kept[side] = failed[0]
            continue
        median = sorted(runs, key=lambda r: (r[parts[0]] if parts else r)["seconds"])[len(runs) // 2]
        kept[side] = median | {p: sorted((r[p] for r in runs), key=lambda r: r["seconds"])[len(runs) // 2] for p in parts}
    return kept


def _both(*known: bool | None) -> bool:
    return all(k for k in known if k is not None)


def write_back(b: Bench, size: str) -> None:
    """From Spark into the lake, against Spark's own writer and registration of its files."""
    rows = WRITTEN[size]
    title = f"{rows / 1e6:g} M rows written back / Spark's Parquet and ducklake_add_data_files"
    if not has_spark(b, title):
        return

    def written(side: str) -> dict[str, Any]:
        b.say(f"{rows:,} rows from Spark into the lake ({side})")
        job = {"side": side, "rows": rows, "warm": WARM[size]}
        result = b.run(sys.executable, "tests.bench.bridge", "write_back", job, b.work / f"write-{side}", CAP[size])
        shutil.rmtree(b.work / f"write-{side}", ignore_errors=True)
        return result

    found = _in_turn(("bridge", "files"), written, size)
    details = {"ours": short(found["bridge"]), "Spark's Parquet, registered": short(found["files"])}
    if failed := [f"{n} {r['outcome']}: {r.get('error', '')}" for n, r in found.items() if r["outcome"] != "OK"]:
        b.figures.append(Figure(title, "; ".join(failed), "x", "<= 1.5", False, None, details))
        return
    equal = b.compare("rows written back", *({"hash": found[side]["answer"]} for side in ("bridge", "files")))
    ratio, disk = (found["bridge"][k] / found["files"][k] for k in ("seconds", "bytes"))
    b.figures += [
        Figure(title, round(ratio, 2), "x", "<= 1.5", ratio <= 1.5, equal, details),
        Figure("its bytes on disk / those of Spark's Parquet", round(disk, 2), "x", "-", None, equal),
    ]
    b.save()


def _equal(b: Bench, kind: str, query: str, out: Path, runs: dict[str, dict[str, Any]]) -> dict[str, bool | None]:
    """Compares every answer with the first that came to an end."""
    done = [name for name, found in runs.items() if found["outcome"] == "OK"]
    equal: dict[str, bool | None] = {}
    for name in done[1:]:
        if not runs[done[0]]["rows"] and not runs[name]["rows"]:
            continue  # nothing was compared
        differ = b.ours("compare", b.work, "spatial", kind=kind, query=query, out=str(out), left=done[0], right=name)
        equal[name] = b.compare(f"{query}, {name} and {done[0]}", {"different": {}}, {"different": differ["different"]})
    if equal:
        equal[done[0]] = _both(*equal.values())
    return equal


Ask = Callable[[list[str]], dict[str, Any]]


def _asked(
    asks: dict[str, Ask], questions: list[str], size: str, gave_up: dict[tuple[str, str], dict[str, Any]] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Question -> engine -> result. An engine has a process for each question; at size S one for all, to save their starts.

    Where `gave_up` has a result of (engine, question), from fewer rows, it stands for the one of these.
    """
    groups = [questions] if size == "S" else [[q] for q in questions]
    runs: dict[str, dict[str, dict[str, Any]]] = {q: {} for q in questions}
    for group in groups:
        for name, ask in asks.items():
            result = (gave_up or {}).get((name, group[0])) or ask(group)
            for question in group:
                runs[question][name] = {**result, **result["found"][question]} if result["outcome"] == "OK" else result
    return runs


def _ours(b: Bench, job: str, size: str, **arguments: Any) -> Ask:
    def ask(questions: list[str]) -> dict[str, Any]:
        b.say(f"{', '.join(questions)}: {job}")
        return b.run(sys.executable, "tests.bench.spatial", job, {**arguments, "questions": questions, "warm": WARM[size]}, b.work, CAP[size])

    return ask


def _peer(b: Bench, job: str, size: str, **arguments: Any) -> Ask:
    def ask(questions: list[str]) -> dict[str, Any]:
        b.say(f"{', '.join(questions)}: {job}")
        return b.peer(job, CAP[size], "spatial_peers", questions=questions, warm=WARM[size], **arguments)

    return ask


def spatial(b: Bench, size: str) -> None:
    """Overlay, points in communes, overlaps and nearest points of parcels in five engines."""
    folder, out, parcels = b.work / "land", b.work / "answers", PARCELS[size]
    b.say(f"{parcels:,} parcels in 111 communes")
    b.ours("make", b.work, "spatial", folder=str(folder), parcels=parcels)
    place = {"kind": "land", "folder": str(folder), "out": str(out)}
    asks = {"duckdb": _ours(b, "duckdb_asked", size, **place), **{name: _peer(b, name, size, **place) for name in ("sedonadb", "geopandas")}}
    server = None
    try:
        server = new_server("-c shared_buffers=1GB -c work_mem=256MB -c max_parallel_workers_per_gather=1 -c max_worker_processes=2 -c jit=off")
    except FileNotFoundError as missing:
        b.figures.append(Figure("PostGIS on parcels", f"not run: {missing}", "x", "-", None, None))
    try:
        if server:
            b.say("loading PostGIS")
            loaded = b.run(sys.executable, "tests.bench.spatial", "postgis_load", {"dsn": server.dsn(), "folder": str(folder)}, b.work, CAP[size])
            done = loaded["outcome"] == "OK"
            title = f"loading {parcels:,} parcels into PostGIS" + (f" ({loaded['bytes'] / 2**20:.0f} MiB with indexes)" if done else "")
            value = round(loaded["seconds"], 1) if done else loaded["outcome"]
            b.figures.append(Figure(title, value, "s", "-", None, None, {"PostGIS": short(loaded)}))
            if done:
                asks["postgis"] = _ours(b, "postgis_asked", size, dsn=server.dsn(), out=str(out))
        if has_spark(b, f"{SPARK} on parcels"):
            asks["spark"] = _ours(b, "spark_asked", size, **place)
        for question, runs in _asked(asks, [*LAND_QUERIES], size).items():
            against(b, f"{TITLES[question]}, {parcels:,} parcels", runs, equal=_equal(b, "land", question, out, runs))
    finally:
        if server:
            remove(server)
    shutil.rmtree(folder)


def spatialbench(b: Bench, size: str) -> None:
    """SpatialBench's questions without a zone in DuckDB, SedonaDB and GeoPandas."""
    buildings = b.work / "buildings"
    b.say("SpatialBench's buildings")
    _generate(1, "building", buildings)
    gave_up: dict[tuple[str, str], dict[str, Any]] = {}
    for scale in SCALES[size]:
        b.say(f"SpatialBench's tables of scale {scale:g}")
        folders = {s: b.work / f"trips-{s:g}" for s in (scale, Q12_SCALE.get(size, scale))}
        for s, folder in folders.items():
            _generate(s, "trip", folder)
            _generate(s, "customer", folder)
            (folder / "building.parquet").hardlink_to(buildings / "building.parquet")
        for at, folder in folders.items():
            questions = [q for q in TRIP_QUERIES if at == (Q12_SCALE.get(size, scale) if q == "q12" else scale)]
            out = b.work / "answers" / f"{at:g}"
            place = {"kind": "trips", "folder": str(folder), "out": str(out)}
            asks = {"duckdb": _ours(b, "duckdb_asked", size, **place), **{name: _peer(b, name, size, **place) for name in ("sedonadb", "geopandas")}}
            for question, runs in _asked(asks, questions, size, gave_up).items():
                gave_up |= {(n, question): r | {"outcome": f"TIMEOUT at {at:g}"} for n, r in runs.items() if r["outcome"] == "TIMEOUT"}
                empty = ", no rows" if any(r.get("rows") == 0 for r in runs.values()) else ""
                against(b, f"SpatialBench {question}, scale {at:g}{empty}", runs, equal=_equal(b, "trips", question, out, runs))
        for folder in folders.values():
            shutil.rmtree(folder)


def _generate(scale: float, table: str, folder: Path) -> None:
    """A table of SpatialBench by its own generator."""
    generator = [str(PEERS.parent / "spatialbench-cli"), "-s", f"{scale:g}", "-T", table, "-o", str(folder)]
    subprocess.run(generator, check=True, capture_output=True)


def engines(b: Bench, size: str) -> None:
    """The models that opted in, made whole by DuckDB and by Spark, on lakes of growing size."""
    if not has_spark(b, "models on Spark / on DuckDB"):
        return
    for of in LAKES[size]:
        home = b.work / f"engines-{of}"
        what = f"the province of size {of}" if isinstance(of, str) else f"{of} days of 213 stations"
        b.say(f"engines: a lake of {what}")
        lake = b.ours("lake_of", home, "bridge", of=of, cap=4 * CAP[size])
        found = {}
        for name in ("duckdb", "spark"):
            b.say(f"engines: the models of {what} by {name}")
            found[name] = b.run(sys.executable, "tests.bench.bridge", "engine", {"name": name, "made": lake["made"]}, home, 4 * CAP[size])
        title = f"models of {what} ({lake['rows'] / 1e6:.2f} M readings)"
        equal = {n: b.compare(f"{title} by {n}", {"different": {}}, {"different": r["different"]}) for n, r in found.items() if r["outcome"] == "OK"}
        against(b, title, found, equal=equal)
        if all(r["outcome"] == "OK" for r in found.values()):
            for model, seconds in found["duckdb"]["models"].items():
                ratio = found["spark"]["models"][model] / seconds
                b.figures.append(
                    Figure(f"{model}, {what}: Spark / DuckDB ({seconds:.2g} s)", round(ratio, 2), "x", "-", None, _both(*equal.values()))
                )
        b.save()
        shutil.rmtree(home)


RUN = {"bridge": bridge, "write_back": write_back, "spatial": spatial, "spatialbench": spatialbench, "engines": engines}
