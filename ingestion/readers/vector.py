"""Vector files: GeoPackage, Shapefile and File Geodatabase, zipped or not, through GDAL's Arrow stream.

The CRS in the file must be the contract's, and the coordinates must be possible in it. Text is Unicode, TCVN3 or
Windows-1258; the latter two are read as ISO-8859-1 and decoded here, since GDAL 3.12 recodes Windows-1258 without the
last letter of every value and field name. GDAL reads most damaged files without a word, up to the damage: what a file
says of its own size is held against what was read.
"""

from __future__ import annotations

import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyogrio

from ingestion import crs as systems
from ingestion import readers
from ingestion.cast import literal
from ingestion.contract import Contract
from ingestion.encodings import cp1258_to_unicode, tcvn3_to_unicode
from ingestion.model import Delivery, Problem, unfinished_geopackage
from ingestion.readers import guard, match_headers
from ingestion.readers.rows import LINE_COLUMNS, Unreadable, columns_of
from ingestion.readers.tabular import quoted

_TODO_CRS = "Gán đúng hệ tọa độ cho lớp dữ liệu rồi gửi lại; hệ thống không tự đoán hệ tọa độ"
_DECODERS = {"tcvn3": tcvn3_to_unicode, "windows-1258": cp1258_to_unicode}
_ROWS = 32_768
_FIRST_CURVE = 8
_COLLECTION = 7
_OUTSIDE_SHARE = 0.5
"""Share of features outside the CRS from which on the file is mislabelled as a whole; below, single rows are wrong."""


@dataclass(frozen=True)
class _Layer:
    """One layer as GDAL opens it."""

    path: Path
    name: str
    encoding: str | None
    info: dict[str, Any]
    features: int
    """How many there are, counted where the format allows, without GDAL."""


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Features as rows, geometry as two-dimensional WKB without curves, in the contract's CRS; see `ingestion.readers`.

    `_line` is the order of the feature in its layer (from 1), `_raw` JSON of the columns that the contract names.
    `_problem` of a row: `geometry_missing` (NULL or empty), `geometry_unreadable`, `coordinates_outside`.
    Problems of a file: not_a_vector_file, damaged_file, layer_missing, layer_ambiguous, crs_missing, crs_other,
    crs_impossible, geometry_missing, wrong_encoding, empty_file, and those of `match_headers`.
    """
    shape = geometry_of(contract)
    create_empty(con, contract, into)
    problems: dict[str, Problem] = {}
    for delivery in deliveries:
        readers.begin(delivery)
        with tempfile.TemporaryDirectory(prefix="vector-") as scratch:
            try:
                layer = _open(contract, delivery, Path(scratch))
                _fill(con, contract, delivery, layer, into)
                if shape and (problem := impossible(con, contract, delivery.delivery_id, into, shape)):
                    raise Unreadable(problem)
            except Unreadable as error:
                con.execute(f"DELETE FROM {into} WHERE _delivery_id = ?", [delivery.delivery_id])
                problems[delivery.delivery_id] = error.problem
    return problems


def geometry_of(contract: Contract) -> str | None:
    """Name of the contract's geometry column."""
    return next((n for n, c in contract.file_columns.items() if c.type == "geometry"), None)


def create_empty(con: duckdb.DuckDBPyConnection, contract: Contract, into: str) -> None:
    """Makes `into` without rows; `append` gives its columns the types that a file has."""
    shape = geometry_of(contract)
    layout = LINE_COLUMNS | dict.fromkeys(columns_of(contract), "VARCHAR") | ({shape: "BLOB"} if shape else {})
    con.execute(f"CREATE OR REPLACE TEMP TABLE {into} ({', '.join(f'{quoted(n)} {t}' for n, t in layout.items())})")


def append(con: duckdb.DuckDBPyConnection, into: str, select: str) -> None:
    """Inserts the rows of `select` by name; a column whose type differs from that of rows already there becomes text."""
    existing = {row[0]: row[1] for row in con.execute(f"DESCRIBE {into}").fetchall()}
    arriving = {row[0]: row[1] for row in con.execute(f"DESCRIBE {select}").fetchall()}
    changed = [n for n, kind in arriving.items() if existing.get(n, kind) != kind]
    if changed:
        empty = not con.execute(f"SELECT 1 FROM {into} LIMIT 1").fetchall()
        for name in changed:
            con.execute(f"ALTER TABLE {into} ALTER {quoted(name)} TYPE {arriving[name] if empty else 'VARCHAR'}")
    con.execute(f"INSERT INTO {into} BY NAME {select}")


def shape_columns(contract: Contract, source: str) -> tuple[str, str, str]:
    """SQL of a geometry: the parsed one from WKB `source`, and of `g`, that one, the row's problem and the WKB to keep."""
    area = systems.plausible(str(contract.format.crs))
    inside = "isfinite(ST_Area(g) + ST_Length(g))"  # bounding boxes pass over a vertex that is not a number
    if area is not None:
        inside += f" AND ST_XMin(g) >= {area[0]} AND ST_YMin(g) >= {area[1]} AND ST_XMax(g) <= {area[2]} AND ST_YMax(g) <= {area[3]}"
    problem = f"""CASE WHEN {source} IS NULL OR ST_IsEmpty(g) THEN 'geometry_missing'
        WHEN g IS NULL THEN 'geometry_unreadable' WHEN NOT ({inside}) THEN 'coordinates_outside' END"""
    return (f"TRY(ST_Force2D(ST_GeomFromWKB({source})))", problem, "CASE WHEN NOT ST_IsEmpty(g) THEN CAST(ST_AsWKB(g) AS BLOB) END")


def impossible(con: duckdb.DuckDBPyConnection, contract: Contract, delivery_id: str, into: str, shape: str) -> Problem | None:
    """The Problem of a delivery most of whose coordinates cannot be of the CRS that it declares, or None."""
    rows, outside = con.execute(
        f"""
        SELECT count(*), count(*) FILTER (_problem = 'coordinates_outside') FROM {into}
        WHERE _delivery_id = ? AND {quoted(shape)} IS NOT NULL""",
        [delivery_id],
    ).fetchall()[0]
    if outside <= rows * _OUTSIDE_SHARE:
        return None
    x0, y0, x1, y1 = con.execute(
        f"""
        SELECT min(ST_XMin(g)), min(ST_YMin(g)), max(ST_XMax(g)), max(ST_YMax(g))
        FROM (SELECT ST_GeomFromWKB({quoted(shape)}) AS g FROM {into} WHERE _delivery_id = ?)""",
        [delivery_id],
    ).fetchall()[0]
    area = systems.plausible(str(contract.format.crs)) or (0.0, 0.0, 0.0, 0.0)
    swapped = area[0] <= y0 and y1 <= area[2] and area[1] <= x0 and x1 <= area[3]
    degrees = max(abs(x0), abs(x1)) <= 180 and max(abs(y0), abs(y1)) <= 90
    hint = "; hai trục X, Y bị đổi chỗ" if swapped else "; giống kinh độ, vĩ độ" if degrees else ""
    return Problem(
        "crs_impossible",
        "Tọa độ không thể thuộc hệ tọa độ đã khai báo",
        f"{contract.format.crs}: x {area[0]:.0f}…{area[2]:.0f}, y {area[1]:.0f}…{area[3]:.0f}",
        f"x {x0:.4f}…{x1:.4f}, y {y0:.4f}…{y1:.4f} ({outside} trên {rows} đối tượng nằm ngoài{hint})",
        "Chuyển dữ liệu về đúng hệ tọa độ, hoặc gán lại đúng hệ tọa độ, rồi gửi lại",
    )


# --- opening -----------------------------------------------------------------------------------------------------


def _unreadable(found: str) -> Unreadable:
    return Unreadable(
        Problem(
            "not_a_vector_file",
            "Không mở được tệp bản đồ",
            "GeoPackage, Shapefile hoặc File Geodatabase nguyên vẹn",
            found,
            "Xuất lại tệp từ phần mềm bản đồ rồi gửi lại",
        )
    )


def _damaged(expected: str, found: str) -> Unreadable:
    return Unreadable(Problem("damaged_file", "Tệp bản đồ bị hỏng hoặc bị cắt cụt", expected, found, "Xuất lại tệp từ phần mềm bản đồ rồi gửi lại"))


def _said(error: Exception, delivery: Delivery, scratch: Path) -> str:
    """An error of GDAL without the paths of this machine."""
    text = str(error).splitlines()[0] if str(error) else ""
    for path in (str(delivery.path), str(scratch)):
        text = text.replace(path, delivery.name)
    return f"{type(error).__name__}: {text[:200]}"


def _datasets(delivery: Delivery, scratch: Path) -> list[Path]:
    """What GDAL can open in a delivery: geodatabase folders, GeoPackages and Shapefiles; archives are unpacked."""
    path = delivery.path
    if path is None:
        path = scratch / Path(delivery.name).name
        path.write_bytes(delivery.read_bytes())
    if path.is_file() and zipfile.is_zipfile(path):
        # the root is named so for archives that hold the files of a geodatabase without its folder
        root = scratch / "archive.gdb"
        try:
            problem = guard.unpack(path, root)
        except guard.BAD_ARCHIVE as error:
            raise _damaged("tệp nén zip nguyên vẹn, không mật khẩu", _said(error, delivery, scratch)) from None
        if problem:
            raise Unreadable(problem)
        path = root
    elif path.is_file():
        if path.suffix.lower() == ".zip":
            raise _damaged("tệp nén zip nguyên vẹn", f"{path.stat().st_size} byte không phải zip")
        return [path]
    elif not path.exists():
        raise _unreadable("không còn tệp đã tiếp nhận")
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and not guard.is_litter(p.relative_to(path).as_posix())]
    databases = sorted({p.parent for p in files if p.suffix.lower() == ".gdbtable"})
    found = databases + [p for p in files if p.suffix.lower() in (".gpkg", ".shp")]
    if not found:
        raise _unreadable("tệp nén không chứa .gdb, .gpkg hay .shp")
    return found


_CONTAINERS = {
    ".shp.zip": "ESRI Shapefile",
    ".gpkg": "GPKG",
    ".gpkg.zip": "GPKG",
    ".gdb": "OpenFileGDB",
    ".gdb.zip": "OpenFileGDB",
}
"""What the end of a name says that the file is, by GDAL's names."""


def _container_of(name: str) -> str | None:
    """What a name says, by which its format, and so how its letters are read, was chosen; None where it says nothing certain."""
    return next((driver for end, driver in _CONTAINERS.items() if name.lower().endswith(end)), None)


def _open(contract: Contract, delivery: Delivery, scratch: Path) -> _Layer:
    datasets = _datasets(delivery, scratch)
    wanted = contract.format.layer
    layers: list[tuple[Path, str, bool]] = []
    try:
        for path in datasets:
            _check(path)
            layers += [(path, str(name), kind is not None) for name, kind in pyogrio.list_layers(path)]
        spatial = [x for x in layers if x[2]] or layers
        fitting = spatial if wanted is None else [x for x in layers if x[1].casefold() == wanted.casefold()]
        names = ", ".join(name for _, name, _ in layers)
        if not fitting:
            raise Unreadable(
                Problem(
                    "layer_missing",
                    f"Không có lớp «{wanted}»",
                    str(wanted),
                    names or "không có lớp nào",
                    f"Đổi tên lớp, hoặc sửa format.layer trong {contract.source}.yaml",
                )
            )
        if len(fitting) > 1:
            raise Unreadable(
                Problem(
                    "layer_ambiguous",
                    "Tệp có nhiều lớp, không rõ phải đọc lớp nào",
                    "một lớp",
                    names,
                    f"Chỉ gửi một lớp, hoặc ghi format.layer trong {contract.source}.yaml",
                )
            )
        path, name, _ = fitting[0]
        encoding = None
        if path.suffix.lower() == ".shp":
            encoding = "UTF-8" if contract.format.text == "unicode" else "ISO-8859-1"
            if encoding != "UTF-8" and (said := _code_page(path)) in _UTF8:
                raise Unreadable(_not_agreed(contract, f"tệp .cpg ghi {said}"))
        info = pyogrio.read_info(path, layer=name, encoding=encoding)
        if (named := _container_of(delivery.name)) not in (None, info["driver"]):
            raise Unreadable(
                Problem(
                    "not_a_vector_file",
                    "Nội dung tệp khác với đuôi tên tệp, là cơ sở để chọn cách đọc",
                    str(named),
                    str(info["driver"]),
                    "Đặt lại đuôi tên tệp theo đúng định dạng rồi gửi lại",
                )
            )
        features = _count(path, name, info)
    except Unreadable:
        raise
    except Exception as error:  # GDAL and its bindings have a class for each way in which a file can be broken
        raise _unreadable(_said(error, delivery, scratch)) from None
    if geometry_of(contract):
        if info["geometry_type"] is None:
            raise Unreadable(
                Problem(
                    "geometry_missing",
                    f"Lớp «{name}» không có hình học",
                    "lớp không gian",
                    "bảng thuộc tính",
                    "Gửi lớp bản đồ, không gửi bảng thuộc tính",
                )
            )
        if not info["crs"]:
            raise Unreadable(
                Problem("crs_missing", "Lớp dữ liệu không khai báo hệ tọa độ", systems.label(str(contract.format.crs)), "không có", _TODO_CRS)
            )
        if not systems.same(info["crs"], str(contract.format.crs)):
            raise Unreadable(
                Problem("crs_other", "Hệ tọa độ khác hợp đồng", systems.label(str(contract.format.crs)), systems.label(info["crs"]), _TODO_CRS)
            )
    if not features:
        raise Unreadable(
            Problem("empty_file", f"Lớp «{name}» không có đối tượng nào", "ít nhất một đối tượng", "0", "Kiểm tra lại việc xuất dữ liệu rồi gửi lại")
        )
    return _Layer(path, name, encoding, info, features)


def _check(path: Path) -> None:
    """Holds a file against what it says of itself, where GDAL does not: Unreadable for damage."""
    suffix = path.suffix.lower()
    if suffix == ".gpkg":
        _check_geopackage(path)
    elif suffix == ".shp":
        parts = {s: _beside(path, s) for s in (".shp", ".shx", ".dbf")}
        if missing := [s for s, part in parts.items() if part is None]:
            beside = ", ".join(sorted(p.name for p in path.parent.iterdir() if p.is_file() and not guard.is_litter(p.name)))
            raise _damaged("đủ ba tệp .shp, .shx, .dbf", f"thiếu {', '.join(missing)}; có {beside}")
        for part in parts.values():
            assert part is not None
            with part.open("rb") as file:
                head = file.read(100)
            if part.suffix.lower() == ".dbf":
                size = int.from_bytes(head[8:10], "little") + int.from_bytes(head[10:12], "little") * int.from_bytes(head[4:8], "little")
            else:
                size = 2 * int.from_bytes(head[24:28], "big")
            if len(head) < 32 or part.stat().st_size < size:
                raise _damaged(f"{part.name}: {size} byte theo phần đầu tệp", f"{part.stat().st_size} byte")


def _check_geopackage(path: Path) -> None:
    """Unreadable for damage, and for a file whose last edits lie, or may lie, in a log beside it (https://sqlite.org/wal.html)."""
    with path.open("rb") as file:
        head = file.read(20)
    left = next((log for log in (f"{path.name}-wal", f"{path.name}-journal") if _size(path.with_name(log))), None)
    if left or head[18:20] == b"\2\2":
        raise Unreadable(unfinished_geopackage(left or "phần đầu tệp ghi chế độ nhật ký (WAL)"))
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as base:
            found = str(base.execute("PRAGMA quick_check(1)").fetchall()[0][0])
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise _unreadable("không phải cơ sở dữ liệu SQLite") from None
        found = str(error)
    if found != "ok":
        raise _damaged("GeoPackage nguyên vẹn", found.replace("\n", " ")[:200])


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _count(path: Path, layer: str, info: dict[str, Any]) -> int:
    """Features that a layer holds. What stands beside the data (the count of a GeoPackage, the head of a .dbf) is a hint that other programs do not keep."""
    suffix = path.suffix.lower()
    if suffix == ".gpkg":
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as base:
            return int(base.execute(f"SELECT count(*) FROM {quoted(layer)}").fetchall()[0][0])
    if suffix == ".shp":
        return _records(path)
    return int(info["features"])


def _records(path: Path) -> int:
    """Records of a Shapefile that are not marked as deleted. Raises Unreadable where its parts do not hold equally many."""
    dbf, shx = _beside(path, ".dbf"), _beside(path, ".shx")
    assert dbf is not None and shx is not None
    with dbf.open("rb") as file:
        head = file.read(32)
    count, start, step = (int.from_bytes(head[a:b], "little") for a, b in ((4, 8), (8, 10), (10, 12)))
    shapes = (_size(shx) - 100) // 8
    if count != shapes or step == 0:
        raise _damaged(f"{shapes} đối tượng theo {shx.name}", f"{count} bản ghi trong {dbf.name}")
    if not count:
        return 0
    marks = np.memmap(dbf, dtype=np.uint8, mode="r", offset=start, shape=(count * step,))[::step]
    return count - int(np.count_nonzero(marks == ord("*")))


_UTF8 = ("UTF-8", "UTF8", "65001")


def _code_page(path: Path) -> str:
    """What the .cpg beside a Shapefile says, in capitals, or ''."""
    said = _beside(path, ".cpg")
    return said.read_bytes()[:40].decode("latin-1").strip("\ufeff\xef\xbb\xbf \r\n\t\0").upper() if said else ""


def _not_agreed(contract: Contract, found: str) -> Problem:
    return Problem(
        "wrong_encoding",
        "Sai bảng mã",
        contract.format.text,
        found,
        f"Xuất lại với bảng mã đã thống nhất ({contract.format.text}), hoặc sửa format.text trong {contract.source}.yaml",
    )


def _beside(path: Path, suffix: str) -> Path | None:
    return next((p for p in path.parent.iterdir() if p.stem == path.stem and p.suffix.lower() == suffix), None)


# --- reading -----------------------------------------------------------------------------------------------------


def _fill(con: duckdb.DuckDBPyConnection, contract: Contract, delivery: Delivery, layer: _Layer, into: str) -> None:
    decode = _DECODERS.get(contract.format.text, str)
    fields = {decode(str(name)): str(name) for name in layer.info["fields"]}
    matched = match_headers(contract, list(fields))
    if isinstance(matched, Problem):
        raise Unreadable(matched)
    shape = geometry_of(contract)
    select = ""
    rows = 0
    names = {header: f"c{i}" for i, header in enumerate(matched.values())}
    for chunk in _tables(contract, layer, {names[h]: fields[h] for h in names}, shape is not None):
        lines = pa.array(np.arange(rows + 1, rows + len(chunk) + 1, dtype=np.int32))
        rows += len(chunk)
        con.register("vector_rows", chunk.append_column("_line", lines))
        if not select:
            select = _select(contract, delivery.delivery_id, matched, names, shape, chunk.schema)
            append(con, into, select)
        else:
            con.execute(f"INSERT INTO {into} BY NAME {select}")
        con.unregister("vector_rows")
    if rows != layer.features:
        raise _damaged(f"{layer.features} đối tượng có trong lớp", f"{rows} đối tượng đọc được")


def _select(contract: Contract, delivery_id: str, matched: dict[str, str], names: dict[str, str], shape: str | None, found: pa.Schema) -> str:
    columns = dict.fromkeys(columns_of(contract), "NULL::VARCHAR")
    for name, header in matched.items():
        place = names[header]
        # a day that was typed as a number, a number as a day: text, which the row's own check can name
        columns[name] = place if _fits(contract.columns[name].type, found.field(place).type) else f"CAST({place} AS VARCHAR)"
    raw = ", ".join(f"{literal(h)}, {c}" for h, c in names.items())
    parsed, problem, kept = shape_columns(contract, "shape") if shape else ("NULL", "NULL::VARCHAR", "")
    if shape:
        columns[shape] = kept
    return f"""
        SELECT {literal(delivery_id)} AS _delivery_id, _line, CAST(json_object({raw}) AS VARCHAR) AS _raw, {problem} AS _problem,
               {", ".join(f"{v} AS {quoted(n)}" for n, v in columns.items())}
        FROM (SELECT *, {parsed} AS g FROM vector_rows)"""


def _fits(kind: str, native: pa.DataType) -> bool:
    """Whether DuckDB can cast a native type to the contract's."""
    if pa.types.is_string(native) or pa.types.is_large_string(native) or kind in ("text", "boolean"):
        return True
    if kind in ("date", "timestamp"):
        return bool(pa.types.is_date(native) or pa.types.is_timestamp(native))
    return bool(pa.types.is_integer(native) or pa.types.is_floating(native) or pa.types.is_decimal(native) or pa.types.is_boolean(native))


def _tables(contract: Contract, layer: _Layer, fields: dict[str, str], geometry: bool) -> Iterator[pa.Table]:
    """Chunks of the layer with the names of `fields` for its own, and `shape` where geometry is wanted."""
    try:
        with pyogrio.open_arrow(
            layer.path,
            layer=layer.name,
            encoding=layer.encoding,
            columns=sorted(set(fields.values())),
            read_geometry=geometry,
            return_fids=True,
            use_pyarrow=True,
            batch_size=_ROWS,
        ) as (meta, reader):
            shape = meta["geometry_name"] or "wkb_geometry"
            for batch in reader:
                batch.validate(full=layer.encoding == "UTF-8")
                columns = {name: _plain(batch.column(field), contract) for name, field in fields.items()}
                if geometry:
                    columns["shape"] = _linear(layer, batch.column(shape), batch.column(0))
                yield pa.table(columns)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise Unreadable(
                Problem(
                    "wrong_encoding",
                    "Sai bảng mã",
                    "chữ Unicode (UTF-8)",
                    "byte không phải UTF-8",
                    f"Xuất lại với UTF-8, hoặc sửa format.text trong {contract.source}.yaml",
                )
            ) from None
        raise _damaged("mọi đối tượng đọc được", f"ArrowInvalid: {str(error)[:200]}") from None
    except (OSError, RuntimeError, ValueError, pyogrio.errors.DataSourceError) as error:
        raise _damaged("mọi đối tượng đọc được", f"{type(error).__name__}: {str(error).replace(str(layer.path), layer.name)[:200]}") from None


def _plain(values: pa.Array, contract: Contract) -> pa.Array:
    """Text in Unicode; stamps that carry a zone as the clock of the contract's zone shows them."""
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        return pc.local_timestamp(values.cast(pa.timestamp(values.type.unit, contract.time.zone)))
    decode = _DECODERS.get(contract.format.text)
    if decode is None or not pa.types.is_string(values.type) or pc.all(pc.string_is_ascii(values)).as_py() is not False:
        return values
    # each distinct text once: 60 times faster than translate() in SQL where addresses repeat
    coded = values.dictionary_encode()
    if _all_utf8(coded.dictionary):
        raise Unreadable(_not_agreed(contract, "chữ trong tệp là UTF-8"))
    return pa.array([decode(text) for text in coded.dictionary.to_pylist()], pa.string()).take(coded.indices)


def _all_utf8(texts: pa.Array) -> bool:
    """Whether every text that is not plain ASCII, read as ISO-8859-1, holds the bytes of UTF-8: no Vietnamese text in a one-byte code happens to."""
    for text in texts.to_pylist():
        try:
            text is None or text.encode("latin-1").decode()
        except UnicodeError:
            return False
    return True


def _linear(layer: _Layer, shapes: pa.Array, fids: pa.Array) -> pa.Array:
    """The same WKB with arcs as chords: ArcGIS parcels have true arcs, which no engine of the lake can hold."""
    shapes = shapes.cast(pa.large_binary())
    sizes = pc.binary_length(shapes).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.frombuffer(shapes.buffers()[1], dtype=np.int64)[shapes.offset : shapes.offset + len(shapes)]
    data = np.frombuffer(shapes.buffers()[2] or b"", dtype=np.uint8)
    rows = np.flatnonzero(sizes >= 5)
    heads = data[offsets[rows, None] + np.arange(5)].astype(np.uint32)
    little = heads[:, 0] == 1
    low, high = np.where(little, heads[:, 1], heads[:, 4]), np.where(little, heads[:, 2], heads[:, 3])
    kinds = (low + (high << 8)) % 1000
    curved = rows[(kinds >= _FIRST_CURVE) | (kinds == _COLLECTION)]
    if not len(curved):
        return shapes
    # GDAL's other way of reading gives the chords
    _, _, flat, _ = pyogrio.raw.read(layer.path, layer=layer.name, columns=[], fids=fids.take(pa.array(curved)).to_numpy())
    mask = np.zeros(len(shapes), dtype=bool)
    mask[curved] = True
    return pc.replace_with_mask(shapes, pa.array(mask), pa.array(flat, pa.large_binary()))
