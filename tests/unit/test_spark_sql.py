"""What is refused on the way to Spark, with its message, and what comes out where both engines differ. No Java here."""

from __future__ import annotations

import duckdb
import pytest

from lake.spark.translate import FUNCTIONS, Unportable, tables_of, to_spark, view_name
from marts.scale_out import translated, view_query, views_of

COLUMNS = {
    "clean.t": {
        "i": "INTEGER",
        "b": "BIGINT",
        "d": "DECIMAL(18,6)",
        "x": "DOUBLE",
        "f": "FLOAT",
        "t": "VARCHAR",
        "day": "DATE",
        "at": "TIMESTAMP",
        "g": "GEOMETRY",
        "yes": "BOOLEAN",
        "l": "INTEGER[]",
    },
    "clean.u": {"i": "INTEGER", "at": "TIMESTAMP", "v": "DOUBLE"},
}

REFUSED = {
    # the query after SELECT: (the construct that the message names, the way to write it)
    "i FROM lake.clean.t UNION ALL BY NAME SELECT i FROM lake.clean.u": ("UNION BY NAME", "same order"),
    "t.i FROM lake.clean.t ASOF JOIN lake.clean.u ON t.i = u.i AND t.at >= u.at": ("ASOF JOIN", "QUALIFY row_number()"),
    "t.i FROM lake.clean.t POSITIONAL JOIN lake.clean.u": ("POSITIONAL JOIN", "QUALIFY row_number()"),
    "i FROM lake.clean.t SEMI JOIN lake.clean.u USING (i)": ("SEMI JOIN", "IN (SELECT"),
    "i FROM lake.clean.t ANTI JOIN lake.clean.u USING (i)": ("ANTI JOIN", "LEFT JOIN"),
    "i FROM lake.clean.t LIMIT 3": ("LIMIT", "QUALIFY row_number()"),
    "i FROM lake.clean.t ORDER BY i OFFSET 3": ("OFFSET", "QUALIFY row_number()"),
    "i FROM lake.clean.t USING SAMPLE 10%": ("TABLESAMPLE", "not determined"),
    "* FROM (PIVOT lake.clean.t ON t USING sum(i))": ("PIVOT", "FILTER"),
    "n FROM generate_series(1, 3) AS s(n)": ("SERIES", "unnest(…) in a subquery"),
    "n FROM range(3) AS s(n)": ("RANGE", "unnest(…) in a subquery"),
    "n FROM unnest([1, 2]) AS s(n)": ("UNNEST", "unnest(…) in a subquery"),
    "t.i, v FROM lake.clean.t, LATERAL (SELECT t.i + 1 AS v) AS l": ("LATERAL", "join"),
    "now() FROM lake.clean.t": ("NOW", "as_of"),
    "current_date FROM lake.clean.t": ("CURRENT_DATE", "as_of"),
    "random() FROM lake.clean.t": ("RAND", "clock or chance"),
    "x::INTEGER + t::INTEGER FROM lake.clean.t": ("CAST", "from a number"),
    "at::VARCHAR FROM lake.clean.t": ("CAST", "same text"),
    "x::VARCHAR FROM lake.clean.t": ("CAST", "same text"),
    "x::FLOAT FROM lake.clean.t": ("CAST", "same text or number"),
    "t::DOUBLE FROM lake.clean.t": ("CAST", "same text or number"),
    "t::DATE FROM lake.clean.t": ("CAST", "same text or number"),
    "t::TIMESTAMP FROM lake.clean.t": ("CAST", "DATE or TIMESTAMP"),
    "t::DECIMAL(9, 2) FROM lake.clean.t": ("CAST", "from a number"),
    "x::DECIMAL(38, 9) FROM lake.clean.t": ("CAST", "less than 38"),
    "i / b FROM lake.clean.t": ("DIV", "nullif(b, 0)"),
    "i / CASE t WHEN 'a' THEN 1 ELSE 0 END FROM lake.clean.t": ("DIV", "nullif(b, 0)"),
    "d // 2 FROM lake.clean.t": ("INTDIV", "integers"),
    "i // 0 FROM lake.clean.t": ("INTDIV", "zero"),
    "x % 2 FROM lake.clean.t": ("MOD", "integers"),
    "at - at FROM lake.clean.t": ("SUB", "date_diff('second'"),
    "t + 1 FROM lake.clean.t": ("ADD", "Cast both"),
    "date_diff('month', at, at) FROM lake.clean.t": ("DATEDIFF", "date_diff takes"),
    "date_trunc('decade', at) FROM lake.clean.t": ("TRUNC", "date_trunc takes"),
    "time_bucket(INTERVAL 7 DAY, at) FROM lake.clean.t": ("DATEBIN", "divides a day"),
    "time_bucket(INTERVAL 1 MONTH, at) FROM lake.clean.t": ("DATEBIN", "date_trunc"),
    "extract('epoch' FROM at) FROM lake.clean.t": ("EXTRACT", "extract takes"),
    "extract('second' FROM at) FROM lake.clean.t": ("EXTRACT", "extract takes"),
    "strftime(at, '%j') FROM lake.clean.t": ("TIMETOSTR", "strftime takes"),
    "strftime(at, 'ngày %d') FROM lake.clean.t": ("TIMETOSTR", "signs between"),
    "sum(x) FROM lake.clean.t": ("SUM", "cast to decimal before"),
    "avg(d) FROM lake.clean.t": ("AVG", "cast(sum(x) as double)"),
    "median(d) FROM lake.clean.t": ("MEDIAN", "cast to double"),
    "quantile_cont(i, 0.5) FROM lake.clean.t": ("PERCENTILECONT", "cast to double"),
    "quantile_cont(x, [0.1, 0.9]) FROM lake.clean.t": ("ARRAY", "not in the set"),
    "quantile_disc(x, 0.5) FROM lake.clean.t": ("PERCENTILEDISC", "not in the set"),
    "round(x, 2) FROM lake.clean.t": ("ROUND", "decimal"),
    "list(i ORDER BY at) FROM lake.clean.t": ("ARRAYAGG", "not in the set"),
    "string_agg(t, ',') FROM lake.clean.t": ("GROUPCONCAT", "not in the set"),
    "concat(t, 'x') FROM lake.clean.t": ("CONCAT", "not in the set"),
    "[i for i in l] FROM lake.clean.t": ("COMPREHENSION", "not in the set"),
    "list_filter(l, v -> v > 1) FROM lake.clean.t": ("LAMBDA", "not in the set"),
    "hash(t) FROM lake.clean.t": ("HASH", "not in the set"),
    "lower(t) FROM lake.clean.t": ("LOWER", "not in the set"),
    "t LIKE 'x%' FROM lake.clean.t": ("LIKE", "not in the set"),
    "to_days(i) FROM lake.clean.t": ("TODAYS", "not in the set"),
    "ST_Transform(g, 'EPSG:9212', 'EPSG:4326') FROM lake.clean.t": ("ST_TRANSFORM", "not in the set"),
    "ST_AsWKB(g) FROM lake.clean.t": ("ST_ASWKB", "not in the set"),
    "ST_Distance(g, g) FROM lake.clean.t": ("STDISTANCE", "gives 0"),
    "lag(i) OVER (PARTITION BY t) FROM lake.clean.t": ("WINDOW", "ORDER BY"),
    "bool_or(yes) FILTER (yes) OVER (ORDER BY i) FROM lake.clean.t": ("WINDOW", "count, sum, min and max"),
    "i IN (SELECT i FROM lake.clean.u) FROM lake.clean.t": ("IN", "coalesce("),
    "i FROM lake.clean.t WHERE NOT i IN (SELECT i FROM lake.clean.u)": ("IN", "coalesce("),
    "unnest(range(i)), unnest(range(b)) FROM lake.clean.t": ("SELECT", "One unnest a SELECT"),
    "unnest(generate_series(i, b, 2)) FROM lake.clean.t": ("GENERATESERIES", "interval, or one"),
    "unnest(range(day, day, INTERVAL 1 DAY)) FROM lake.clean.t": ("GENERATESERIES", "generate_series"),
    "i FROM other.clean.t": ("other.clean.t", "tables of the lake"),
    "no_such FROM lake.clean.t": ("no_such", "sqlglot"),
}


@pytest.mark.parametrize("query", REFUSED)
def test_it_is_refused_by_name_with_the_way_to_write_it(query: str) -> None:
    construct, portable = REFUSED[query]
    with pytest.raises(Unportable) as refused:
        to_spark("SELECT " + query, COLUMNS)
    assert construct.lower() in refused.value.construct.lower()
    assert portable in str(refused.value)
    # the message shows what was written, not what it half became
    assert "TIMESTAMP_NTZ" not in str(refused.value)


def test_a_recursive_query_is_refused() -> None:
    with pytest.raises(Unportable, match="WITH RECURSIVE"):
        to_spark("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r", COLUMNS)


def test_what_is_not_sql_is_refused_as_such() -> None:
    with pytest.raises(Unportable, match="sqlglot understands"):
        to_spark("SELECT FROM WHERE", COLUMNS)
    with pytest.raises(Unportable, match="sqlglot understands"):
        tables_of("SELECT (")


@pytest.mark.parametrize(
    ("duck", "spark"),
    {
        "cast(d as integer)": "CAST(ROUND(`t`.`d`) AS INT)",
        "cast(x as integer)": "CAST(RINT(`t`.`x`) AS INT)",
        "cast(b as integer)": "CAST(`t`.`b` AS INT)",
        "d / nullif(b, 0)": "CAST(`t`.`d` AS DOUBLE) / CAST(NULLIF(`t`.`b`, 0) AS DOUBLE)",
        "date_diff('hour', at, day)": "TIMESTAMPDIFF(HOUR, DATE_TRUNC('HOUR', CAST(`t`.`at` AS TIMESTAMP_NTZ)), DATE_TRUNC('HOUR', CAST(`t`.`day` AS TIMESTAMP_NTZ)))",
        "count(*) filter (yes) over (order by i)": "COUNT(CASE WHEN `t`.`yes` THEN 1 END) OVER (ORDER BY `t`.`i` NULLS LAST)",
        "trim(unnest(string_split(t, ';')))": r"EXPLODE(TRANSFORM(SPLIT(`t`.`t`, CONCAT('\\Q', ';', '\\E')), _each -> TRIM(_each)))",
    }.items(),
)
def test_what_differs_is_written_otherwise(duck: str, spark: str) -> None:
    assert spark in to_spark(f"SELECT {duck} AS v FROM lake.clean.t", COLUMNS).sql


def test_it_tells_which_columns_are_read() -> None:
    query = """
        WITH a AS (SELECT i, at FROM lake.clean.t WHERE yes)
        SELECT a.i, (SELECT count(*) FROM lake.clean.u) AS n FROM a WHERE (a.i, a.at) IN (SELECT i, at FROM lake.clean.u)"""
    assert to_spark(query, COLUMNS).tables == {"clean.t": ("i", "at", "yes"), "clean.u": ("i", "at")}
    assert to_spark("SELECT count(*) AS n FROM lake.clean.u", COLUMNS).tables == {"clean.u": ("i",)}
    assert tables_of(query) == {"clean.t", "clean.u"}
    assert view_name("clean.t") in to_spark(query, COLUMNS).sql


def test_functions_of_spark_have_one_name_each() -> None:
    assert all(name == name.lower() for name in FUNCTIONS)


def test_a_view_is_translated_from_what_duckdb_keeps_of_it() -> None:
    """DuckDB stores the SQL of a view in another form than it was written in."""
    con = duckdb.connect()
    con.execute("ATTACH ':memory:' AS lake; CREATE SCHEMA lake.clean; CREATE TABLE lake.clean.t (i INTEGER, ts TIMESTAMP, day DATE, t VARCHAR)")
    written = """
        SELECT i, ts + INTERVAL 59 SECOND - i * INTERVAL 1 MINUTE AS a, date_trunc('hour', ts - INTERVAL 1 MICROSECOND) + INTERVAL 1 HOUR AS b,
            time_bucket(INTERVAL 15 MINUTE, ts) AS c, extract('minute' FROM ts) AS d, day - INTERVAL 1 DAY AS e, day + INTERVAL 3 MONTH AS f,
            coalesce((i, ts) IN (SELECT i, ts FROM lake.clean.t), false) AS h, trim(unnest(string_split(t, ';'))) AS u, count(*) OVER (PARTITION BY i) AS n
        FROM lake.clean.t"""
    con.execute(f"CREATE VIEW lake.clean.v AS {written}")
    stored = view_query(views_of(con)["clean.v"])
    assert "to_minutes" in views_of(con)["clean.v"]
    assert translated(con, stored)[1] == translated(con, written)[1] == {"clean.t": ("i", "ts", "day", "t")}
    for sql in (stored, written):
        assert "INTERVAL '15' MINUTE" not in translated(con, sql)[0]
        assert "TRUNC(CAST" not in translated(con, sql)[0]
        assert "COUNT()" not in translated(con, sql)[0].upper()  # what DuckDB makes of count(*) OVER (…)
