"""The platform itself: made, filled with a sample, served, looked after."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli.common import Json, day_of, err, fail, out, progress
from tnmt.clock import now
from tnmt.settings import settings

app = typer.Typer()


@app.command()
def init(
    join: Annotated[
        bool, typer.Option(help="A further site on this PostgreSQL catalog, with the same data path, token key and landing folder.")
    ] = False,
    moved: Annotated[bool, typer.Option(help="The home or its data lie here now, for good.")] = False,
) -> None:
    """Make the lake: folders, catalog, schemas, tables of all contracts. Idempotent."""
    from ingestion.ingest import contracts_of, register_sources
    from lake.lake import create, open_writer

    s = settings()
    create(s, join=join, moved=moved)
    contracts = contracts_of(s)
    with open_writer(s, "init") as con:
        register_sources(con, contracts, now())
    for contract in contracts.values():
        (s.inbox / contract.folder).mkdir(parents=True, exist_ok=True)
    print(f"lake ready under {s.home}: {len(contracts)} sources, inboxes in {s.inbox}")


@app.command()
def sample(
    size: Annotated[str, typer.Option(help="XS, S or sample.")] = "sample",
    seed: int = 1,
    end: Annotated[str | None, typer.Option(help="Last day of the sample (YYYY-MM-DD); the last full day unless said.")] = None,
) -> None:
    """Write a sample province into the inboxes. Once: a second call with the same arguments does nothing."""
    from simulator.sample import generate
    from simulator.size import SIZES

    s = settings()
    if size not in SIZES:
        fail(f"--size: expected one of {', '.join(SIZES)}, found {size!r}", 2)
    marker = s.home / "sample.json"
    if marker.exists():
        held = json.loads(marker.read_text())
        if held["size"] == size and held["seed"] == seed and end in (None, held["end"]):
            print(f"sample {size} (seed {seed}, end {held['end']}) is there already")
            return
        fail(f"this platform holds sample {held['size']} (seed {held['seed']}, end {held['end']}); another one needs another TNMT_HOME")
    day = day_of("--end", end) if end else now().date() - timedelta(days=1)
    with progress() as bar:
        bar.add_task(f"writing sample {size} up to {day}")
        manifest = generate(s.inbox, s.reference, seed, day, SIZES[size])
    as_of = datetime.combine(day + timedelta(days=1), datetime.min.time()) + timedelta(minutes=10)
    marker.write_text(json.dumps({"size": size, "seed": seed, "end": day.isoformat(), "as_of": as_of.isoformat()}))
    print(f"sample {size}: {sum(manifest.files.values())} files, {sum(manifest.rows.values())} rows in {s.inbox}")


@app.command()
def replay(
    real: Path, kind: Annotated[str, typer.Option(help="air_bc or water_swmp.")] = "air_bc", start: str = "2012-10-01", end: str = "2012-10-31"
) -> None:
    """Turn a real series into station files (and their registers) in the inboxes, gaps and flags as they were."""
    from simulator.replay import replay as do

    s = settings()
    if not real.is_dir():
        fail(f"expected the folder of the real data (docs/real-data.md), found {real}", 2)
    try:
        manifest = do(real, s.inbox, kind, date.fromisoformat(start), date.fromisoformat(end))
    except (KeyError, ValueError, OSError) as error:
        fail(str(error), 2)
    print(f"{sum(manifest.files.values())} files, {sum(manifest.rows.values())} rows in {s.inbox}")


@app.command()
def serve(port: int = 8088, dagster_port: int = 3000, stay: Annotated[bool, typer.Option(help="Stay until interrupted.")] = True) -> None:
    """Start Superset and Dagster on 127.0.0.1 and print addresses and log-in."""
    from orchestration.serve import ServeError
    from orchestration.serve import serve as do

    try:
        do(settings(), port, dagster_port, stay=stay, say=lambda text: print(text, flush=True))
    except ServeError as error:
        fail(str(error))


@app.command()
def maintain(
    keep_days: int = 30,
    orphans: Annotated[
        int | None, typer.Option(help="Remove this many files that nothing refers to, where an earlier run named that number.")
    ] = None,
) -> None:
    """Erase raw bytes past their retention, compact the lake, expire snapshots that nobody pinned, remove files that nothing refers to."""
    from lake.upkeep.maintain import maintain as do

    done = do(settings(), now(), keep_days, orphans=orphans)
    print(
        f"data files {done.files_before} -> {done.files_after}; {done.expired} snapshots expired, {done.pinned} pinned ones kept; raw bytes of {done.erased} deliveries erased; "
        f"{done.orphans} files without a reference and {done.leftovers} leftovers removed"
    )
    for problem in done.problems:
        err.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    if done.problems:
        raise typer.Exit(3)


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option(help="Look at every data file, every key and every row's delivery too.")] = False, as_json: Json = False
) -> None:
    """Check everything that the platform needs, and say what to do about what is missing."""
    from orchestration.doctor import examine

    checks = examine(settings(), deep=deep)
    if as_json:
        print(json.dumps([asdict(c) for c in checks], ensure_ascii=False))
    else:
        for c in checks:
            out.print(f"{'[green]ok[/]  ' if c.ok else '[red]bad[/] '} {c.name}: {c.found}" + ("" if c.ok else f" — {c.todo}"), highlight=False)
    if not all(c.ok for c in checks):
        raise typer.Exit(5)
