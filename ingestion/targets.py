"""What a target adds to typed rows before the gate: resolved codes for readings, derived columns for geometry.

Everything here is a function of the row, the register and the reference data, so that landing order never matters.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from ingestion.cast import literal
from ingestion.contract import Contract
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

# a former code is known as long as no station bears it now and only one did; a station of which two registers say different things is not
KNOWN_STATION = """
    SELECT station_id AS code, station_id, min(matrix) AS matrix FROM lake.clean.station GROUP BY ALL HAVING count(DISTINCT matrix) = 1
    UNION ALL
    SELECT former.code, min(former.station_id), min(former.matrix)
    FROM (SELECT station_id, matrix, trim(unnest(string_split(former_codes, ';'))) AS code FROM lake.clean.station) AS former
    WHERE former.code NOT IN (SELECT station_id FROM lake.clean.station)
    GROUP BY former.code HAVING count(DISTINCT former.station_id) = 1 AND count(DISTINCT former.matrix) = 1"""


# a spelling that the register gives to two parameters of a station names neither
KNOWN_NAME = """
    SELECT station_id, nfc_normalize(name_in_file) AS name_in_file,
        CASE WHEN count(DISTINCT parameter) = 1 THEN min(parameter) END AS parameter
    FROM lake.clean.station_channel WHERE name_in_file IS NOT NULL GROUP BY ALL"""


def name_registers(con: duckdb.DuckDBPyConnection) -> None:
    """Temporary views `known_station` (code, station_id, matrix) and `known_name` (station_id, name_in_file, parameter) of the registers."""
    # a lake that has no register yet knows no station: its readings wait in quarantine
    for view, register, known, columns in (
        ("known_station", "clean.station", KNOWN_STATION, ("code", "station_id", "matrix")),
        ("known_name", "clean.station_channel", KNOWN_NAME, ("station_id", "name_in_file", "parameter")),
    ):
        nothing = f"SELECT {', '.join(f'NULL::VARCHAR AS {c}' for c in columns)} WHERE FALSE"
        con.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {known if has_table(con, register) else nothing}")


def name_references(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Temporary tables `seed_parameter`, `seed_parameter_alias` and `seed_unit_alias` of the reference data."""
    for name in ("parameter", "parameter_alias", "unit_alias"):
        path = settings.reference / f"{name}.csv"
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE seed_{name} AS SELECT * FROM read_csv({literal(str(path))}, all_varchar = true, header = true, "
            "delim = ',', quote = '\"', nullstr = '\\N')"
        )


def clean_columns(contract: Contract) -> dict[str, str]:
    """Columns of clean.<target> without the lineage, with their types. Personal columns are not among them."""
    if contract.target == "reading":
        return dict(READING_COLUMNS)
    columns: dict[str, str] = {}
    for name, column in contract.columns.items():
        if column.personal == "token":
            columns[f"{name}_token"] = "VARCHAR"
        elif column.personal is None:
            columns[name] = column.sql_type
    if "geometry" in contract.columns:
        columns |= GEOMETRY_COLUMNS
    return columns


def resolve(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, typed: str, into: str) -> None:
    """Makes the table `into`, the batch that the gate judges, from the view `typed`."""
    if contract.target == "reading":
        _resolve_reading(con, settings, contract, typed, into)
        return
    derived = ""
    if "geometry" in contract.columns:
        # a bow-tie has no area worth the name; it is kept as it is and its validity is a rule of the marts
        derived = f""", {literal(settings.crs)} AS crs, TRY_CAST(ST_Area(geometry) AS DECIMAL(16,1)) AS geometry_area_m2,
            ST_XMin(geometry) AS xmin, ST_YMin(geometry) AS ymin, ST_XMax(geometry) AS xmax, ST_YMax(geometry) AS ymax"""
    con.execute(f"CREATE OR REPLACE TABLE {into} AS SELECT *{derived} FROM {typed}")


def _resolve_reading(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, typed: str, into: str) -> None:
    """Station, parameter and unit by register and reference; value by status. Reference: reading.sql."""
    name_registers(con)
    name_references(con, settings)
    sql = (Path(__file__).parent / "reading.sql").read_text(encoding="utf-8")
    con.execute(sql.format(typed=typed, into=into, span_minutes=contract.time.span_minutes, future_minutes=settings.future_tolerance_minutes))
