"""The worked example of the README is true: its contract and its file give the rows that it shows."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from pathlib import Path

from ingestion.contract import load_contracts
from ingestion.ingest import ingest
from lake.lake import open_reader, open_writer
from lake.query import query

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 25, 12)
BLOCK = re.compile(r"<!-- example: (?P<what>\w+) ?(?P<name>[\w./-]*) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)


def table(names: list[str], rows: list[tuple]) -> list[list[str]]:
    return [names, *(["" if v is None else str(v) for v in row] for row in rows)]


def test_the_number_of_sources() -> None:
    told = re.findall(r"(\d+) sources", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert told and set(told) == {str(len(load_contracts()))}


def test_the_worked_example(home) -> None:
    found = {m["what"]: (m["name"], m["text"]) for m in BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert set(found) == {"contract", "file", "statement", "rows", "quarantine"}
    contract, yaml_text = found["contract"]
    name, csv_text = found["file"]
    source = Path(contract).stem
    station = csv_text.splitlines()[1].split(";")[0]
    with open_writer(home, "test") as con:
        con.execute(f"CREATE TABLE lake.clean.station AS SELECT '{station}' AS station_id, 'ambient_air' AS matrix, NULL::VARCHAR AS former_codes")
    for path, text in ((home.home / "contracts" / contract, yaml_text), (home.inbox / source / name, csv_text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    report = ingest(home, now=NOW, run_id="readme", only=[source])
    assert not report.errors
    loaded = report.loaded[source]
    assert (loaded.published, loaded.rows_read, loaded.rows_accepted, loaded.rows_quarantined) == (1, 4, 3, 1)
    assert not loaded.failed, "the example promises no alert"
    shown = list(csv.reader(io.StringIO(found["rows"][1])))
    assert table(*query(home, found["statement"][1], now=NOW)) == shown
    with open_reader(home) as con:
        placed = con.execute("SELECT line, unnest(reasons) FROM lake.quarantine.row WHERE source = ? ORDER BY line", [source]).fetchall()
    assert table(["line", "reason"], placed) == list(csv.reader(io.StringIO(found["quarantine"][1])))
