"""A commune after the merger of 1 July 2025: sheets and parcels renumbered, with the comparison table, and what happened to parcels since.

The new commune bears the code of one of those that went into it, and its numbers restart: nothing but the table, or the shape, says which parcel is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import shapely

from simulator.files import write_xlsx
from simulator.manifest import Manifest

COMMUNE = "25195"
"""The new commune that is sent by its own code: the six that went into Phường Bình Phước, all of district 689."""
MERGED_ON = date(2025, 7, 1)
BEFORE = date(2025, 6, 15)
"""The day of the last file under the old codes."""
LEAST = 12
"""Fewer parcels than this do not show all that can happen to one."""


def renumbered(before: Sequence[dict[str, Any]], manifest: Manifest) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
    """The parcels of the commune as they are now, and the rows of the comparison table: former commune, sheet, number, new ones, day."""
    now: list[dict[str, Any]] = []
    pairs: list[tuple[Any, ...]] = []
    since = MERGED_ON + timedelta(days=120)

    def take(
        parcels: Sequence[dict[str, Any]], shapes: Sequence[shapely.Polygon], on: date = MERGED_ON, *, told: bool = True, **changes: Any
    ) -> None:
        """These parcels became as many as there are shapes; the table says so, or not."""
        for shape in shapes:
            number = len(now)
            area = round(shape.area, 1)
            new = {**parcels[0], **changes, "sheet": number // 100 + 1, "number": number % 100 + 1, "shape": shape, "area": area, "legal": area}
            new["commune"] = replace(parcels[0]["commune"], code=COMMUNE)
            new["id"] = f"{COMMUNE}.{new['sheet']}.{new['number']}"
            now.append(new)
            if told:
                pairs.extend((p["commune"].code, p["sheet"], p["number"], COMMUNE, new["sheet"], new["number"], on) for p in parcels)

    def named(what: str, parcel: dict[str, Any]) -> None:
        manifest.trap("parcel_commune", what, parcel["id"])

    one, other = next(pair for pair in pairwise(before) if shapely.union(*(p["shape"] for p in pair)).geom_type == "Polygon")
    split, used, moved, untold, lost, *rest = (p for p in before if p is not one and p is not other)
    x0, y0, x1, y1 = split["shape"].bounds
    halves = [shapely.intersection(split["shape"], box) for box in (shapely.box(x0, y0, (x0 + x1) / 2, y1), shapely.box((x0 + x1) / 2, y0, x1, y1))]
    named("split in two, by the comparison table", split)
    take([split], [h for h in halves if h.geom_type == "Polygon"], since)
    named("merged with its neighbour, by the comparison table", one)
    take([one, other], [shapely.union(one["shape"], other["shape"])], since)
    named("land use changed with the new number", used)
    take([used], [used["shape"]], use="ODT" if used["use"] != "ODT" else "CLN")
    named("boundary changed with the new number", moved)
    take([moved], [shapely.buffer(moved["shape"], -0.5, join_style="mitre")])
    named("no row in the comparison table, found by its shape", untold)
    take([untold], [untold["shape"]], told=False)
    named("not carried over to the new commune", lost)
    for parcel in rest:
        take([parcel], [parcel["shape"]])
    pairs.append((COMMUNE, 99, 1, COMMUNE, 98, 1, MERGED_ON))
    manifest.trap("parcel_renumbering", "row of numbers that nobody knows", f"{COMMUNE}.99.1")
    return now, pairs


def write_table(out: Path, pairs: Sequence[tuple[Any, ...]], stamp: str, manifest: Manifest) -> None:
    """The comparison table as a workbook."""
    header = ["Mã xã cũ", "Tờ bản đồ cũ", "Số thửa cũ", "Mã xã mới", "Tờ bản đồ mới", "Số thửa mới", "Ngày hiệu lực"]
    rows = [[*row[:-1], f"{row[-1]:%d/%m/%Y}"] for row in pairs]
    write_xlsx(out / "parcel_renumbering" / f"bang_doi_chieu_{COMMUNE}_{stamp}.xlsx", "Bảng đối chiếu 01", header, rows)
    manifest.add("parcel_renumbering", 1, len(rows))
