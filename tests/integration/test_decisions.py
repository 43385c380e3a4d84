"""Decisions of people, and what was known when: late files, corrections, adjustments and approvals after a first day of two stations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from cli import common, decisions, pipeline
from cli.main import app
from lake.lake import open_reader
from marts.as_known import build_as_known
from marts.trace import trace
from orchestration.run import run
from simulator.files import write_xlsx
from simulator.registers import write_channel_register, write_station_register
from tests.conftest import new_platform
from tnmt.settings import Settings

DAY = date(2026, 3, 10)
START = datetime(2026, 3, 10)
FIRST = datetime(2026, 3, 11, 6)
"""The moment of the first build: the day is over, a morning has come."""
SECOND = FIRST + timedelta(hours=3)
A, B = "BP_AAAA_NUOTHA", "BP_BBBB_KHIKXQ"
PARAMETERS = {A: {"COD": "mg/L", "pH": "-"}, B: {"PM2.5": "µg/m3"}}
TABLES = ("reading_hourly", "reading_daily", "compliance_daily", "aqi_hourly", "aqi_daily", "exceedance_episode", "interruption", "data_decision")


def send(s: Settings, station: str, at: datetime, **values: str) -> None:
    """A file of the station for one hour."""
    path = s.inbox / "station_txt" / f"{station}_{at:%Y%m%d%H%M%S}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    units = PARAMETERS[station]
    path.write_text("".join(f"{p.replace('_', '.')}\t{v}\t{units[p.replace('_', '.')]}\t{at:%Y%m%d%H%M%S}\t00\n" for p, v in values.items()))


def rows(s: Settings, sql: str) -> list[tuple[Any, ...]]:
    with open_reader(s) as con:
        return con.execute(sql).fetchall()


def marts(s: Settings) -> dict[str, list[str]]:
    """All rows of the marts from DAY on; repr of a float is exact."""
    with open_reader(s) as con:
        return {t: [repr(r) for r in con.execute(f"SELECT * FROM lake.marts_environment.{t} ORDER BY ALL").fetchall()] for t in TABLES}


class Story:
    """A platform at three moments."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings = s = new_platform(home)
        self.now = FIRST
        for module in (common, decisions, pipeline):
            patch.setattr(module, "now", lambda: self.now)
        write_station_register(
            s.inbox / "station_register" / "tram_20260310.xlsx",
            [
                {
                    "station_id": A,
                    "station_name": "Trạm A",
                    "matrix": "Nước thải",
                    "old_commune": "25195",
                    "lon": 106.9,
                    "lat": 11.5,
                    "standard": "QCVN 40:2011/BTNMT",
                }
                | {"standard_class": "A", "kq": 0.9, "kf": 1.1, "in_use_from": DAY},
                {
                    "station_id": B,
                    "station_name": "Trạm B",
                    "matrix": "Không khí xung quanh",
                    "old_commune": "25195",
                    "lon": 106.9,
                    "lat": 11.5,
                    "in_use_from": DAY,
                }
                | {"standard": "QCVN 05:2023/BTNMT"},
            ],
        )
        write_channel_register(
            s.inbox / "station_channel_register" / "thong_so_20260310.csv",
            [
                {"station_id": station, "parameter": p, "unit": u, "minutes": 60, "valid_from": "10/03/2026 00:00"}
                for station, units in PARAMETERS.items()
                for p, u in units.items()
            ],
        )
        for hour in range(1, 31):
            at = START + timedelta(hours=hour)
            if hour not in (9, 10):
                send(s, A, at, COD=str(60 + hour % 7), pH="7.1")
            send(s, B, at, **{"PM2_5": str(20 + hour % 5)})
        run(s, now=FIRST, as_of=FIRST, run_id="first")
        self.first = marts(s)
        self.told = self.decide()
        run(s, now=SECOND, as_of=SECOND, run_id="second")
        self.second = marts(s)

    def cli(self, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(arguments))
        return done.exit_code, done.output

    def decide(self) -> dict[str, tuple[int, str]]:
        """What came after the first build: two late files, another value for 05:00, and decisions of both kinds on both ways."""
        s, told = self.settings, {}
        self.now = FIRST + timedelta(hours=1)
        why = ("--reason", "Kiểm tra hiện trường", "--by", "Trưởng phòng Quan trắc")
        told["approve"] = self.cli("approve", B, "--from", "2026-03-10", "--to", "2026-03-10", *why, "--id", "PD-1")
        told["approve_a"] = self.cli("approve", A, "--from", "2026-03-10", "--to", "2026-03-10", "--parameter", "pH", *why, "--id", "PD-2")
        # the first version of HC-1 reaches over ten hours, the second over two
        for until, number in (("20:00", "1"), ("12:00", "10")):
            self.now += timedelta(minutes=5)
            span = ("--from", "2026-03-10T10:00:00", "--to", f"2026-03-10T{until}:00")
            told[f"adjust {until}"] = self.cli("adjust", A, "COD", "offset", *span, "--number", number, *why, "--id", "HC-1")
        told["unknown"] = self.cli("adjust", "BP_AAAA_NUOTHX", "COD", "reject", "--from", "2026-03-10T10:00:00", "--to", "2026-03-10T12:00:00", *why)
        told["no_number"] = self.cli("adjust", A, "COD", "scale", "--from", "2026-03-10T10:00:00", "--to", "2026-03-10T12:00:00", *why)
        send(s, A, START + timedelta(hours=9), COD="61", pH="7.3")
        send(s, A, START + timedelta(hours=5), COD="400")
        write_xlsx(
            s.inbox / "adjustment" / "hieu_chinh.xlsx",
            "Hiệu chỉnh",
            ["Mã hiệu chỉnh", "Mã trạm", "Thông số", "Từ", "Đến", "Cách xử lý", "Số", "Lý do", "Người quyết định", "Văn bản"],
            [
                ["HC-2", A, "COD", "10/03/2026 04:00", "10/03/2026 05:00", "Loại bỏ", None, "Đầu đo bẩn", "Trưởng phòng Quan trắc", "12/BB"],
                ["HC-3", B, "PM2.5", "10/03/2026 23:00", "11/03/2026 01:00", "Nhân", 2, "Sai hệ số", "Trưởng phòng Quan trắc", None],
            ],
        )
        return told


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", "")
        yield Story(tmp_path_factory.mktemp("decisions") / "home", patch)


def test_the_command_line_says_what_it_did(story: Story) -> None:
    for name in ("approve", "approve_a", "adjust 20:00", "adjust 12:00"):
        assert story.told[name][0] == 0, story.told[name]
    assert story.told["unknown"][0] == 2 and "BP_AAAA_NUOTHA" in story.told["unknown"][1]
    assert story.told["no_number"][0] == 1 and "thì phải có số" in story.told["no_number"][1]


def test_what_the_station_sent_stays_and_the_mean_follows_the_decisions(story: Story) -> None:
    sent = {h: 60 + h % 7 for h in range(1, 25) if h not in (9, 10)} | {9: 61, 5: 400}
    assert rows(story.settings, f"SELECT sum(value_reported) FROM lake.clean.reading WHERE station_id = '{A}' AND parameter = 'COD' AND "
                "measured_at <= '2026-03-11'") == [(sum(sent.values()),)]  # fmt: skip
    used = {h: v + (10 if h in (11, 12) else 0) for h, v in sent.items() if h != 5}
    mean, valid, adjusted, grade = rows(
        story.settings,
        f"SELECT mean_valid, valid, adjusted, grade FROM lake.marts_environment.reading_daily WHERE station_id = '{A}' AND parameter = 'COD' "
        "AND day = DATE '2026-03-10'",
    )[0]
    assert (mean, valid, adjusted, grade) == (sum(used.values()) / len(used), 22, 3, "raw")
    assert rows(
        story.settings,
        f"SELECT received, valid, invalid_rejected, invalid FROM lake.marts_environment.availability_daily WHERE station_id = '{A}' "
        "AND parameter = 'COD' AND day = DATE '2026-03-10'",
    ) == [(23, 22, 1, 1)]


def test_grades(story: Story) -> None:
    """B was approved, and adjusted later; pH of A was approved, and a value came later: both fall back. Nothing else was looked at."""
    found = rows(story.settings, "SELECT station_id, parameter, day, grade, approval_id FROM lake.marts_environment.reading_daily ORDER BY ALL")
    assert [(s, p, g, a) for s, p, d, g, a in found if d == DAY] == [
        (A, "COD", "raw", None),
        (A, "pH", "provisional", "PD-2"),
        (B, "PM2.5", "provisional", "PD-1"),
    ]
    assert {g for *_, d, g, _ in found if d > DAY} == {"raw"}
    assert rows(story.settings, f"SELECT grade FROM lake.marts_environment.aqi_daily WHERE station_id = '{B}' AND day = DATE '2026-03-10'") == [
        ("provisional",)
    ]


def test_as_known_at_the_first_moment_is_the_first_build(story: Story, tmp_path: Path) -> None:
    """Every mart, to the bit, though values, decisions and approvals have changed since."""
    assert story.first != story.second
    out = tmp_path / "then.duckdb"
    counts = build_as_known(story.settings, FIRST, DAY, out)
    with duckdb.connect(str(out), read_only=True) as con:
        for table in TABLES:
            known = [repr(r) for r in con.execute(f"SELECT * FROM marts_environment.{table} ORDER BY ALL").fetchall()]
            assert known == story.first[table], table
            assert counts[table] == len(known)
    with pytest.raises(FileExistsError, match="is there already"):
        build_as_known(story.settings, FIRST, DAY, out)


def test_trace_shows_the_decisions(story: Story) -> None:
    found = trace(story.settings, A, "COD", DAY)
    assert [(d["decision_id"], d["decision"], d["superseded"]) for d in found["decisions"]] == [
        ("HC-1", "offset", True),
        ("HC-1", "offset", False),
        ("HC-2", "reject", False),
    ]
    assert found["recomputed"]["mean"] == found["marts"]["reading_daily"]["mean_valid"]
    assert {f["name"] for f in found["files"]} >= {"hieu_chinh.xlsx"} and all(f["sha256_matches"] for f in found["files"])
    code, text = story.cli("trace", A, "COD", "2026-03-10")
    assert code == 0 and "Đầu đo bẩn" in text and "offset by HC-1" in text


def test_a_full_build_is_the_incremental_one(story: Story) -> None:
    run(story.settings, now=SECOND, as_of=SECOND, run_id="full", full=True)
    assert marts(story.settings) == story.second
