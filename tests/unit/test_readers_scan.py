"""Scans: what headers say, and every way in which a scanned file is broken. Oracle: what the test put into the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import duckdb
import pikepdf
import pytest
from PIL import Image

from ingestion.readers import scan
from ingestion.readers.scan import inspect
from tests.readers_kit import contract, delivery, duck
from tests.support import real_data

COLUMNS = {name: {"type": "text"} for name in scan._SCHEMA}


def noise(width: int = 500, height: int = 700) -> Image.Image:
    return Image.effect_noise((width, height), 60)


def picture(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    noise().save(out, kind, **(options if "resolution_unit" in options else {"dpi": (300, 200)} | options))
    return out.getvalue()


def pdf(pages: int = 2, *, signature: str | None = None, pdfa: str | None = None, password: str | None = None, stamp: bool = False) -> bytes:
    out = io.BytesIO()
    noise(1240, 1754).save(out, "PDF", resolution=150, save_all=True, append_images=[noise(1240, 1754)] * (pages - 1))
    with pikepdf.open(io.BytesIO(out.getvalue())) as file:
        if signature:
            field = pikepdf.Dictionary(FT=pikepdf.Name.Sig, T="Ky so")
            if signature == "signed":
                field.V = file.make_indirect(pikepdf.Dictionary(Type=pikepdf.Name.Sig, Filter=pikepdf.Name("/Adobe.PPKLite")))
            parent = file.make_indirect(pikepdf.Dictionary(T="Nhom", Kids=[file.make_indirect(field)]))
            file.Root.AcroForm = pikepdf.Dictionary(Fields=[parent], SigFlags=1)
        if pdfa:
            with file.open_metadata() as meta:
                meta["pdfaid:part"], meta["pdfaid:conformance"] = pdfa[0], pdfa[1].upper()
        if stamp:
            page = file.pages[0]
            image = file.make_stream(
                noise(20, 20).tobytes(),
                Type=pikepdf.Name.XObject,
                Subtype=pikepdf.Name.Image,
                Width=20,
                Height=20,
                ColorSpace=pikepdf.Name.DeviceGray,
                BitsPerComponent=8,
            )
            page.add_resource(image, pikepdf.Name.XObject, pikepdf.Name("/Stamp"))
            page.contents_add(b"q 50 0 0 50 20 20 cm /Stamp Do Q")
        saved = io.BytesIO()
        file.save(saved, encryption=pikepdf.Encryption(user=password, owner="chu") if password is not None else False)
    return saved.getvalue()


def test_a_whole_pdf() -> None:
    fact = inspect(pdf(3, pdfa="2b", signature="signed", stamp=True), ".PDF")
    assert fact == {
        "format": "pdf",
        "pages": 3,
        "dpi_min": 150,
        "width_px": 1240,
        "height_px": 1754,
        "is_damaged": False,
        "has_signature": True,
        "is_encrypted": False,
        "pdfa_declared": "2b",
    }


def test_a_signature_field_that_waits_is_no_signature() -> None:
    assert inspect(pdf(signature="empty"), ".pdf")["has_signature"] is False
    assert inspect(pdf(), ".pdf")["pdfa_declared"] is None


def test_passwords() -> None:
    locked = inspect(pdf(password="x"), ".pdf")
    assert (locked["is_encrypted"], locked["is_damaged"], locked.get("pages")) == (True, False, None)
    readable = inspect(pdf(password=""), ".pdf")
    assert (readable["is_encrypted"], readable["pages"]) == (True, 2)


@pytest.mark.parametrize(
    ("data", "suffix", "pages", "dpi"),
    [
        (picture("TIFF"), ".tif", 1, 200),
        (picture("TIFF", save_all=True, append_images=[noise()] * 4, compression="tiff_lzw"), ".tiff", 5, 200),
        (picture("TIFF", x_resolution=118.11, y_resolution=118.11, resolution_unit="cm"), ".tif", 1, 300),
        (picture("JPEG"), ".jpg", 1, 200),
        (picture("JPEG") + bytes(16), ".jpeg", 1, 200),
        (picture("JPEG") + b"behind the picture", ".jpeg", 1, 200),
        (picture("PNG"), ".png", 1, 200),
        (picture("JPEG", dpi=(0, 0)), ".jpg", 1, None),
    ],
)
def test_whole_pictures(data: bytes, suffix: str, pages: int, dpi: int | None) -> None:
    fact = inspect(data, suffix)
    assert (fact["pages"], fact["dpi_min"], fact["width_px"], fact["height_px"], fact["is_damaged"]) == (pages, dpi, 500, 700, False)


WHOLE = {".pdf": pdf(), ".tif": picture("TIFF"), ".jpg": picture("JPEG"), ".png": picture("PNG")}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", WHOLE)
def test_truncated_anywhere(suffix: str, share: float) -> None:
    data = WHOLE[suffix]
    fact = inspect(data[: int(len(data) * share)], suffix)
    assert (fact["is_damaged"], fact["damage_reason"]) == (True, "truncated")


@pytest.mark.parametrize(
    ("data", "suffix", "kind", "reason"),
    [
        (b"", ".pdf", "pdf", "empty"),
        (b"<html><body>504 Gateway Time-out</body></html>", ".pdf", "pdf", "wrong_type"),
        (picture("PNG"), ".jpg", "png", "wrong_type"),
        (pdf(), ".tif", "pdf", "wrong_type"),
        (b"%PDF-1.4\nthis is none\n%%EOF\n", ".pdf", "pdf", "unreadable"),
        (b"\xff\xd8\xff\xe0" + bytes(100) + b"\xff\xd9", ".jpg", "jpeg", "unreadable"),
    ],
)
def test_damage_by_reason(data: bytes, suffix: str, kind: str, reason: str) -> None:
    fact = inspect(data, suffix)
    assert (fact["format"], fact["is_damaged"], fact["damage_reason"]) == (kind, True, reason)


def test_a_flipped_bit_in_a_png_is_seen() -> None:
    data = bytearray(picture("PNG"))
    data[len(data) // 2] ^= 1
    assert inspect(bytes(data), ".png")["damage_reason"] == "unreadable"


def test_rows_of_the_reader(tmp_path: Path) -> None:
    con: duckdb.DuckDBPyConnection = duck(tmp_path / "ext")
    files = []
    for n in range(205):
        path = tmp_path / f"{n:03d}.jpg"
        path.write_bytes(WHOLE[".jpg"] if n % 5 else b"")
        files.append(delivery(path))
    gone = delivery(tmp_path / "gone.pdf")
    problems = scan.read(con, contract(COLUMNS, "scan"), [*files, gone], "cut")
    assert [p.code for p in problems.values()] == ["file_gone"]
    assert con.execute("SELECT count(*), count(*) FILTER (is_damaged), count(DISTINCT sha256), any_value(_line) FROM cut").fetchall() == [
        (205, 41, 2, 1)
    ]
    assert [row[0] for row in con.execute("SELECT file_name FROM cut ORDER BY 1").fetchall()] == [d.name for d in files]
    assert scan.read(con, contract(COLUMNS, "scan"), [], "cut") == {}
    assert scan.read(con, contract(COLUMNS, "scan"), [delivery(WHOLE[".png"], "x.png")], "cut") == {}
    assert con.execute("SELECT format, bytes FROM cut").fetchall() == [("png", len(WHOLE[".png"]))]


def test_real_scans() -> None:
    folder = real_data() / "scans"
    facts = {p.name: inspect(p) for p in folder.iterdir() if p.suffix in (".pdf", ".png")}
    assert len(facts) == 12
    assert {n: f.get("damage_reason") for n, f in facts.items() if f["is_damaged"]} == {"invalid.pdf": "unreadable"}
    assert facts["cardinal.pdf"]["pages"] == 4
    assert (facts["linn.png"]["width_px"], facts["linn.png"]["height_px"]) == (2550, 3300)
    assert facts["skew.pdf"]["dpi_min"] == 300
    for name in facts:
        data = (folder / name).read_bytes()
        assert inspect(data[: len(data) // 2], Path(name).suffix)["is_damaged"], name
