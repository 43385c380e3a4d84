"""Quality control on two years of real water and weather, against the flags that their own laboratory gave: what is found, what is flagged wrongly.

Thresholds are proposed from the values of one year that the laboratory passed, and judge the other. How they are proposed (quantiles, margins, which
rules there are) was chosen with both years in view, so this is no blind test. The laboratory's flags stay outside: every value comes as one that the
device sent while measuring.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pytest

from marts.propose import propose
from simulator.replay import _WATER, _WEATHER
from tests.marts_kit import compiled
from tests.support import real_data
from tests.unit.test_reading_qc import qc_lake

SITES = [("FL_APCP_NUOMAT", "surface_water", "apacpwq", _WATER), ("FL_APEB_KHIKXQ", "ambient_air", "apaebmet", _WEATHER)]
TESTS = ("range", "spike", "rate_of_change", "flat_line", "repeated_record", "level", "dependence")
FACTOR = {"EC": 1000}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("qc"), ["int_qc_bound", "reading_qc"], "2014-01-02 00:00:00", qc_keep_from="1")


@pytest.fixture(scope="module")
def con(models: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """Every value that was published, and table `truth`: what its laboratory said of it."""
    real: Path = real_data()
    stations = [(code, matrix, 106.9, 11.5, None, None) for code, matrix, _, _ in SITES]
    con = qc_lake(models, stations)
    con.execute("CREATE TABLE truth (station_id VARCHAR, parameter VARCHAR, measured_at TIMESTAMP, value DECIMAL(18,6), flag INTEGER)")
    for code, _, file, series in SITES:
        for one in series:
            con.execute(
                f"INSERT INTO truth SELECT '{code}', '{one.parameter}', CAST(datetimestamp AS TIMESTAMP), "
                f'CAST("{one.column}" AS DECIMAL(18, 6)) * {FACTOR.get(one.parameter, 1)}, CAST(regexp_extract("f_{one.column}", \'<(-?\\d)>\', 1) AS INTEGER) '
                f"FROM read_csv('{real}/water_swmp/{file}_15min.csv.gz', all_varchar = true, header = true) WHERE \"{one.column}\" <> ''"
            )
    con.execute(
        "INSERT INTO lake.staging.stg_reading SELECT station_id, parameter, measured_at, 15, value, value, '00', NULL, FALSE, measured_at FROM truth"
    )
    return con


def measure(con: duckdb.DuckDBPyConnection, sql: str, year: int) -> dict[str, tuple[int, int]]:
    """Rule -> (rejected values that it flags, passed values that it flags) of the year; `any` is all rules, `of` all values."""
    any_flag = " OR ".join(f"flag_{t} >= 3" for t in TESTS)
    counts = ", ".join(
        f"count(*) FILTER (flag = -3 AND ({condition})), count(*) FILTER (flag = 0 AND ({condition}))"
        for condition in (*(f"flag_{t} >= 3" for t in TESTS), any_flag, "TRUE")
    )
    (row,) = con.execute(
        f"SELECT {counts} FROM truth LEFT JOIN ({sql}) AS found USING (station_id, parameter, measured_at) WHERE year(measured_at) = {year}"
    ).fetchall()
    return {name: (row[2 * n], row[2 * n + 1]) for n, name in enumerate((*TESTS, "any", "of"))}


def learn(con: duckdb.DuckDBPyConnection, year: int) -> None:
    """Puts the thresholds in force that the values of a year propose which the laboratory passed."""
    rows = propose(con, f"SELECT station_id, parameter, measured_at, value FROM truth WHERE flag = 0 AND year(measured_at) = {year}")
    con.execute("DELETE FROM lake.staging.stg_station_qc_threshold")
    con.executemany(
        "INSERT INTO lake.staging.stg_station_qc_threshold VALUES (?, ?, ?, ?, NULL, ?, ?)",
        [(r["station_id"], r["parameter"], r["test"], date(2012, 1, 1), r["suspect_min"], r["suspect_max"]) for r in rows],
    )


def shares(found: dict[str, tuple[int, int]]) -> tuple[float, float]:
    return found["any"][0] / found["of"][0], found["any"][1] / found["of"][1]


def show(title: str, found: dict[str, tuple[int, int]]) -> None:
    print(f"\n{title}: {found['of'][0]} rejected and {found['of'][1]} passed values")
    for name in (*TESTS, "any"):
        rejected, passed = found[name]
        print(f"  {name:16} finds {rejected:6} ({rejected / found['of'][0]:6.1%})   flags {passed:6} good ones ({passed / found['of'][1]:6.2%})")


@pytest.mark.timeout(1800)
def test_rejected_values_are_found_and_good_ones_left(con: duckdb.DuckDBPyConnection, models: dict[str, str]) -> None:
    """Goal: thresholds of 2012 find 60 % of what was rejected in 2013, and flag at most 3 % of what was passed."""
    sql = models["reading_qc"]
    common = measure(con, sql, 2013)
    show("2013 by the thresholds of its kind", common)
    learn(con, 2012)
    own = measure(con, sql, 2013)
    show("2013 by thresholds proposed from 2012", own)
    found, wrong = shares(own)
    assert found >= 0.60 and wrong <= 0.03
    # the common thresholds alone reach neither
    assert shares(common)[0] < found and shares(common)[1] > wrong
    # the other way round the goal is missed: a failing oxygen sensor that drifts within its range is not found (36 %); good values stay
    learn(con, 2013)
    back = measure(con, sql, 2012)
    show("2012 by thresholds proposed from 2013", back)
    assert shares(back)[1] <= 0.03
