"""A source that nobody here has seen: one YAML and the file, drawn at random (anew at each run of `make fuzz`). The seed is printed on failure."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import shapely
import yaml
from pyproj import CRS, Transformer

from ingestion.ingest import ingest
from lake.lake import open_reader, open_writer
from simulator.files import write_vector
from tests.examples import FUZZ

NOW = datetime(2026, 3, 25, 12)
SEED = random.randrange(10**9) if FUZZ else 20260325
WORDS = [
    "Trạm",
    "Mã điểm",
    "Thông số đo",
    "Chỉ tiêu",
    "Kết quả",
    "Giá trị",
    "Đơn vị tính",
    "Thời điểm",
    "Lúc",
    "Tình trạng",
    "Station",
    "Result",
    "Ghi chú",
]


def _register(home) -> None:
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.clean.station (station_id VARCHAR, matrix VARCHAR, former_codes VARCHAR)")
        con.execute("INSERT INTO lake.clean.station VALUES ('T1', 'ambient_air', NULL), ('T2', 'wastewater', NULL)")


@pytest.mark.parametrize("attempt", range(3))
def test_csv_of_readings(home, attempt: int) -> None:
    rng = random.Random(SEED + attempt)
    _register(home)
    headers = rng.sample(WORDS, 6)
    delimiter = rng.choice([";", "\t", "|"])
    decimal = rng.choice([".", ","])
    thousands = rng.choice(["", " "])
    encoding = rng.choice(["utf-8", "utf-8-sig", "windows-1258", "tcvn3"])
    zone = rng.choice(["+07:00", "Etc/GMT+8", "+00:00", "America/Vancouver", "Asia/Tokyo"])
    stamp = rng.choice(["start", "end"])
    span = rng.choice([5, 15, 60])
    form = rng.choice(["%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M", "%Y%m%d%H%M%S"])
    air = rng.choice([("µg/m3", 1), ("mg/m3", 1000), ("ng/m3", Decimal("0.001"))]) if encoding.startswith("utf") else ("mg/m3", 1000)
    skip = rng.randrange(3)
    expected, lines = {}, []
    start = datetime(2026, 3, 1, 1, 0)
    for i in range(40):
        local = start + timedelta(minutes=span * i)
        value = Decimal(rng.randrange(0, 5_000_00)) / 100
        station, parameter, unit, factor = ("T1", "PM2.5", *air) if i % 2 else ("T2", "COD", "mg/L", 1)
        text = f"{value:,.2f}".replace(",", "T").replace(".", decimal).replace("T", thousands)
        status = rng.choice(["00", "01", "02"])
        zoned = local.replace(tzinfo=ZoneInfo(zone)) if zone[0] not in "+-" else datetime.fromisoformat(f"{local.isoformat()}{zone}")
        here = zoned.astimezone(ZoneInfo("Asia/Ho_Chi_Minh")).replace(tzinfo=None) + (timedelta(minutes=span) if stamp == "start" else timedelta())
        fields = {"station_id": station, "parameter": parameter, "unit": unit, "measured_at": f"{local:{form}}", "value": text, "status": status}
        lines.append(fields)
        expected[station, parameter, here] = (None if status == "02" else (value * factor).quantize(Decimal("0.000001")), span)
    names = list(fields)
    rng.shuffle(names)
    header = dict(zip(names, headers, strict=True))
    columns = {n: {"header": header[n]} for n in names}
    columns["value"] |= {"type": "decimal(18,6)", "unreadable": "null"}
    columns["measured_at"] |= {"type": "timestamp", "format": form}
    source = f"unseen_{rng.randrange(10**6)}"
    contract = {
        "title": "Nguồn lạ",
        "owner": {"unit": "?"},
        "terms": "thử nghiệm",
        "target": "reading",
        "load": "upsert",
        "key": ["station_id", "parameter", "measured_at"],
        "suite": "reading",
        "columns": columns,
        "format": {"reader": "csv", "delimiter": delimiter, "decimal": decimal, "thousands": thousands, "encoding": encoding, "header_row": skip + 1},
        "time": {"zone": zone, "stamp": stamp, "span_minutes": span},
    }
    (home.home / "contracts" / f"{source}.yaml").write_text(yaml.safe_dump(contract, allow_unicode=True))
    text = "Báo cáo\n" * skip + delimiter.join(header[n] for n in names) + "\n" + "".join(delimiter.join(f[n] for n in names) + "\n" for f in lines)
    from ingestion.encodings import unicode_to_cp1258, unicode_to_tcvn3

    data = {"windows-1258": unicode_to_cp1258, "tcvn3": unicode_to_tcvn3}.get(encoding, lambda t: t.encode(encoding))(text)
    (home.inbox / source).mkdir()
    (home.inbox / source / "bat_ky.csv").write_bytes(data)
    report = ingest(home, now=NOW, run_id="r", only=[source])
    assert not report.errors and report.loaded[source].rows_accepted == 40, (SEED, attempt, contract, report)
    with open_reader(home) as con:
        got = {
            (s, p, m): (v, n)
            for s, p, m, v, n in con.execute(
                "SELECT station_id, parameter, measured_at, value_reported, span_minutes FROM lake.clean.reading"
            ).fetchall()
        }
    assert got == expected, (SEED, attempt, contract)


@pytest.mark.parametrize("attempt", range(3))
def test_cadastral_geopackage(home, attempt: int) -> None:
    rng = random.Random(SEED + 100 + attempt)
    crs = rng.choice(["EPSG:9212", "EPSG:5899", "EPSG:3405", "EPSG:32648", "EPSG:4326"])
    unit, factor = rng.choice([("m2", 1), ("ha", 10_000), ("km2", 1_000_000)])
    fields = rng.sample(["MA_THUA", "SO_TO", "SO_THUA", "LOAI", "DIEN_TICH", "XA", "Diện tích", "Mã loại đất", "Loại hình"], 4)
    layer = rng.choice(["thua_dat", "parcels", "lớp thửa"])
    to_file = Transformer.from_crs("EPSG:9212", crs, always_xy=True)
    shapes, rows = [], []
    for i in range(25):
        x, y = 560_000 + 100 * (i % 5), 1_270_000 + 100 * (i // 5)
        square = shapely.box(x, y, x + rng.randrange(20, 90), y + rng.randrange(20, 90))
        shapes.append(shapely.transform(square, lambda xy: __import__("numpy").column_stack(to_file.transform(xy[:, 0], xy[:, 1]))))
        rows.append((f"P{i}", "25195", rng.choice(["ONT", "CLN"]), round(square.area, 1)))
    source = f"unseen_{rng.randrange(10**6)}"
    write_vector(
        home.inbox / source / "ban_do.gpkg",
        layer,
        {fields[0]: [r[0] for r in rows], fields[1]: [r[1] for r in rows], fields[2]: [r[2] for r in rows], fields[3]: [r[3] / factor for r in rows]},
        shapes,
        crs=crs,
    )
    contract = {
        "title": "Bản đồ lạ",
        "owner": {"unit": "?"},
        "terms": "thử nghiệm",
        "target": "strange_parcel",
        "load": "snapshot",
        "key": "parcel_id",
        "format": {"reader": "vector", "layer": layer, "crs": crs},
        "columns": {
            "parcel_id": {"header": fields[0], "required": True},
            "old_commune_code": {"header": fields[1]},
            "land_use_code": {"header": fields[2]},
            "area_m2": {"header": fields[3], "type": "decimal(14,1)", "unit": "m2", "source_unit": unit},
            "geometry": {"type": "geometry", "required": True},
        },
    }
    (home.home / "contracts" / f"{source}.yaml").write_text(yaml.safe_dump(contract, allow_unicode=True))
    report = ingest(home, now=NOW, run_id="r", only=[source])
    assert not report.errors and report.loaded[source].rows_accepted == 25, (SEED, attempt, contract, report)
    with open_reader(home) as con:
        con.execute("LOAD spatial")
        got = con.execute(
            "SELECT parcel_id, land_use_code, area_m2, geometry_area_m2, crs, source_crs, ST_X(ST_Centroid(geometry)) "
            "FROM lake.clean.strange_parcel ORDER BY parcel_id"
        ).fetchall()
    by_id = {r[0]: r for r in rows}
    # a shape is measured in the projection in which it was drawn, degrees in that of the lake
    drawn = {r[0]: shape.area if CRS(crs).is_projected else r[3] for r, shape in zip(rows, shapes, strict=True)}
    for parcel, use, area, measured, where, sent, x in got:
        assert use == by_id[parcel][2] and float(area) == by_id[parcel][3] and where == "EPSG:9212" and sent == crs
        assert abs(float(measured) - drawn[parcel]) < (0.051 if CRS(crs).is_projected else 0.2), (SEED, crs)
        assert 560_000 < x < 560_600


def test_a_contract_that_gains_a_column_gives_it_to_its_table_before_a_delivery_comes(home) -> None:
    """Marts of a new version may ask for the column at once."""
    source = {
        "title": "x",
        "owner": {"unit": "x"},
        "terms": "x",
        "target": "sample_pit",
        "load": "snapshot",
        "key": ["pit_id"],
        "format": {"reader": "csv"},
        "columns": {"pit_id": {"header": "Mã"}},
    }
    path = home.home / "contracts/sample_pit.yaml"
    for columns in ({}, {"depth_m": {"header": "Độ sâu", "type": "double"}}):
        source["columns"] |= columns
        path.write_text(yaml.safe_dump(source, allow_unicode=True), encoding="utf-8")
        assert not ingest(home, now=NOW, run_id="r").errors
    with open_reader(home) as con:
        assert con.execute("SELECT depth_m FROM lake.clean.sample_pit").fetchall() == []
