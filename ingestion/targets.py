"""What a target adds to typed rows before the gate: resolved codes for readings, derived columns for geometry.

Everything here is a function of the row, the register and the reference data, so that landing order never matters.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import duckdb

from ingestion.cast import literal
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
    "geometry_area_m2": "DECIMAL(16,1)",
    "xmin": "DOUBLE",
    "ymin": "DOUBLE",
    "xmax": "DOUBLE",
    "ymax": "DOUBLE",
}

# a former code is known as long as no station bears it now and only one did
KNOWN_STATION = """
    SELECT station_id AS code, station_id, matrix FROM lake.clean.station
    UNION ALL
    SELECT former.code, any_value(former.station_id), any_value(former.matrix)
    FROM (SELECT station_id, matrix, trim(unnest(string_split(former_codes, ';'))) AS code FROM lake.clean.station) AS former
    WHERE former.code NOT IN (SELECT station_id FROM lake.clean.station)
    GROUP BY former.code HAVING count(DISTINCT former.station_id) = 1"""


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
    return columns


def resolve(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, typed: str, into: str) -> None:
    """Makes the table `into`, the batch that the gate judges, from the view `typed`."""
    if contract.target == "reading":
        _resolve_reading(con, settings, contract, typed, into)
        return
    if contract.target == "lab_result":
        _resolve_lab_result(con, settings, typed, into)
        return
    derived = ""
    if "geometry" in contract.columns:
        # a bow-tie has no area worth the name; it is kept as it is and its validity is a rule of the marts
        derived = f""", {literal(settings.crs)} AS crs, TRY_CAST(ST_Area(geometry) AS DECIMAL(16,1)) AS geometry_area_m2,
            ST_XMin(geometry) AS xmin, ST_YMin(geometry) AS ymin, ST_XMax(geometry) AS xmax, ST_YMax(geometry) AS ymax"""
    con.execute(f"CREATE OR REPLACE TABLE {into} AS SELECT *{derived} FROM {typed}")


def _known_station(con: duckdb.DuckDBPyConnection) -> None:
    """TEMP view `known_station` (code, station_id, matrix). A lake that has no register yet knows none: what names one waits in quarantine."""
    con.execute(
        "CREATE OR REPLACE TEMP VIEW known_station AS "
        + (
            KNOWN_STATION
            if has_table(con, "clean.station")
            else "SELECT NULL::VARCHAR AS code, NULL::VARCHAR AS station_id, NULL::VARCHAR AS matrix WHERE FALSE"
        )
    )


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
    _known_station(con)
    for name in ("lab_parameter", "lab_alias", "lab_unit"):
        _seed(con, name, settings.reference / f"{name}.csv")
    con.execute((Path(__file__).parent / "lab_result.sql").read_text(encoding="utf-8").format(typed=typed, into=into))


def _resolve_reading(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, typed: str, into: str) -> None:
    """Station, parameter and unit by register and reference; value by status and range. Reference: reading.sql."""
    _known_station(con)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE known_channel AS "
        + (
            """SELECT station_id, parameter, any_value(name_in_file) AS name_in_file, min(range_min) AS range_min, max(range_max) AS range_max
           FROM lake.clean.station_channel GROUP BY station_id, parameter"""
            if has_table(con, "clean.station_channel")
            else "SELECT NULL::VARCHAR AS station_id, NULL::VARCHAR AS parameter, NULL::VARCHAR AS name_in_file, "
            "NULL::DECIMAL(18,6) AS range_min, NULL::DECIMAL(18,6) AS range_max WHERE FALSE"
        )
    )
    _seed(con, "parameter", settings.reference / "parameter.csv")
    _seed(con, "parameter_alias", settings.reference / "parameter_alias.csv")
    own = settings.home / "units.csv"
    _seed(con, "unit_alias", settings.reference / "unit_alias.csv", *([_checked_units(own)] if own.is_file() else []))
    sql = (Path(__file__).parent / "reading.sql").read_text(encoding="utf-8")
    con.execute(sql.format(typed=typed, into=into, span_minutes=contract.time.span_minutes, future_minutes=settings.future_tolerance_minutes))
