"""What Spark would read: files, pruning, deletes and refusals, asked of the catalog without Java; and that nothing else knows Spark."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.extensions import OBJECT_STORAGE
from lake.lake import create, duck, latest_snapshot, open_reader, open_writer
from lake.spark import read as spark
from lake.spark.plan import Plan, Planner, Reason, Refused, plan
from orchestration import doctor
from tests.examples import examples
from tests.many_files import change_catalog, fill_catalog
from tnmt.settings import ROOT, Settings
from tnmt.settings import settings as platform_settings


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One lake for the module; each test has tables of its own name in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("plan")))
        s = platform_settings()
        create(s)
    return s


def _write(s: Settings, *statements: str) -> int:
    """Runs the statements, each a commit, and returns the newest snapshot."""
    with open_writer(s, "test") as con:
        for statement in statements:
            con.execute(statement)
        return latest_snapshot(con)


def _rows(s: Settings, statement: str) -> list[tuple]:
    with open_reader(s) as con:
        return con.execute(statement).fetchall()


def _paths(planned: Plan) -> set[str]:
    return {f.path for f in planned.files}


def test_files_deletes_and_columns_are_those_of_the_snapshot(lake: Settings) -> None:
    t = "clean.history"
    first = _write(lake, f"CREATE TABLE lake.{t} (id INTEGER, label VARCHAR)", f"INSERT INTO lake.{t} SELECT range, 'a' FROM range(100)")
    deleted = _write(lake, f"INSERT INTO lake.{t} SELECT range, 'b' FROM range(100, 200)", f"DELETE FROM lake.{t} WHERE id = 3")
    last = _write(
        lake,
        f"DELETE FROM lake.{t} WHERE id = 4",
        f"ALTER TABLE lake.{t} RENAME COLUMN label TO name",
        f"ALTER TABLE lake.{t} ADD COLUMN unit VARCHAR DEFAULT 'NULL'",
        f"INSERT INTO lake.{t} VALUES (200, 'c', NULL)",
    )
    at_first = plan(lake, t, snapshot=first)
    assert [(c.id, c.name, c.type) for c in at_first.columns] == [(1, "id", "int32"), (2, "label", "varchar")]
    assert [(f.rows, f.deletes) for f in at_first.files] == [(100, None)]

    at_delete = plan(lake, t, snapshot=deleted)
    assert len(at_delete.files) == 2
    assert [f.deletes.later for f in at_delete.files if f.deletes] == [True]  # the file now holds the second delete too

    newest = plan(lake, t)
    assert (newest.snapshot, newest.total) == (last, 3)
    assert [c.name for c in newest.columns] == ["id", "name", "unit"]
    assert newest.columns[2].default == "NULL"  # the text, not nothing
    assert [f.lacks for f in newest.files] == [("unit",), ("unit",), ()]
    assert [(f.deletes.rows, f.deletes.later) for f in newest.files if f.deletes] == [(2, False)]
    for f in newest.files:
        assert Path(f.path).is_file() and (f.deletes is None or Path(f.deletes.path).is_file())


def test_a_column_that_compaction_did_not_write_is_still_lacking(lake: Settings) -> None:
    t = "clean.rewritten"
    _write(
        lake,
        f"CREATE TABLE lake.{t} (id INTEGER)",
        f"INSERT INTO lake.{t} FROM range(100)",
        f"ALTER TABLE lake.{t} ADD COLUMN unit VARCHAR DEFAULT 'mg/l'",
        f"DELETE FROM lake.{t} WHERE id < 10",
        "CALL ducklake_rewrite_data_files('lake', 'rewritten', schema => 'clean', delete_threshold => 0)",
    )
    (file,) = plan(lake, t).files
    held = {r[0] for r in duckdb.sql(f"SELECT name FROM parquet_schema('{file.path}')").fetchall()}
    assert (file.lacks == ("unit",)) == ("unit" not in held)
    assert file.rows == 90


def test_rows_of_later_snapshots_in_a_merged_file_are_named(lake: Settings) -> None:
    t = "clean.merged"
    first = _write(lake, f"CREATE TABLE lake.{t} (id INTEGER)", f"INSERT INTO lake.{t} FROM range(10)")
    _write(lake, f"INSERT INTO lake.{t} FROM range(10, 20)", "CALL ducklake_merge_adjacent_files('lake', 'merged', schema => 'clean')")
    assert [f.later for f in plan(lake, t, snapshot=first).files] == [True]
    assert [f.later for f in plan(lake, t).files] == [False]


def test_one_month_is_one_file_of_twelve(lake: Settings) -> None:
    t = "clean.months"
    _write(
        lake,
        f"CREATE TABLE lake.{t} (id INTEGER, ts TIMESTAMP, v DECIMAL(18,6))",
        f"ALTER TABLE lake.{t} SET PARTITIONED BY (month(ts))",
        f"INSERT INTO lake.{t} SELECT range, TIMESTAMP '2025-01-01' + range * INTERVAL 1 DAY, range FROM range(365)",
    )
    march = plan(lake, t, where=[("ts", ">=", datetime(2025, 3, 1)), ("ts", "<", datetime(2025, 4, 1))])
    assert (len(march.files), march.total) == (1, 12)
    assert len(plan(lake, t, where=[("v", "=", Decimal("40.5"))]).files) == 1
    assert len(plan(lake, t, where=[("v", ">", Decimal(364))]).files) == 0
    assert len(plan(lake, t, columns=["id"], where=[("v", ">=", Decimal(364))]).files) == 1


VALUES: dict[str, tuple[str, st.SearchStrategy]] = {
    "i": ("INTEGER", st.integers(-5, 5)),
    "x": ("DOUBLE", st.sampled_from([float("nan"), float("inf"), -0.0, 0.0, 0.1, -2.5, 1e300])),
    "f": ("FLOAT", st.sampled_from([float("nan"), 0.10000000149011612, 0.25, 16777216.0])),
    "n": ("DECIMAL(9,2)", st.decimals(-3, 3, places=2)),
    "s": ("VARCHAR", st.sampled_from(["", "a", "ă", "x" * 255 + "a", "x" * 300, "x" * 300 + "z", "ạ" * 120, "Z"])),
    "d": ("DATE", st.dates(date(1500, 1, 1), date(1500, 1, 9))),
    "t": ("TIMESTAMP", st.datetimes(datetime(2025, 1, 1), datetime(2025, 1, 1, 0, 0, 1))),
}
ROWS = st.lists(st.tuples(*[st.none() | values for _, values in VALUES.values()]), min_size=1, max_size=3)
COMPARED = {**{c: v for c, (_, v) in VALUES.items()}, "f": st.sampled_from([0.1, 0.10000000149011612, 0.25, 0.2])}
PREDICATE = st.sampled_from(sorted(VALUES)).flatmap(lambda c: st.tuples(st.just(c), st.sampled_from(["=", "<", "<=", ">", ">="]), COMPARED[c]))


def test_no_file_with_a_matching_row_is_pruned(lake: Settings) -> None:
    columns = ", ".join(f"{c} {kind}" for c, (kind, _) in VALUES.items())
    _write(lake, f"CREATE TABLE lake.clean.pruned ({columns})")
    seen = []

    @examples(25)
    @given(st.lists(ROWS, min_size=1, max_size=3), st.lists(PREDICATE, min_size=1, max_size=6))
    def sound(files: list[list[tuple]], predicates: list[tuple]) -> None:
        with open_writer(lake, "test") as con:
            con.execute("DELETE FROM lake.clean.pruned")
            for rows in files:
                con.execute(
                    f"INSERT INTO lake.clean.pruned VALUES {', '.join('(' + ', '.join('?' * len(VALUES)) + ')' for _ in rows)}",
                    [v for row in rows for v in row],
                )
            for c, op, value in predicates:
                kind = "DOUBLE" if c == "f" else VALUES[c][0]
                matching = {
                    r[0] for r in con.execute(f"SELECT DISTINCT filename FROM lake.clean.pruned WHERE {c} {op} CAST(? AS {kind})", [value]).fetchall()
                }
                planned = Planner(con, "clean.pruned", None).plan(None, [(c, op, value)])
                assert matching <= _paths(planned), (c, op, value)
                seen.append((len(planned.files), planned.total))

    sound()
    assert any(kept < total for kept, total in seen), "nothing was ever pruned, so nothing was tried"


def test_predicates_of_another_kind_are_refused(lake: Settings) -> None:
    _write(lake, "CREATE TABLE lake.clean.kinds (i INTEGER, ts TIMESTAMP, d DATE, n DECIMAL(9,2), g GEOMETRY)")
    for predicate in (
        ("i", "=", 1.5),
        ("i", "=", True),
        ("i", "=", "1"),
        ("i", "<>", 1),
        ("n", "=", 1.5),
        ("d", "=", datetime(2025, 1, 1)),
        ("ts", "=", date(2025, 1, 1)),
        ("ts", "=", datetime.fromisoformat("2025-01-01T00:00:00+07:00")),
        ("g", "=", "POINT(1 1)"),
        ("gone", "=", 1),
    ):
        with pytest.raises(ValueError, match=r"compare|no column"):
            plan(lake, "clean.kinds", where=[predicate])
    with pytest.raises(ValueError, match="no column nothing at snapshot"):
        plan(lake, "clean.kinds", columns=["i", "nothing"])


def _inlined(s: Settings, *, rows: bool) -> str:
    name = f"inlined_{'rows' if rows else 'deletes'}"
    _write(
        s,
        f"CREATE TABLE lake.clean.{name} (id INTEGER)",
        f"INSERT INTO lake.clean.{name} FROM range(100)",
        f"CALL lake.set_option('data_inlining_row_limit', 10, schema => 'clean', table_name => '{name}')",
        f"INSERT INTO lake.clean.{name} VALUES (1)" if rows else f"DELETE FROM lake.clean.{name} WHERE id = 1",
    )
    return f"clean.{name}"


def _column(s: Settings, kind: str, value: str) -> str:
    name = "typed_" + re.sub(r"\W", "_", kind).lower()
    _write(s, f"CREATE TABLE lake.clean.{name} (id INTEGER, v {kind})", f"INSERT INTO lake.clean.{name} VALUES (1, {value})")
    return f"clean.{name}"


def _added(s: Settings) -> str:
    file = s.home / "elsewhere.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS id) TO '{file}'")
    _write(s, "CREATE TABLE lake.clean.added (id INTEGER)", f"CALL ducklake_add_data_files('lake', 'added', '{file}', schema => 'clean')")
    return "clean.added"


def _other_deletes(s: Settings) -> str:
    _write(
        s,
        "CREATE TABLE lake.clean.vectors (id INTEGER)",
        "INSERT INTO lake.clean.vectors FROM range(9)",
        "DELETE FROM lake.clean.vectors WHERE id = 1",
    )
    change_catalog(
        s, "UPDATE ducklake_delete_file SET format = 'puffin' WHERE table_id = (SELECT table_id FROM ducklake_table WHERE table_name = 'vectors')"
    )
    return "clean.vectors"


def _same_name(s: Settings) -> str:
    _write(s, "CREATE TABLE lake.clean.twins (id INTEGER)", "INSERT INTO lake.clean.twins VALUES (1)", "INSERT INTO lake.clean.twins VALUES (2)")
    change_catalog(
        s, "UPDATE ducklake_data_file SET path = 'one.parquet' WHERE table_id = (SELECT table_id FROM ducklake_table WHERE table_name = 'twins')"
    )
    return "clean.twins"


REFUSALS: dict[str, tuple[Reason, Callable[[Settings], str], str]] = {
    "rows in the catalog": (Reason.INLINED_ROWS, lambda s: _inlined(s, rows=True), "1 rows inlined in the catalog .* ducklake_flush_inlined_data"),
    "deletes in the catalog": (Reason.INLINED_DELETES, lambda s: _inlined(s, rows=False), "1 deletes inlined"),
    "list": (Reason.COLUMN_TYPE, lambda s: _column(s, "VARCHAR[]", "['a']"), r"v is of type list"),
    "struct": (Reason.COLUMN_TYPE, lambda s: _column(s, "STRUCT(a INTEGER)", "{'a': 1}"), r"v is of type struct"),
    "uuid": (Reason.COLUMN_TYPE, lambda s: _column(s, "UUID", "uuid()"), "v is of type uuid"),
    "hugeint": (Reason.COLUMN_TYPE, lambda s: _column(s, "HUGEINT", "1"), "v is of type int128"),
    "time": (Reason.COLUMN_TYPE, lambda s: _column(s, "TIME", "'10:00:00'"), "v is of type time"),
    "nanoseconds": (Reason.COLUMN_TYPE, lambda s: _column(s, "TIMESTAMP_NS", "'2025-01-01'"), "v is of type timestamp_ns"),
    "endless date": (Reason.INFINITE_TIME, lambda s: _column(s, "DATE", "'infinity'"), "holds 'infinity'"),
    "endless time": (Reason.INFINITE_TIME, lambda s: _column(s, "TIMESTAMP", "'-infinity'"), "holds 'infinity'"),
    "file of another writer": (Reason.ADDED_FILE, _added, "without field ids"),
    "deletion vectors": (Reason.FILE_FORMAT, _other_deletes, "its deletes are puffin"),
    "two files of one name": (Reason.FILE_NAME, _same_name, "same name"),
    "no table": (Reason.NO_TABLE, lambda _: "clean.nothing", "there is no table clean.nothing"),
    "a view": (Reason.NO_TABLE, lambda _: "ops.delivery", "a view is read by the tables below it"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_read_rightly_is_refused_by_name(lake: Settings, case: str) -> None:
    reason, make, text = REFUSALS[case]
    table = make(lake)
    with pytest.raises(Refused, match=text) as refused:
        plan(lake, table)
    assert refused.value.reason is reason and str(refused.value).endswith(f"[{reason}]")
    if reason in (Reason.COLUMN_TYPE, Reason.INFINITE_TIME):
        assert len(plan(lake, table, columns=["id"]).files) == 1


def test_rows_inlined_later_do_not_hinder_an_earlier_snapshot(lake: Settings) -> None:
    before = _write(lake, "CREATE TABLE lake.clean.early (id INTEGER)", "INSERT INTO lake.clean.early FROM range(100)")
    _write(
        lake,
        "CALL lake.set_option('data_inlining_row_limit', 10, schema => 'clean', table_name => 'early')",
        "INSERT INTO lake.clean.early VALUES (1)",
        "DELETE FROM lake.clean.early WHERE id = 50",
    )
    assert len(plan(lake, "clean.early", snapshot=before).files) == 1
    with pytest.raises(Refused):
        plan(lake, "clean.early")


def test_encrypted_files_are_refused(tmp_path: Path) -> None:
    s = Settings(home=tmp_path)
    create(s)
    for file in s.lake_dir.glob("catalog.sqlite*"):
        file.unlink()
    with duck(s) as con:
        con.execute("SET force_mbedtls_unsafe = 'true'")  # real encryption wants httpfs, which a lake in files is not given
        con.execute(f"ATTACH '{s.attach}' AS lake (DATA_PATH '{s.data_path}', ENCRYPTED, META_JOURNAL_MODE 'WAL')")
        con.execute("CREATE SCHEMA lake.clean; CREATE TABLE lake.clean.secret (id INTEGER); INSERT INTO lake.clean.secret FROM range(100)")
    with pytest.raises(Refused, match="is encrypted") as refused:
        plan(s, "clean.secret")
    assert refused.value.reason is Reason.ENCRYPTED_FILE


def test_snapshots_that_are_not_there_are_told_apart(tmp_path: Path) -> None:
    s = Settings(home=tmp_path)
    create(s)
    old = _write(s, "CREATE TABLE lake.clean.t (id INTEGER)", "INSERT INTO lake.clean.t VALUES (1)")
    newest = _write(s, "INSERT INTO lake.clean.t VALUES (2)", f"CALL ducklake_expire_snapshots('lake', versions => [{old}])")
    for snapshot, reason, text in (
        (old, Reason.SNAPSHOT_EXPIRED, f"snapshot {old} has expired"),
        (newest + 1, Reason.SNAPSHOT_UNKNOWN, f"the newest is {newest}"),
        (-1, Reason.SNAPSHOT_UNKNOWN, "no snapshot -1"),
    ):
        with pytest.raises(Refused, match=text) as refused:
            plan(s, "clean.t", snapshot=snapshot)
        assert refused.value.reason is reason


def test_a_path_that_spark_takes_for_a_pattern_is_refused(tmp_path: Path) -> None:
    s = Settings(home=tmp_path / "lake [1]")
    create(s)
    _write(s, "CREATE TABLE lake.clean.t (id INTEGER)", "INSERT INTO lake.clean.t VALUES (1)")
    with pytest.raises(Refused, match="take this name for a pattern"):
        plan(s, "clean.t")


def test_ten_thousand_files_are_planned_within_two_seconds(tmp_path: Path) -> None:
    """A table of 10,000 files with 20 columns and 1,000 delete files, and one as large beside it: 400,000 rows of statistics."""
    s = Settings(home=tmp_path)
    create(s)
    fill_catalog(s)
    took = []
    for _ in range(3):  # the best of three: other programs run beside the tests
        started = time.perf_counter()
        whole = plan(s, "clean.wide")
        took.append(time.perf_counter() - started)
    assert (len(whole.files), sum(f.deletes is not None for f in whole.files)) == (10_000, 999)
    day = [("ts", ">=", datetime(2025, 3, 1)), ("ts", "<", datetime(2025, 3, 1) + timedelta(days=1))]
    assert (len(plan(s, "clean.wide", where=day).files), plan(s, "clean.wide", where=day).total) == (24, 10_000)
    assert min(took) < 2, took


# set-up


def _layer(folder: Path) -> tuple[Path, Path]:
    (folder / "packages" / "pyspark").mkdir(parents=True)
    (folder / "jars").mkdir()
    (folder / "jars" / "a.jar").write_bytes(b"a")
    hashes = folder / "jars.sha256"
    hashes.write_text(f"{hashlib.sha256(b'a').hexdigest()}  a.jar\n")
    return folder, hashes


def test_jars_are_those_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, hashes = _layer(tmp_path)
    monkeypatch.setattr(spark, "java", lambda: "/bin/java")
    monkeypatch.setattr(spark.subprocess, "run", lambda *_, **__: SimpleNamespace(stderr='openjdk version "17.0.15" 2025-04-15'))
    spark.require(layer, hashes)
    digests = [hashlib.sha256(b).hexdigest() for b in (b"a", b"b")]
    (layer / "jars" / "a.jar").write_bytes(b"b")
    with pytest.raises(spark.SparkMissing, match=rf"expected a.jar with SHA-256 {digests[0]}, found {digests[1]} .* run `make scale-out`"):
        spark.require(layer, hashes)
    (layer / "jars" / "a.jar").unlink()
    with pytest.raises(spark.SparkMissing, match=r"expected a.jar in .* found no such file; .* run `make scale-out`"):
        spark.require(layer, hashes)
    (layer / "jars" / "a.jar").write_bytes(b"a")
    (layer / "jars" / "z.jar").write_bytes(b"z")
    with pytest.raises(spark.SparkMissing, match=r"expected no z\.jar in .* found one; remove it"):
        spark.require(layer, hashes)


@pytest.mark.parametrize(
    ("told", "text"),
    [('openjdk version "11.0.2" 2019-01-15', "expected 17 or 21, found 11"), ('java version "1.8.0_402"', "found 1 at"), ("oops", "found oops")],
)
def test_another_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, text: str) -> None:
    layer, hashes = _layer(tmp_path)
    monkeypatch.setattr(spark, "java", lambda: "/bin/java")
    monkeypatch.setattr(spark.subprocess, "run", lambda *_, **__: SimpleNamespace(stderr=told))
    assert [p for p in spark.problems(layer, hashes) if text in p]


def test_no_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, hashes = _layer(tmp_path)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [p for p in spark.problems(layer, hashes) if p.startswith("Java: expected 17 or 21, found none")]


def test_doctor_notes_spark_and_fails_only_where_it_was_set_up(home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LAYER", tmp_path / "none")
    monkeypatch.setattr(doctor, "problems", lambda: ["Java: expected …", "packages: expected …", "jars: expected a.jar …", "jars: expected b.jar …"])
    check = next(c for c in doctor.examine(home) if c.name == "spark")
    assert check.ok and check.found == "not set up, and only needed past one machine; missing: Java, jars, packages"
    monkeypatch.setattr(doctor, "LAYER", tmp_path)
    check = next(c for c in doctor.examine(home) if c.name == "spark")
    assert not check.ok and "expected" in check.found


def test_the_list_names_what_the_pom_fetches() -> None:
    pom = (ROOT / "infra" / "spark" / "pom.xml").read_text()
    default, _, _ = pom.partition("<profiles>")
    parquet = re.search(r"<parquet>(.+)</parquet>", pom)[1]
    fetched = {
        f"{a}-{v.replace('${parquet}', parquet)}.jar"
        for a, v in re.findall(r"<artifactId>([^*<]+)</artifactId><version>(.+?)</version>\s*<exclusions>|\Z", default)
        if a
    }
    listed = [line.split() for line in spark.HASHES.read_text().splitlines()]
    assert {name for _, name in listed} == fetched and len(fetched) == 8
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest, _ in listed)


def test_the_layer_holds_the_platforms_versions() -> None:
    """The layer stands behind the platform's packages, which win: what both hold must be the same."""

    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))

    layer = pins("scale-out.txt")
    assert layer["pyspark"] == "4.0.5" and layer["apache-sedona"] == "1.8.0"
    for lock in ("platform.txt", "platform-dev.txt"):
        platform = pins(lock)
        assert not {n: (v, platform[n]) for n, v in layer.items() if platform.get(n, v) != v}, lock
        assert "pyspark" not in platform


def test_nothing_of_the_duckdb_path_imports_spark() -> None:
    """Every module of the rooms in a fresh process, the layer within reach: neither is Spark imported, nor the layer put on the path."""
    code = """
import importlib, pkgutil, sys
for room in ("tnmt", "lake", "ingestion", "quality", "marts", "sharing", "intake", "simulator", "orchestration", "cli"):
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        if not module.name.startswith(("orchestration.def",)):  # these read a built dbt project when imported
            importlib.import_module(module.name)
import great_expectations
found = sorted(m for m in sys.modules if m.split(".")[0] in ("pyspark", "py4j", "sedona"))
assert not found, found
assert not [p for p in sys.path if ".spark" in p], sys.path
assert importlib.util.find_spec("pyspark") is None
print(len([m for m in sys.modules if m.split(".")[0] in ("lake", "tnmt", "ingestion", "orchestration")]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 20


def test_a_lake_in_files_has_no_way_to_the_network(tmp_path: Path) -> None:
    s = Settings(home=tmp_path)
    create(s)
    assert not [name for name in OBJECT_STORAGE if list(s.extensions.rglob(f"{name}.duckdb_extension"))]
    with open_reader(s) as con, pytest.raises(Exception, match="httpfs"):
        con.execute("SELECT * FROM read_csv('http://127.0.0.1:9/nothing.csv')")
