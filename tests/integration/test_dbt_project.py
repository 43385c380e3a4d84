"""The dbt project on a small lake written by hand: every figure below was worked out on paper.

Holds: figures carry their counts, the environment day is (00:00, 24:00], due values follow the dated cadence, an
incremental build equals a full one to the bit, no model reads the clock, every table says its grain.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from ingestion.versions import PAST_TYPES
from lake.lake import create, open_reader, open_writer
from tests.marts_kit import PROJECT, dbt
from tnmt.settings import ROOT, Settings

SOURCES = yaml.safe_load((PROJECT / "models/staging/sources.yml").read_text(encoding="utf-8"))
LEDGER = yaml.safe_load((PROJECT / "models/staging/ledger.yml").read_text(encoding="utf-8"))
HISTORY = {t["name"] for t in LEDGER["sources"][0]["tables"]}
CLEAN = {t["name"]: {c["name"]: c["data_type"] for c in t["columns"]} for t in SOURCES["sources"][0]["tables"]}
AS_OF = "2026-03-12 10:00:00"
LATER = "2026-03-13 09:00:00"
A, B, C, D, E, F = "BP_AAAA_NUOTHA", "BP_BBBB_KHIKXQ", "BP_CCCC_KHIONG", "BP_DDDD_NUOTHA", "BP_EEEE_NUOTHA", "BP_FFFF_NUOMAT"
G = "BP_GGGG_KHIKXQ"


def stamps(first: str, last: str, minutes: int) -> list[datetime]:
    """Stamps from `first` to `last`, both included."""
    at, end, out = datetime.fromisoformat(first), datetime.fromisoformat(last), []
    while at <= end:
        out.append(at)
        at += timedelta(minutes=minutes)
    return out


def reading(station: str, parameter: str, at: datetime | str, value: str | None, status: str = "00", span: int = 60) -> dict[str, Any]:
    number = None if value is None else Decimal(value)
    return {
        "station_id": station,
        "parameter": parameter,
        "measured_at": at,
        "span_minutes": span,
        "value_reported": number,
        "value_valid": number if status == "00" else None,
        "status": status,
        "reason": {"01": "status_calibrating", "02": "status_device_error"}.get(status),
        "conflict": False,
    }


def readings() -> list[dict[str, Any]]:
    # A pH, 10 March: 24 hourly values 7.01 … 7.24, the last one at 00:00 of the 11th; the one of 05:00 calibrates
    rows = [
        reading(A, "pH", at, f"{7 + (k + 1) / 100:.2f}", "01" if k == 4 else "00")
        for k, at in enumerate(stamps("2026-03-10 01:00", "2026-03-11 00:00", 60))
    ]
    # 11 March: 10 hourly values of 8.00, then, from 10:30 on, every 5 minutes: 18 values of 6.00 and silence from 12:00
    rows += [reading(A, "pH", at, "8.00") for at in stamps("2026-03-11 01:00", "2026-03-11 10:00", 60)]
    rows += [reading(A, "pH", at, "6.00", span=5) for at in stamps("2026-03-11 10:35", "2026-03-11 12:00", 5)]
    rows += [reading(A, "pH", at, "7.00", span=5) for at in stamps("2026-03-12 09:05", "2026-03-12 09:55", 5)]
    # A COD: 17 of 24 values on the 10th (0.7083), 18 on the 11th (0.75, complete)
    rows += [reading(A, "COD", at, "40.1") for at in stamps("2026-03-10 01:00", "2026-03-10 17:00", 60)]
    rows += [reading(A, "COD", at, "40.3") for at in stamps("2026-03-11 01:00", "2026-03-11 18:00", 60)]
    rows += [reading(A, "Flow", at, str(100 + at.hour)) for at in stamps("2026-03-10 01:00", "2026-03-11 20:00", 60)]
    # B: a clock that is half an hour off wrote into the slot of 01:00 twice; NO2 is not in the register
    rows += [reading(B, "PM2.5", "2026-03-10 00:30:00", "30"), reading(B, "PM2.5", "2026-03-10 01:00:00", "50")]
    rows += [reading(B, "NO2", at, "20") for at in stamps("2026-03-10 01:00", "2026-03-10 02:00", 60)]
    rows += [reading(B, "PM2.5", "2026-03-12 08:00:00", "35")]
    rows += [reading(E, "pH", "2026-03-12 10:00:00", None, "02"), reading(F, "pH", "2026-03-12 10:00:00", "7.3", "01")]
    # G: three days of air, hour by hour
    for k, at in enumerate(stamps("2026-03-10 01:00", "2026-03-12 10:00", 60)):
        rows += [
            reading(G, p, at, str(base + k * step % 37)) for p, base, step in (("PM2.5", 20, 7), ("PM10", 45, 11), ("O3", 60, 13), ("CO", 900, 5))
        ]
    # after the moment of the first build: not yet seen by it
    rows += [reading(E, "pH", "2026-03-12 11:00:00", "7.5")]
    return rows


def stations() -> list[dict[str, Any]]:
    common = {"in_use_from": date(2026, 3, 10), "lon": 106.9, "lat": 11.5, "kq": Decimal("0.9"), "kf": Decimal("1.1")}
    matrix = {A: "wastewater", B: "ambient_air", C: "emission", D: "wastewater", E: "wastewater", F: "surface_water", G: "ambient_air"}
    rows = [
        {
            "station_id": s,
            "station_name": f"Trạm {s[3]}",
            "matrix": m,
            "old_commune_code": "25195",
            "commune_code": "25195",
            "facility_id": "CS0001" if m == "wastewater" else None,
            "standard": "QCVN 40:2011/BTNMT",
            "standard_class": "A",
            **common,
        }
        for s, m in matrix.items()
    ]
    rows[3] |= {"in_use_from": date(2026, 3, 10), "in_use_to": date(2026, 3, 10)}
    return rows


def channels() -> list[dict[str, Any]]:
    def row(station: str, parameter: str, minutes: int, since: str, until: str | None = None) -> dict[str, Any]:
        return {"station_id": station, "parameter": parameter, "unit": "-", "cadence_minutes": minutes, "valid_from": since, "valid_to": until}

    return [
        row(A, "pH", 60, "2026-03-01 00:00:00"),  # open-ended in the register: the next period ends it
        row(A, "pH", 5, "2026-03-11 10:30:00"),
        row(A, "COD", 60, "2026-03-10 00:00:00"),
        row(B, "PM2.5", 60, "2026-03-10 00:00:00"),
        *(row(G, p, 60, "2026-03-10 00:00:00") for p in ("PM2.5", "PM10", "O3", "CO")),
        row(C, "SO2", 5, "2026-03-12 00:00:00"),
        row(D, "pH", 60, "2026-03-01 00:00:00"),
        row(E, "pH", 60, "2026-03-12 00:00:00"),
        row(F, "pH", 60, "2026-03-12 00:00:00"),
    ]


SQUARE = "POLYGON(({x} {y}, {x2} {y}, {x2} {y2}, {x} {y2}, {x} {y}))"


def square(x: float, y: float, side: float) -> str:
    return SQUARE.format(x=x, y=y, x2=x + side, y2=y + side)


def other_rows() -> dict[str, list[dict[str, Any]]]:
    # 569668.25, 1275697.70 in EPSG:9212 is 106.8905 E, 11.5349 N
    x, y = 569668.25, 1275697.70
    return {
        "facility": [{"facility_id": "CS0001", "facility_name": "Công ty A", "old_commune_code": "25195", "commune_code": "25195"}],
        "commune_boundary": [
            {"old_commune_code": "25195", "is_illustrative": True, "geometry": square(x, y, 2000)},
            {"old_commune_code": "25198", "is_illustrative": True, "geometry": square(x + 2000, y, 2000)},  # both went into 25195
            {"old_commune_code": "25216", "is_illustrative": False, "geometry": square(x + 9000, y, 2000)},
        ],
        "parcel": [
            {"parcel_id": f"{commune}.1.{i}", "old_commune_code": commune, "land_use_code": code, "area_m2": Decimal(area), "_line": i}
            for i, (commune, code, area) in enumerate(
                [("25195", "ODT", "100.1"), ("25195", "BHK", "200.2"), ("25195", "HNK", "300.3"), ("25198", "XXX", "5.0")]
            )
        ],
        "land_certificate": [
            {"certificate_id": f"GCN{i}", "status": status, "old_commune_code": "25195"}
            for i, status in enumerate(["valid", "valid", "valid", "revoked"], 1)
        ],
        "scan_dossier": [
            {"scan_dossier_id": "H1", "certificate_id": "GCN1", "old_commune_code": "25195", "file_name": "a.pdf"},
            {"scan_dossier_id": "H2", "certificate_id": "GCN2", "old_commune_code": "25195", "file_name": "b.pdf"},
        ],
        "scan_file": [
            {"file_name": "kho/a.pdf", "format": "pdf", "is_damaged": False, "has_signature": True},
            {"file_name": "kho/b.pdf", "format": "pdf", "is_damaged": True, "damage_reason": "truncated", "has_signature": False},
            {"file_name": "kho/c.tif", "format": "tiff", "is_damaged": False, "has_signature": False},
        ],
        "dossier": [
            {
                "dossier_id": f"HS{i}",
                "procedure_code": "1.001",
                "procedure_name_vi": "Đăng ký biến động",
                "old_commune_code": "25195",
                "received_on": date(2026, 3, 1),
                "due_on": due,
                "finished_on": done,
                "status": status,
            }
            for i, (due, done, status) in enumerate(
                [
                    (date(2026, 3, 11), None, "open"),
                    (date(2026, 3, 12), None, "open"),
                    (date(2026, 3, 10), date(2026, 3, 10), "finished"),
                    (date(2026, 3, 10), date(2026, 3, 11), "finished"),
                    (date(2026, 3, 10), None, "returned"),
                ]
            )
        ],
        "programme_indicator": [
            {"indicator_id": "R010", "period": "2025-Q4", "period_end": date(2025, 12, 31), "target": Decimal("100"), "actual": Decimal("80")},
            {"indicator_id": "R010", "period": "2026-Q1", "period_end": date(2026, 3, 31), "target": Decimal("100"), "actual": None},
            {"indicator_id": "R011", "period": "2025-Q4", "period_end": date(2025, 12, 31), "target": Decimal("50"), "actual": Decimal("50")},
        ],
    }


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]], types: dict[str, str]) -> None:
    lineage = {"_source": "hand", "_delivery_id": "0" * 24, "_line": 1, "_as_of": "2026-03-12", "_received_at": "2026-03-12 09:59:00"}
    for line, given in enumerate(rows, 1):
        row = {k: v for k, v in (lineage | {"_line": line} | given).items() if k in types}
        marks = ", ".join("ST_GeomFromText(?)" if types[k] == "geometry" else f"CAST(? AS {types[k]})" for k in row)
        con.execute(f"INSERT INTO lake.{table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


OPS = {
    "source (source, title_vi, description_vi, owner_unit, owner_contact, terms, target, load, sensitivity, cadence_minutes, lateness_minutes, "
    "tolerated_bad_share, retention_days)": [
        "('station_txt', 'Tệp trạm', '', 'Chi cục', '', '', 'reading', 'upsert', 'internal', 5, 15, 0.02, 3650)",
        "('parcel', 'Thửa đất', '', 'VPĐK', '', '', 'parcel', 'snapshot', 'internal', NULL, 0, 0, 3650)",
        "('dossier', 'Hồ sơ', '', 'VP', '', '', 'dossier', 'upsert', 'internal', 1440, 60, 0, 3650)",
    ],
    "landed (delivery_id, source, name, sha256, bytes, received_at, as_of, day, stored)": [
        "('d1', 'station_txt', 'a.txt', 'x', 1, TIMESTAMP '2026-03-12 09:00:00', TIMESTAMP '2026-03-12', DATE '2026-03-12', 'raw.file')",
        "('d2', 'station_txt', 'b.txt', 'x', 1, TIMESTAMP '2026-03-12 09:58:00', TIMESTAMP '2026-03-12', DATE '2026-03-12', 'raw.file')",
        "('d3', 'parcel', 'c.gpkg', 'x', 1, TIMESTAMP '2026-01-01 09:00:00', TIMESTAMP '2026-01-01', DATE '2026-01-01', 'x')",
    ],
    "outcome (delivery_id, source, day, status, reason, rows_read, rows_accepted, rows_duplicate, rows_quarantined, published_at, run_id, seq)": [
        "('d1', 'station_txt', DATE '2026-03-12', 'published', NULL, 10, 7, 2, 1, TIMESTAMP '2026-03-12 09:01:00', 'r', 1)",
        "('d2', 'station_txt', DATE '2026-03-12', 'quarantined', 'x', 3, 0, 0, 3, TIMESTAMP '2026-03-12 09:59:00', 'r', 2)",
        "('d3', 'parcel', DATE '2026-01-01', 'published', NULL, 4, 4, 0, 0, TIMESTAMP '2026-01-01 09:01:00', 'r', 1)",
    ],
}


class Lake:
    """A lake with hand-written rows, and dbt in this process on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(home=home)
        create(self.settings)
        self.manifest = dbt(self.settings, self.home, "parse").result
        with open_writer(self.settings, "fixture") as con:
            known = {"known_from": "TIMESTAMP", "known_to": "TIMESTAMP"}
            for name, types in CLEAN.items():
                columns = ", ".join(f"{c} {t}" for c, t in types.items())
                con.execute(f"CREATE TABLE IF NOT EXISTS lake.clean.{name} ({columns})")
                if "conflict" in types or f"{name}_history" in HISTORY:
                    past = ", ".join(f"{c} {t}" for c, t in (PAST_TYPES if name in ("parcel", "land_data_group") else known).items())
                    con.execute(f"CREATE TABLE IF NOT EXISTS lake.clean.{name}_history ({columns}, {past})")
            for name, rows in {"station": stations(), "station_channel": channels(), "reading": readings(), **other_rows()}.items():
                insert(con, f"clean.{name}", rows, CLEAN[name])
            for table, literals in OPS.items():
                con.execute(f"INSERT INTO lake.ops.{table} VALUES {', '.join(literals)}")
            con.execute(
                "INSERT INTO lake.quarantine.row VALUES ('d1', 'station_txt', 'reading', DATE '2026-03-12', 3, 'x', "
                "['unknown_unit', 'measured_at_unreadable'], '', TIMESTAMP '2026-03-12 09:00:00')"
            )

    def dbt(self, *arguments: str, as_of: str = AS_OF, affected: tuple[int | None, int] = (-1, 0)) -> Any:
        """Runs dbt; the project is loaded once, as a resident worker would do it."""
        return dbt(self.settings, self.home, *arguments, manifest=self.manifest, as_of=as_of, affected_from=affected[0], affected_to=affected[1])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with open_reader(self.settings) as con:
            return con.execute(sql).fetchall()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lake.dbt("build")
    return lake


@pytest.fixture(scope="module")
def manifest(lake: Lake) -> dict[str, Any]:
    return dict(json.loads((lake.home / "target/manifest.json").read_text(encoding="utf-8")))


def day(lake: Lake, station: str, parameter: str, on: str, columns: str) -> tuple[Any, ...]:
    rows = lake.rows(
        f"SELECT {columns} FROM lake.marts_environment.reading_daily "
        f"WHERE station_id = '{station}' AND parameter = '{parameter}' AND day = DATE '{on}'"
    )
    assert len(rows) == 1
    return rows[0]


def test_midnight_belongs_to_the_day_before(lake: Lake) -> None:
    expected, received, valid, mean, low, high, coverage, complete = day(
        lake, A, "pH", "2026-03-10", "expected, received, valid, mean_valid, min_valid, max_valid, coverage_share, is_complete"
    )
    assert (expected, received, valid) == (24, 24, 23)
    total = sum(Decimal(701 + k) / 100 for k in range(24)) - Decimal("7.05")
    assert mean == float(total) / 23
    assert (low, high) == (Decimal("7.01"), Decimal("7.24"))
    assert (coverage, complete) == (23 / 24, True)


def test_cadence_that_changes_within_a_day(lake: Lake) -> None:
    # 10 hourly slots to 10:00, none due at 11:00 by the old cadence, 162 slots of 5 minutes in (10:30, 24:00]
    assert day(lake, A, "pH", "2026-03-11", "expected, received, valid") == (172, 28, 28)
    hours = lake.rows(
        f"SELECT hour(hour_end - INTERVAL 1 HOUR) + 1, expected, received, mean_valid FROM lake.marts_environment.reading_hourly "
        f"WHERE station_id = '{A}' AND parameter = 'pH' AND day = DATE '2026-03-11' ORDER BY hour_end"
    )
    assert hours[9:13] == [(10, 1, 1, 8.0), (11, 6, 6, 6.0), (12, 12, 12, 6.0), (13, 12, 0, None)]
    # the mean of the day is over its values
    assert day(lake, A, "pH", "2026-03-11", "mean_valid") == ((10 * 8.0 + 18 * 6.0) / 28,)


def test_completeness_is_met_at_the_threshold(lake: Lake) -> None:
    assert day(lake, A, "COD", "2026-03-10", "coverage_share, is_complete") == (17 / 24, False)
    assert day(lake, A, "COD", "2026-03-11", "coverage_share, is_complete") == (0.75, True)


def test_running_day_is_due_up_to_the_moment_of_the_build(lake: Lake) -> None:
    assert day(lake, A, "pH", "2026-03-12", "expected, received") == (120, 11)
    assert day(lake, E, "pH", "2026-03-12", "expected, received, valid, mean_valid") == (10, 1, 0, None)


def test_a_slot_counts_once_and_what_nobody_asked_for_is_not_received(lake: Lake) -> None:
    assert day(lake, B, "PM2.5", "2026-03-10", "expected, received, valid, unexpected, mean_valid") == (24, 1, 1, 1, 40.0)
    assert day(lake, B, "NO2", "2026-03-10", "expected, received, unexpected, coverage_share, is_complete, unit") == (0, 0, 2, None, False, "µg/m3")


def test_nothing_is_due_outside_the_time_in_use(lake: Lake) -> None:
    # D stood for one day; its register says pH is due since the 1st
    days = lake.rows(f"SELECT day, expected, received FROM lake.marts_environment.reading_daily WHERE station_id = '{D}'")
    assert days == [(date(2026, 3, 10), 24, 0)]


def test_station_status_now(lake: Lake) -> None:
    rows = lake.rows(
        "SELECT station_id, status, status_vi, minutes_silent, parameters_expected, parameters_reporting "
        "FROM lake.marts_environment.station_status ORDER BY station_id"
    )
    assert rows == [
        (A, "online", "Đang truyền", 5, 2, 1),
        (B, "late", "Chậm số liệu", 120, 1, 0),
        (C, "offline", "Mất kết nối", None, 1, 0),
        (E, "error", "Lỗi thiết bị", 0, 1, 1),
        (F, "calibrating", "Đang hiệu chuẩn", 0, 1, 1),
        (G, "online", "Đang truyền", 0, 4, 4),
    ]


def test_air_of_a_day_is_shown_before_it_was_judged(lake: Lake) -> None:
    """The live worker makes means of days, a whole build judges them: the page has the day at once, beside the limit that was in force last."""
    asked = "SELECT station_id, parameter, day, mean_valid, limit_24h FROM lake.marts_environment.air_daily ORDER BY ALL"
    with open_writer(lake.settings, "test") as con:
        shown = con.execute(asked).fetchall()
        assert {(r[0], r[1]) for r in shown} >= {(B, "PM2.5")}
        means = "SELECT station_id, parameter, day, mean_valid FROM lake.marts_environment.reading_daily WHERE matrix = 'ambient_air'"
        assert {r[:4] for r in shown} == set(con.execute(f"{means} AND day < DATE '{AS_OF[:10]}'").fetchall())
        con.execute("BEGIN")
        con.execute("UPDATE lake.marts_environment.compliance_daily SET effective_max = 45, limit_confidence = 'verified' WHERE parameter = 'PM2.5'")
        shown = con.execute(asked).fetchall()
        assert {r[4] for r in shown if r[1] == "PM2.5"} == {45} and {r[4] for r in shown if r[1] != "PM2.5"} == {None}
        con.execute("DELETE FROM lake.marts_environment.compliance_daily WHERE day = (SELECT max(day) FROM lake.marts_environment.air_daily)")
        assert con.execute(asked).fetchall() == shown
        con.execute("ROLLBACK")


def test_commune_map_joins_old_communes_and_lies_where_it_should(lake: Lake) -> None:
    rows = lake.rows("SELECT commune_code, part, ring_json, parcels, stations, is_illustrative FROM lake.marts_core.commune_map ORDER BY 1, 2")
    assert [(r[0], r[1], r[3], r[4], r[5]) for r in rows] == [("25195", 1, 4, 7, True), (rows[1][0], 1, 0, 0, False)]
    ring = json.loads(rows[0][2])
    assert ring[0] == ring[-1] and len(ring) <= 8
    assert [106.8905, 11.5349] in ring  # DOMAIN: 569668.25, 1275697.70 in EPSG:9212
    west, east = min(p[0] for p in ring), max(p[0] for p in ring)
    assert east - west == pytest.approx(4000 / 109_100, rel=0.01)  # two squares of 2 km; a degree of longitude is 109.1 km here


def test_land_use_area_keeps_every_parcel_under_the_code_of_2024(lake: Lake) -> None:
    rows = lake.rows(
        "SELECT old_commune_code, commune_name, land_use_code, land_use_group_vi, parcels, area_m2 FROM lake.marts_land.land_use_area ORDER BY 1, 3"
    )
    assert rows == [
        ("25195", "Phường Bình Phước", "HNK", "Nhóm đất nông nghiệp", 2, Decimal("500.5")),
        ("25195", "Phường Bình Phước", "ODT", "Nhóm đất phi nông nghiệp", 1, Decimal("100.1")),
        ("25198", "Phường Bình Phước", "XXX", "Chưa xác định nhóm", 1, Decimal("5.0")),
    ]


def test_scans(lake: Lake) -> None:
    assert lake.rows(
        "SELECT commune_code, certificates, certificates_with_scan, scan_files, scan_files_damaged, signed_share "
        "FROM lake.marts_scans.scan_coverage ORDER BY 1 NULLS LAST"
    ) == [("25195", 3, 1, 2, 1, 0.5), (None, 0, 0, 1, 0, 0.0)]
    assert lake.rows("SELECT * FROM lake.marts_scans.scan_damage") == [("pdf", "Tệp bị cắt cụt", 1)]


def test_dossiers(lake: Lake) -> None:
    # as of 12 March 10:00 one that was due on the 11th is overdue, one due on the 12th is not
    assert lake.rows(
        "SELECT received, finished, finished_on_time, finished_late, returned, open_in_time, open_overdue, mean_days_to_finish "
        "FROM lake.marts_procedures.dossier_overdue"
    ) == [(5, 2, 1, 1, 1, 1, 1, 9.5)]


def test_indicators(lake: Lake) -> None:
    assert lake.rows(
        "SELECT indicator_id, period, progress_share, status_vi, is_latest FROM lake.marts_programme.indicator_progress ORDER BY 1, 2"
    ) == [("R010", "2025-Q4", 0.8, "Chưa đạt", True), ("R010", "2026-Q1", None, "Chưa đến kỳ", False), ("R011", "2025-Q4", 1.0, "Đạt", True)]


def test_operations(lake: Lake) -> None:
    assert lake.rows(
        "SELECT source, deliveries, published, quarantined, rows_read, rows_accepted FROM lake.marts_operations.delivery_daily ORDER BY 1"
    ) == [("parcel", 1, 1, 0, 4, 4), ("station_txt", 2, 1, 1, 13, 7)]
    assert lake.rows("SELECT reason, reason_vi, rows FROM lake.marts_operations.quarantine_reason ORDER BY 1") == [
        ("measured_at_unreadable", "Không đọc được thời điểm đo", 1),
        ("unknown_unit", "Đơn vị không quy đổi được", 1),
    ]
    assert lake.rows("SELECT source, minutes_since, allowed_minutes, state FROM lake.marts_operations.source_freshness ORDER BY 1") == [
        ("dossier", None, 1500, "never"),
        ("parcel", 100860, None, "fresh"),
        ("station_txt", 60, 20, "late"),
    ]


def test_limits_are_dated(lake: Lake) -> None:
    rows = lake.rows(
        "SELECT limit_max, valid_from, valid_to FROM lake.marts_core.dim_limit WHERE standard = 'QCVN 05:2023/BTNMT' "
        "AND parameter = 'PM2.5' AND statistic = '24h' ORDER BY valid_from"
    )
    assert rows == [(Decimal(50), date(2023, 9, 12), date(2025, 12, 31)), (Decimal(45), date(2026, 1, 1), None)]


def test_incremental_equals_full_to_the_bit(lake: Lake) -> None:
    """Late values, a correction, a value that was taken back, and a day that nobody sent anything for."""
    with open_writer(lake.settings, "increment") as con:
        insert(con, "clean.reading", [reading(A, "COD", at, "77.7") for at in stamps("2026-03-10 18:00", "2026-03-11 00:00", 60)], CLEAN["reading"])
        con.execute(
            f"UPDATE lake.clean.reading SET value_valid = 9.99 WHERE station_id = '{A}' AND parameter = 'pH' AND measured_at = '2026-03-10 02:00'"
        )
        con.execute(f"DELETE FROM lake.clean.reading WHERE station_id = '{B}' AND parameter = 'NO2'")
        # an evening that NowCast and the eight hours of ozone look back at in the next morning
        con.execute(
            f"UPDATE lake.clean.reading SET value_valid = 310 WHERE station_id = '{G}' AND measured_at BETWEEN '2026-03-10 20:00' AND '2026-03-10 23:00'"
        )
        con.execute(
            f"INSERT INTO lake.ops.affected VALUES (7, 'station_txt', 'reading', '{A}', DATE '2026-03-10'), "
            f"(8, 'station_txt', 'reading', '{B}', DATE '2026-03-10'), (9, 'station_txt', 'reading', '{A}', DATE '2026-03-11'), "
            f"(8, 'station_txt', 'reading', '{G}', DATE '2026-03-10')"
        )
    tables = (
        "reading_qc",
        "reading_hourly",
        "reading_8h",
        "reading_daily",
        "reading_period",
        "aqi_hourly",
        "aqi_daily",
        "compliance_daily",
        "exceedance_episode",
        "availability_daily",
        "interruption",
        "emission_load_daily",
    )
    models = ["run", "--select", "int_station_hour", "int_station_silence", *tables]
    morning = f"SELECT aqi FROM lake.marts_environment.aqi_hourly WHERE station_id = '{G}' AND hour_end = '2026-03-11 02:00'"
    calm = lake.rows(morning)
    newest = "SELECT max(snapshot_id) FROM ducklake_snapshots('lake')"
    before = lake.rows(newest)[0][0]
    lake.dbt(*models, as_of=LATER, affected=(6, 8))
    incremental = {t: lake.rows(f"SELECT * FROM lake.marts_environment.{t} ORDER BY ALL") for t in tables}
    written = lake.rows(
        f"SELECT DISTINCT station_id, day FROM ducklake_table_insertions("
        f"'lake', 'marts_environment', 'reading_daily', {before + 1}, {lake.rows(newest)[0][0]})"
    )
    assert lake.rows(morning) > calm
    lake.dbt(*models, as_of=LATER)
    for table in tables:
        full = lake.rows(f"SELECT * FROM lake.marts_environment.{table} ORDER BY ALL")
        # repr of a float is exact, and tells -0.0 from 0.0
        assert [repr(r) for r in incremental[table]] == [repr(r) for r in full]
    # computed were the days that changed, the next (a flat line looks back over midnight) and those since the last build; nothing of others
    assert sorted(r for r in written if r[1] < date(2026, 3, 12)) == [(s, date(2026, 3, d)) for s in (A, B, G) for d in (10, 11)]
    assert day(lake, A, "COD", "2026-03-10", "received, is_complete") == (24, True)
    assert not lake.rows("SELECT 1 FROM lake.marts_environment.reading_daily WHERE parameter = 'NO2'")
    assert day(lake, C, "SO2", "2026-03-12", "expected, received") == (288, 0)


def test_a_changed_register_recomputes_every_day(lake: Lake) -> None:
    with open_writer(lake.settings, "register") as con:
        con.execute(f"UPDATE lake.clean.station_channel SET cadence_minutes = 30 WHERE station_id = '{A}' AND parameter = 'COD'")
        con.execute("INSERT INTO lake.ops.affected VALUES (10, 'station_channel_register', 'station_channel', '', DATE '2026-03-13')")
    lake.dbt("run", "--select", "reading_hourly", "reading_8h", "reading_daily", as_of=LATER, affected=(9, 10))
    assert day(lake, A, "COD", "2026-03-10", "expected, received") == (48, 24)


def test_a_child_beside_a_stale_parent_claims_no_more_than_it(lake: Lake) -> None:
    """A build of a child alone leaves what its parent has not seen to the build after the parent's."""

    def claims() -> dict[str, int]:
        return dict(lake.rows("SELECT model, affected_to FROM lake.ops.built WHERE model LIKE 'marts_environment.reading_%'"))

    lake.dbt("run", "--select", "+reading_daily", as_of=LATER, affected=(-1, 20))
    with open_writer(lake.settings, "late") as con:
        insert(con, "clean.reading", [reading(A, "COD", at, "5.5") for at in stamps("2026-03-12 01:00", "2026-03-12 03:00", 60)], CLEAN["reading"])
        con.execute(f"INSERT INTO lake.ops.affected VALUES (21, 'station_txt', 'reading', '{A}', DATE '2026-03-12')")
    lake.dbt("run", "--select", "reading_daily", as_of=LATER, affected=(None, 21))
    assert claims()["marts_environment.reading_daily"] == claims()["marts_environment.reading_hourly"] == 20
    lake.dbt("run", "--select", "reading_qc", "reading_hourly", "reading_8h", as_of=LATER, affected=(None, 21))
    assert claims()["marts_environment.reading_hourly"] == 21 > claims()["marts_environment.reading_daily"]
    lake.dbt("run", "--select", "reading_daily", as_of=LATER, affected=(None, 21))
    assert claims()["marts_environment.reading_daily"] == 21
    incremental = lake.rows("SELECT * FROM lake.marts_environment.reading_daily ORDER BY ALL")
    lake.dbt("run", "--select", "reading_daily", as_of=LATER, affected=(-1, 21))
    assert incremental == lake.rows("SELECT * FROM lake.marts_environment.reading_daily ORDER BY ALL")


def test_what_was_not_late_at_midnight_is_late_in_the_morning(lake: Lake) -> None:
    """The last slots of a day, judged five minutes later as not late yet, are explained anew by the next build."""
    tables = ("availability_daily", "interruption")
    models = ["run", "--select", "reading_hourly", "int_station_hour", "int_station_silence", *tables]
    lake.dbt(*models, as_of="2026-03-15 00:05:00")
    waiting = "SELECT sum(missing_not_due) FROM lake.marts_environment.availability_daily WHERE day = DATE '2026-03-14'"
    assert lake.rows(waiting)[0][0] > 0
    lake.dbt(*models, as_of="2026-03-15 09:00:00", affected=(10, 10))
    incremental = {t: lake.rows(f"SELECT * FROM lake.marts_environment.{t} ORDER BY ALL") for t in tables}
    assert lake.rows(waiting) == [(0,)]
    lake.dbt(*models, as_of="2026-03-15 09:00:00")
    for table in tables:
        assert incremental[table] == lake.rows(f"SELECT * FROM lake.marts_environment.{table} ORDER BY ALL")


def test_a_model_says_no_more_than_the_views_that_it_reads(lake: Lake) -> None:
    """A view stands in the lake with the moment and the text that it was made with; a selection without it must not claim others."""
    child, view = "marts_environment.availability_daily", "intermediate.int_station_hour"

    def built(name: str) -> tuple[str, bool]:
        return lake.rows(f"SELECT CAST(as_of AS VARCHAR), hash <> '' FROM lake.ops.built WHERE model = '{name}'")[0]

    whole = ["run", "--select", "+availability_daily"]
    lake.dbt(*whole, as_of="2026-03-15 00:05:00")
    assert built(child) == built(view) == ("2026-03-15 00:05:00", True)
    lake.dbt(*whole, "--exclude", "int_station_hour", as_of="2026-03-15 09:00:00", affected=(None, 10))
    assert built(child) == ("2026-03-15 00:05:00", True)
    lake.dbt(*whole, as_of="2026-03-15 09:00:00", affected=(None, 10))
    assert built(child) == built(view) == ("2026-03-15 09:00:00", True)
    incremental = lake.rows(f"SELECT * FROM lake.{child} ORDER BY ALL")
    lake.dbt(*whole, as_of="2026-03-15 09:00:00")
    assert incremental == lake.rows(f"SELECT * FROM lake.{child} ORDER BY ALL")
    with open_writer(lake.settings, "older text") as con:
        con.execute(f"UPDATE lake.ops.built SET hash = 'of an older text' WHERE model = '{view}'")
    lake.dbt("run", "--select", "availability_daily", as_of="2026-03-15 09:00:00", affected=(None, 10))
    assert built(child) == ("2026-03-15 09:00:00", False)


def test_a_view_is_made_again_where_its_text_changed_or_it_is_gone(lake: Lake) -> None:
    def made(name: str, as_of: str = LATER, **how: tuple[int | None, int]) -> bool:
        done = lake.dbt("run", "--select", name, as_of=as_of, affected=how.get("affected", (None, 30)))
        (result,) = (r for r in done.result.results if r.node.name == name)
        return str(result.message) != "UNCHANGED"

    name = "staging.stg_reading"
    assert made("stg_reading", affected=(-1, 30)), "a build anew trusts nothing that is there"
    before = lake.rows("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')")
    assert not made("stg_reading")
    assert lake.rows("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')") == before
    with open_writer(lake.settings, "older text") as con:
        con.execute(f"UPDATE lake.ops.built SET hash = 'of an older text' WHERE model = '{name}'")
    assert made("stg_reading") and not made("stg_reading")
    with open_writer(lake.settings, "gone") as con:
        con.execute(f"DROP VIEW lake.{name}")
    assert made("stg_reading") and lake.rows(f"SELECT count(*) > 0 FROM lake.{name}") == [(True,)]
    assert made("int_station_hour") and made("int_station_hour"), "a view of a moment is made by every build"


def test_nobody_vouches_for_a_table_whose_build_did_not_end(lake: Lake) -> None:
    """A table of another moment is there, its build ends before it is written down, and the moment of before is asked for again."""
    name = "marts_procedures.dossier_overdue"

    def rows() -> list[tuple[Any, ...]]:
        return lake.rows(f"SELECT CAST(as_of AS VARCHAR) FROM lake.ops.built WHERE model = '{name}'")

    lake.dbt("build", "--select", "+dossier_overdue", as_of=LATER, affected=(None, 40))
    assert rows() == [(LATER,)]
    with open_writer(lake.settings, "test") as con:
        con.execute("DROP VIEW lake.staging.stg_dossier")
    with pytest.raises(AssertionError, match="stg_dossier"):
        lake.dbt("build", "--select", "dossier_overdue", as_of="2026-03-15 09:00:00", affected=(None, 40))
    assert rows() == []
    lake.dbt("build", "--select", "+dossier_overdue", as_of=LATER, affected=(None, 40))
    assert rows() == [(LATER,)]


def test_no_model_reads_the_clock() -> None:
    clock = re.compile(r"\b(now|current_timestamp|current_date|today|get_current_timestamp|localtimestamp|run_started_at)\b", re.IGNORECASE)
    found = [
        f"{p.relative_to(PROJECT)}: {line.strip()}"
        for folder in ("models", "macros", "materializations", "tests")
        for p in (PROJECT / folder).rglob("*.sql")
        for line in p.read_text(encoding="utf-8").splitlines()
        if clock.search(re.sub(r"--.*|\{#.*#\}", "", line)) and "{#-" not in line
    ]
    assert not found


def test_every_table_says_its_grain(manifest: dict[str, Any]) -> None:
    nodes = [n for n in (*manifest["nodes"].values(), *manifest["sources"].values()) if n["resource_type"] in ("model", "seed", "source")]
    assert len(nodes) > 120
    assert not [n["name"] for n in nodes if "Một dòng là" not in (n["description"] or "")]


def test_served_models_have_the_columns_that_the_lake_has(lake: Lake, manifest: dict[str, Any]) -> None:
    there: dict[str, set[str]] = {}
    for table, column in lake.rows(
        "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns WHERE table_catalog = 'lake'"
    ):
        there.setdefault(table, set()).add(column)
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("model", "seed"):
            declared = set(node["columns"]) if node["resource_type"] == "model" else set(node["config"]["column_types"])
            assert there[f"{node['schema']}.{node['name']}"] == declared, node["name"]


def seed(name: str) -> list[dict[str, str]]:
    with (PROJECT / f"seeds/reference/{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_reasons_of_the_suites_have_a_vietnamese_name() -> None:
    known = {row["reason"] for row in seed("quarantine_reason_code")}
    used = {
        e["meta"]["reason"] for p in (ROOT / "quality/suites").glob("*/*.json") for e in json.loads(p.read_text(encoding="utf-8"))["expectations"]
    }
    assert used <= known, used - known


SEEN = """
    Temp|°C|oC, pH|-|, pH|-|-, COD|mg/L|mg/l, EC|µS/cm|uS/cm, Turbidity|NTU|NTU, PM10|µg/m3|µg/m3, PM10|µg/m3|μg/m³, PM10|µg/m3|ug/m3,
    SolarRad|W/m2|w/m2, WindDir|deg|deg, Flow|m3/h|m3/h, P|hPa|kPa, PM|mg/Nm3|mg/Nm3, O2|%|%, CO|µg/m3|mg/m3, VHg|mg/Nm3|ng/m3"""
"""parameter, canonical unit and spelling, as public station files have them (DOMAIN 1.3); one µ is a micro sign, one a Greek mu."""


def test_spellings_are_complete_and_unambiguous() -> None:
    parameters, aliases, units = (seed(n) for n in ("parameter", "parameter_alias", "unit_alias"))
    canonical = {r["parameter"] for r in parameters}
    spelled = [r["name_in_file"] for r in aliases]
    assert len(spelled) == len(set(spelled)) and not set(spelled) & canonical
    assert {r["parameter"] for r in aliases} <= canonical
    keys = [(r["parameter"], r["unit"], r["unit_text"]) for r in units]
    assert len(keys) == len(set(keys))
    assert {r["unit"] for r in units} <= {r["unit"] for r in parameters}
    for text in (*spelled, *(r["unit_text"] for r in units)):
        assert text == unicodedata.normalize("NFC", text).strip()
    factor = {k: (Decimal(r["factor"]), Decimal(r["offset"])) for k, r in zip(keys, units, strict=True)}
    assert all(f > 0 for f, _ in factor.values())

    def known(parameter: str, unit: str, text: str) -> tuple[Decimal, Decimal] | None:
        return factor.get((parameter, unit, text), factor.get(("", unit, text)))

    for row in parameters:
        assert known(row["parameter"], row["unit"], row["unit"]) == (Decimal(1), Decimal(0)), row
    for parameter, unit, text in (case.strip().split("|") for case in SEEN.split(",")):
        assert known(parameter, unit, text), (parameter, text)
    # a blank unit is safe for pH alone; ppb of a gas is its molar mass over 24.45 L/mol
    assert [k for k in keys if not k[2]] == [("pH", "-", "")]
    for case, value in ((("CO", "µg/m3", "mg/m3"), "1000"), (("P", "hPa", "kPa"), "10"), (("O3", "µg/m3", "ppb"), "1.963108")):
        assert known(*case) == (Decimal(value), Decimal(0))
