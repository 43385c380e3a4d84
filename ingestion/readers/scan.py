"""Scanned files: what their headers say, and whether they are whole. One delivery, one row.

A broken file is a row with `is_damaged`, not a refused delivery: which scans are broken is what the department asks.
PDF/A is what the file declares (XMP `pdfaid`), not validated; a signature is present, not verified.
"""

from __future__ import annotations

import io
import logging
import math
import multiprocessing
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pikepdf
import pyarrow as pa
import tifffile
from pikepdf.models.ctm import get_objects_with_ctm
from PIL import Image

from ingestion.contract import Contract
from ingestion.model import Delivery, Problem

# it writes its findings about broken files to stderr; they are in the row already
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_MAGIC = (
    (b"%PDF", "pdf"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
)
_SUFFIX = {".pdf": "pdf", ".tif": "tiff", ".tiff": "tiff", ".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
_SCHEMA = {
    "file_name": pa.string(),
    "format": pa.string(),
    "bytes": pa.int64(),
    "sha256": pa.string(),
    "pages": pa.int32(),
    "dpi_min": pa.int32(),
    "width_px": pa.int32(),
    "height_px": pa.int32(),
    "is_damaged": pa.bool_(),
    "damage_reason": pa.string(),
    "pdfa_declared": pa.string(),
    "has_signature": pa.bool_(),
    "is_encrypted": pa.bool_(),
}
_POOL_FROM = 2_000
"""A worker costs a second of imports, a file a millisecond."""
_HEADER_BYTES = 1024
_CENTIMETRE = 3
_INCH = 2


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """One row a scan with the columns of clean.scan_file; `_line` is 1, `_raw` the file's name; see `ingestion.readers`.

    Problem of a file: file_gone, where it is no longer where it was seen.
    """
    problems = {d.delivery_id: _gone(d) for d in deliveries if d.content is None and not (d.path and d.path.is_file())}
    there = [d for d in deliveries if d.delivery_id not in problems]
    main = getattr(sys.modules["__main__"], "__file__", None)
    if len(there) > _POOL_FROM and (main is None or Path(main).exists()):
        # forked children would inherit the lake's threads and locks; new ones read the main file, which stdin is not
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:
            facts = list(pool.map(_facts, there, chunksize=32))
    else:
        facts = [_facts(d) for d in there]
    rows = [{"file_name": d.name, "bytes": d.bytes, "sha256": d.sha256} | f for d, f in zip(there, facts, strict=True)]
    table = pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in _SCHEMA.items()})
    con.register("scan_rows", table.append_column("_delivery_id", pa.array([d.delivery_id for d in there], pa.string())))
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE {into} AS
        SELECT _delivery_id, 1::INTEGER AS _line, file_name AS _raw, NULL::VARCHAR AS _problem, {", ".join(_SCHEMA)}
        FROM scan_rows""")
    con.unregister("scan_rows")
    return problems


def _gone(delivery: Delivery) -> Problem:
    return Problem("file_gone", "Tệp quét không còn ở kho", delivery.name, "không có tệp", "Khôi phục tệp vào kho quét rồi chạy lại")


def _facts(delivery: Delivery) -> dict[str, Any]:
    return inspect(delivery.path if delivery.path else delivery.read_bytes(), Path(delivery.name).suffix)


def inspect(source: Path | bytes, suffix: str | None = None) -> dict[str, Any]:
    """Header facts of one scan, by column of clean.scan_file; never raises for a broken file.

    `damage_reason`: `empty`; `wrong_type`, content that is not what the name's suffix says; `truncated`;
    `unreadable`, whole but not to be opened. Resolution is in dots per inch, the lowest of all pages and both
    directions. A file under a password is encrypted, not damaged.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    if suffix is None:
        suffix = source.suffix if isinstance(source, Path) else ""
    named = _SUFFIX.get(suffix.lower())
    # a PDF may have up to 1,024 bytes before its header, as those that went through mail servers do
    kind = next((k for magic, k in _MAGIC if data.startswith(magic)), "pdf" if b"%PDF-" in data[:_HEADER_BYTES] else None)
    fact: dict[str, Any] = {"format": kind or named, "is_damaged": False, "has_signature": False, "is_encrypted": False}
    if not data:
        return fact | {"is_damaged": True, "damage_reason": "empty"}
    if kind is None:
        return fact | {"is_damaged": True, "damage_reason": "wrong_type"}
    try:
        fact |= {"pdf": _pdf, "tiff": _tiff, "jpeg": _jpeg, "png": _png}[kind](data)
    except pikepdf.PasswordError:
        fact |= {"is_encrypted": True}
    except Exception:  # each library has its own errors for each kind of damage, and what matters here is that it is
        fact |= {"is_damaged": True, "damage_reason": "unreadable" if _has_end(data, kind) else "truncated"}
    if named is not None and kind != named:
        fact |= {"is_damaged": True, "damage_reason": "wrong_type"}
    return fact


def _has_end(data: bytes, kind: str) -> bool:
    """Whether the mark is there that ends a file of this kind; TIFF has none, its strips were looked for."""
    if kind == "pdf":
        return b"%%EOF" in data[-_HEADER_BYTES:]
    if kind == "jpeg":
        return data.rstrip(b"\0").endswith(b"\xff\xd9")
    return kind == "png" and data[-12:-4].endswith(b"IEND")


# --- PDF ---------------------------------------------------------------------------------------------------------


def _pdf(data: bytes) -> dict[str, Any]:
    # by default damage is repaired without a word, and two thirds of all truncated files pass
    with pikepdf.open(io.BytesIO(data), attempt_recovery=False, suppress_warnings=True) as pdf:
        fact: dict[str, Any] = {"pages": len(pdf.pages), "is_encrypted": pdf.is_encrypted}
        if not pdf.pages:
            raise ValueError("no page")
        if "/AcroForm" in pdf.Root:
            fact["has_signature"] = any(_signed(f) for f in pdf.Root.AcroForm.get("/Fields", []))
        with pdf.open_metadata() as meta:
            fact["pdfa_declared"] = meta.pdfa_status.lower() or None
        images = [image for page in pdf.pages for image in _images(page)]
        if images:
            _, fact["width_px"], fact["height_px"] = max(_images(pdf.pages[0]), key=lambda i: i[1] * i[2], default=images[0])
            fact["dpi_min"] = min((round(dpi) for dpi, _, _ in images if dpi), default=None)
    return fact


def _signed(field: pikepdf.Object, depth: int = 0) -> bool:
    """Whether a form field, or one below it, is a signature with a value: an empty one waits to be signed."""
    if field.get("/FT") == "/Sig" and "/V" in field:
        return True
    return depth < 8 and any(_signed(kid, depth + 1) for kid in field.get("/Kids", []))


def _images(page: pikepdf.Page) -> Iterator[tuple[float, int, int]]:
    """(dots per inch, width, height) of the pictures on a page that cover at least a tenth of it: no stamps, no logos."""
    box = [float(v) for v in page.mediabox]
    unit = float(page.obj.get("/UserUnit", 1)) / 72
    paper = abs(box[2] - box[0]) * abs(box[3] - box[1])
    known = page.images
    for name, matrix in get_objects_with_ctm(page):
        if (image := known.get(str(name))) is None:
            continue
        wide, high = math.hypot(matrix.a, matrix.b), math.hypot(matrix.c, matrix.d)
        if wide and high and wide * high >= paper / 10:
            width, height = int(image.get("/Width", 0)), int(image.get("/Height", 0))
            yield min(width / (wide * unit), height / (high * unit)), width, height


# --- pictures ----------------------------------------------------------------------------------------------------


def _tiff(data: bytes) -> dict[str, Any]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
        if not pages:
            raise ValueError("no page")
        for page in pages:
            if any(o + n > len(data) for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)) or not page.dataoffsets:
                raise ValueError("strips beyond the end of the file")
        return {
            "pages": len(pages),
            "width_px": int(pages[0].imagewidth),
            "height_px": int(pages[0].imagelength),
            "dpi_min": min((d for page in pages for d in _tiff_dpi(page)), default=None),
        }


def _tiff_dpi(page: tifffile.TiffPage) -> Iterator[int]:
    unit = int(page.tags.valueof("ResolutionUnit", _INCH))
    for name in ("XResolution", "YResolution"):
        top, bottom = page.tags.valueof(name, (0, 0))
        if top and bottom and unit in (_INCH, _CENTIMETRE):
            yield round(top / bottom * (2.54 if unit == _CENTIMETRE else 1))


def _picture(data: bytes, *, load: bool) -> dict[str, Any]:
    Image.MAX_IMAGE_PIXELS = None  # a cadastral sheet of A0 at 400 dpi is no bomb
    with Image.open(io.BytesIO(data)) as image:
        dpi = [round(float(d)) for d in image.info.get("dpi", ()) if d and float(d) > 1]
        fact = {"pages": 1, "width_px": image.width, "height_px": image.height, "dpi_min": min(dpi, default=None)}
        if load:
            image.load()
    return fact


def _jpeg(data: bytes) -> dict[str, Any]:
    # a file with its end mark is whole; without it (bytes behind, or half a file) only decoding tells
    return _picture(data, load=not _has_end(data, "jpeg"))


def _png(data: bytes) -> dict[str, Any]:
    at = 8
    while data[at + 4 : at + 8] != b"IEND":
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            raise ValueError("chunk beyond the end of the file")
        if zlib.crc32(data[at + 4 : at + 8 + size]) != int.from_bytes(data[at + 8 + size : at + 12 + size], "big"):
            raise ValueError("chunk with a wrong check sum")
        at += 12 + size
    return _picture(data, load=False)
