"""Scanned files: what their headers say, and whether they are whole. One delivery, one row.

A broken file is a row with `is_damaged`, not a refused delivery: which scans are broken is what the department asks.
PDF/A is what the file declares (XMP `pdfaid`), not validated; a signature is present, not verified.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pikepdf
import pyarrow as pa
import tifffile
from PIL import Image

from ingestion.contract import Contract
from ingestion.model import Delivery, Problem

_MAGIC = ((b"%PDF", "pdf"), (b"II*\0", "tiff"), (b"MM\0*", "tiff"), (b"II+\0", "tiff"), (b"MM\0+", "tiff"), (b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"))
_SUFFIX = {".pdf": "pdf", ".tif": "tiff", ".tiff": "tiff", ".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
_SCHEMA = {
    "file_name": pa.string(), "format": pa.string(), "bytes": pa.int64(), "sha256": pa.string(), "pages": pa.int32(), "dpi_min": pa.int32(),
    "width_px": pa.int32(), "height_px": pa.int32(), "is_damaged": pa.bool_(), "damage_reason": pa.string(), "pdfa_declared": pa.string(),
    "has_signature": pa.bool_(), "is_encrypted": pa.bool_(),
}


def inspect(path: Path) -> dict[str, Any]:
    """Header facts of one scan. Never raises for a broken file: `damage_reason` is empty, wrong_type, truncated or unreadable."""
    fact: dict[str, Any] = {"format": _SUFFIX.get(path.suffix.lower()), "is_damaged": False, "has_signature": False, "is_encrypted": False}
    data = path.read_bytes()
    if not data:
        return fact | {"is_damaged": True, "damage_reason": "empty"}
    kind = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    if kind is None or (fact["format"] is not None and kind != fact["format"]):
        return fact | {"is_damaged": True, "damage_reason": "wrong_type"}
    fact["format"] = kind
    try:
        fact |= _pdf(data) if kind == "pdf" else _tiff(data) if kind == "tiff" else _picture(data, kind)
    except pikepdf.PasswordError:
        fact |= {"is_encrypted": True}
    except Exception:
        tail = {"pdf": b"%%EOF" in data[-1024:], "jpeg": data.rstrip(b"\0")[-2:] == b"\xff\xd9", "png": b"IEND" in data[-12:]}.get(kind, False)
        fact |= {"is_damaged": True, "damage_reason": "unreadable" if tail else "truncated"}
    return fact


def _pdf(data: bytes) -> dict[str, Any]:
    # without recovery: the default repairs silently, and two thirds of truncated files would pass
    with pikepdf.open(io.BytesIO(data), attempt_recovery=False) as pdf:
        fact: dict[str, Any] = {"pages": len(pdf.pages), "is_encrypted": pdf.is_encrypted, "has_signature": False}
        form = pdf.Root.get("/AcroForm")
        if form is not None:
            fact["has_signature"] = any(f.get("/FT") == "/Sig" and "/V" in f for f in form.get("/Fields", []))
        if "/Metadata" in pdf.Root:
            xmp = pdf.Root.Metadata.read_bytes()
            part, level = (re.search(rb"pdfaid:" + key + rb"(?:>|=\")\s*([0-9A-Za-z]+)", xmp) for key in (b"part", b"conformance"))
            if part:
                fact["pdfa_declared"] = part.group(1).decode() + (level.group(1).decode().lower() if level else "")
        dots = []
        for page in pdf.pages:
            box = [float(v) for v in page.mediabox]
            width = abs(box[2] - box[0]) / 72
            for image in page.images.values():
                fact.setdefault("width_px", int(image.get("/Width", 0)))
                fact.setdefault("height_px", int(image.get("/Height", 0)))
                if width:
                    dots.append(round(int(image.get("/Width", 0)) / width))
        if dots:
            fact["dpi_min"] = min(dots)
    return fact


def _tiff(data: bytes) -> dict[str, Any]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        for each in file.pages:
            end = max((o + n for o, n in zip(each.dataoffsets, each.databytecounts, strict=True)), default=0)
            if end > len(data):
                raise ValueError("strips beyond the end of the file")
        resolution = page.tags.get("XResolution")
        unit = page.tags.get("ResolutionUnit")
        dpi = None
        if resolution is not None and resolution.value[1]:
            dpi = round(resolution.value[0] / resolution.value[1] * (2.54 if unit is not None and int(unit.value) == 3 else 1))
        return {"pages": len(file.pages), "width_px": int(page.imagewidth), "height_px": int(page.imagelength), "dpi_min": dpi}


def _picture(data: bytes, kind: str) -> dict[str, Any]:
    with Image.open(io.BytesIO(data)) as image:
        dpi = image.info.get("dpi")
        fact = {"pages": 1, "width_px": image.width, "height_px": image.height, "dpi_min": round(float(dpi[0])) if dpi else None}
        image.load()  # `verify` passes half a file
    return fact


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """One row a scan in the TEMP table `into`; see `ingestion.readers`."""
    paths = [d.path or Path() for d in deliveries]
    if len(paths) > 200:
        with ProcessPoolExecutor(2) as pool:
            facts = list(pool.map(inspect, paths, chunksize=32))
    else:
        facts = [inspect(p) for p in paths]
    rows = [{"file_name": d.name, "bytes": d.bytes, "sha256": d.sha256, **fact} for d, fact in zip(deliveries, facts, strict=True)]
    table = pa.table({name: pa.array([r.get(name) for r in rows], kind) for name, kind in _SCHEMA.items()})
    con.register("scans", table.append_column("_delivery_id", pa.array([d.delivery_id for d in deliveries], pa.string())))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {into} AS SELECT _delivery_id, 1::INTEGER AS _line, file_name AS _raw, NULL::VARCHAR AS _problem, "
                f"{', '.join(_SCHEMA)} FROM scans")
    con.unregister("scans")
    return {}
