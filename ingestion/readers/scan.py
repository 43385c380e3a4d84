"""Scanned files: what their headers say, and whether they are whole. One delivery, one row.

A broken file is a row with `is_damaged`, not a refused delivery: which scans are broken is what the department asks.
A file on which code of our own fails is never called broken: the error goes on, and the delivery is set aside.
PDF/A is what the file declares (XMP `pdfaid`), not validated; a signature is present, not verified.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pikepdf
import pyarrow as pa
from PIL import Image

from ingestion import readers
from ingestion.contract import Contract
from ingestion.model import Delivery, Problem
from ingestion.readers import tiff
from ingestion.readers.tiff import Broken

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
_HEADER_BYTES = 1024
_OURS = (__file__, tiff.__file__)
_DEEPEST = 8
"""Levels of forms in forms of a PDF that are looked into."""


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """One row a scan with the columns of clean.scan_file; `_line` is 1, `_raw` the file's name; see `ingestion.readers`.

    Problem of a file: file_gone, where it is no longer where it was seen.
    """
    problems = {d.delivery_id: _gone(d) for d in deliveries if d.content is None and not (d.path and d.path.is_file())}
    readable = [d for d in deliveries if d.delivery_id not in problems]
    facts = [_facts(d) for d in readable]
    rows = [{"file_name": d.name, "bytes": d.bytes, "sha256": d.sha256} | f for d, f in zip(readable, facts, strict=True)]
    table = pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in _SCHEMA.items()})
    con.register("scan_rows", table.append_column("_delivery_id", pa.array([d.delivery_id for d in readable], pa.string())))
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE {into} AS
        SELECT _delivery_id, 1::INTEGER AS _line, file_name AS _raw, NULL::VARCHAR AS _problem, {", ".join(_SCHEMA)}
        FROM scan_rows""")
    con.unregister("scan_rows")
    return problems


def _gone(delivery: Delivery) -> Problem:
    return Problem("file_gone", "Tệp quét không còn ở kho", delivery.name, "không có tệp", "Khôi phục tệp vào kho quét rồi chạy lại")


def _facts(delivery: Delivery) -> dict[str, Any]:
    readers.begin(delivery)
    return inspect(delivery.path if delivery.path else delivery.read_bytes(), Path(delivery.name).suffix)


def inspect(source: Path | bytes, suffix: str | None = None) -> dict[str, Any]:
    """Header facts of one scan, by column of clean.scan_file; never raises for a broken file, but for a fault of this module.

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
    except Broken as error:
        fact |= {"is_damaged": True, "damage_reason": error.reason}
    except Exception as error:  # each library has its own errors for each kind of damage, and what matters here is that it is
        if isinstance(error, MemoryError) or _raised_here(error):
            raise
        fact |= {"is_damaged": True, "damage_reason": "unreadable" if _has_end(data, kind) else "truncated"}
    if named is not None and kind != named:
        fact |= {"is_damaged": True, "damage_reason": "wrong_type"}
    return fact


def _raised_here(error: Exception) -> bool:
    """Whether an error comes from a statement of ours, not from inside a library."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    # an error of a library that is no Python code shows at our statement: those that have a class of its own are its word on the file
    return (
        place is not None and place.tb_frame.f_code.co_filename in _OURS and type(error).__module__ == "builtins" and not isinstance(error, OSError)
    )


def _has_end(data: bytes, kind: str) -> bool:
    """Whether the mark is there that ends a file of this kind; TIFF has none, its strips were looked for."""
    if kind == "pdf":
        return b"%%EOF" in data[-_HEADER_BYTES:]
    if kind == "jpeg":
        return data.rstrip(b"\0").endswith(b"\xff\xd9")
    return kind == "png" and data[-12:-4].endswith(b"IEND")


# --- PDF ---------------------------------------------------------------------------------------------------------

_NEXT_OBJECT = re.compile(rb"\s*(\d|xref|startxref|trailer)")


def _pdf(data: bytes) -> dict[str, Any]:
    # disks and mail pad with zeros, and the end mark is looked for in the last kilobyte
    data = data.rstrip(b"\0\t\n\r ")
    _, mark, behind = data.rpartition(b"%%EOF")
    if mark and _NEXT_OBJECT.match(behind):
        raise Broken("an update behind the end mark that has no end mark of its own")
    # by default damage is repaired without a word, and two thirds of all truncated files pass
    with pikepdf.open(io.BytesIO(data), attempt_recovery=False, suppress_warnings=True) as pdf:
        fact: dict[str, Any] = {"pages": len(pdf.pages), "is_encrypted": pdf.is_encrypted}
        if not pdf.pages:
            raise Broken("no page", "unreadable")
        form = pdf.Root.get("/AcroForm")
        if isinstance(form, pikepdf.Dictionary):
            fact["has_signature"] = any(_signed(f) for f in _items(form.get("/Fields")))
        with pdf.open_metadata() as meta:
            fact["pdfa_declared"] = meta.pdfa_status.lower() or None
        images = [image for page in pdf.pages for image in _images(page)]
        if images:
            _, fact["width_px"], fact["height_px"] = max(_images(pdf.pages[0]), key=lambda i: i[1] * i[2], default=images[0])
            fact["dpi_min"] = min((round(dpi) for dpi, _, _ in images if dpi), default=None)
    return fact


def _items(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, pikepdf.Array) else ()


def _signed(field: Any, depth: int = 0) -> bool:
    """Whether a form field, or one below it, is a signature with a value: an empty one waits to be signed."""
    if not isinstance(field, pikepdf.Dictionary):
        return False
    if field.get("/FT") == "/Sig" and "/V" in field:
        return True
    return depth < _DEEPEST and any(_signed(kid, depth + 1) for kid in _items(field.get("/Kids")))


def _numbers(values: Any, count: int) -> list[float] | None:
    """So many finite numbers, or None where the file holds something else in their place."""
    try:
        found = [float(v) for v in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def _images(page: pikepdf.Page) -> Iterator[tuple[float, int, int]]:
    """(dots per inch, width, height) of the pictures on a page that cover at least a tenth of it: no stamps, no logos."""
    box = _numbers(page.mediabox, 4)
    if box is None:
        raise Broken("a page without its size", "unreadable")
    unit = (_numbers([page.obj.get("/UserUnit", 1)], 1) or [1.0])[0] / 72 or 1 / 72
    paper = abs(box[2] - box[0]) * abs(box[3] - box[1])
    for width, height, matrix in _drawn(page.obj, page.resources, pikepdf.Matrix(), 0):
        wide, high = math.hypot(matrix.a, matrix.b), math.hypot(matrix.c, matrix.d)
        if wide and high and wide * high >= paper / 10:
            yield min(width / (wide * unit), height / (high * unit)), width, height


def _drawn(content: Any, resources: Any, matrix: pikepdf.Matrix, depth: int) -> Iterator[tuple[int, int, pikepdf.Matrix]]:
    """(width, height, matrix) of every picture that a page or a form draws, those in forms and those that stand in the text of the page too."""
    known = resources.get("/XObject") if isinstance(resources, pikepdf.Dictionary) else None
    stack: list[pikepdf.Matrix] = []
    for step in pikepdf.parse_content_stream(content):
        operands: Any = step.operands
        match str(step.operator):
            case "q":
                stack.append(matrix)
            case "Q":
                matrix = stack.pop() if stack else matrix
            case "cm":
                if numbers := _numbers(operands, 6):
                    matrix = pikepdf.Matrix(*numbers) @ matrix
            case "INLINE IMAGE":
                yield int(operands[0].width), int(operands[0].height), matrix
            case "Do":
                drawn = known.get(str(operands[0])) if isinstance(known, pikepdf.Dictionary) and operands else None
                if not isinstance(drawn, pikepdf.Stream):
                    continue
                if drawn.get("/Subtype") == "/Image":
                    if size := _numbers([drawn.get("/Width", 0), drawn.get("/Height", 0)], 2):
                        yield int(size[0]), int(size[1]), matrix
                elif drawn.get("/Subtype") == "/Form" and depth < _DEEPEST:
                    own = _numbers(drawn.get("/Matrix", []), 6)
                    yield from _drawn(drawn, drawn.get("/Resources", resources), pikepdf.Matrix(*own) @ matrix if own else matrix, depth + 1)


# --- pictures ----------------------------------------------------------------------------------------------------


def _tiff(data: bytes) -> dict[str, Any]:
    pages = tiff.pages(data)
    return {
        "pages": len(pages),
        "width_px": pages[0].width,
        "height_px": pages[0].height,
        "dpi_min": min((d for page in pages for d in page.dpi if d), default=None),
    }


def _picture(data: bytes, *, load: bool) -> dict[str, Any]:
    Image.MAX_IMAGE_PIXELS = None  # a cadastral sheet of A0 at 400 dpi is no bomb
    with Image.open(io.BytesIO(data)) as image:
        dpi = [round(float(d)) for d in image.info.get("dpi", ()) if d and float(d) > 1]
        fact = {"pages": 1, "width_px": image.width, "height_px": image.height, "dpi_min": min(dpi, default=None)}
        if load:
            image.load()
    return fact


def _jpeg(data: bytes) -> dict[str, Any]:
    # a file with its end mark is whole; without it (bytes behind, or half a file) only decoding tells, which takes zeros for pixels
    data = data.rstrip(b"\0")
    return _picture(data, load=not _has_end(data, "jpeg"))


def _png(data: bytes) -> dict[str, Any]:
    at = 8
    while data[at + 4 : at + 8] != b"IEND":
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            raise Broken("chunk beyond the end of the file")
        if zlib.crc32(data[at + 4 : at + 8 + size]) != int.from_bytes(data[at + 8 + size : at + 12 + size], "big"):
            raise Broken("chunk with a wrong check sum", "unreadable")
        at += 12 + size
    return _picture(data, load=False)
