"""Vector files: GeoPackage, Shapefile and File Geodatabase (the latter two zipped or not), through GDAL.

The CRS in the file must be the contract's, and the coordinates must be possible in it: a layer without a CRS, or degrees
said to be VN-2000, is refused as a whole. Text is Unicode, TCVN3 or Windows-1258; the latter two are read as Latin-1 and
decoded here, since GDAL's recoding of 1258 loses the last letter of values and of field names.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyogrio

from ingestion import crs as systems
from ingestion.contract import Contract
from ingestion.encodings import cp1258_to_unicode, tcvn3_to_unicode
from ingestion.model import Delivery, Problem
from ingestion.readers import match_headers

_TODO_CRS = "Gán đúng hệ tọa độ cho lớp dữ liệu rồi gửi lại; không tự đoán hệ tọa độ"


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Reads vector deliveries into the TEMP table `into`, geometry as WKB in the contract's CRS; see `ingestion.readers`."""
    problems: dict[str, Problem] = {}
    made = False
    for delivery in deliveries:
        with tempfile.TemporaryDirectory(prefix="tnmt-vector-") as scratch:
            problem = _read_one(con, contract, delivery, into, Path(scratch), made)
        if problem:
            problems[delivery.delivery_id] = problem
        else:
            made = True
    if not made:
        names = "".join(f", {n} {'BLOB' if c.type == 'geometry' else 'VARCHAR'}" for n, c in contract.file_columns.items())
        con.execute(f"CREATE OR REPLACE TEMP TABLE {into} (_delivery_id VARCHAR, _line INTEGER, _raw VARCHAR, _problem VARCHAR{names})")
    return problems


def _damaged(found: str) -> Problem:
    return Problem("not_a_vector_file", "Không mở được tệp bản đồ", "GeoPackage, Shapefile hoặc File Geodatabase nguyên vẹn", found,
                   "Xuất lại tệp từ phần mềm bản đồ rồi gửi lại")


def _locate(path: Path, scratch: Path) -> Path | Problem:
    """The file or folder that GDAL opens; archives are unpacked into `scratch`."""
    if not path.name.lower().endswith(".zip"):
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not (scratch / member).resolve().is_relative_to(scratch.resolve()):
                    return _damaged(f"tệp nén có đường dẫn ra ngoài: {member[:80]}")
            archive.extractall(scratch)
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        return _damaged(f"{type(error).__name__}: {str(error)[:120]}")
    found = sorted([p for p in scratch.rglob("*") if p.suffix.lower() in (".gdb", ".shp", ".gpkg") and (p.is_dir() == (p.suffix.lower() == ".gdb"))])
    return found[0] if found else _damaged("tệp nén không chứa .gdb, .shp hay .gpkg")


def _read_one(con: duckdb.DuckDBPyConnection, contract: Contract, delivery: Delivery, into: str, scratch: Path, append: bool) -> Problem | None:
    if delivery.path is None:
        raise ValueError("vector deliveries are files")
    path = _locate(delivery.path, scratch)
    if isinstance(path, Problem):
        return path
    f = contract.format
    encoding = None if f.text == "unicode" else "ISO-8859-1"
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path)]
        if f.layer is not None and f.layer not in layers:
            return Problem("layer_missing", f"Không có lớp «{f.layer}»", f.layer, ", ".join(layers), "Đổi tên lớp, hoặc sửa `layer` trong hợp đồng")
        layer = f.layer or layers[0]
        info = pyogrio.read_info(path, layer=layer, encoding=encoding, force_total_bounds=True)
    except Exception as error:  # GDAL has one class for each way in which a file can be broken
        return _damaged(f"{type(error).__name__}: {str(error).replace(str(delivery.path), delivery.name)[:160]}")
    if "geometry" in contract.columns:
        if not info["crs"]:
            return Problem("crs_missing", "Lớp dữ liệu không khai báo hệ tọa độ", str(f.crs), "không có", _TODO_CRS)
        if not systems.same(info["crs"], str(f.crs)):
            return Problem("crs_other", "Hệ tọa độ khác hợp đồng", str(f.crs), systems.label(info["crs"]), _TODO_CRS)
        bounds, allowed = info["total_bounds"], systems.plausible(str(f.crs))
        if bounds is not None and allowed is not None and info["features"] and not (
                allowed[0] <= bounds[0] and allowed[1] <= bounds[1] and bounds[2] <= allowed[2] and bounds[3] <= allowed[3]):
            return Problem("crs_impossible", "Tọa độ không thể thuộc hệ tọa độ đã khai báo",
                           f"{f.crs}: x {allowed[0]:.0f}…{allowed[2]:.0f}, y {allowed[1]:.0f}…{allowed[3]:.0f}",
                           f"x {bounds[0]:.4f}…{bounds[2]:.4f}, y {bounds[1]:.4f}…{bounds[3]:.4f}",
                           "Kiểm tra: kinh/vĩ độ ghi nhầm là VN-2000, hoặc đảo trục X–Y; chuyển hệ tọa độ đúng rồi gửi lại")
    decode = {"unicode": None, "tcvn3": tcvn3_to_unicode, "windows-1258": lambda t: cp1258_to_unicode(t.encode("latin-1"))}[f.text]
    names = {(decode(n) if decode else n): n for n in info["fields"]}
    matched = match_headers(contract, list(names))
    if isinstance(matched, Problem):
        return matched
    geometry = next((n for n, c in contract.columns.items() if c.type == "geometry"), None)
    with pyogrio.open_arrow(path, layer=layer, encoding=encoding, use_pyarrow=True, columns=sorted({names[h] for h in matched.values()}),
                            read_geometry=geometry is not None, force_2d=True) as (meta, reader):
        shape = meta["geometry_name"] or "wkb_geometry"
        first = not append
        line = 0
        for batch in reader:
            table = pa.Table.from_batches([batch])
            if decode:
                table = _decoded(table, decode)
            columns = {name: table[names[header]] for name, header in matched.items()}
            if geometry is not None:
                columns[geometry] = table[shape].cast(pa.binary())
            columns["_line"] = pa.array(range(line + 1, line + 1 + len(table)), pa.int32())
            line += len(table)
            con.register("vector_batch", pa.table(columns))
            fields = ", ".join(f"{n} := {n}" for n in matched)
            select = (f"SELECT '{delivery.delivery_id}' AS _delivery_id, _line, CAST(to_json(struct_pack({fields})) AS VARCHAR) AS _raw, "
                      + (f"CASE WHEN {geometry} IS NULL THEN 'geometry_missing' END" if geometry else "NULL::VARCHAR") + " AS _problem, "
                      + ", ".join([*matched, *([geometry] if geometry else [])]) + " FROM vector_batch")
            con.execute(f"CREATE OR REPLACE TEMP TABLE {into} AS {select}" if first else f"INSERT INTO {into} BY NAME {select}")
            con.unregister("vector_batch")
            first = False
    if line == 0:
        return Problem("empty_file", "Lớp dữ liệu không có đối tượng nào", "ít nhất một đối tượng", "0", "Kiểm tra lại việc xuất dữ liệu rồi gửi lại")
    return None


def _decoded(table: pa.Table, decode) -> pa.Table:  # type: ignore[no-untyped-def]  # str -> str
    for i, name in enumerate(table.column_names):
        if pa.types.is_string(table[name].type) or pa.types.is_large_string(table[name].type):
            coded = table[name].combine_chunks().dictionary_encode()
            values = pa.array([None if v is None else decode(v) for v in coded.dictionary.to_pylist()], pa.string())
            table = table.set_column(i, name, values.take(coded.indices))
    return table
