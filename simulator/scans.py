"""Scanned dossiers: real small PDF, TIFF, JPEG and PNG files, some of them broken, and the list that links them."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
from PIL import Image, ImageDraw

from simulator.files import write_csv
from simulator.manifest import Manifest
from simulator.size import Size


def _page(number: int, width: int = 413, height: int = 585) -> Image.Image:
    """A page as a scanner would see it, small enough for a sample (A4 at 50 dots an inch)."""
    image = Image.new("L", (width, height), 250)
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, width - 20, height - 20), outline=60)
    for line in range(14):
        draw.line((40, 60 + 34 * line, 60 + (number * 37 + line * 53) % (width - 120) + 60, 60 + 34 * line), fill=90, width=2)
    return image


def _pdf(number: int, pages: int, *, pdfa: bool, signed: bool, encrypted: bool) -> bytes:
    pdf = pikepdf.new()
    for i in range(pages):
        buffer = io.BytesIO()
        _page(number + i).save(buffer, "JPEG", quality=40)
        page = pdf.add_blank_page(page_size=(595, 842))
        image = pikepdf.Stream(pdf, buffer.getvalue())
        image.update(
            pikepdf.Dictionary(
                Type=pikepdf.Name.XObject,
                Subtype=pikepdf.Name.Image,
                Width=413,
                Height=585,
                ColorSpace=pikepdf.Name.DeviceGray,
                BitsPerComponent=8,
                Filter=pikepdf.Name.DCTDecode,
            )
        )
        page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im0=image))
        page.Contents = pikepdf.Stream(pdf, b"q 595 0 0 842 0 0 cm /Im0 Do Q")
    if pdfa:
        xmp = (
            '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/"><pdfaid:part>2</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>'
            '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
        )
        pdf.Root.Metadata = pikepdf.Stream(pdf, xmp.encode(), Type=pikepdf.Name.Metadata, Subtype=pikepdf.Name.XML)
    if signed:
        field = pdf.make_indirect(
            pikepdf.Dictionary(
                FT=pikepdf.Name.Sig,
                T="ChuKy1",
                V=pikepdf.Dictionary(
                    Type=pikepdf.Name.Sig, Filter=pikepdf.Name("/Adobe.PPKLite"), SubFilter=pikepdf.Name("/adbe.pkcs7.detached"), Contents=b"\0" * 32
                ),
            )
        )
        pdf.Root.AcroForm = pikepdf.Dictionary(Fields=pikepdf.Array([field]), SigFlags=3)
    out = io.BytesIO()
    if encrypted:
        # RC4 as old scanners use it: AES would begin with random bytes, and no two samples would be the same
        pdf.save(out, encryption=pikepdf.Encryption(owner="so-tnmt", user="", R=3, aes=False, metadata=False), static_id=True)
    else:
        pdf.save(out, deterministic_id=True)
    return out.getvalue()


def _image(number: int, form: str) -> bytes:
    out = io.BytesIO()
    if form == "TIFF":
        _page(number).save(out, form, save_all=True, append_images=[_page(number + 1)], dpi=(200, 200), compression="tiff_lzw")
    else:
        _page(number).save(out, form, dpi=(200, 200))
    return out.getvalue()


def write(out: Path, certificates: list[dict[str, Any]], seed: int, end: date, size: Size, manifest: Manifest) -> None:
    """Writes `size.scans` files and the list of scanned dossiers; most certificates of a few communes are scanned, others not."""
    rng = np.random.default_rng([seed, 13])
    folder = out / "scan_file"
    rows = []
    order = rng.permutation(len(certificates))[: size.scans]
    for n, index in enumerate(order):
        certificate = certificates[int(index)]
        kind = ("pdf", "pdf", "pdf", "pdf", "jpg", "tif", "png")[n % 7]
        component = "GCN" if kind == "pdf" else f"GT-{n % 3 + 1:02d}"
        name = f"{certificate['commune']}/{certificate['serial'].replace(' ', '')}-{component}.{kind}"
        signed = bool(rng.random() < 0.55)
        if kind == "pdf":
            data = _pdf(n, 1 + n % 4, pdfa=bool(rng.random() < 0.6), signed=signed, encrypted=n % 97 == 40)
        else:
            data = _image(n, {"jpg": "JPEG", "tif": "TIFF", "png": "PNG"}[kind])
            signed = False
        trap = None
        if n % 29 == 7:
            data, trap = data[: len(data) // 2], "truncated"
        elif n % 151 == 60:
            data, trap = b"", "empty"
        elif n % 113 == 50:
            data, trap = b"<html><body>504 Gateway Time-out</body></html>", "wrong_type"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if trap:
            manifest.trap("scan_file", trap, name)
        rows.append(
            [
                f"HSQ{n + 1:06d}",
                certificate["id"] if rng.random() < 0.93 else None,
                certificate["commune"],
                "Giấy chứng nhận" if kind == "pdf" else "Giấy tờ",
                name,
                "Có" if signed else "Không",
                f"Kho {n % 3 + 1}, kệ {n % 20 + 1}",
            ]
        )
        if n % 67 == 11:
            lost = f"{certificate['commune']}/{certificate['serial'].replace(' ', '')}-GT-09.pdf"
            manifest.trap("scan_dossier", "listed, but there is no such file", lost)
            rows.append([f"HSQ{900_000 + n}", certificate["id"], certificate["commune"], "Giấy tờ", lost, "Không", None])
    manifest.add("scan_file", len(order), len(order))
    write_csv(
        out / "scan_dossier" / f"ho_so_quet_{end:%Y%m%d}.csv",
        ["Mã hồ sơ quét", "Mã GCN", "Mã xã", "Loại thành phần", "Tên tệp", "Đã ký số", "Vị trí lưu trữ"],
        rows,
    )
    manifest.add("scan_dossier", 1, len(rows))
