"""Real series, a real cadastre and real scans through the whole intake, held against the files as other tools read them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pikepdf
import pyogrio
import pytest
import shapely
from PIL import Image
from pyproj import Transformer

from ingestion.ingest import ingest
from lake.lake import open_reader
from simulator.replay import replay
from tests.integration.real_kit import AIR, BC_ROWS, CRS, LAYERS, NOW, WATER, RealPlatform

# station, matrix parameter, column of the file, factor to the canonical unit
WATER_COLUMNS = [
    ("FL_APCP_NUOMAT", "apacpwq", p, c, f)
    for p, c, f in (
        ("Temp", "temp", 1),
        ("EC", "spcond", 1000),
        ("Salinity", "sal", 1),
        ("DO_sat", "do_pct", 1),
        ("DO", "do_mgl", 1),
        ("Depth", "depth", 1),
        ("pH", "ph", 1),
        ("Turbidity", "turb", 1),
    )
] + [("FL_APEB_KHIKXQ", "apaebmet", p, c, 1) for p, c in (("Temp", "atemp"), ("RH", "rh"), ("P", "bp"), ("WindSpeed", "wspd"), ("WindDir", "wdir"))]
FLAG_STATUS = {"0": "00", "1": "01", "-3": "02", "-2": "02"}  # the flags that these days hold
REASON = {"00": None, "01": "status_calibrating", "02": "status_device_error"}


@pytest.fixture(scope="module")
def platform(real_platform: RealPlatform) -> RealPlatform:
    return real_platform


def _bc(real: Path, days: tuple[date, date] | None = None) -> pd.DataFrame:
    """The BC file as pandas reads it: station, GMT+7 moment, value as text."""
    frame = pd.read_csv(real / "air_bc" / "bc_pm25_hourly.csv.gz", dtype=str, keep_default_na=False)
    if days:
        frame = frame[(frame.date_time >= str(days[0])) & (frame.date_time < f"{days[1]} 24")]
    local = pd.to_datetime(frame.date_time, utc=True).dt.tz_convert("Asia/Ho_Chi_Minh").dt.tz_localize(None)
    return pd.DataFrame(
        {"station_id": "BC_" + frame.ems_id.str[-4:] + "_KHIKXQ", "measured_at": local.astype("datetime64[us]"), "value": frame.value.map(Decimal)}
    )


def _swmp(real: Path, name: str) -> pd.DataFrame:
    frame = pd.read_csv(real / "water_swmp" / f"{name}_15min.csv.gz", dtype=str, keep_default_na=False)
    frame = frame[(frame.datetimestamp >= str(WATER[0])) & (frame.datetimestamp < f"{WATER[1]} 24")].copy()
    frame["measured_at"] = (pd.to_datetime(frame.datetimestamp, utc=True).dt.tz_convert("Asia/Ho_Chi_Minh").dt.tz_localize(None)).astype(
        "datetime64[us]"
    )
    return frame


# --- station files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["replay_air_bc", "replay_water_swmp"])
def test_every_line_written_is_accounted_for(platform: RealPlatform, source: str) -> None:
    manifest = platform.air if source == "replay_air_bc" else platform.water
    for name in (source, f"{source}_station", f"{source}_channel"):
        loaded = platform.first.loaded[name]
        assert loaded.deliveries == loaded.published == manifest.files[name]
        assert loaded.rows_read == loaded.rows_accepted == manifest.rows[name]
    assert platform.rows(f"SELECT count(*) FROM lake.raw.file WHERE source = '{source}'") == [(manifest.files[source],)]


def test_rows_reconcile_for_every_delivery(platform: RealPlatform) -> None:
    assert (
        platform.rows(
            "SELECT name FROM lake.ops.delivery WHERE rows_read IS DISTINCT FROM rows_accepted + rows_duplicate + rows_quarantined "
            "OR status <> 'published'"
        )
        == []
    )
    assert platform.rows("SELECT count(*) FROM lake.quarantine.row") == [(0,)]


def test_air_equals_the_source_to_the_digit(platform: RealPlatform) -> None:
    wanted = _bc(platform.real, AIR).sort_values(["station_id", "measured_at"], ignore_index=True)
    got = platform.frame(
        "SELECT station_id, measured_at, value_reported AS value, value_valid, status, span_minutes, parameter FROM lake.clean.reading "
        "WHERE _source = 'replay_air_bc' ORDER BY ALL"
    )
    assert len(wanted) == len(got) == platform.air.rows["replay_air_bc"]
    assert (got.station_id == wanted.station_id).all() and (got.measured_at == wanted.measured_at).all()
    exact = platform.rows(
        "SELECT value_reported, value_valid FROM lake.clean.reading WHERE _source = 'replay_air_bc' ORDER BY station_id, measured_at"
    )
    assert [a for a, _ in exact] == [b for _, b in exact] == wanted.value.to_list()
    assert set(got.status) == {"00"} and set(got.span_minutes) == {60} and set(got.parameter) == {"PM2.5"}


def test_gaps_are_those_of_the_source(platform: RealPlatform) -> None:
    """No delivery, no reading and no invented value in an hour of which the source has nothing."""
    hours = pd.date_range("2012-10-01 00:59:59", "2012-10-31 23:59:59", freq="h") + pd.Timedelta(hours=7)
    wanted = _bc(platform.real, AIR)
    gaps = {(s, h) for s in wanted.station_id.unique() for h in hours} - set(zip(wanted.station_id, wanted.measured_at, strict=True))
    assert len(gaps) > 250  # Squamish alone lost eight days
    found = platform.rows("""
        WITH mine AS (SELECT station_id, measured_at FROM lake.clean.reading WHERE _source = 'replay_air_bc'),
        hours AS (SELECT unnest(generate_series(TIMESTAMP '2012-10-01 07:59:59', TIMESTAMP '2012-11-01 06:59:59', INTERVAL 1 HOUR)) AS measured_at),
        due AS (SELECT station_id, measured_at FROM (SELECT DISTINCT station_id FROM mine), hours)
        SELECT * FROM due EXCEPT SELECT * FROM mine""")
    assert {(s, pd.Timestamp(h)) for s, h in found} == gaps
    silent = {"BC_0177_KHIKXQ", "BC_0307_KHIKXQ"}  # out of service in these months: registered, and not a single file
    assert platform.rows("SELECT count(*) FROM lake.clean.station WHERE _source = 'replay_air_bc_station'") == [(10,)]
    assert {s for (s,) in platform.rows("SELECT DISTINCT station_id FROM lake.clean.reading WHERE _source = 'replay_air_bc'")}.isdisjoint(silent)


@pytest.mark.parametrize(("station", "file", "parameter", "column", "factor"), WATER_COLUMNS, ids=str)
def test_water_values_and_flags(platform: RealPlatform, station: str, file: str, parameter: str, column: str, factor: int) -> None:
    source = _swmp(platform.real, file)
    others = [c for _, f, _, c, _ in WATER_COLUMNS if f == file]
    source = source[(source[others] != "").any(axis=1)]  # a moment without any value gave no file
    flag = source[f"f_{column}"].str.extract(r"^<(-?\d)>")[0]
    status = flag.map(FLAG_STATUS)
    assert status.notna().all()
    wanted = [
        (moment.to_pydatetime(), None if code == "02" or text == "" else Decimal(text) * factor, code)
        for moment, text, code in zip(source.measured_at, source[column], status, strict=True)
    ]
    got = platform.rows(
        f"SELECT measured_at, value_reported, status, value_valid, reason, span_minutes FROM lake.clean.reading "
        f"WHERE station_id = '{station}' AND parameter = '{parameter}' ORDER BY measured_at"
    )
    assert [(m, v, s) for m, v, s, *_ in got] == wanted
    assert all(valid == (value if code == "00" else None) and reason == REASON[code] and span == 15 for _, value, code, valid, reason, span in got)


def test_water_has_every_kind_of_flag_and_gap(platform: RealPlatform) -> None:
    """Else the test above would prove little."""
    assert {s for (s,) in platform.rows("SELECT DISTINCT status FROM lake.clean.reading WHERE _source = 'replay_water_swmp'")} == {"00", "01", "02"}
    for station, file in (("FL_APCP_NUOMAT", "apacpwq"), ("FL_APEB_KHIKXQ", "apaebmet")):
        source = _swmp(platform.real, file)
        blank = (source[[c for _, f, _, c, _ in WATER_COLUMNS if f == file]] == "").all(axis=1)
        assert blank.sum() > 0
        files = platform.rows(f"SELECT count(*) FROM lake.ops.delivery WHERE name LIKE '{station}/%'")
        assert files == [(len(source) - blank.sum(),)]


def test_units_are_converted_exactly(platform: RealPlatform) -> None:
    assert platform.rows("SELECT DISTINCT unit FROM lake.clean.station_channel WHERE parameter = 'EC' AND station_id = 'FL_APCP_NUOMAT'") == [
        ("µS/cm",)
    ]
    low, high = platform.rows("SELECT min(value_reported), max(value_reported) FROM lake.clean.reading WHERE parameter = 'EC'")[0]
    assert low >= 70 and high <= 57_210  # mS/cm in the file: 0.07 to 57.21


def test_a_second_replay_adds_nothing(platform: RealPlatform) -> None:
    """The same days again: the same bytes, so arrivals of known deliveries only; the registers of both kinds still stand."""
    s = platform.settings
    replay(platform.real, s.inbox, "air_bc", date(2012, 10, 1), date(2012, 10, 2))
    again = ingest(s, now=NOW, run_id="again", only=["replay_air_bc", "replay_air_bc_station", "replay_air_bc_channel"])
    assert [(x.new, x.again > 0) for x in again.landed.values()] == [(0, True)] * 3
    assert platform.rows("SELECT _source, count(*) FROM lake.clean.station GROUP BY ALL ORDER BY 1") == [
        ("replay_air_bc_station", 10),
        ("replay_water_swmp_station", 2),
    ]


# --- three years in one file -------------------------------------------------------------------------------------


def test_long_export_reconciles_to_the_row(platform: RealPlatform) -> None:
    """The replayed month is in it again, under another source and with equal values: duplicates, not conflicts."""
    loaded = platform.second.loaded["bc_pm25_export"]
    replayed = platform.air.rows["replay_air_bc"]
    assert (loaded.rows_read, loaded.rows_accepted, loaded.rows_duplicate, loaded.rows_quarantined) == (BC_ROWS, BC_ROWS - replayed, replayed, 0)
    assert platform.rows("SELECT count(*) FROM lake.clean.reading WHERE conflict") == [(0,)]


def test_long_export_equals_the_source(platform: RealPlatform) -> None:
    wanted = _bc(platform.real)
    assert len(wanted) == BC_ROWS
    with open_reader(platform.settings) as con:
        got = con.execute(
            "SELECT station_id, measured_at, CAST(value_reported AS VARCHAR) AS value FROM lake.clean.reading WHERE station_id LIKE 'BC_%' "
            "ORDER BY station_id, measured_at"
        ).df()
    wanted = wanted.sort_values(["station_id", "measured_at"], ignore_index=True)
    assert (got.station_id == wanted.station_id).all() and (got.measured_at == wanted.measured_at).all()
    assert got.value.map(Decimal).to_list() == wanted.value.to_list()
    assert set(got.measured_at.dt.strftime("%M:%S")) == {"59:59"}


def test_three_calendar_years_begin_at_their_own_midnight(platform: RealPlatform) -> None:
    """Why the text is UTC: read so, the series is 2011 to 2013 in Etc/GMT+8, the zone of its station clocks, to the hour."""
    first, last = platform.rows("SELECT min(measured_at), max(measured_at) FROM lake.clean.reading WHERE station_id LIKE 'BC_%'")[0]
    there = pd.to_datetime([first, last]).tz_localize("Asia/Ho_Chi_Minh").tz_convert("Etc/GMT+8").strftime("%Y-%m-%d %H:%M:%S")
    assert list(there) == ["2011-01-01 00:59:59", "2013-12-31 23:59:59"]


# --- cadastre ----------------------------------------------------------------------------------------------------


def _layer(real: Path, layer: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fields by name and shapes, without the reader's Arrow stream."""
    meta, _, shapes, fields = pyogrio.raw.read(
        real / "parcels_dc" / "dc_cadastre_2016.gpkg", layer=layer, columns=["OBJECTID", "SSL", "RECORDATION_DT", "SHAPEAREA"]
    )
    return dict(zip(meta["fields"], fields, strict=True)), shapely.from_wkb(shapes)


def test_layers_are_all_there(platform: RealPlatform) -> None:
    there = {
        str(name): pyogrio.read_info(platform.real / "parcels_dc" / "dc_cadastre_2016.gpkg", layer=name)["features"]
        for name, _ in pyogrio.list_layers(platform.real / "parcels_dc" / "dc_cadastre_2016.gpkg")
    }
    assert there == LAYERS and sum(LAYERS.values()) == 12_281
    assert dict(platform.rows("SELECT layer, count(*) FROM lake.clean.dc_lot GROUP BY ALL")) == LAYERS
    for layer, count in LAYERS.items():
        loaded = platform.second.loaded[f"dc_{layer}"]
        assert (loaded.rows_read, loaded.rows_accepted, loaded.blocked) == (count, count, 0)


@pytest.mark.parametrize("layer", LAYERS)
def test_areas_and_attributes_of_a_layer(platform: RealPlatform, layer: str) -> None:
    fields, shapes = _layer(platform.real, layer)
    to_metres = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    areas = shapely.area(shapely.transform(shapes, lambda xy: np.column_stack(to_metres.transform(xy[:, 0], xy[:, 1]))))
    got = {
        r[0]: r[1:]
        for r in platform.rows(
            f"SELECT object_id, CAST(geometry_area_m2 AS DOUBLE), ssl, recorded_on, CAST(shape_area_m2 AS DOUBLE), crs "
            f"FROM lake.clean.dc_lot WHERE layer = '{layer}'"
        )
    }
    assert len(got) == len(shapes) == LAYERS[layer]
    valid = shapely.is_valid(shapes)
    for i, number in enumerate(fields["OBJECTID"]):
        area, ssl, recorded, declared, crs = got[int(number)]
        assert crs == CRS
        assert area == pytest.approx(areas[i], abs=0.051, rel=1e-6) or not valid[i], number
        assert (ssl or "") == (fields["SSL"][i] or "").strip(), number
        when = fields["RECORDATION_DT"][i]
        assert recorded == (None if np.isnat(when) else when.astype("datetime64[D]").item()), number
        assert declared == pytest.approx(float(fields["SHAPEAREA"][i]), abs=0.001), number
    # the cadastre's own areas, by other software and before it became degrees: beyond rounding the usual shape does not differ. Some do, in the
    # file itself, as pyproj's areas above are the platform's
    own = fields["SHAPEAREA"]
    assert np.median([max(0.0, abs(got[int(n)][0] - a) - 0.051) / a for n, a in zip(fields["OBJECTID"], own, strict=True)]) < 1e-4


def test_invalid_shapes_are_kept_and_named(platform: RealPlatform) -> None:
    wanted = set()
    for layer in LAYERS:
        fields, shapes = _layer(platform.real, layer)
        wanted |= {(layer, int(n)) for n in fields["OBJECTID"][~shapely.is_valid(shapes)]}
    assert len(wanted) >= 3
    with open_reader(platform.settings) as con:
        con.execute("LOAD spatial")
        found = con.execute("SELECT layer, object_id FROM lake.clean.dc_lot WHERE NOT ST_IsValid(geometry)").fetchall()
        assert set(found) == wanted
        assert con.execute("SELECT count(*) FROM lake.clean.dc_lot WHERE geometry IS NULL OR geometry_area_m2 IS NULL").fetchall() == [(0,)]


def test_owners_of_the_cadastre_stay_outside(platform: RealPlatform) -> None:
    """The file names people (OWNERNAME); the contract does not, so no column, no quarantine and no ledger has them."""
    columns = {
        c.lower()
        for (c,) in platform.rows("SELECT column_name FROM information_schema.columns WHERE table_catalog = 'lake' AND table_name = 'dc_lot'")
    }
    assert not {c for c in columns if "owner" in c or "address" in c}


# --- scans -------------------------------------------------------------------------------------------------------


def _pages(path: Path) -> int | None:
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.n_frames if hasattr(image, "n_frames") else 1
    try:
        with pikepdf.open(path) as pdf:
            return len(pdf.pages)
    except pikepdf.PdfError:
        return None


def test_scans_have_a_row_each(platform: RealPlatform) -> None:
    files = {p.name: p for p in (platform.real / "scans").iterdir() if p.suffix in (".pdf", ".png")}
    got = {
        r[0]: r[1:]
        for r in platform.rows("SELECT file_name, pages, is_damaged, damage_reason, format, bytes, width_px, height_px FROM lake.clean.scan_file")
    }
    assert got.keys() == files.keys() and len(got) == 12
    for name, path in files.items():
        pages, damaged, reason, form, size, width, height = got[name]
        assert (form, size) == (path.suffix[1:], path.stat().st_size), name
        assert damaged == (name == "invalid.pdf"), (name, reason)
        assert pages == _pages(path) or damaged, name
        if form == "png":
            with Image.open(path) as image:
                assert (width, height) == image.size
    assert got["invalid.pdf"][2] is not None
    assert max(r[0] or 0 for r in got.values()) > 1


def test_scans_stay_where_they_are(platform: RealPlatform) -> None:
    assert len(list((platform.settings.inbox / "scan_file").iterdir())) == 12
