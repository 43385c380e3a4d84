"""Bad input ends in quarantine or a blocked delivery with a message that says what, expected, found and what to do; nothing published is lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import shapely

from ingestion.ingest import ingest
from lake.lake import open_reader, open_writer
from simulator.files import write_csv, write_vector, write_xlsx
from tests.conftest import own_platform
from tnmt.settings import Settings, settings

NOW = datetime(2026, 3, 25, 12)
HEADER = ["Mã giá", "Mã xã", "Đường/khu vực", "Loại đất", "Vị trí", "Giá (nghìn đồng/m2)", "Từ ngày", "Đến ngày"]
ROW = ["G1", "25195", "x", "ONT", 1, 900, None, None]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    with own_platform(tmp_path_factory.mktemp("bad")) as s:
        write_xlsx(s.inbox / "land_price" / "bang_gia_dat_20260101.xlsx", "Bảng giá", HEADER, [ROW])
        assert ingest(s, now=NOW, run_id="good").loaded["land_price"].rows_accepted == 1
        return s


def _blocked(lake: Settings, source: str, minutes: int) -> str:
    """Runs the source; returns the reason for which its delivery is blocked, after checking that the good rows are still there."""
    report = ingest(lake, now=NOW + timedelta(minutes=minutes), run_id="bad", only=[source])
    assert not report.errors and report.loaded[source].blocked == 1, report
    with open_reader(lake) as con:
        reason = con.execute(
            "SELECT reason FROM lake.ops.delivery WHERE source = ? AND status = 'blocked' ORDER BY received_at DESC LIMIT 1", [source]
        ).fetchall()[0][0]
        assert con.execute("SELECT price_id, price_vnd_m2 FROM lake.clean.land_price").fetchall() == [("G1", 900_000)]
    assert all(word in reason for word in ("cần:", "gặp:", "cách xử lý:")), reason
    return str(reason)


def test_workbook_with_a_renamed_column(lake: Settings) -> None:
    write_xlsx(lake.inbox / "land_price" / "bang_gia_dat_20260201.xlsx", "Bảng giá", [*HEADER[:5], "Giá nghìn đồng", *HEADER[6:]], [ROW])
    assert "Giá (nghìn đồng/m2)" in _blocked(lake, "land_price", 1)


def test_workbook_without_its_sheet_and_no_workbook(lake: Settings) -> None:
    write_xlsx(lake.inbox / "land_price" / "bang_gia_dat_20260202.xlsx", "Sheet1", HEADER, [ROW])
    assert "Bảng giá" in _blocked(lake, "land_price", 2)
    (lake.inbox / "land_price" / "bang_gia_dat_20260203.xlsx").write_bytes(b"PK\x03\x04 not a workbook")
    _blocked(lake, "land_price", 3)


def test_rows_that_break_more_rules_than_tolerated(lake: Settings) -> None:
    write_xlsx(lake.inbox / "land_price" / "bang_gia_dat_20260204.xlsx", "Bảng giá", HEADER, [ROW, [*ROW[:5], -5, None, None]])
    assert "price_not_positive" in _blocked(lake, "land_price", 4)


@pytest.mark.parametrize("day, crs, x, y, word", [
    (1, None, 560_000, 1_270_000, "hệ tọa độ"), (2, "EPSG:9212", 106.9, 11.5, "EPSG:9212"), (3, "EPSG:5899", 560_000, 1_270_000, "EPSG:5899"),
])  # fmt: skip
def test_map_without_crs_or_in_another_or_in_degrees(lake: Settings, day: int, crs: str | None, x: float, y: float, word: str) -> None:
    name = f"thua_dat_688_2026020{day}.gpkg"
    columns = {"MATHUADAT": ["a"], "MAXA": ["25216"], "SOHIEUTOBANDO": [1], "SOTHUTUTHUA": [1], "MALOAIDAT": ["ONT"], "DIENTICH": [1.0],
               "DIENTICHPHAPLY": [1.0], "DIACHITHUADAT": ["x"], "NGAYDODAC": ["01/01/2024"], "TRANGTHAI": ["x"]}  # fmt: skip
    write_vector(lake.inbox / "parcel" / name, "DC_THUADAT", columns, [shapely.box(x, y, x + 0.01, y + 0.01)], crs=crs)
    assert word in _blocked(lake, "parcel", 10 + day)


def test_a_server_that_does_not_answer(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNMT_POSTGIS_DSN", "host=127.0.0.1 port=1 dbname=x user=u password=rat-bi-mat")
    report = ingest(lake, now=NOW, run_id="down", only=["land_change_postgis", "land_price"])
    assert "rat-bi-mat" not in str(report.errors) and "land_change_postgis" in report.errors and "land_price" in report.loaded


def test_a_suite_that_cannot_be_evaluated_blocks(lake: Settings) -> None:
    suite = lake.home / "suites" / "land_price.json"
    suite.write_text('{"name": "land_price", "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "no_such_column"}, '
                     '"meta": {"reason": "x", "action": "warn", "message_vi": "x"}}]}')  # fmt: skip
    try:
        write_xlsx(lake.inbox / "land_price" / "bang_gia_dat_20260301.xlsx", "Bảng giá", HEADER, [ROW])
        assert "land_price.json" in _blocked(lake, "land_price", 30)
    finally:
        suite.unlink()


def test_a_contract_that_does_not_fit_the_lake_stops_its_source_alone(lake: Settings) -> None:
    good = (settings().contract_dirs[0] / "land/land_price.yaml").read_text(encoding="utf-8")
    own = lake.home / "contracts" / "land_price.yaml"
    own.write_text(good.replace('position: {header: "Vị trí", type: integer', 'position: {header: "Vị trí", type: text'), encoding="utf-8")
    try:
        write_xlsx(lake.inbox / "land_price" / "bang_gia_dat_20260302.xlsx", "Bảng giá", HEADER, [ROW])
        report = ingest(lake, now=NOW + timedelta(hours=1), run_id="misfit", only=["land_price", "dossier"])
        assert "position" in report.errors["land_price"] and "dossier" in report.loaded
    finally:
        own.unlink()
    assert ingest(lake, now=NOW + timedelta(hours=2), run_id="fits", only=["land_price"]).loaded["land_price"].published == 1


def test_a_disk_that_fills(lake: Settings, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: every write beyond it fails as ENOSPC would."""
    big = [[f"D{i}", "DK01", "x" * 60, "25195", "25195", "01/03/2026", "09/03/2026", None, "Đang xử lý", "Trực tuyến", None] for i in range(20_000)]
    write_csv(lake.inbox / "dossier" / "ho_so_20260310.csv", ["Mã hồ sơ", "Mã thủ tục", "Tên thủ tục", "Mã xã (cũ)", "Mã xã", "Ngày tiếp nhận", "Ngày hẹn trả",
                                                             "Ngày trả", "Trạng thái", "Hình thức", "Mã thửa"], big)  # fmt: skip

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = [str(Path(sys.executable).parent / "tnmt"), "run", "dossier", "--no-marts", "--as-of", "2026-03-25T12:00"]
    done = subprocess.run(command, env={**os.environ, "TNMT_HOME": str(lake.home)}, preexec_fn=full, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 3), done.stdout + done.stderr
    with open_reader(lake) as con:
        assert con.execute("SELECT count(*) FROM lake.clean.dossier").fetchall() == [(0,)]
        assert con.execute("SELECT count(*) FROM lake.clean.land_price").fetchall() == [(1,)]
    again = ingest(lake, now=NOW + timedelta(days=1), run_id="space", only=["dossier"])
    assert again.loaded["dossier"].rows_accepted == 20_000


def test_the_lock_says_who_holds_it(lake: Settings) -> None:
    with open_writer(lake, "một việc dài"):
        done = subprocess.run([str(Path(sys.executable).parent / "tnmt"), "run", "--no-marts"], capture_output=True, text=True, check=False,
                              env={**os.environ, "TNMT_HOME": str(lake.home), "TNMT_LOCK_TIMEOUT": "0.5"})  # fmt: skip
    assert done.returncode == 4 and "một việc dài" in done.stderr and str(os.getpid()) in done.stderr


def test_a_photo_is_one_refused_file_and_no_lines(lake: Settings) -> None:
    photo = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)) * 40 + b"\n\xff\xd9"
    inbox = lake.inbox / "station_txt"
    inbox.mkdir(exist_ok=True)
    (inbox / "BP_ABCD_NUOTHA_20260325010000.txt").write_bytes(photo)
    report = ingest(lake, now=NOW + timedelta(minutes=30), run_id="photo", only=["station_txt"]).loaded["station_txt"]
    assert (report.deliveries, report.quarantined, report.rows_read, report.rows_quarantined) == (1, 1, 0, 0), report
    with open_reader(lake) as con:
        assert con.execute("SELECT status, rows_read FROM lake.ops.delivery WHERE run_id = 'photo'").fetchall() == [("quarantined", 0)]
