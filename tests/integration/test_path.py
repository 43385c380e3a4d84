"""The whole path on the sample: every promise of the ledger, to the row."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import duckdb
import pytest

from dictionary.words import dictionary
from ingestion.ingest import ingest
from lake.lake import open_reader
from lake.serving import current
from marts.trace import NothingToTrace, trace
from orchestration.run import run
from simulator.registers import write_channel_register, write_station_register
from tests.conftest import Platform
from tests.tiny import AS_OF


def test_rows_reconcile_for_every_delivery(platform: Platform) -> None:
    off = platform.rows("""
        SELECT name, rows_read, rows_accepted, rows_duplicate, rows_quarantined FROM lake.ops.delivery
        WHERE rows_read IS DISTINCT FROM rows_accepted + rows_duplicate + rows_quarantined""")
    assert off == []
    assert platform.rows("SELECT count(*) FROM lake.ops.delivery WHERE status = 'landed'") == [(0,)]


def test_counts_are_those_of_the_manifest(platform: Platform) -> None:
    got = {
        s: (files, rows, bad, twice)
        for s, files, rows, bad, twice in platform.rows("""
        SELECT source, count(*), sum(rows_read)::BIGINT, sum(rows_quarantined)::BIGINT, sum(rows_duplicate)::BIGINT FROM lake.ops.delivery GROUP BY source""")
    }
    manifest = platform.manifest
    assert set(manifest.files) <= set(got)
    for source, files in manifest.files.items():
        bad = sum(manifest.quarantined.get(source, {}).values())
        assert got[source] == (files, manifest.rows[source], bad, manifest.duplicates[source]), source


def test_quarantine_is_exact(platform: Platform) -> None:
    got: dict[str, Counter[str]] = {}
    for source, reasons in platform.rows("SELECT source, reasons FROM lake.quarantine.row"):
        assert len(reasons) == 1, (source, reasons)
        got.setdefault(source, Counter())[reasons[0]] += 1
    promised = {s: Counter({r: n for r, n in c.items() if n}) for s, c in platform.manifest.quarantined.items()}
    assert got == {s: c for s, c in promised.items() if c}


def test_every_quarantined_row_is_reachable_with_line_text_and_reason(platform: Platform) -> None:
    assert (
        platform.rows("""
        SELECT q.* FROM lake.quarantine.row AS q LEFT JOIN lake.ops.delivery AS d USING (delivery_id)
        WHERE d.delivery_id IS NULL OR q.line IS NULL OR q.raw_text IS NULL OR len(q.reasons) = 0 OR q.details IS NULL""")
        == []
    )


def test_conflicting_values_are_kept_and_flagged(platform: Platform) -> None:
    flagged = platform.rows("SELECT station_id, parameter, measured_at, value_reported FROM lake.clean.reading WHERE conflict")
    assert len(flagged) == platform.manifest.conflicts["station_txt"]
    other = platform.rows(
        "SELECT h.value_reported FROM lake.clean.reading_history AS h JOIN lake.clean.reading AS r "
        "USING (station_id, parameter, measured_at) WHERE r.conflict"
    )
    assert len(other) == 1 and other[0][0] != flagged[0][3]
    assert 77.7 in (float(flagged[0][3]), float(other[0][0]))


def test_device_error_is_never_a_zero(platform: Platform) -> None:
    assert platform.rows(
        "SELECT count(*) FROM lake.clean.reading WHERE status = '02' AND (value_reported IS NOT NULL OR value_valid IS NOT NULL)"
    ) == [(0,)]
    assert platform.rows(
        "SELECT count(*) > 0 FROM lake.intermediate.int_reading WHERE reason = 'out_of_range' AND value_reported IS NOT NULL AND value_valid IS NULL"
    ) == [(True,)]
    # the marts say so, whenever the register came: the clean row is the file's own word
    assert platform.rows("SELECT count(*) FROM lake.clean.reading WHERE reason = 'out_of_range'") == [(0,)]


def test_a_figure_leads_back_to_the_byte(platform: Platform) -> None:
    station, measured, value, delivery, line = platform.rows("""
        SELECT station_id, measured_at, value_reported, _delivery_id, _line FROM lake.clean.reading
        WHERE _source = 'station_txt' AND parameter = 'pH' AND status = '00' ORDER BY ALL LIMIT 1""")[0]
    content = platform.rows(f"SELECT content FROM lake.raw.file WHERE delivery_id = '{delivery}'")[0][0]
    text = bytes(content).decode("utf-8-sig").splitlines()[line - 1].split("\t")
    assert float(text[1].replace(",", ".")) == float(value)
    assert text[3] == f"{measured:%Y%m%d%H%M%S}"
    assert platform.rows(f"SELECT name LIKE '%{station}%' FROM lake.ops.delivery WHERE delivery_id = '{delivery}'") == [(True,)]


def test_trace_leads_from_a_day_to_its_lines(platform: Platform) -> None:
    """Every reading of a day stands in the bytes of its file, which have the recorded hash; the mean comes out again."""
    station, day, mean, valid = platform.rows("""
        SELECT station_id, day, mean_valid, valid FROM lake.marts_environment.reading_daily
        WHERE parameter = 'pH' AND is_complete ORDER BY ALL LIMIT 1""")[0]
    found = trace(platform.settings, station, "pH", day)
    assert found["marts"]["reading_daily"]["mean_valid"] == found["recomputed"]["mean"] == mean
    assert found["recomputed"]["valid"] >= valid > 0
    assert found["limit"]["limit_key"] == found["marts"]["compliance_daily"]["limit_key"]
    files = {f["delivery_id"]: f for f in found["files"]}
    assert all(f["sha256_matches"] for f in files.values())
    for reading in found["readings"]:
        # a line of any layout: its stamp, as a logger or as an export writes it, and its value
        text = files[reading["delivery_id"]]["lines"][reading["line"]]
        assert f"{reading['measured_at']:%Y%m%d%H%M%S}" in text or f"{reading['measured_at']:%d/%m/%Y %H:%M}" in text
        if reading["value_reported"] is not None:
            numbers = {float(t.replace(",", ".")) for t in re.split(r"[\t; ]", text) if re.fullmatch(r"-?\d+([.,]\d+)?", t)}
            assert float(reading["value_reported"]) in numbers
    one = trace(platform.settings, station, "pH", day, hour=5)
    assert one["marts"]["reading_hourly"]["mean_valid"] == one["recomputed"]["mean"]
    with pytest.raises(NothingToTrace, match="this station has"):
        trace(platform.settings, station, "NoSuch", day)


def test_nothing_new_nothing_done(platform: Platform) -> None:
    before = current(platform.settings)
    ran = run(platform.settings, now=AS_OF, as_of=AS_OF, run_id="second")
    assert not ran.ingested.changed
    assert ran.built is not None and not ran.built.done
    assert ran.served is not None and not ran.served.fresh
    assert current(platform.settings) == before


def test_the_serving_file_holds_every_mart_and_no_person(platform: Platform) -> None:
    path = current(platform.settings)
    assert path is not None
    with duckdb.connect(str(path), read_only=True) as con:
        tables = {
            f"{s}.{t}": c
            for s, t, c in con.execute(
                "SELECT schema_name, table_name, estimated_size FROM duckdb_tables() WHERE schema_name LIKE 'marts_%'"
            ).fetchall()
        }
        assert {
            "marts_environment.reading_daily",
            "marts_land.land_use_area",
            "marts_scans.scan_coverage",
            "marts_procedures.dossier_overdue",
            "marts_programme.indicator_progress",
            "marts_operations.source_freshness",
        } <= set(tables)
        assert [t for t, rows in tables.items() if rows == 0] == ["marts_operations.held_back"]
        columns = con.execute("SELECT DISTINCT column_name FROM duckdb_columns() WHERE schema_name LIKE 'marts_%'").fetchall()
        assert con.execute("SELECT as_of FROM serving_info").fetchall() == [(AS_OF,)]
    assert not dictionary().personal.keys() & {c[0] for c in columns}


def test_a_register_that_comes_late_frees_what_waited_for_it(home) -> None:
    """Readings whose station nobody knows wait in quarantine; the register that names it sends them on."""
    from datetime import date

    from simulator.sample import generate
    from simulator.size import SIZES

    generate(home.inbox, home.reference, 1, date(2026, 3, 24), SIZES["XS"])
    register = home.inbox / "station_register"
    aside = home.home / "aside"
    register.rename(aside)
    first = ingest(home, now=AS_OF, run_id="a", only=["station_hourly"])
    assert first.loaded["station_hourly"].rows_accepted == 0
    aside.rename(register)
    second = ingest(home, now=AS_OF + timedelta(minutes=5), run_id="b", only=["station_register", "station_channel_register", "station_hourly"])
    assert second.loaded["station_hourly"].rows_accepted == first.loaded["station_hourly"].rows_read
    assert second.loaded["station_hourly"].rows_quarantined == 0


def test_a_renamed_station_keeps_one_series(home) -> None:
    """Files under a former code go on the station's series; a code that two stations had, or one has now, is not guessed."""
    new, old, other, shared = "BP_NEWX_NUOTHA", "BP_OLDX_NUOTHA", "BP_OTHR_NUOTHA", "BP_BOTH_NUOTHA"
    common = {"station_name": "Trạm", "matrix": "Nước thải", "old_commune": "25195", "lon": 106.9, "lat": 11.5}
    write_station_register(
        home.inbox / "station_register" / "tram_20260301.xlsx",
        [
            {"station_id": new, "former_codes": f"{old}; {shared};{other}", **common},
            {"station_id": other, "former_codes": shared, **common},
        ],
    )
    write_channel_register(
        home.inbox / "station_channel_register" / "thong_so_20260301.csv",
        [
            {"station_id": s, "parameter": "COD", "unit": "mg/L", "minutes": 5, "valid_from": "01/01/2026 00:00", "name_in_file": "Cod5"}
            for s in (new, other)
        ],
    )
    folder = home.inbox / "station_txt"
    folder.mkdir(parents=True, exist_ok=True)
    for n, code in enumerate((new, old, other, shared)):
        at = AS_OF - timedelta(minutes=5 * n)
        (folder / f"{code}_{at:%Y%m%d%H%M%S}.txt").write_text(f"Cod5\t{n}.5\tmg/L\t{at:%Y%m%d%H%M%S}\t00\n")
    done = ingest(home, now=AS_OF, run_id="a", only=["station_register", "station_channel_register", "station_txt"])
    assert not done.errors
    with open_reader(home) as con:
        rows = con.execute("SELECT station_id, parameter, CAST(value_valid AS DOUBLE) FROM lake.clean.reading ORDER BY ALL").fetchall()
        waiting = con.execute("SELECT reasons, details FROM lake.quarantine.row").fetchall()
    assert rows == [(new, "COD", 0.5), (new, "COD", 1.5), (other, "COD", 2.5)]
    assert [w[0] for w in waiting] == [["unknown_station"]]


def test_marts_of_land_find_what_the_sample_hides(platform: Platform) -> None:
    named = {t["trap"]: t["where"] for t in platform.manifest.traps if t["source"] == "parcel"}
    placed = dict(platform.rows("SELECT DISTINCT parcel_id, placement FROM lake.marts_land.parcel_overlay"))
    assert placed[named["parcel outside its commune"]] == "outside"
    assert placed[named["parcel across the border of its commune"]] == "astride"
    assert placed[named["bow-tie"]] == "invalid_geometry"
    spoilt = set(named.values())
    assert {p for p, placement in placed.items() if placement != "inside"} <= spoilt
    pairs = platform.rows("SELECT parcel_id, other_parcel_id FROM lake.marts_land.parcel_overlap")
    assert all({*pair} & spoilt for pair in pairs) and any(named["overlap with its neighbours"] in pair for pair in pairs)
    kinds = dict(platform.rows("SELECT change, sum(parcels) FROM lake.marts_land.land_use_change GROUP BY change"))
    assert kinds.keys() == {"unchanged", "changed", "new", "vanished", "not_known_before"}


@pytest.mark.parametrize("table", ["parcel", "commune_boundary"])
def test_geometry_is_kept_with_its_crs(platform: Platform, table: str) -> None:
    assert platform.rows(f"SELECT DISTINCT crs FROM lake.clean.{table}") == [("EPSG:9212",)]
    if table == "parcel":
        named = {t["where"]: t["trap"] for t in platform.manifest.traps if t["source"] == "parcel"}
        wrong = {
            r[0] for r in platform.rows("SELECT parcel_id FROM lake.clean.parcel WHERE abs(geometry_area_m2 - area_m2) > greatest(1, 0.01 * area_m2)")
        }
        assert wrong <= set(named) and "area attribute is not the area of the geometry" in {named[w] for w in wrong}
        bent = platform.rows("SELECT parcel_id FROM lake.clean.parcel WHERE NOT ST_IsValid(geometry)")
        assert [named[b[0]] for b in bent] == ["bow-tie"]
