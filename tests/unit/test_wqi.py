"""VN_WQI on samples worked out by hand, and against the rules written down again in plain Python over random waters."""

from __future__ import annotations

import itertools
import math
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.cast import cast
from ingestion.contract import CONTRACTS, load_contract
from tests.examples import examples
from tests.marts_kit import compiled, database, records, seed_rows
from tnmt.settings import ROOT

AS_OF = datetime(2026, 3, 3, 0, 10)
DAY = date(2026, 3, 1)
DAYS = "station_id VARCHAR, matrix VARCHAR, parameter VARCHAR, unit VARCHAR, day DATE, mean_valid DOUBLE, is_complete BOOLEAN, expected INTEGER, unexpected INTEGER"
LAB = "station_id VARCHAR, sampled_at TIMESTAMP, parameter VARCHAR, unit VARCHAR, value DECIMAL(18,6), qualifier VARCHAR, sample_id VARCHAR"
UNIT = {r["parameter"]: r["unit"] for r in seed_rows("vn_wqi_breakpoint")} | {"NH4": "mg/L", "DO": "mg/L", "Temp": "°C"}


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("wqi"), ["int_wqi_segment", "wqi_daily", "stg_lab_result"], AS_OF.isoformat(sep=" "))


@pytest.fixture(scope="module")
def con(sql: dict[str, str]) -> duckdb.DuckDBPyConnection:
    con = database(
        {
            "marts_environment.reading_daily": (DAYS, []),
            "staging.stg_lab_result": (LAB, []),
            "marts_core.dim_station": (
                "station_id VARCHAR, station_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR",
                [("S", "Trạm S", "1", "Xã A")],
            ),
        },
        ["vn_wqi_breakpoint", "vn_wqi_band"],
    )
    con.execute("CREATE SCHEMA IF NOT EXISTS lake.intermediate")
    con.execute("ALTER TABLE lake.reference.vn_wqi_breakpoint ALTER breakpoint TYPE DECIMAL(18,6)")
    con.execute(f"CREATE TABLE lake.intermediate.int_wqi_segment AS {sql['int_wqi_segment']}")
    return con


Water = dict[str, float]


def index(
    con: duckdb.DuckDBPyConnection, sql: dict[str, str], automatic: Water, lab: dict[str, tuple[float, str | None]] | None = None, age: int = 0
) -> Any:
    """The row of station S on DAY, from daily means and a sample `age` days old."""
    con.execute("DELETE FROM lake.marts_environment.reading_daily; DELETE FROM lake.staging.stg_lab_result")
    con.execute("INSERT INTO lake.marts_environment.reading_daily VALUES ('S', 'surface_water', 'EC', 'µS/cm', ?, 90, TRUE, 24, 0)", [DAY])
    for parameter, value in automatic.items():
        row = ("S", "surface_water", parameter, UNIT[parameter], DAY, value, True, 24, 0)
        con.execute("INSERT INTO lake.marts_environment.reading_daily VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    at = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=9) - timedelta(days=age)
    for parameter, (number, qualifier) in (lab or {}).items():
        con.execute("INSERT INTO lake.staging.stg_lab_result VALUES ('S', ?, ?, ?, ?, ?, 'M1')", [at, parameter, UNIT[parameter], number, qualifier])
    (row,) = records(con, sql["wqi_daily"])
    return row


SEVEN = {"pH": 7.0, "Temp": 25.0, "DO": 6.0, "NH4": 0.2, "N-NO3": 1.0}


def test_samples_that_are_there_are_named_and_so_is_what_they_lack(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    none = index(con, sql, SEVEN)
    assert "chưa có mẫu phòng thí nghiệm" in none["reason_vi"] and none["lab_samples"] == 0
    index(con, sql, SEVEN)
    at = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=9)
    for sample, parameter, unit, value in (("M1", "COD", "mg/L", 8), ("M2", "NH4", "mg/l", 0.3), ("M3", "BOD5", "mg/L", None)):
        con.execute("INSERT INTO lake.staging.stg_lab_result VALUES ('S', ?, ?, ?, ?, NULL, ?)", [at, parameter, unit, value, sample])
    (row,) = records(con, sql["wqi_daily"])
    assert "chưa có mẫu" not in row["reason_vi"] and "3 mẫu phòng thí nghiệm trong thời hạn, lấy được 1 thông số" in row["reason_vi"]
    assert (row["lab_samples"], row["lab_results_unused"]) == (3, "BOD5 [mg/L], NH4 [mg/l]") and "NH4 [mg/l]" in row["reason_vi"]


def test_of_two_samples_at_one_time_the_last_by_number_counts_in_any_order(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    at = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=9)
    found = set()
    for order in ((0, 1), (1, 0)):
        index(con, sql, SEVEN)
        rows = [(at, "BOD5", "mg/L", 4, "M1"), (at, "BOD5", "mg/L", 60, "M2")]
        for k in order:
            con.execute("INSERT INTO lake.staging.stg_lab_result VALUES ('S', ?, ?, ?, ?, NULL, ?)", rows[k])
        found.add(records(con, sql["wqi_daily"])[0]["wqi_partial"])
    assert found == {index(con, sql, SEVEN, {"BOD5": (60, None)})["wqi_partial"]}


def test_a_parameter_that_nobody_registered_is_named(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    index(con, sql, {k: v for k, v in SEVEN.items() if k != "NH4"})
    row = ("S", "surface_water", "NH4", "mg/L", DAY, 0.2, False, 0, 24)
    con.execute("INSERT INTO lake.marts_environment.reading_daily VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    (found,) = records(con, sql["wqi_daily"])
    assert found["unregistered_parameters"] == "NH4" and "chưa đăng ký: NH4" in found["reason_vi"]


# --- the rules again ------------------------------------------------------------------------------------------------

POINTS: dict[str, list[tuple[float, float, str]]] = {}
GROUP = {r["parameter"]: r["wqi_group"] for r in seed_rows("vn_wqi_breakpoint")}
for r in seed_rows("vn_wqi_breakpoint"):
    POINTS.setdefault(r["parameter"], []).append((float(r["breakpoint"]), float(r["q"]), r["operator"]))


def sub_index(parameter: str, value: float) -> float:
    """Sub-index of a concentration: outside the ends as the table says, between two points on the line through them."""
    for bound, q, operator in POINTS[parameter]:
        if (operator == "<" and value < bound) or (operator == ">" and value > bound):
            return q
    line = sorted((b, q) for b, q, operator in POINTS[parameter] if operator not in ("<", ">"))
    if value < line[0][0]:
        return line[0][1]
    for (b0, q0), (b1, q1) in itertools.pairwise(line):
        if b0 <= value < b1:
            return round(q0 + (q1 - q0) * (value - b0) / (b1 - b0), 6)
    return line[-1][1]


def whole(values: Water) -> tuple[int | None, bool]:
    """Index and whether it is a full one."""
    groups: dict[str, list[float]] = {}
    for parameter in sorted(values):
        groups.setdefault(GROUP[parameter], []).append(sub_index(parameter, values[parameter]))
    four, five = groups.get("IV", []), groups.get("V", [])
    if len(four) < 3:
        return None, False
    core = sum(four) / len(four)
    if five:
        core = (core**2 * (sum(five) / len(five))) ** (1 / 3)
    for group in ("I", "II", "III"):
        if q := groups.get(group):
            core *= math.prod(q) ** (1 / len(q)) / 100
    return math.floor(round(core, 6) + 0.5), len(groups) >= 3 and bool(five)


def saturation(temperature: float) -> float:
    return 14.652 - 0.41022 * temperature + 0.0079910 * temperature**2 - 0.000077774 * temperature**3


CLEAN = {"pH": 7.0, "DO": saturation(25), "Temp": 25.0, "NH4": 0.1, "N-NO3": 1.0}
SAMPLE: dict[str, tuple[float, str | None]] = {"BOD5": (4, None), "COD": (10, None), "Coliform": (2500, None), "E.coli": (20, None)}


def test_clean_water_has_a_hundred(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    partial = index(con, sql, CLEAN)
    assert (partial["wqi"], partial["wqi_partial"], partial["basis"], partial["groups_present"]) == (None, 100, "automatic", "I, IV")
    assert partial["reason_vi"].startswith("WQI một phần")
    full = index(con, sql, CLEAN, SAMPLE)
    assert (full["wqi"], full["wqi_partial"], full["level_vi"], full["basis"], full["groups_present"]) == (
        100,
        None,
        "Rất tốt",
        "automatic_and_lab",
        "I, IV, V",
    )
    assert (full["parameters"], full["parameters_lab"], full["reason_vi"], full["formula_confidence"]) == (8, 4, None, "memory")


def test_a_sample_worked_out_by_hand(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """pH 9 -> 50; BOD5 10.5 -> 62.5, COD 30 -> 50, NO3 5 -> 75: mean 62.5; coliform 7500 -> 50; 0.5 x (62.5² x 50)^(1/3) = 29.02."""
    row = index(con, sql, {"pH": 9.0, "N-NO3": 5.0}, {"BOD5": (10.5, None), "COD": (30, None), "Coliform": (7500, None)})
    assert (row["wqi"], row["level_vi"], row["q_ph"], row["q_no3"]) == (29, "Xấu", 50, 75)
    # one heavy metal at 25 of 100 takes three quarters of it
    row = index(con, sql, {"pH": 9.0, "N-NO3": 5.0}, {"BOD5": (10.5, None), "COD": (30, None), "Coliform": (7500, None), "As": (0.1, None)})
    assert row["wqi"] == 7


@pytest.mark.parametrize(
    ("parameter", "value", "q"),
    [
        ("pH", 5.49, 10), ("pH", 5.5, 50), ("pH", 6, 100), ("pH", 8.5, 100), ("pH", 9, 50), ("pH", 9.01, 10),
        ("DO_sat", 19.9, 10), ("DO_sat", 20, 25), ("DO_sat", 88, 100), ("DO_sat", 112, 100), ("DO_sat", 200, 25), ("DO_sat", 200.1, 10),
        ("N-NH4", 0.29, 100), ("N-NH4", 0.3, 75), ("N-NH4", 0.45, 62.5), ("N-NH4", 5, 10), ("N-NH4", 50, 10),
        ("N-NO3", 15, 25), ("N-NO3", 15.01, 10), ("N-NO2", 0.05, 100), ("N-NO2", 0.0501, 10), ("BOD5", 0, 100), ("BOD5", 500, 10),
        ("Aldrin", 0.1, 100), ("Aldrin", 0.11, 10), ("Hg", 0.0009, 100), ("Hg", 0.001, 75),
    ],
)  # fmt: skip
def test_ends_and_steps_of_the_tables(con: duckdb.DuckDBPyConnection, parameter: str, value: float, q: float) -> None:
    """Each value lies in one segment, and the oracle of the other tests agrees."""
    from jinja2 import Environment

    macro = Environment().from_string((ROOT / "dbt_project/macros/wqi.sql").read_text(encoding="utf-8"))
    inside = macro.module.in_wqi_segment("?", "segment")  # type: ignore[attr-defined]
    marks = inside.count("?")
    found = con.execute(
        f"SELECT q_from + coalesce((q_to - q_from) * (? - concentration_from) / nullif(CAST(concentration_to - concentration_from AS DOUBLE), 0), 0) "
        f"FROM lake.intermediate.int_wqi_segment AS segment WHERE parameter = ? AND {inside}",
        [value, parameter, *[value] * marks],
    ).fetchall()
    assert [round(x, 6) for (x,) in found] == [q] and sub_index(parameter, value) == q


def test_below_detection_half_the_limit_counts_and_old_samples_do_not(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    low = index(con, sql, CLEAN, SAMPLE | {"As": (0.04, "<")})
    assert low["wqi"] == 75 and low["parameters_below_detection"] == 1  # 0.02 -> 75
    assert index(con, sql, CLEAN, SAMPLE, age=29)["wqi"] == 100
    old = index(con, sql, CLEAN, SAMPLE, age=30)
    assert (old["wqi"], old["wqi_partial"], old["parameters_lab"]) == (None, 100, 0)


def test_too_little_gives_none(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    row = index(con, sql, {"pH": 7.0, "NH4": 0.1})
    assert (row["wqi"], row["wqi_partial"], row["level_vi"]) == (None, None, None) and "Nhóm IV" in row["reason_vi"]


def test_the_text_of_a_result(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    con.execute("CREATE SCHEMA IF NOT EXISTS lake.clean")
    names = "sample_id station_id sampled_at parameter result_text unit detection_limit method laboratory certificate conflict qualifier _source _delivery_id _line _as_of _received_at"
    columns = ", ".join(f"NULL::VARCHAR AS {n}" for n in names.split() if n not in ("result_text", "detection_limit"))
    con.execute(
        f"CREATE OR REPLACE TABLE lake.clean.lab_result AS SELECT *, 0.5::DECIMAL(18,6) AS detection_limit, NULL::DECIMAL(18,6) AS value, {columns} "
        "FROM (VALUES ('1,25'), ('<0.3'), ('< 0,3'), ('KPH'), ('ND'), ('7')) AS r (result_text)"
    )
    found = con.execute(f"SELECT result_text, qualifier, value FROM ({sql['stg_lab_result']})").fetchall()
    third, half = Decimal("0.3"), Decimal("0.5")
    assert sorted(found) == sorted(
        [("1,25", None, Decimal("1.25")), ("<0.3", "<", third), ("< 0,3", "<", third), ("KPH", "<", half), ("ND", "<", half), ("7", None, Decimal(7))]
    )


def test_the_figure_that_the_gate_read_goes_before_the_text(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    con.execute("CREATE OR REPLACE TABLE lake.clean.lab_result AS SELECT * REPLACE ('>2419' AS result_text, '>' AS qualifier, 2419 AS value) "
                "FROM lake.clean.lab_result LIMIT 1")  # fmt: skip
    assert con.execute(f"SELECT qualifier, value FROM ({sql['stg_lab_result']})").fetchall() == [(">", Decimal(2419))]


@pytest.mark.parametrize(
    ("text", "qualifier", "value"),
    [
        ("7", None, "7"),
        ("1,25", None, "1.25"),
        ("0.005", None, "0.005"),
        ("0,125", None, "0.125"),
        ("12.5", None, "12.5"),
        (".21", None, "0.21"),
        ("-0.5", None, "-0.5"),
        ("< 0,3", "<", "0.3"),
        ("≤0,3", "<", "0.3"),
        (">2419", ">", "2419"),
        ("KPH", None, None),
        ("2.400", None, "refused"),
        ("7,125", None, "refused"),
        ("<1.140", "<", "refused"),
        ("vết", None, "refused"),
        ("1,2,3", None, "refused"),
        ("<", "<", "refused"),
        ("1_000", None, "refused"),
    ],
)
def test_results_that_the_gate_takes(text: str, qualifier: str | None, value: str | None) -> None:
    """2.400 is 2400 in Vietnamese writing and 2.4 in the laboratory's software: nobody may guess, but a contract can say."""
    assert _gated(text, {}) == (qualifier, value)


def test_the_contracts_sign_decides_results_too() -> None:
    assert _gated("<1.140", {"decimal": "."}) == ("<", "1.14")
    assert _gated("1.140", {"decimal": ",", "thousands": "."}) == (None, "1140")


def _gated(text: str, form: dict[str, str]) -> tuple[str | None, str | None]:
    shipped = load_contract(CONTRACTS / "environment/lab_result.yaml")
    spec = shipped.model_copy(update={"single": shipped.format.model_copy(update=form)})
    with duckdb.connect() as own:
        own.execute("CREATE TABLE d AS SELECT 'd' AS delivery_id, TIMESTAMP '2026-03-03' AS as_of, NULL::TIMESTAMP AS received_at, NULL::DATE AS day")
        own.execute(
            "CREATE TABLE raw AS SELECT 'd' AS _delivery_id, 2 AS _line, '' AS _raw, ? AS result_text, ? AS qualifier, ? AS value", [text] * 3
        )
        cast(own, spec, "raw", "d", "typed", "EPSG:9212")
        mark, found, reasons = own.execute("SELECT qualifier, value, _reasons FROM typed").fetchall()[0]
    return mark, "refused" if "value_unreadable" in reasons else None if found is None else f"{found.normalize():f}"


def test_spellings_of_laboratories_are_unambiguous() -> None:
    def fold(text: str) -> str:
        return text.replace(" ", "").replace("μ", "µ").lower()

    canonical = {r["parameter"]: r["unit"] for r in seed_rows("lab_parameter")}
    meant: dict[str, set[str]] = {}
    for text, parameter in [(p, p) for p in canonical] + [(r["text"], r["parameter"]) for r in seed_rows("lab_alias")]:
        meant.setdefault(fold(text), set()).add(parameter)
    assert [m for m in meant.values() if len(m) > 1] == [] and set().union(*meant.values()) == set(canonical)
    factors: dict[tuple[str, str], set[str]] = {}
    for row in seed_rows("lab_unit"):
        factors.setdefault((fold(row["unit_text"]), row["unit"]), set()).add(row["factor"])
    assert [f for f in factors.values() if len(f) > 1] == []
    assert all(factors[fold(unit), unit] == {"1"} for unit in canonical.values())
    of_index = {(r["parameter"], r["unit"]) for r in seed_rows("vn_wqi_breakpoint")}
    assert of_index <= set(canonical.items()), "what the index asks for must be what the gate calls it"


VALUE = st.decimals(0, 300, places=3).map(float)
LAB_PARAMETERS = [p for p in POINTS if p not in ("pH", "DO_sat", "N-NH4", "N-NO3")]


@examples(60)
@given(
    automatic=st.fixed_dictionaries(
        {},
        optional={"pH": st.decimals(3, 11, places=2).map(float), "NH4": VALUE, "N-NO3": VALUE, "DO": st.decimals(0, 20, places=2).map(float)},
    ),
    temperature=st.one_of(st.none(), st.integers(5, 35).map(float)),
    lab=st.dictionaries(
        st.sampled_from(LAB_PARAMETERS), st.one_of(VALUE, st.decimals(0, "0.5", places=4).map(float), st.integers(1, 20_000).map(float)), max_size=8
    ),
)
def test_as_the_rules_in_plain_python(
    con: duckdb.DuckDBPyConnection, sql: dict[str, str], automatic: Water, temperature: float | None, lab: Water
) -> None:
    row = index(con, sql, automatic | ({"Temp": temperature} if temperature is not None else {}), {p: (v, None) for p, v in lab.items()})
    values = {{"NH4": "N-NH4"}.get(p, p): v for p, v in automatic.items() if p != "DO"} | lab
    if "DO" in automatic and temperature is not None:
        values["DO_sat"] = 100 * automatic["DO"] / saturation(temperature)
    value, is_full = whole(values)
    assert (row["wqi"], row["wqi_partial"]) == ((value, None) if is_full else (None, value))
    assert (row["parameters"], row["parameters_lab"]) == (len(values), len(lab))


def test_the_page_shows_the_seeds() -> None:
    """docs/indices/vn_wqi.md has every point and band as the seeds have them."""
    page = (ROOT / "docs/indices/vn_wqi.md").read_text(encoding="utf-8")
    for parameter, points in POINTS.items():
        cells = "; ".join(f"{'' if o == '=' else o + ' '}{b:g} → {q:g}" for b, q, o in points)
        assert f"| {GROUP[parameter]} | {parameter} | {UNIT[parameter]} | {cells} |" in page, parameter
    for band in seed_rows("vn_wqi_band"):
        assert f"| {band['wqi_min']}–{band['wqi_max']} | {band['level_vi']} | {band['colour_vi']} `{band['hex']}` | {band['confidence']} |" in page
