"""What a target adds to typed rows before the gate: resolved codes for readings, derived columns for geometry.

Everything here is a function of the row, the register and the reference data, so that landing order never matters.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import duckdb

from ingestion.cast import CLEAN_TEXT, has_own_area, literal
from ingestion.contract import Contract
from ingestion.units import UnitError
from lake.lake import has_table
from tnmt.settings import Settings

READING_COLUMNS = {
    "station_id": "VARCHAR",
    "parameter": "VARCHAR",
    "measured_at": "TIMESTAMP",
    "span_minutes": "SMALLINT",
    "value_reported": "DECIMAL(18,6)",
    "value_valid": "DECIMAL(18,6)",
    "status": "VARCHAR",
    "reason": "VARCHAR",
}
GEOMETRY_COLUMNS = {
    "crs": "VARCHAR",
    "source_crs": "VARCHAR",
    "geometry_area_m2": "DECIMAL(16,1)",
    "xmin": "DOUBLE",
    "ymin": "DOUBLE",
    "xmax": "DOUBLE",
    "ymax": "DOUBLE",
}

REPAIRED = frozenset({"commune_boundary", "land_plan"})
"""Targets that others are laid over. Parcels are not among them: a bow-tie is a finding about the cadastre, kept as it came and named by `parcel_overlay`."""
REPAIRED_COLUMN = {"geometry_repaired": "BOOLEAN"}
REPAIR_TOLERANCE = 0.001
"""Share of the area (and at least a square metre) that a repair may change: a spike or a doubled edge goes, a bow-tie does not."""

# a former code is known as long as no station bears it now and only one did; a station of which two registers say different things is not
KNOWN_STATION = """
    WITH station AS MATERIALIZED (SELECT station_id, matrix, former_codes FROM lake.clean.station)
    SELECT station_id AS code, station_id, min(matrix) AS matrix FROM station GROUP BY ALL HAVING count(DISTINCT matrix) = 1
    UNION ALL
    SELECT former.code, min(former.station_id), min(former.matrix)
    FROM (SELECT station_id, matrix, trim(unnest(string_split(former_codes, ';'))) AS code FROM station) AS former
    WHERE former.code NOT IN (SELECT station_id FROM station)
    GROUP BY former.code HAVING count(DISTINCT former.station_id) = 1 AND count(DISTINCT former.matrix) = 1"""


# a spelling that the register gives to two parameters of a station names neither
KNOWN_NAME = """
    SELECT station_id, clean_text(name_in_file) AS name_in_file,
        CASE WHEN count(DISTINCT parameter) = 1 THEN min(parameter) END AS parameter
    FROM lake.clean.station_channel WHERE name_in_file IS NOT NULL GROUP BY ALL"""


def name_registers(con: duckdb.DuckDBPyConnection) -> None:
    """Temporary tables `known_station` (code, station_id, matrix) and `known_name` (station_id, name_in_file, parameter) of the registers."""
    con.execute(CLEAN_TEXT)
    for table, register, known, columns in (
        ("known_station", "station", KNOWN_STATION, ("code", "station_id", "matrix")),
        ("known_name", "station_channel", KNOWN_NAME, ("station_id", "name_in_file", "parameter")),
    ):
        try:
            con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {known}")
        except duckdb.CatalogException:
            if has_table(con, f"clean.{register}"):
                raise
            # a lake that has no register yet knows no station: its readings wait in quarantine
            nothing = ", ".join(f"NULL::VARCHAR AS {c}" for c in columns)
            con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {nothing} WHERE FALSE")


def name_references(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Temporary tables `seed_parameter`, `seed_parameter_alias` and `seed_unit_alias` of the reference data, with the site's own units."""
    _seed(con, "parameter", settings.reference / "parameter.csv")
    _seed(con, "parameter_alias", settings.reference / "parameter_alias.csv")
    own = settings.home / "units.csv"
    _seed(con, "unit_alias", settings.reference / "unit_alias.csv", *([_checked_units(own)] if own.is_file() else []))


def clean_columns(contract: Contract) -> dict[str, str]:
    """Columns of clean.<target> without the lineage, with their types. Personal columns are not among them."""
    if contract.target == "reading":
        return dict(READING_COLUMNS)
    columns: dict[str, str] = {}
    for name, column in contract.columns.items():
        if column.personal == "token":
            columns[f"{name}_token"] = "VARCHAR"
        elif column.personal in (None, "linked"):
            columns[name] = column.sql_type
    if "geometry" in contract.columns:
        columns |= GEOMETRY_COLUMNS
        if contract.target in REPAIRED:
            columns |= REPAIRED_COLUMN
    return columns


def resolve(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, typed: str, into: str) -> None:
    """Makes the table `into`, the batch that the gate judges, from the view `typed`."""
    if contract.target == "reading":
        _resolve_reading(con, settings, contract, typed, into)
        return
    if contract.target == "lab_result":
        _resolve_lab_result(con, settings, typed, into)
        return
    if "geometry" not in contract.columns:
        con.execute(f"CREATE OR REPLACE TABLE {into} AS SELECT * FROM {typed}")
        return
    source = f"(SELECT * FROM {typed})" if contract.target not in REPAIRED else f"({_made_valid(typed)})"
    # the area of a shape is that in the projection in which it was drawn; what was mended is measured as it is now
    area, own = "ST_Area(geometry)", has_own_area(contract, settings.crs)
    if own:
        area = f"CASE WHEN geometry_repaired THEN {area} ELSE _own_area END" if contract.target in REPAIRED else "_own_area"
    # a bow-tie has no area worth the name; where it is kept, its validity is a rule of the marts
    con.execute(f"""
        CREATE OR REPLACE TABLE {into} AS
        SELECT *{" EXCLUDE (_own_area)" if own else ""}, {literal(settings.crs)} AS crs, {literal(contract.format.crs or settings.crs)} AS source_crs,
            TRY_CAST({area} AS DECIMAL(16,1)) AS geometry_area_m2,
            ST_XMin(geometry) AS xmin, ST_YMin(geometry) AS ymin, ST_XMax(geometry) AS xmax, ST_YMax(geometry) AS ymax
        FROM {source}""")


def _made_valid(typed: str) -> str:
    """SQL of the typed rows with valid polygons: mended where that keeps the area, else named `geometry_invalid` and left as they came.

    Duplicate edges, spikes and touching parts are mended; self-crossing rings, areas of nothing and what is no polygon are not.
    """
    return f"""
        SELECT * EXCLUDE (_mended, _verdict, geometry, _reasons, _details),
            CASE WHEN _verdict = 'repaired' THEN _mended ELSE geometry END AS geometry,
            CASE WHEN geometry IS NOT NULL THEN coalesce(_verdict = 'repaired', FALSE) END AS geometry_repaired,
            CASE WHEN _verdict = 'invalid' THEN list_append(_reasons, 'geometry_invalid') ELSE _reasons END AS _reasons,
            CASE WHEN _verdict = 'invalid' THEN list_append(_details,
                    'hình học không hợp lệ (tự cắt, không có diện tích, hoặc không phải đa giác; diện tích ' || coalesce(CAST(round(ST_Area(geometry), 1) AS VARCHAR), '?')
                    || ' m²); cần: đa giác không tự cắt; cách xử lý: chạy Fix geometries rồi gửi lại')
                ELSE _details END AS _details
        FROM (
            SELECT *,
                CASE
                    WHEN geometry IS NULL OR len(_reasons) > 0 THEN NULL
                    WHEN TRY(ST_IsValid(geometry)) AND ST_GeometryType(geometry) IN ('POLYGON', 'MULTIPOLYGON') AND ST_Area(geometry) > 0 THEN 'valid'
                    WHEN TRY(ST_IsValid(_mended)) AND isfinite(ST_Area(geometry)) AND ST_Area(_mended) > 0
                        AND abs(ST_Area(_mended) - ST_Area(geometry)) <= greatest(1.0, ST_Area(geometry) * {REPAIR_TOLERANCE}) THEN 'repaired'
                    ELSE 'invalid'
                END AS _verdict
            FROM (SELECT *, CASE WHEN NOT coalesce(TRY(ST_IsValid(geometry)), FALSE)
                THEN TRY(ST_CollectionExtract(ST_MakeValid(geometry), 3)) END AS _mended FROM {typed})
        )"""


def _seed(con: duckdb.DuckDBPyConnection, name: str, *paths: Path) -> None:
    """TEMP table `seed_<name>` of CSV files with the same columns, as text."""
    files = ", ".join(literal(str(p)) for p in paths)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE seed_{name} AS SELECT * FROM read_csv([{files}], all_varchar = true, header = true, "
        "delim = ',', quote = '\"', nullstr = '\\N', union_by_name = true)"
    )


def _checked_units(path: Path) -> Path:
    """The site's own units beside the seed `unit_alias`; raises UnitError where a line is none, or speaks of a spelling that the seed has."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := {"parameter", "unit_text", "unit", "factor", "offset"} - set(reader.fieldnames or ()):
            raise UnitError(f"{path}: expected the columns parameter, unit_text, unit, factor, offset; missing {', '.join(sorted(missing))}")
        for number, row in enumerate(reader, 2):
            for name in ("factor", "offset"):
                if not re.fullmatch(r"-?\d+(\.\d{1,10})?", row[name] or ""):
                    raise UnitError(f"{path}, line {number}: {name} must be a number such as 0.5555555556, found {row[name]!r}")
    return path


def _resolve_lab_result(con: duckdb.DuckDBPyConnection, settings: Settings, typed: str, into: str) -> None:
    """Station, parameter and unit of laboratory results by register and reference. Reference: lab_result.sql."""
    name_registers(con)
    for name in ("lab_parameter", "lab_alias", "lab_unit"):
        _seed(con, name, settings.reference / f"{name}.csv")
    con.execute((Path(__file__).parent / "lab_result.sql").read_text(encoding="utf-8").format(typed=typed, into=into))


def _resolve_reading(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, typed: str, into: str) -> None:
    """Station, parameter and unit by register and reference; value by status. Reference: reading.sql."""
    name_registers(con)
    name_references(con, settings)
    sql = (Path(__file__).parent / "reading.sql").read_text(encoding="utf-8")
    con.execute(sql.format(typed=typed, into=into, span_minutes=contract.time.span_minutes, future_minutes=settings.future_tolerance_minutes))
