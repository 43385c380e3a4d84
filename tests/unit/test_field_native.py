"""What really happens to people who do this job: files that other programs wrote, whole or not, and what is right for each. See docs/promises.md."""

from __future__ import annotations

import io
import shutil
import sqlite3
import struct
import zipfile
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pikepdf
import pytest
import tifffile
import xlsxwriter
from PIL import Image

from ingestion.encodings import unicode_to_tcvn3
from ingestion.model import Delivery, Problem
from ingestion.readers import guard, station_txt, tabular, vector
from ingestion.readers import tiff as tiff_walk
from ingestion.readers.scan import inspect
from tests.readers_kit import contract, delivery, duck, rows
from tests.unit.test_readers_vector import COLUMNS, parcels, write, zipped

REGISTER = {"ma": "Mã", "ten": "Tên", "ngay": {"header": "Ngày", "type": "date"}}
SHAPE = {"ten": "TEN", "geometry": {"type": "geometry"}}


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return duck(tmp_path_factory.mktemp("ext"))


def only(found: dict[str, Problem]) -> Problem:
    problem = next(iter(found.values()))
    assert len(found) == 1 and problem.what and problem.expected and problem.found and problem.todo
    return problem


# --- workbooks -----------------------------------------------------------------------------------------------------


def workbook(path: Path, *, far: str | None = None, style: bool = False, **options: Any) -> Path:
    book = xlsxwriter.Workbook(path, options)
    page = book.add_worksheet("Trang")
    page.write_row(0, 0, ["Mã", "Tên", "Ngày"])
    day = book.add_format({"num_format": "dd/mm/yyyy"})
    for number in (1, 2, 3):
        page.write_row(number, 0, [f"C{number}", "Cơ sở"])
        page.write_datetime(number, 2, datetime(2024, 5, number), day)
    if far and style:
        page.write_blank(far, None, day)
    elif far:
        page.write(far, "x")
    book.close()
    return path


def read_book(con: duckdb.DuckDBPyConnection, path: Path) -> dict[str, Problem]:
    return tabular.read(con, contract(REGISTER, "xlsx"), [delivery(path)], "cut")


@pytest.mark.parametrize("cell", ["A1048576", "XFD1048576"])
def test_a_stray_cell_far_from_the_rest_is_named(con: duckdb.DuckDBPyConnection, tmp_path: Path, cell: str) -> None:
    problem = only(read_book(con, workbook(tmp_path / "x.xlsx", far=cell)))
    assert problem.code == "far_cell"


def test_a_far_cell_that_has_a_format_only_does_no_harm(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    assert read_book(con, workbook(tmp_path / "x.xlsx", far="XFD1048576", style=True)) == {}
    assert [r[0] for r in rows(con, "ma")] == ["C1", "C2", "C3"]


def test_dates_of_1904(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    made = workbook(tmp_path / "a.xlsx", date_1904=True)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'date1904="1"', b'date1904="true"'))
    assert read_book(con, tmp_path / "b.xlsx") == {}
    assert [str(r[0]) for r in rows(con, "ngay")] == ["2024-05-01", "2024-05-02", "2024-05-03"]


def bomb(path: Path, member: str, size: int, *, says: int | None = None) -> Path:
    """An archive with one member of zeros, that may say another size of itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(member, "w", force_zip64=False) as out:
        for _ in range(size >> 20):
            out.write(bytes(1 << 20))
    if says is not None:
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", says)))
    return path


def test_bombs_are_refused_before_they_are_unpacked(con: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SMALL", 4 << 20)
    problem = only(read_book(con, bomb(tmp_path / "x.xlsx", "xl/worksheets/sheet1.xml", 16 << 20)))
    assert problem.code == "unpacked_too_large" and "16777216" in problem.found
    shapes = contract(SHAPE, "vector", crs="EPSG:9212")
    problem = only(vector.read(con, shapes, [delivery(bomb(tmp_path / "x.gdb.zip", "x.gdb/a00000001.gdbtable", 16 << 20))], "cut"))
    assert problem.code == "unpacked_too_large"
    with zipfile.ZipFile(tmp_path / "many.gdb.zip", "w") as archive:
        for number in range(guard.MOST_MEMBERS + 1):
            archive.writestr(f"x.gdb/{number}", b"")
    assert only(vector.read(con, shapes, [delivery(tmp_path / "many.gdb.zip")], "cut")).code == "unpacked_too_large"
    with zipfile.ZipFile(tmp_path / "nested.gdb.zip", "w") as archive:
        archive.write(tmp_path / "x.gdb.zip", "inner.zip")
    assert only(vector.read(con, shapes, [delivery(tmp_path / "nested.gdb.zip")], "cut")).code == "not_a_vector_file", "what is inside stays packed"


def test_a_bomb_that_lies_about_its_size_is_damaged(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = bomb(tmp_path / "x.gdb.zip", "x.gdb/a00000001.gdbtable", 16 << 20, says=1000)
    problem = only(vector.read(con, contract(SHAPE, "vector", crs="EPSG:9212"), [delivery(path)], "cut"))
    assert problem.code == "damaged_file"
    assert only(read_book(con, bomb(tmp_path / "x.xlsx", "xl/workbook.xml", 16 << 20, says=1000))).code == "damaged_file"


# --- maps ----------------------------------------------------------------------------------------------------------


def read_map(con: duckdb.DuckDBPyConnection, path: Path, **options: Any) -> dict[str, Problem]:
    return vector.read(con, contract(COLUMNS, "vector", **({"crs": "EPSG:9212"} | options)), [delivery(path)], "cut")


def test_a_shapefile_zipped_on_a_mac(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = zipped(write(tmp_path / "s" / "thua.shp", "ESRI Shapefile", parcels(3)), tmp_path / "thua.shp.zip")
    with zipfile.ZipFile(path, "a") as archive:
        for suffix in (".shp", ".shx", ".dbf", ".prj"):
            archive.writestr(f"__MACOSX/s/._thua{suffix}", b"\0\5\x16\7" + bytes(200))
        archive.writestr("s/.DS_Store", b"x")
        archive.writestr("s/Thumbs.db", b"x")
    assert read_map(con, path) == {}
    assert len(rows(con)) == 3


@pytest.mark.parametrize("said", [6, 0, 2])
def test_the_count_that_a_geopackage_keeps_is_a_hint(con: duckdb.DuckDBPyConnection, tmp_path: Path, said: int) -> None:
    path = write(tmp_path / "dat.gpkg", "GPKG", parcels(4))
    with closing(sqlite3.connect(path)) as base:
        base.execute("DROP TRIGGER IF EXISTS trigger_insert_feature_count_thua")
        base.execute("UPDATE gpkg_ogr_contents SET feature_count = ?", [said])
        base.commit()
    assert read_map(con, path) == {}
    assert len(rows(con)) == 4


def test_a_geopackage_that_a_program_has_open_is_refused(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = write(tmp_path / "dat.gpkg", "GPKG", parcels(4))
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("UPDATE gpkg_contents SET description = 'khác'")
        base.commit()
        shutil.copy(path, tmp_path / "copied.gpkg")
    problem = only(read_map(con, tmp_path / "copied.gpkg"))
    assert problem.code == "write_ahead_log" and "QGIS" in problem.todo
    whole = write(tmp_path / "z" / "dat.gpkg", "GPKG", parcels(4))
    (whole.parent / "dat.gpkg-journal").write_bytes(b"\xd9\xd5\x05\xf9 a journal that is not rolled back")
    packed = zipped(whole, tmp_path / "dat.gpkg.zip")
    assert "dat.gpkg-journal" in only(read_map(con, packed)).found


def shapefile(tmp_path: Path, names: list[str], encoding: str, code_page: str | None) -> Path:
    path = write(tmp_path / "s" / "dat.shp", "ESRI Shapefile", parcels(len(names)), names=names, encoding=encoding)
    cpg = path.with_suffix(".cpg")
    cpg.unlink(missing_ok=True)
    if code_page:
        cpg.write_text(code_page)
    return zipped(path, tmp_path / "gui.zip")


@pytest.mark.parametrize("code_page", ["UTF-8", "65001", None])
def test_a_shapefile_in_utf8_where_another_code_is_agreed(con: duckdb.DuckDBPyConnection, tmp_path: Path, code_page: str | None) -> None:
    path = shapefile(tmp_path, ["ấp Thị Nghiệm", "Đồng Xoài", "x"], "UTF-8", code_page)
    problem = only(read_map(con, path, text="tcvn3"))
    assert (problem.code == "wrong_encoding" and "UTF-8" in problem.found.upper()) or "65001" in problem.found
    assert read_map(con, path, text="unicode") == {}
    assert rows(con, "ten")[0] == ("ấp Thị Nghiệm",)


def test_a_shapefile_in_the_agreed_code_is_read(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    names = ["ấp Thị Nghiệm", "Đồng Xoài"]
    path = shapefile(tmp_path, [unicode_to_tcvn3(n).decode("latin-1") for n in names], "ISO-8859-1", None)
    assert read_map(con, path, text="tcvn3") == {}
    assert [r[0] for r in rows(con, "ten")] == names


def test_deleted_records_of_a_shapefile_are_no_loss_and_missing_ones_are(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = write(tmp_path / "s" / "dat.shp", "ESRI Shapefile", parcels(5))
    dbf = path.with_suffix(".dbf")
    data = bytearray(dbf.read_bytes())
    start, step = (int.from_bytes(data[a:b], "little") for a, b in ((8, 10), (10, 12)))
    data[start + 2 * step] = ord("*")
    dbf.write_bytes(data)
    assert read_map(con, zipped(path, tmp_path / "deleted.zip")) == {}
    assert [r[0] for r in rows(con, "ten")] == ["Tân Phú 0", "Tân Phú 1", "Tân Phú 3", "Tân Phú 4"]
    data[4:8] = (4).to_bytes(4, "little")
    dbf.write_bytes(data)
    problem = only(read_map(con, zipped(path, tmp_path / "short.zip")))
    assert (problem.code, problem.expected, problem.found) == ("damaged_file", "5 đối tượng theo dat.shx", "4 bản ghi trong dat.dbf")
    path.with_suffix(".shx").unlink()
    assert ".shx" in only(read_map(con, zipped(path, tmp_path / "part.zip"))).found


# --- scans ---------------------------------------------------------------------------------------------------------


def tiff(pages: int, *, resolution: tuple[int, bytes] = (5, struct.pack("<II", 300, 1)), loop: bool = False) -> bytes:
    """Pages of 8 x 8 grey pixels, directories before the data; resolution as (type, value)."""
    kind, value = resolution
    entries, size = 8, 2 + 8 * 12 + 4
    head = 8 + pages * size
    extra = head + pages * 64
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for page in range(pages):
        following = (8 + (page + 1) * size) if page + 1 < pages else (8 if loop else 0)
        inline = value if len(value) <= 4 else struct.pack("<I", extra)
        out += struct.pack("<H", entries)
        for tag, t, n, v in (
            (256, 3, 1, 8),
            (257, 3, 1, 8),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, head + page * 64),
            (279, 4, 1, 64),
        ):
            out += struct.pack("<HHII", tag, t, n, v)
        out += struct.pack("<HHI", 282, kind, 1) + inline.ljust(4, b"\0")
        out += struct.pack("<I", following)
    return bytes(out) + bytes(range(64)) * pages + value


def test_a_tiff_cut_between_its_pages() -> None:
    whole = tiff(3)
    assert (inspect(whole, ".tif")["pages"], inspect(whole, ".tif")["is_damaged"]) == (3, False)
    for size in range(8, len(whole) - 8):
        fact = inspect(whole[:size], ".tif")
        assert (fact["is_damaged"], fact["damage_reason"]) == (True, "truncated"), size
    assert inspect(tiff(3, loop=True), ".tif")["damage_reason"] == "unreadable"
    assert inspect(whole + b"behind", ".tif")["is_damaged"] is False


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"tile": (16, 16)}, {"big_tiff": True}])
def test_the_walker_finds_what_another_library_finds(options: dict[str, Any]) -> None:
    out = io.BytesIO()
    first, *others = [Image.effect_noise((40 + 8 * n, 60), 50) for n in range(4)]
    first.save(out, "TIFF", save_all=True, append_images=others, dpi=(200, 300), **options)
    with tifffile.TiffFile(io.BytesIO(out.getvalue())) as file:
        expected = [(page.imagewidth, page.imagelength) for page in file.pages]
    assert [(page.width, page.height) for page in tiff_walk.pages(out.getvalue())] == expected
    assert all(page.dpi == (200, 300) for page in tiff_walk.pages(out.getvalue()))


@pytest.mark.parametrize("resolution", [(5, struct.pack("<II", 300, 1)), (3, struct.pack("<H", 300)), (4, struct.pack("<I", 300)),
                                        (11, struct.pack("<f", 300)), (12, struct.pack("<d", 300)), (10, struct.pack("<ii", 600, 2))])  # fmt: skip
def test_resolution_of_any_type(resolution: tuple[int, bytes]) -> None:
    data = tiff(1, resolution=resolution)
    fact = inspect(data, ".tif")
    assert (fact["is_damaged"], fact["dpi_min"], fact["width_px"]) == (False, 300, 8)
    assert Image.open(io.BytesIO(data)).size == (8, 8)


def test_a_resolution_that_is_nothing_is_no_damage() -> None:
    for nothing in ((2, b"300\0"), (5, struct.pack("<II", 300, 0)), (7, b"\0\0\0\0"), (99, b"\0\0\0\0")):
        assert (inspect(tiff(1, resolution=nothing), ".tif")["is_damaged"], inspect(tiff(1, resolution=nothing), ".tif")["dpi_min"]) == (False, None)


@pytest.mark.parametrize("strips", [True, False])
def test_a_tiff_with_the_older_jpeg(strips: bool) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(out, "JPEG")
    jpeg = out.getvalue()
    tags = [(256, 3, 64), (257, 3, 64), (259, 3, 6), (262, 3, 6), (282, 4, 300), (513, 4, 0), (514, 4, len(jpeg))]
    if strips:
        tags += [(273, 4, 0), (279, 4, len(jpeg))]
    tags.sort()
    start = 8 + 2 + 12 * len(tags) + 4
    body = b"".join(struct.pack("<HHII", t, k, 1, start if t in (273, 513) else v) for t, k, v in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4) + jpeg
    fact = inspect(data, ".tif")
    assert (fact["is_damaged"], fact["dpi_min"], fact["width_px"], fact["height_px"]) == (False, 300, 64, 64)


def scanned(*, form: bool = False, inline: bool = False, matrix: str = "297.64 0 0 420.945 0 0") -> bytes:
    """One picture of 620 x 877 on A6, drawn by the page, by a form in a form, or as text of the page."""
    pdf = pikepdf.new()
    image = pdf.make_stream(bytes(620 * 877), Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image, Width=620, Height=877,
                            ColorSpace=pikepdf.Name.DeviceGray, BitsPerComponent=8)  # fmt: skip
    draw = f"q {matrix} cm /Im Do Q".encode()
    resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im=image))
    if inline:
        draw = f"q {matrix} cm BI /W 620 /H 877 /CS /G /BPC 1 ID ".encode() + bytes(78 * 877) + b" EI Q"
    if form:
        for _ in range(2):
            inner = pdf.make_stream(draw, Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Form, BBox=[0, 0, 900, 900],
                                    Matrix=[0.5, 0, 0, 0.5, 3, 4], Resources=resources)  # fmt: skip
            draw, resources = b"q 2 0 0 2 0 0 cm /Fm Do Q", pikepdf.Dictionary(XObject=pikepdf.Dictionary(Fm=inner))
    page = pikepdf.Dictionary(Type=pikepdf.Name.Page, MediaBox=[0, 0, 297.64, 420.945], Contents=pdf.make_stream(draw), Resources=resources)
    pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
    out = io.BytesIO()
    pdf.save(out)
    return out.getvalue()


@pytest.mark.parametrize("how", [{}, {"form": True}, {"inline": True}, {"matrix": "0 420.945 -297.64 0 0 0"}])
def test_a_picture_is_found_however_it_is_drawn(how: dict[str, Any]) -> None:
    fact = inspect(scanned(**how), ".pdf")
    assert (fact["is_damaged"], fact["width_px"], fact["height_px"]) == (False, 620, 877)
    assert fact["dpi_min"] == (106 if "matrix" in how else 150)


def test_a_pdf_with_something_behind_its_end() -> None:
    whole = scanned()
    for behind in (bytes(2048), b"\r\n" * 900, b"\n--mail--boundary--\n"):
        assert inspect(whole + behind, ".pdf")["is_damaged"] is False, behind[:10]
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(whole)) as pdf:
        pdf.docinfo["/Title"] = "x"
        pdf.save(out)
    update = b"\n7 0 obj\n<< /Type /Sig /Contents <00> >>\nendobj\n"
    for size in (3, 9, len(update)):
        assert inspect(whole + update[:size], ".pdf")["damage_reason"] == "truncated", size


def test_pictures_with_something_behind_their_end() -> None:
    for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg")):
        out = io.BytesIO()
        Image.effect_noise((60, 60), 50).save(out, kind)
        for behind in (bytes(5000), b"mail footer"):
            assert inspect(out.getvalue() + behind, suffix)["is_damaged"] is False
        assert inspect(out.getvalue()[:-20] + bytes(5000), suffix)["is_damaged"] is True


def test_no_file_is_called_broken_for_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scanned()
    monkeypatch.setattr("ingestion.readers.scan._drawn", 7)
    with pytest.raises(TypeError):
        inspect(whole, ".pdf")


def test_broken_bytes_never_raise() -> None:
    """Every byte of small scans changed in turn: found broken or sound, never an error of ours."""
    whole = scanned()
    head = whole[: whole.index(b"stream")] + whole[whole.rindex(b"endstream") :]
    for data, suffix in ((tiff(2), ".tif"), (head, ".pdf"), (whole[-900:], ".pdf")):
        for at in range(0, len(data), 3):
            for value in (0, 0xFF, data[at] ^ 1):
                inspect(data[:at] + bytes([value]) + data[at + 1 :], suffix)


# --- station files -------------------------------------------------------------------------------------------------


def test_a_line_longer_than_the_block_of_the_parser(con: duckdb.DuckDBPyConnection) -> None:
    texts = [
        b"PM2.5\t1.5\tug/m3\t20260325100000\t00\n",
        b"PM2.5\t" + b"9" * (3 << 20) + b"\tug/m3\t20260325100000\t00\nNO2\t2\tug/m3\t20260325100000\t00\n",
    ]
    files: list[Delivery] = [delivery(t, f"BP_AAAA_KHIKXQ_2026032510000{i}.txt") for i, t in enumerate(texts)]
    columns = {n: {} for n in ("parameter", "value", "unit", "measured_at", "status")}
    assert station_txt.read(con, contract(columns, "station_txt"), files, "cut") == {}
    assert con.execute("SELECT parameter, length(value), _problem FROM cut ORDER BY ALL").fetchall() == [
        ("NO2", 1, None), ("PM2.5", 3, None), ("PM2.5", 3 << 20, None)]  # fmt: skip
