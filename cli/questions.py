"""What a reader asks: a statement, where a figure comes from, what was known when."""

from __future__ import annotations

import csv
import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.common import Json, fail, moment_of, not_blank, out
from tnmt.clock import default_as_of, now
from tnmt.settings import settings

app = typer.Typer()


@app.command()
def sql(
    statement: str,
    fmt: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    closed: Annotated[str | None, typer.Option(help="Reason for reading closed schemas; it is recorded.", callback=not_blank)] = None,
) -> None:
    """Run one read-only statement on the lake (catalog `lake`); the first line is the header."""
    from lake.lake import LakeError
    from lake.query import QueryRefused, query

    if fmt not in ("table", "csv", "json"):
        fail(f"--format: expected table, csv or json, found {fmt!r}", 2)
    try:
        names, rows = query(settings(), statement, closed_reason=closed, now=now())
    except (QueryRefused, LakeError) as error:
        fail(str(error))
    if fmt == "json":
        print(json.dumps([dict(zip(names, r, strict=True)) for r in rows], default=str, ensure_ascii=False))
    elif fmt == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(["" if v is None else v for v in r] for r in rows)
    else:
        table = Table(*names)
        for r in rows:
            table.add_row(*("" if v is None else str(v) for v in r))
        out.print(table)


@app.command()
def trace(
    station: str,
    parameter: str,
    day: str,
    hour: Annotated[int | None, typer.Option(min=1, max=24, help="The hour that ends at this clock time (1 to 24) instead of the whole day.")] = None,
    as_json: Json = False,
) -> None:
    """From a figure back to the bytes: readings, files with their hash, the rule and the limit behind a day or an hour."""
    from lake.lake import LakeError
    from marts.trace import NothingToTrace
    from marts.trace import trace as do

    try:
        found = do(settings(), station, parameter, date.fromisoformat(day), hour)
    except ValueError:
        fail(f"expected a day as YYYY-MM-DD, found {day}", 2)
    except NothingToTrace as error:
        fail(str(error), 2)
    except LakeError as error:
        fail(str(error))
    if as_json:
        print(json.dumps(found, default=str, ensure_ascii=False))
        return
    print(f"{station} {parameter} ({found['span']['from']}, {found['span']['to']}]")
    for name, row in found["marts"].items():
        print(f"{name}: " + ", ".join(f"{k}={v}" for k, v in row.items() if v is not None))
    if found["limit"]:
        print("limit: " + ", ".join(f"{k}={v}" for k, v in found["limit"].items() if v is not None))
    again = found["recomputed"]
    print(f"from the readings: {again['readings']} readings, {again['valid']} valid, mean {again['mean']}")
    table = Table("measured_at", "reported", "valid", "adjusted", "status", "reason", "file", "line", "text in the file")
    files = {f["delivery_id"]: f for f in found["files"]}
    for r in found["readings"]:
        file = files[r["delivery_id"]]
        flag = " (superseded)" if r["superseded"] else " (conflict)" if r["conflict"] else ""
        if quality := r.get("quality"):
            flag += " " + ", ".join(f"{k.removeprefix('flag_')}={v}" for k, v in quality.items() if k.startswith("flag_") and v in (3, 4))
        if r.get("adjustment_id"):
            flag += f" {r['action']} by {r['adjustment_id']}"
        cells = (
            r["measured_at"],
            r["value_reported"],
            r["value_valid"],
            r.get("value_adjusted"),
            r["status"],
            (r["reason"] or "") + flag,
            file["name"],
            r["line"],
            file["lines"].get(r["line"], "–"),
        )
        table.add_row(*("–" if c is None else str(c) for c in cells))
    out.print(table)
    for d in found["decisions"]:
        state = " (replaced)" if d["superseded"] else ""
        print(
            f"{d['kind']} {d['decision_id']}{state}: {d['decision']} {'' if d['number'] is None else d['number']} for ({d['applies_from']}, {d['applies_to']}], "
            f"{d['reason_vi']}; {d['decided_by']}, {d['document'] or 'no paper'}, recorded {d['recorded_at']}"
        )
    for f in found["files"]:
        bytes_now = {True: "bytes kept have it", False: "BYTES KEPT DIFFER", None: f"bytes {f['stored']}"}[f["sha256_matches"]]
        print(f"{f['name']}: {f['bytes']} bytes, sha256 {f['sha256']} ({bytes_now}), received {f['received_at']}, {f['status']} by run {f['run_id']}")
    for q in found["quarantined"]:
        print(f"quarantined: {q['name']} line {q['line']}: {', '.join(q['reasons'])}: {q['raw_text']}")


@app.command()
def as_known(
    moment: Annotated[str, typer.Argument(metavar="TIME", help="The past moment (GMT+7), such as 2026-11-24T23:59.")],
    out_file: Annotated[Path, typer.Argument(metavar="OUT", help="DuckDB file to write.")],
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First environment day wanted.")],
) -> None:
    """Build the environment marts as they were known at a past moment, into a file of their own."""
    from marts.as_known import build_as_known
    from marts.build import BuildFailed

    s = settings()
    at = moment_of(moment, s, "TIME")
    if at > (newest := max(now(), default_as_of(s))):
        fail(f"TIME: expected a moment up to now ({newest:%Y-%m-%dT%H:%M}), found {at:%Y-%m-%dT%H:%M}: nobody knows yet what will be received", 2)
    if not date(1990, 1, 1) <= since.date() <= at.date():
        fail(f"--from: expected a day from 1990-01-01 up to the moment asked for ({at:%Y-%m-%d}), found {since.date()}", 2)
    try:
        rows = build_as_known(s, at, since.date(), out_file)
    except (BuildFailed, FileExistsError) as error:
        fail(str(error))
    for name, count in rows.items():
        print(f"{name}: {count:,} rows")
    print(f"known at {moment}: {out_file}")
