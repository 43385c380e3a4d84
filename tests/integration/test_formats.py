"""One source in several formats: they arrive together, differ, fail each by itself, and take over what an earlier version kept apart."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import shapely

from cli import decisions
from ingestion.contract import CONTRACTS
from ingestion.encodings import unicode_to_tcvn3
from ingestion.ingest import Ingested, UnknownSource, contracts_of, ingest
from ingestion.model import Delivery, delivery_id
from ingestion.names import format_of
from ingestion.readers import apart
from ingestion.requeue import requeue
from ingestion.takeover import RECORDED
from lake.faults import TAKE_OVER
from lake.lake import open_reader, open_writer
from simulator.files import write_vector, write_xlsx
from tests.conftest import own_platform
from tests.postgres_kit import Server
from tests.support import command
from tnmt.settings import Settings

NOW = datetime(2026, 3, 25, 12)
FORMATS = {"gpkg": ".gpkg", "fgdb": ".gdb.zip", "shp": ".shp.zip"}
SHORT = {"SOHIEUTOBANDO": "SHBANDO", "SOTHUTUTHUA": "SHTHUA", "DIENTICHPHAPLY": "DTPHAPLY", "DIACHITHUADAT": "DIACHI", "NGAYDODAC": "NGAYDO"}


def parcels(inbox: Path, kind: str, district: int = 688, commune: str = "25216", *, day: str = "20260101", rows: int = 3, use: str = "ONT") -> Path:
    """A delivery of parcels of one commune in one of the formats; their addresses have the letters of it."""
    inbox.mkdir(parents=True, exist_ok=True)
    path = inbox / f"thua_dat_{district}_{day}{FORMATS[kind]}"
    columns: dict[str, list[Any]] = {
        "MATHUADAT": [f"{commune}.1.{n}" for n in range(rows)], "MAXA": [commune] * rows, "SOHIEUTOBANDO": [1] * rows, "SOTHUTUTHUA": list(range(rows)),
        "MALOAIDAT": [use] * rows, "DIENTICH": [100.0] * rows, "DIENTICHPHAPLY": [100.0] * rows, "DIACHITHUADAT": [f"Thôn Đồng Xoài {kind}"] * rows,
        "NGAYDODAC": ["01/01/2024"] * rows, "TRANGTHAI": ["Đang sử dụng"] * rows,
    }  # fmt: skip
    shapes = [shapely.box(560_000 + 20 * n, 1_270_000, 560_010 + 20 * n, 1_270_010) for n in range(rows)]
    if kind == "gpkg":
        write_vector(path, "DC_THUADAT", columns, shapes)
        return path
    made = inbox.parent.parent / "making" / path.name.removesuffix(".zip")
    if kind == "fgdb":
        write_vector(made, "DC_THUADAT", columns, [shapely.multipolygons([s]) for s in shapes], driver="OpenFileGDB")
    else:
        coded = {
            SHORT.get(k, k): [unicode_to_tcvn3(x).decode("latin-1") if isinstance(x, str) else x for x in values] for k, values in columns.items()
        }
        write_vector(made / "thua_dat.shp", "thua_dat", coded, shapes, driver="ESRI Shapefile", encoding="ISO-8859-1")
        (made / "thua_dat.cpg").unlink(missing_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member in sorted(p for p in made.rglob("*") if p.is_file()):
            archive.write(member, f"{made.name}/{member.relative_to(made).as_posix()}")
    shutil.rmtree(made.parent)
    return path


def asked(s: Settings, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with open_reader(s) as con:
        con.execute("LOAD spatial")
        return con.execute(sql, list(values)).fetchall()


def taken(s: Settings, hour: int = 0, only: tuple[str, ...] = ("parcel",)) -> Ingested:
    done = ingest(s, now=NOW + timedelta(hours=hour), run_id=f"run {hour}", only=only)
    assert not done.errors
    return done


PARCELS = "SELECT _source, _delivery_id, _line, parcel_id, land_use_code, address, ST_AsText(geometry), _as_of, _received_at FROM lake.clean.{} ORDER BY _delivery_id, _line"


def cleaned(s: Settings) -> list[list[tuple[Any, ...]]]:
    return [asked(s, PARCELS.format(table)) for table in ("parcel", "parcel_history")]


def test_three_formats_that_arrive_together_are_read_each_by_its_own(home: Settings) -> None:
    """A file that is none stops no other, whichever format its name says; a folder with the letters of 1995 beside one with those of today."""
    inbox = home.inbox / "parcel"
    for kind, district, commune in (("gpkg", 688, "25216"), ("fgdb", 689, "25195"), ("shp", 690, "25246")):
        parcels(inbox, kind, district, commune)
        (inbox / f"thua_dat_{district}_20260202{FORMATS[kind]}").write_bytes(b"not what its name says")
    (inbox / "thua_dat_688.gpkg").write_bytes(b"x")
    loaded = taken(home).loaded["parcel"]
    assert (loaded.published, loaded.blocked, loaded.rows_accepted) == (3, 4, 9)
    got = asked(home, "SELECT DISTINCT _source, old_commune_code, address FROM lake.clean.parcel ORDER BY 2")
    assert got == [("parcel", c, f"Thôn Đồng Xoài {kind}") for c, kind in (("25195", "fgdb"), ("25216", "gpkg"), ("25246", "shp"))]
    assert asked(home, "SELECT DISTINCT source FROM lake.ops.landed") == [("parcel",)]
    (reason,) = asked(home, "SELECT reason FROM lake.ops.delivery WHERE name = 'thua_dat_688.gpkg'")
    assert all(word in reason[0] for word in ("gpkg$", "gdb", "shp"))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_leads_back_to_its_byte(home: Settings, kind: str) -> None:
    """The line of a row, looked up in the bytes that are kept, read as their name says."""
    content = parcels(home.inbox / "parcel", kind).read_bytes()
    taken(home)
    columns = "l.delivery_id, l.source, l.name, l.sha256, l.bytes, l.received_at, l.as_of, l.day"
    (row, *_) = asked(home, f"SELECT {columns}, c._line, c.parcel_id, c.address FROM lake.clean.parcel AS c JOIN lake.ops.landed AS l "
                            "ON l.delivery_id = c._delivery_id WHERE c.parcel_id = '25216.1.2'")  # fmt: skip
    (kept,) = (home.landing / row[3][:2] / row[3]).iterdir()
    assert kept.read_bytes() == content
    own = format_of(contracts_of(home)["parcel"], row[2])
    assert own is not None
    with duckdb.connect() as con:
        assert apart.read(con, home, own, [Delivery(*row[:8], path=kept)], "cut") == {}
        assert con.execute("SELECT parcel_id, address FROM cut WHERE _line = ?", [row[8]]).fetchall() == [row[9:]]


def test_of_two_formats_of_one_commune_the_later_arrival_stands_however_they_are_gated(tmp_path: Path) -> None:
    """Same time in both names: by first arrival, as of two files of one format; in a run each, in one run, and in one that comes to the later first."""
    ends = []
    for way in ("a run each", "one run", "the later first"):
        with own_platform(tmp_path / way) as s:
            for hour, kind, use in ((0, "shp", "ONT"), (1, "gpkg", "CLN")):
                parcels(s.inbox / "parcel", kind, use=use)
                with pytest.MonkeyPatch.context() as patch:
                    if way != "a run each":
                        patch.setattr("ingestion.ingest.load", lambda con, s, contract, *given, **more: _nothing_loaded(contract.source))
                    taken(s, hour)
            if way == "the later first":
                with open_writer(s, "hold back") as con:
                    con.execute("CREATE TEMP TABLE held AS SELECT * FROM lake.ops.pending WHERE delivery_id IN "
                                "(SELECT delivery_id FROM lake.ops.landed WHERE ends_with(name, '.shp.zip'))")  # fmt: skip
                    con.execute("DELETE FROM lake.ops.pending WHERE delivery_id IN (SELECT delivery_id FROM held)")
                    held = con.execute("SELECT * FROM held").fetchall()
                taken(s, 2)
                with open_writer(s, "give back") as con:
                    con.executemany("INSERT INTO lake.ops.pending VALUES (?, ?, ?, ?)", held)
            taken(s, 3)
            ends.append([[row[3:] for row in table] for table in cleaned(s)])
    # a Shapefile's bytes hold no time, a GeoPackage's a fixed one: the deliveries are the same
    assert ends[0] == ends[1] == ends[2]
    assert {r[1] for r in ends[0][0]} == {"CLN"} and {r[1] for r in ends[0][1]} == {"ONT"}


@pytest.mark.parametrize(("is_kind", "named"), [("fgdb", ".shp.zip"), ("gpkg", ".gdb"), ("shp", ".gdb.zip")])
def test_a_file_that_is_not_what_its_name_says_is_refused(home: Settings, is_kind: str, named: str) -> None:
    """By its name it would be read as another format: a geodatabase by the letters of old fonts."""
    path = parcels(home.inbox / "parcel", is_kind)
    path.rename(path.with_name(f"thua_dat_688_20260101{named}"))
    taken(home)
    ((status, reason),) = asked(home, "SELECT status, reason FROM lake.ops.delivery")
    assert status == "blocked" and ("đuôi tên tệp" in reason or "Không có lớp" in reason) and cleaned(home) == [[], []]


def _nothing_loaded(source: str) -> Any:
    from ingestion.publish import Loaded

    return Loaded(source)


HEADER = ["Mã hiệu chỉnh", "Mã trạm", "Thông số", "Từ", "Đến", "Cách xử lý", "Số", "Lý do", "Người quyết định", "Văn bản"]


def decision(number: str, reason: str = "thử", action: str = "Loại bỏ") -> list[Any]:
    return [number, "S", "COD", "24/03/2026 00:00", "24/03/2026 12:00", action, None, reason, "QA", None]


def test_a_reader_that_cannot_start_holds_up_its_own_format_alone(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the first of the contract; what comes after it is taken, and the next run takes the rest."""
    parcels(home.inbox / "parcel", "gpkg", 688, "25216")
    parcels(home.inbox / "parcel", "shp", 690, "25246")
    real = apart._ask

    def no_process(s: Any, contract: Any, *rest: Any) -> Any:
        if contract.files.pattern.endswith("gpkg$"):
            raise OSError(11, "Resource temporarily unavailable")
        return real(s, contract, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(apart, "_ask", no_process)
        done = ingest(home, now=NOW, run_id="one", only=["parcel"])
    assert "temporarily unavailable" in done.errors["parcel"]
    by_name = "SELECT split_part(name, '.', 2), status FROM lake.ops.delivery ORDER BY 1"
    assert asked(home, by_name) == [("gpkg", "landed"), ("shp", "published")]
    taken(home, 1)
    assert asked(home, by_name) == [("gpkg", "published"), ("shp", "published")]


def test_set_aside_of_one_format_stop_no_other(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many GeoPackages that fail in us that their reading is given up: one Shapefile that fails too is set aside, and the next is taken."""
    for day in ("20260101", "20260102", "20260103"):
        parcels(home.inbox / "parcel", "gpkg", 688, "25216", day=day)
    for day in ("20260101", "20260102"):
        parcels(home.inbox / "parcel", "shp", 690, "25246", day=day)
    real = apart.read

    def fails(con: Any, s: Any, contract: Any, deliveries: Any, into: str) -> Any:
        if deliveries and (deliveries[0].name.endswith("gpkg") or "690_20260101" in deliveries[0].name):
            raise ValueError("a fault of ours")
        return real(con, s, contract, deliveries, into)

    monkeypatch.setattr("ingestion.load.MOST_SET_ASIDE", 1)
    monkeypatch.setattr(apart, "read", fails)
    done = ingest(home, now=NOW, run_id="one", only=["parcel"])
    assert "fault of this software" in done.errors["parcel"]
    assert asked(home, "SELECT name[10:22] AS n, status FROM lake.ops.delivery ORDER BY ALL") == [
        ("688_20260101.", "set_aside"), ("688_20260102.", "landed"), ("688_20260103.", "landed"), ("690_20260101.", "set_aside"), ("690_20260102.", "published"),
    ]  # fmt: skip


def test_a_decision_at_the_prompt_is_judged_by_its_own_file(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad workbook of decisions waits in the same inbox: what was typed is recorded all the same, and is not said to be refused."""
    write_xlsx(home.inbox / "adjustment" / "a.xlsx", "Hiệu chỉnh", HEADER, [decision("HC-2", action="Vứt")])
    monkeypatch.setattr("ingestion.decide._refuse_unknown", lambda *given: None)
    monkeypatch.setattr(decisions, "now", lambda: NOW)
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.clean.station (station_id VARCHAR, matrix VARCHAR, former_codes VARCHAR)")
        con.execute("INSERT INTO lake.clean.station VALUES ('S', 'wastewater', NULL)")
    options = ("--from", "2026-03-24T00:00:00", "--to", "2026-03-24T12:00:00", "--reason", "thử", "--by", "QA")
    code, said = command("adjust", "S", "COD", "reject", *options)
    assert code == 0 and "recorded as" in said, said
    assert asked(home, "SELECT sum(rows_quarantined)::INT FROM lake.ops.delivery") == [(1,)]


# what an earlier version recorded under other names


def older(s: Settings) -> None:
    """Contracts as an earlier version had them: one a format, as sources of their own."""
    shipped = (CONTRACTS / "land/parcel.yaml").read_text(encoding="utf-8")
    before, rest = shipped.split("files: {")
    entries, after = rest.split("columns:")
    for kind, entry in zip(FORMATS, (line for line in entries.splitlines() if line.strip().startswith("- ")), strict=True):
        options, pattern = entry.strip()[3:-1].split(", pattern: ")
        pattern = pattern.removesuffix(f", formerly: parcel_{kind}")
        files = f"files: {{as_of_format: '%Y%m%d', pattern: {pattern}}}\nformat: {{{options}}}\n"
        (s.home / "contracts" / f"parcel_{kind}.yaml").write_text(f"{before}{files}columns:{after}", encoding="utf-8")


def upgrade(s: Settings) -> None:
    for own in (s.home / "contracts").glob("parcel_*.yaml"):
        own.unlink()


FORMER = tuple(f"parcel_{kind}" for kind in FORMATS)


@contextmanager
def writing(s: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_writer(s, "test") as con:
        yield con


@pytest.fixture(params=["sqlite", "postgresql"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A platform of an earlier version: a delivery in each format, one replaced since, one blocked, and one landed and not gated yet."""
    extra = {}
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        name = "formats_" + "".join(c for c in tmp_path.name if c.isalnum())
        server.execute(f"CREATE DATABASE {name}")
        extra["TNMT_CATALOG"] = f"postgres:{server.dsn(name)}"
    with own_platform(tmp_path / "home", **extra) as s:
        older(s)
        for kind, district, commune in (("gpkg", 688, "25216"), ("fgdb", 689, "25195"), ("shp", 690, "25246")):
            parcels(s.inbox / f"parcel_{kind}", kind, district, commune)
        parcels(s.inbox / "parcel_gpkg", "gpkg", day="20250101", use="CLN")
        (s.inbox / "parcel_shp" / "thua_dat_690_20260202.shp.zip").write_bytes(b"no archive")
        taken(s, only=FORMER)
        parcels(s.inbox / "parcel_gpkg", "gpkg", 691, "25270")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ingestion.ingest.load", lambda con, s, contract, *given, **more: _nothing_loaded(contract.source))
            taken(s, 1, FORMER)
        with writing(s) as con:  # an earlier version knew no source of this name
            for table in ("source", "source_column"):
                con.execute(f"DELETE FROM lake.ops.{table} WHERE source = 'parcel'")
        yield s


def sources(s: Settings) -> set[str]:
    """All sources that the lake names anywhere."""
    tables = [f"SELECT source FROM lake.{t}" for t in (*RECORDED, "ops.source", "ops.source_column")]
    rows = asked(s, f"SELECT DISTINCT source FROM ({' UNION ALL '.join(tables)}) WHERE source IN {('parcel', *FORMER)}")
    named = asked(s, "SELECT DISTINCT _source FROM (SELECT _source FROM lake.clean.parcel UNION ALL SELECT _source FROM lake.clean.parcel_history)")
    return {source for (source,) in rows + named}


def test_a_sites_own_source_under_a_former_name_is_left_alone(before: Settings) -> None:
    parcels(before.inbox / "parcel", "gpkg", 692, "25300")
    parcels(before.inbox / "parcel_gpkg", "gpkg", 693, "25330")
    taken(before, 2, ("parcel", *FORMER))
    assert asked(before, "SELECT source FROM lake.ops.landed WHERE name LIKE '%692%' OR name LIKE '%693%' ORDER BY name") == [
        ("parcel",), ("parcel_gpkg",)]  # fmt: skip
    assert sources(before) == {"parcel", *FORMER}


def test_what_was_recorded_under_former_names_is_the_sources_own_after_the_first_run(before: Settings) -> None:
    rows, ids = cleaned(before), asked(before, "SELECT delivery_id, name FROM lake.ops.landed ORDER BY ALL")
    upgrade(before)
    # sent again where it was sent before, and where it is sent now; and what came to a former inbox on the day of the upgrade
    again = parcels(before.inbox / "parcel_gpkg", "gpkg")
    (before.inbox / "parcel").mkdir(exist_ok=True)
    shutil.copy(again, before.inbox / "parcel")
    shutil.copy(parcels(before.inbox / "parcel_shp", "shp", 692, "25300"), before.inbox / "parcel")  # to both: one delivery
    done = taken(before, 2)
    assert (done.landed["parcel"].files, done.landed["parcel"].new, done.unclaimed) == (4, 1, [])
    assert sources(before) == {"parcel"}
    kept = {i for i, _ in ids}
    after = [[row for row in table if row[1] in kept and "25270" not in row[3]] for table in cleaned(before)]
    assert after == [[("parcel", *row[1:]) for row in table] for table in rows]
    now_landed = asked(before, "SELECT delivery_id, name FROM lake.ops.landed ORDER BY ALL")
    assert set(ids) < set(now_landed) and len(now_landed) == len(ids) + 1
    (gated,) = asked(before, "SELECT status FROM lake.ops.delivery WHERE name = 'thua_dat_691_20260101.gpkg'")
    assert gated == ("published",), "landed by the earlier version, gated by this one"
    (sha,) = asked(before, "SELECT sha256 FROM lake.ops.landed WHERE name = ?", "thua_dat_692_20260101.shp.zip")[0]
    assert (delivery_id("parcel_shp", "thua_dat_692_20260101.shp.zip", sha),) in asked(before, "SELECT delivery_id FROM lake.ops.landed")
    assert asked(before, "SELECT count(*) FROM lake.ops.arrival WHERE name = ?", again.name) == [(3,)]
    ways = asked(before, f"SELECT source, len(datings) FROM lake.ops.source WHERE source IN {('parcel', *FORMER)}")
    assert ways == [("parcel", 3)]
    snapshot = asked(before, "SELECT max(snapshot_id) FROM ducklake_snapshots('lake')")
    assert not ingest(before, now=NOW + timedelta(hours=3), run_id="again", only=["parcel"]).changed
    assert asked(before, "SELECT max(snapshot_id) FROM ducklake_snapshots('lake')") == snapshot, "there is nothing left to take over"


def test_older_deliveries_are_gated_again_and_settle_under_the_new_name(before: Settings) -> None:
    rows = cleaned(before)
    upgrade(before)
    assert command("quarantine", "retry", "parcel")[0] == 0, "before any run of this version"
    with writing(before) as con:
        count = sum(
            requeue(con, "parcel", delivery_id=i)
            for (i,) in con.execute("SELECT delivery_id FROM lake.ops.landed WHERE day = '2026-01-01'").fetchall()
        )
        assert count
    loaded = taken(before, 2).loaded["parcel"]
    assert (loaded.published, loaded.blocked) == (4, 1)
    after = [[row for row in table if "25270" not in row[3]] for table in cleaned(before)]
    assert after == [[("parcel", *row[1:]) for row in table] for table in rows]
    parcels(before.inbox / "parcel", "shp", 690, "25246", day="20260202")
    taken(before, 3)
    statuses = asked(before, "SELECT status FROM lake.ops.delivery WHERE name = 'thua_dat_690_20260202.shp.zip' ORDER BY received_at")
    assert statuses == [("closed",), ("published",)], "the one that was blocked was sent again"


def test_a_contract_that_says_it_later_takes_over_all_the_same(home: Settings) -> None:
    """A site's own contract stood in the way on the day of the upgrade: what was recorded before is found when it gives way."""
    older(home)
    path = parcels(home.inbox / "parcel_shp", "shp", 690, "25246")
    content = path.read_bytes()
    taken(home, only=FORMER)
    upgrade(home)
    own = home.home / "contracts" / "parcel.yaml"
    own.write_text(re.sub(", formerly: \\w+", "", (CONTRACTS / "land/parcel.yaml").read_text(encoding="utf-8")), encoding="utf-8")
    taken(home, 1)
    assert sources(home) == {"parcel", "parcel_shp"}, "nothing says whose they are"
    own.unlink()
    taken(home, 2)
    assert sources(home) == {"parcel"}
    path.write_bytes(content)
    landed = taken(home, 3).landed["parcel"]
    assert (landed.files, landed.new) == (1, 0)
    with pytest.raises(UnknownSource, match=r"parcel_shp \(it is part of parcel now\)"):
        taken(home, 4, ("parcel_shp",))


def test_an_upgrade_that_is_killed_leaves_the_old_names(before: Settings) -> None:
    upgrade(before)
    run = "from datetime import datetime; from ingestion.ingest import ingest; from tnmt.settings import settings; " + (
        "ingest(settings(), now=datetime(2026, 3, 25, 14), run_id='killed', only=['parcel'])"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_KILL_AT", TAKE_OVER)
        assert subprocess.run([sys.executable, "-c", run], check=False).returncode == -signal.SIGKILL
    assert sources(before) == set(FORMER)
    taken(before, 3)
    assert sources(before) == {"parcel"}
    assert asked(before, "SELECT count(*) FROM lake.ops.gate_result WHERE run_id = 'take-over'") == [(1,)]
