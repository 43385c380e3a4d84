"""Communes of any date: by the old code, the new one or both, on the lists of the seeds."""

from __future__ import annotations

import duckdb
import pytest

from tests.marts_kit import compiled, database, records, seed_rows

STATION = (
    "station_id VARCHAR, station_name VARCHAR, facility_id VARCHAR, matrix VARCHAR, old_commune_code VARCHAR, commune_code VARCHAR, lon DOUBLE, "
)
STATION += (
    "lat DOUBLE, standard VARCHAR, standard_class VARCHAR, kq DECIMAL(4,2), kf DECIMAL(4,2), kp DECIMAL(4,2), kv DECIMAL(4,2), in_use_from DATE, "
)
STATION += "in_use_to DATE, contact_unit VARCHAR, former_codes VARCHAR, permit VARCHAR, calibrated_on DATE, verified_until DATE"
SUCCESSOR = {r["old_commune_code"]: r for r in seed_rows("commune_successor")}
INTO: dict[str, list[str]] = {}
for old, row in SUCCESSOR.items():
    INTO.setdefault(row["new_commune_code"], []).append(old)
NAME = {
    r["unit_code"]: r["unit_name"]
    for r in sorted(seed_rows("administrative_unit"), key=lambda r: r["valid_from"])
    if r["level"] == "commune" and r["valid_from"] >= "2025-07-01"
}
JOINED = next(code for code, olds in INTO.items() if len(olds) > 1 and code in NAME)
ALONE = next((code for code, olds in INTO.items() if len(olds) == 1 and code in NAME), None)
ELSEWHERE = next(code for code in NAME if code not in INTO and code not in SUCCESSOR)


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    sql = compiled(tmp_path_factory.mktemp("places"), ["int_new_commune", "int_commune", "dim_station"], "2026-03-01 00:00:00")
    given = [
        ("OLD", INTO[JOINED][0], None),
        ("NEW", None, JOINED),
        ("BOTH", INTO[JOINED][1], JOINED),
        ("ELSEWHERE", None, ELSEWHERE),
        ("NONE", None, None),
        ("MISPLACED", ELSEWHERE, None),
    ]
    given += [("UNKNOWN", None, "00000")] + ([("ALONE", None, ALONE)] if ALONE else [])
    rows = [(s, s, None, "wastewater", o, n, *[None] * 15) for s, o, n in given]
    con = database(
        {"staging.stg_station": (STATION, rows), "staging.stg_facility": ("facility_id VARCHAR, facility_name VARCHAR", [])},
        ["administrative_unit", "commune_successor"],
    )
    for table, columns in (("administrative_unit", ("unit_code",)), ("commune_successor", ("old_commune_code", "new_commune_code"))):
        for column in columns:
            con.execute(f"ALTER TABLE lake.reference.{table} ALTER {column} TYPE VARCHAR")
    con.execute("CREATE SCHEMA lake.intermediate")
    for model in ("int_new_commune", "int_commune"):
        con.execute(f"CREATE VIEW lake.intermediate.{model} AS {sql[model]}")
    con.execute(f"CREATE TABLE lake.marts_environment.found AS {sql['dim_station']}")
    return con


def test_a_station_has_its_commune_by_either_code(con: duckdb.DuckDBPyConnection) -> None:
    found = {r["station_id"]: r for r in records(con, "SELECT * FROM lake.marts_environment.found")}
    named = {s: (r["old_commune_code"], r["commune_code"], r["commune_name"]) for s, r in found.items()}
    assert named["OLD"] == (INTO[JOINED][0], JOINED, NAME[JOINED])
    assert named["NEW"] == (None, JOINED, NAME[JOINED])
    assert named["BOTH"] == (INTO[JOINED][1], JOINED, NAME[JOINED])
    assert named["ELSEWHERE"] == (None, ELSEWHERE, NAME[ELSEWHERE])
    # a code of after that stands where one of before is asked for is no old code
    assert named["MISPLACED"] == (None, ELSEWHERE, NAME[ELSEWHERE]) and found["MISPLACED"]["old_commune_name"] is None
    assert named["NONE"] == (None, None, "Chưa xác định") and named["UNKNOWN"] == (None, "00000", "Chưa xác định")
    if ALONE:
        assert (
            named["ALONE"] == (INTO[ALONE][0], ALONE, NAME[ALONE])
            and found["ALONE"]["old_commune_name"] == SUCCESSOR[INTO[ALONE][0]]["old_commune_name"]
        )


def test_a_map_may_bear_codes_that_only_the_new_communes_have(con: duckdb.DuckDBPyConnection) -> None:
    codes = {r["old_commune_code"]: r for r in records(con, "SELECT * FROM lake.intermediate.int_commune")}
    assert set(SUCCESSOR) <= set(codes) and codes[ELSEWHERE]["commune_name"] == NAME[ELSEWHERE]
    # a code that an old commune bore means the old one
    assert all(codes[old]["commune_code"] == row["new_commune_code"] for old, row in SUCCESSOR.items())
