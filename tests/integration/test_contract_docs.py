"""The worked examples of docs/contracts.md are true: their contracts and files give the rows that they show."""

from __future__ import annotations

import csv
import io
from datetime import datetime

from ingestion.ingest import ingest
from lake.lake import open_writer
from lake.query import query
from tests.integration.test_readme import BLOCK, ROOT, table
from tnmt.settings import Settings

NOW = datetime(2026, 3, 25, 12)


def test_a_foreign_laboratory_a_wide_export_and_json(home: Settings) -> None:
    found = [(m["what"], m["name"], m["text"]) for m in BLOCK.finditer((ROOT / "docs/contracts.md").read_text(encoding="utf-8"))]
    assert [what for what, *_ in found] == [
        "contract",
        "file",
        "statement",
        "rows",
        "contract",
        "units",
        "file",
        "statement",
        "rows",
        "contract",
        "file",
        "statement",
        "rows",
    ]
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.clean.station AS SELECT *, NULL::VARCHAR AS former_codes "
                    "FROM (VALUES ('BP_AAAA_KHIKXQ', 'ambient_air'), ('BP_NM01_NUOMAT', 'surface_water')) AS s (station_id, matrix)")  # fmt: skip
    folders = {"contract": home.home / "contracts", "file": home.inbox, "units": home.home}
    for what, name, text in found:
        if what in folders:
            path = folders[what] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    report = ingest(home, now=NOW, run_id="docs", only=["lab_foreign", "weather_export", "dossier_api"])
    assert not report.errors
    counts = {s: (r.rows_read, r.rows_accepted, r.rows_quarantined) for s, r in report.loaded.items()}
    assert counts == {"lab_foreign": (5, 4, 1), "weather_export": (5, 5, 0), "dossier_api": (2, 2, 0)}
    statements = [text for what, _, text in found if what == "statement"]
    shown = [text for what, _, text in found if what == "rows"]
    for statement, rows in zip(statements, shown, strict=True):
        assert table(*query(home, statement, now=NOW)) == list(csv.reader(io.StringIO(rows)))


def test_a_unit_of_the_site_that_is_none_is_told_with_its_line(home: Settings) -> None:
    (home.home / "units.csv").write_text("parameter,unit_text,unit,factor,offset\n,°F,°C,5/9,0\n", encoding="utf-8")
    (home.inbox / "station_txt").mkdir(parents=True, exist_ok=True)
    (home.inbox / "station_txt" / "BP_AAAA_KHIKXQ_20260312010000.txt").write_text("Temp\t86\t°F\t20260312010000\t00\n", encoding="utf-8")
    errors = ingest(home, now=NOW, run_id="docs", only=["station_txt"]).errors
    assert "line 2" in errors["station_txt"] and "5/9" in errors["station_txt"]
