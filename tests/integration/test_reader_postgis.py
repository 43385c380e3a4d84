"""A live PostGIS: whole snapshots, increments, and servers that are wrong, refuse, or go away in the middle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import shapely
from pyproj import CRS

from ingestion.contract import Contract
from ingestion.model import Problem
from ingestion.readers import postgis as reader
from ingestion.readers.postgis import SourceUnreachable, snapshot
from tests.postgres_kit import PASSWORD, Server
from tests.readers_kit import contract, delivery, duck, rows

NOW = datetime(2026, 3, 25, 0, 10)
COLUMNS = {
    "change_id": {"header": "ma", "required": True},
    "code": {"header": "loai"},
    "area": {"header": "dien_tich", "type": "decimal(20,6)"},
    "updated_at": {"header": "cap_nhat", "type": "timestamp"},
    "geometry": {"header": "vi_tri", "type": "geometry"},
}


def spec(columns: dict[str, Any] | None = None, **options: Any) -> Contract:
    return contract(
        columns or COLUMNS,
        "postgis",
        top={"source": "bien_dong", "load": "incremental", "key": ["change_id"]},
        **({"table": "dat.bien_dong", "crs": "EPSG:9212"} | options),
    )


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return duck(tmp_path_factory.mktemp("ext"))


@pytest.fixture
def table(postgis: Server) -> Iterator[Server]:
    """dat.bien_dong with 1,000 rows, written in no order."""
    postgis.execute("""
        CREATE SCHEMA dat;
        CREATE TYPE dat.loai AS ENUM ('CN', 'TC');
        CREATE TABLE dat.bien_dong (ma text PRIMARY KEY, loai dat.loai, dien_tich numeric, cap_nhat timestamptz, ho_ten text,
                                    vi_tri geometry(GeometryZ, 9212));
        INSERT INTO dat.bien_dong
        SELECT 'BD' || to_char(i, 'FM00000'), (ARRAY['CN', 'TC'])[1 + i % 2]::dat.loai, i + 0.1234567890123456789,
               timestamptz '2026-03-24 17:00+00' + i * interval '1 minute', 'Nguyễn Văn A',
               ST_Force3D(ST_SetSRID(ST_MakeEnvelope(550000 + i, 1270000, 550010 + i, 1270010), 9212), i)
        FROM generate_series(1, 1000) AS i ORDER BY random()""")
    yield postgis
    postgis.execute("DROP SCHEMA dat CASCADE")


def pull(server: Server, folder: Path, which: Contract | None = None, now: datetime = NOW, **options: Any) -> Path:
    return snapshot(which or spec(), server.dsn(), folder / "inbox", now, folder / "ext", **options)


def read(con: duckdb.DuckDBPyConnection, path: Path, which: Contract | None = None) -> dict[str, Problem]:
    return reader.read(con, which or spec(), [delivery(path)], "cut")


def problem(found: dict[str, Problem]) -> Problem:
    assert len(found) == 1
    return next(iter(found.values()))


def test_a_whole_table(con: duckdb.DuckDBPyConnection, table: Server, tmp_path: Path) -> None:
    path = pull(table, tmp_path)
    assert path.name == "bien_dong_20260325001000.parquet"
    assert read(con, path) == {}
    found = rows(con, "_line, _problem, change_id, code, area, updated_at, geometry, _raw")
    assert [r[:4] for r in found[:2]] == [(1, None, "BD00001", "TC"), (2, None, "BD00002", "CN")]
    assert found[0][4] == "1.1234567890123456789"  # NUMERIC without scale: not a digit lost
    assert found[0][5] == datetime(2026, 3, 25, 0, 1)  # timestamptz on the clock of the contract's zone
    assert shapely.from_wkb(bytes(found[0][6])).equals(shapely.box(550001, 1270000, 550011, 1270010))
    assert not shapely.has_z(shapely.from_wkb(bytes(found[0][6])))
    assert len(found) == 1000
    # what the contract does not name stays on the server
    assert "Nguyễn" not in path.read_bytes().decode("latin-1") + found[0][7]
    assert "ho_ten" not in [r[0] for r in con.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]


def test_the_same_table_gives_the_same_bytes(table: Server, tmp_path: Path) -> None:
    one = pull(table, tmp_path)
    table.execute(
        "CREATE TABLE dat.moi AS SELECT * FROM dat.bien_dong ORDER BY random(); DROP TABLE dat.bien_dong; "
        "ALTER TABLE dat.moi RENAME TO bien_dong; ALTER TABLE dat.bien_dong ALTER vi_tri TYPE geometry(GeometryZ, 9212)"
    )
    two = pull(table, tmp_path, now=datetime(2026, 3, 25, 0, 15))
    assert one != two and one.read_bytes() == two.read_bytes()


def test_an_increment_reaches_an_hour_behind_its_watermark(con: duckdb.DuckDBPyConnection, table: Server, tmp_path: Path) -> None:
    which = spec(watermark="cap_nhat")
    path = pull(table, tmp_path, which, since=datetime(2026, 3, 25, 15, 0))
    assert read(con, path, which) == {}
    assert con.execute("SELECT count(*), min(updated_at) FROM cut").fetchall() == [(1000 - 839, datetime(2026, 3, 25, 14, 0))]
    # a column without a zone holds the clock of the contract's zone
    table.execute("ALTER TABLE dat.bien_dong ALTER cap_nhat TYPE timestamp USING cap_nhat AT TIME ZONE INTERVAL '+00:00'")
    utc = contract(
        COLUMNS, "postgis", top={"source": "bien_dong", "time": {"zone": "+00:00"}}, table="dat.bien_dong", crs="EPSG:9212", watermark="cap_nhat"
    )
    again = pull(table, tmp_path, utc, since=datetime(2026, 3, 25, 15, 0))
    assert con.execute(f"SELECT count(*) FROM '{again}'").fetchall() == [(1000 - 839,)]


def test_a_query_and_a_table_without_geometry(con: duckdb.DuckDBPyConnection, table: Server, tmp_path: Path) -> None:
    which = spec({"change_id": "ma", "n": "so"}, table=None, crs=None, query="SELECT ma, length(ma) AS so FROM dat.bien_dong WHERE loai = 'CN'")
    assert read(con, pull(table, tmp_path, which), which) == {}
    assert con.execute("SELECT count(*), min(n) FROM cut").fetchall() == [(500, 7)]


def test_arcs_missing_geometry_and_strays(con: duckdb.DuckDBPyConnection, table: Server, tmp_path: Path) -> None:
    table.execute("""
        ALTER TABLE dat.bien_dong ALTER vi_tri TYPE geometry USING ST_Force2D(vi_tri);
        UPDATE dat.bien_dong SET vi_tri = ST_GeomFromText('CURVEPOLYGON(CIRCULARSTRING(550000 1270000, 550020 1270000, 550000 1270000))', 9212)
        WHERE ma = 'BD00001';
        UPDATE dat.bien_dong SET vi_tri = NULL WHERE ma = 'BD00002';
        UPDATE dat.bien_dong SET vi_tri = ST_SetSRID(ST_MakePoint(106.9, 11.5), 9212) WHERE ma = 'BD00003'""")
    assert read(con, pull(table, tmp_path)) == {}
    found = rows(con, "_problem, geometry")
    assert [r[0] for r in found[:4]] == [None, "geometry_missing", "coordinates_outside", None]
    assert abs(shapely.from_wkb(bytes(found[0][1])).area - 3.141592653589793 * 100) < 1


@pytest.mark.parametrize(
    ("change", "code", "found"),
    [
        ("ALTER TABLE dat.bien_dong ALTER vi_tri TYPE geometry USING ST_SetSRID(vi_tri, 0)", "crs_missing", "SRID 0"),
        ("ALTER TABLE dat.bien_dong ALTER vi_tri TYPE geometry USING ST_SetSRID(vi_tri, 5899)", "crs_other", "EPSG:5899"),
        ("ALTER TABLE dat.bien_dong ALTER vi_tri TYPE geometry USING ST_SetSRID(ST_MakePoint(106.9, 11.5), 9212)", "crs_impossible", "vĩ độ"),
        ("ALTER TABLE dat.bien_dong DROP vi_tri", "geometry_missing", "ma"),
        ("ALTER TABLE dat.bien_dong RENAME loai TO loai_bd", "column_missing", "loai_bd"),
    ],
)
def test_tables_that_do_not_fit_the_contract(
    con: duckdb.DuckDBPyConnection, table: Server, tmp_path: Path, change: str, code: str, found: str
) -> None:
    table.execute(change)
    seen = problem(read(con, pull(table, tmp_path)))
    assert (seen.code, found in seen.found) == (code, True), seen
    assert rows(con) == []


def test_a_crs_of_the_servers_own(con: duckdb.DuckDBPyConnection, table: Server, tmp_path: Path) -> None:
    """Land offices number VN-2000 as they like; what the number means stands in spatial_ref_sys."""
    wkt = CRS.from_epsg(9212).to_wkt("WKT1_GDAL")
    table.execute(f"""
        INSERT INTO spatial_ref_sys VALUES (990001, NULL, NULL, '{wkt}', '');
        ALTER TABLE dat.bien_dong ALTER vi_tri TYPE geometry USING ST_SetSRID(vi_tri, 990001)""")
    try:
        assert read(con, pull(table, tmp_path)) == {}
        assert len(rows(con)) == 1000
    finally:
        table.execute("DELETE FROM spatial_ref_sys WHERE srid = 990001")


def test_a_pull_that_is_damaged(con: duckdb.DuckDBPyConnection, table: Server, tmp_path: Path) -> None:
    path = pull(table, tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    assert problem(read(con, path)).code == "not_a_pull"


def test_one_pull_sees_one_state(table: Server, tmp_path: Path) -> None:
    """Rows move from CN to TC in pairs while pulls go on: every pull sees 500 of each."""
    stop = threading.Event()

    def swap() -> None:
        with psycopg.connect(table.dsn(), autocommit=True) as con:
            while not stop.is_set():
                con.execute(
                    "UPDATE dat.bien_dong SET loai = CASE loai WHEN 'CN' THEN 'TC' ELSE 'CN' END::dat.loai WHERE ma IN ('BD00001', 'BD00002')"
                )

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        for n in range(5):
            path = pull(table, tmp_path, now=datetime(2026, 3, 25, 1, n))
            assert duckdb.sql(f"SELECT loai, count(*) FROM '{path}' GROUP BY 1 ORDER BY 1").fetchall() == [("CN", 500), ("TC", 500)]
    finally:
        stop.set()
        writer.join()


# --- servers that fail -------------------------------------------------------------------------------------------


def refused(server: Server, folder: Path, which: Contract | None = None, dsn: str | None = None) -> Problem:
    """The problem of a pull that must fail: without the password, and without a file."""
    with pytest.raises(SourceUnreachable) as caught:
        snapshot(which or spec(), dsn or server.dsn(), folder / "inbox", NOW, folder / "ext")
    assert PASSWORD not in str(caught.value) and "sai-mat-khau" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert list((folder / "inbox").iterdir()) == []
    return caught.value.problem


@pytest.mark.parametrize(
    "form",
    [
        "host=127.0.0.1 port={port} dbname=postgres user=postgres password=sai-mat-khau",
        "host=127.0.0.1 port={port} dbname=postgres user=postgres password='sai-mat-khau'",
        "postgresql://postgres:sai-mat-khau@127.0.0.1:{port}/postgres",
        "postgresql://postgres:sai%2Dmat-khau@127.0.0.1:{port}/postgres?application_name=tnmt",
        "host=127.0.0.1 port=1 dbname=postgres user=postgres password=sai-mat-khau",
    ],
)
def test_no_entry_and_no_password_in_the_error(postgis: Server, tmp_path: Path, form: str) -> None:
    seen = refused(postgis, tmp_path, dsn=form.format(port=postgis.port))
    assert (seen.code, "127.0.0.1" in seen.what) == ("database_unreachable", True)


def test_a_table_that_is_not_there(table: Server, tmp_path: Path) -> None:
    seen = refused(table, tmp_path, spec(table="dat.khong_co"))
    assert seen.code == "database_interrupted"
    assert "dat.khong_co" in seen.what + seen.found


def test_a_server_killed_in_the_middle(con: duckdb.DuckDBPyConnection, new_postgres: Callable[[], Server], postgis: Server, tmp_path: Path) -> None:
    """The half is never seen under a name that landing takes; after a restart the next pull is whole."""
    server = new_postgres()
    # two seconds of rows: the kill comes while they flow
    server.execute("CREATE TABLE cham AS SELECT 'M' || i AS ma FROM generate_series(1, 2000) AS i")
    which = spec({"change_id": "ma"}, table=None, crs=None, query="SELECT ma, pg_sleep(0.001)::text AS nghi FROM cham")
    seen: list[Problem] = []
    pulling = threading.Thread(target=lambda: seen.append(refused(server, tmp_path, which)))
    pulling.start()
    deadline = time.monotonic() + 20
    while not server.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%FROM cham%' AND pid <> pg_backend_pid() AND state = 'active'"):
        assert time.monotonic() < deadline, "the pull never reached the server"
        time.sleep(0.02)
    server.kill()
    pulling.join(30)
    assert [p.code for p in seen] == ["database_interrupted"]
    server.start()
    fast = spec({"change_id": "ma"}, table="cham", crs=None)
    left_over = tmp_path / "inbox" / "bien_dong_20260101000000.parquet.part"
    left_over.write_bytes(b"half")
    assert read(con, snapshot(fast, server.dsn(), tmp_path / "inbox", NOW, tmp_path / "ext"), fast) == {}
    assert len(rows(con)) == 2000
    assert not left_over.exists()
