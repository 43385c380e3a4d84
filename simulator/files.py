"""Writers of the files that senders send; equal content gives equal bytes (creation times are fixed)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
import pyogrio.raw
import shapely
import xlsxwriter

FIXED = datetime(2026, 1, 1)


def write_xlsx(path: Path, sheet: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A workbook with one sheet, header in row 1; dates as dates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = xlsxwriter.Workbook(path, {"default_date_format": "dd/mm/yyyy", "constant_memory": True})
    book.set_properties({"created": FIXED, "author": "Sở TN&MT (dữ liệu mẫu)"})
    page = book.add_worksheet(sheet)
    page.write_row(0, 0, header)
    for number, row in enumerate(rows, 1):
        page.write_row(number, 0, ["" if v is None else v for v in row])
    book.close()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, delimiter: str = ",", encode: Any = None) -> None:
    """A CSV file in UTF-8, or in what `encode` (text -> bytes) makes of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(["" if v is None else v for v in row] for row in rows)
    path.write_bytes(encode(buffer.getvalue()) if encode else buffer.getvalue().encode())


def write_vector(
    path: Path, layer: str, columns: Mapping[str, Any], geometry: Sequence[Any], *, driver: str = "GPKG", crs: str = "EPSG:9212", **options: Any
) -> None:
    """A vector file of polygons. GeoPackage keeps the time of its last change: that is fixed too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2026-01-01T00:00:00.000Z"})
    shapes = np.asarray(geometry, dtype=object)
    many = bool((shapely.get_type_id(shapes) == shapely.GeometryType.MULTIPOLYGON).any())
    if many:
        shapes = np.asarray([s if s.geom_type == "MultiPolygon" else shapely.multipolygons([s]) for s in shapes], dtype=object)
    if "encoding" in options:
        # GDAL's Arrow writer turns text of another encoding into hexadecimal digits; the array writer does not
        pyogrio.raw.write(
            path,
            shapely.to_wkb(shapes, output_dimension=2),
            [np.asarray(v, dtype=object if isinstance(v[0], str) else None) for v in columns.values()],
            list(columns),
            layer=layer,
            driver=driver,
            geometry_type="MultiPolygon" if many else "Polygon",
            crs=crs,
            **options,
        )
        return
    table = pa.table({**{k: pa.array(v) for k, v in columns.items()}, "geometry": pa.array(shapely.to_wkb(shapes, output_dimension=2), pa.binary())})
    pyogrio.write_arrow(
        table, path, layer=layer, driver=driver, geometry_name="geometry", geometry_type="MultiPolygon" if many else "Polygon", crs=crs, **options
    )
