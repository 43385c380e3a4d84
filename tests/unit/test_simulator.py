"""The sample province: a function of (seed, end), and its manifest says what is in it."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely

from ingestion.contract import CONTRACTS, load_contracts
from ingestion.names import groups
from simulator import sample
from simulator.land import FGDB_DISTRICTS
from simulator.manifest import Manifest
from simulator.province import Commune, build
from simulator.renumbering import BEFORE
from simulator.replay import STATUS_OF_FLAG, replay, status_of
from simulator.size import SIZES
from tests.support import real_data
from tnmt.settings import ROOT

REFERENCE = ROOT / "dbt_project" / "seeds" / "reference"
END = date(2026, 3, 24)
XS = SIZES["XS"]
MOVED = (
    "overlap with its neighbours",
    "gap around it",
    "bow-tie",
    "parcel across the border of its commune",
    "parcel outside its commune",
)
"""Defects of a parcel's shape."""
ALL_CONTRACTS = load_contracts((CONTRACTS,), only_enabled=False)


@dataclass(frozen=True)
class Sample:
    """One sample on disk."""

    home: Path
    manifest: Manifest

    @property
    def inbox(self) -> Path:
        return self.home / "inbox"


def _make(home: Path, seed: int = 1, end: date = END) -> Sample:
    return Sample(home, sample.generate(home / "inbox", REFERENCE, seed, end, XS))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return _make(tmp_path_factory.mktemp("a"))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return _make(tmp_path_factory.mktemp("b"))


def _bytes(made: Sample) -> dict[str, bytes]:
    return {p.relative_to(made.home).as_posix(): p.read_bytes() for p in sorted(made.home.rglob("*")) if p.is_file()}


def _is_fgdb(name: str) -> bool:
    return name.endswith(".gdb.zip")


def _layer(path: Path, layer: str = "DC_THUADAT", scratch: Path | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fields and shapes of one file, a zipped one through `scratch`."""
    if path.suffix == ".zip":
        assert scratch is not None
        with zipfile.ZipFile(path) as archive:
            archive.extractall(scratch)
        path = next(p for p in (*scratch.glob(f"{path.stem}"), *scratch.rglob("*.shp")) if p.exists())
        path = next(path.rglob("*.shp"), path) if path.is_dir() and not path.name.endswith(".gdb") else path
        layer = str(pyogrio.list_layers(path)[0][0])
    meta, _, shapes, fields = pyogrio.raw.read(path, layer=layer)
    return dict(zip(meta["fields"], fields, strict=True)), shapely.from_wkb(shapes)


def test_same_seed_and_end_same_bytes(first: Sample, second: Sample, tmp_path: Path) -> None:
    """A File Geodatabase holds the time of its making: of it the rows are equal."""
    a, b = _bytes(first), _bytes(second)
    assert a.keys() == b.keys()
    assert [n for n in a if a[n] != b[n] and not _is_fgdb(n)] == []
    for name in filter(_is_fgdb, a):
        (fields, shapes), (others, twins) = (_layer(m.home / name, scratch=tmp_path / label) for m, label in ((first, "a"), (second, "b")))
        assert fields.keys() == others.keys()
        assert all((fields[n] == others[n]).all() for n in fields)
        assert shapely.equals_exact(shapes, twins).all()


@pytest.mark.parametrize(("seed", "end"), [(2, END), (1, date(2026, 3, 25))])
def test_another_seed_or_end_is_another_sample(first: Sample, tmp_path: Path, seed: int, end: date) -> None:
    other = _make(tmp_path, seed, end)
    texts = [sorted((m.inbox / "station_txt").glob("BP_*/**/*.txt"))[40].read_bytes() for m in (first, other)]
    assert texts[0] != texts[1]


def source_of(inbox: Path, path: Path) -> str:
    """The source whose folder the file lies in; where several share it, the one whose pattern the name fits."""
    folder = path.relative_to(inbox).parts[0]
    sharing = [c for c in ALL_CONTRACTS.values() if c.folder == folder]
    return next((c.source for c in sharing if groups(c, path.name) is not None), sharing[0].source)


def test_manifest_counts_files_and_lines_on_disk(first: Sample) -> None:
    counted = first.manifest
    on_disk = Counter(source_of(first.inbox, p) for p in first.inbox.rglob("*") if p.is_file())
    for source, files in counted.files.items():
        assert on_disk[source] == files, source
    # a file that is no text has no lines
    lines = sum(len(text.splitlines()) for p in (first.inbox / "station_txt").rglob("*.txt") if b"\0" not in (text := p.read_bytes()))
    assert lines == counted.rows["station_txt"]
    hourly = sum(p.read_bytes().count(b"\n") - 1 for p in (first.inbox / "station_hourly").glob("*.csv"))
    assert hourly == counted.rows["station_hourly"]
    for source in ("land_change", "scan_dossier", "dossier"):
        assert sum(p.read_bytes().count(b"\n") - 1 for p in (first.inbox / source).glob("*.csv")) == counted.rows[source], source
    assert counted.rows["scan_file"] == XS.scans
    assert abs(counted.rows["parcel"] / XS.parcels - 1) < 1.0


def test_manifest_is_at_one_with_itself(first: Sample) -> None:
    reasons: dict[str, Counter[str]] = {}
    for trap in first.manifest.traps:
        if trap["reason"]:
            reasons.setdefault(trap["source"], Counter())[trap["reason"]] += trap["rows"]
    assert reasons == first.manifest.quarantined
    for source, counts in reasons.items():
        assert sum(counts.values()) <= first.manifest.rows[source]
    named = {t["where"] for t in first.manifest.traps if t["source"] == "station_txt"}
    assert all((first.inbox / "station_txt" / where).is_file() for where in named)
    assert (first.home / "sample-manifest.json").is_file()


def test_every_folder_belongs_to_a_source_and_names_fit(first: Sample) -> None:
    odd = {t["where"] for t in first.manifest.traps if t["trap"] == "name against the rule"}
    for path in first.inbox.rglob("*"):
        if path.is_file() and path.relative_to(first.inbox / path.relative_to(first.inbox).parts[0]).as_posix() not in odd:
            assert groups(ALL_CONTRACTS[source_of(first.inbox, path)], path.name) is not None, path.name


@pytest.fixture(scope="module")
def parcels(first: Sample, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, shapely.Geometry]]:
    """Parcels of the GeoPackage and Geodatabase districts by commune and code, those that were renumbered as they were before; the doubled one once."""
    found: dict[str, dict[str, shapely.Geometry]] = {}
    for path in sorted(p for day in (END, BEFORE) for p in (first.inbox / "parcel").glob(f"*_{day:%Y%m%d}.*")):
        fields, shapes = _layer(path, scratch=tmp_path_factory.mktemp("unpacked"))
        for commune, code, shape in zip(fields["MAXA"], fields["MATHUADAT"], shapes, strict=True):
            found.setdefault(commune, {}).setdefault(code, shape)
    return found


@pytest.fixture(scope="module")
def communes() -> dict[str, Commune]:
    return {c.code: c for c in build(REFERENCE, 1, XS).communes}


def test_parcels_tile_their_commune(first: Sample, parcels: dict[str, dict[str, shapely.Geometry]], communes: dict[str, Commune]) -> None:
    """Areas add up and nothing overlaps, but for the parcels that the manifest names."""
    spoilt = {t["where"] for t in first.manifest.traps if t["source"] == "parcel" and t["trap"] in MOVED}
    assert len(spoilt) == len(MOVED)
    assert parcels.keys() == communes.keys()
    touched = {code.split(".")[0] for code in spoilt}
    for code, mine in parcels.items():
        polygon = communes[code].polygon
        if code in touched:
            continue
        area = sum(shapely.area(list(mine.values())))
        # corners of parcels are rounded to a centimetre, pieces below 0.06 m² are left out
        assert area == pytest.approx(polygon.area, rel=1e-6, abs=1.0), code
    for code in touched:
        whole = shapely.union_all([s for c, s in parcels[code].items() if c not in spoilt])
        assert shapely.area(shapely.difference(communes[code].polygon, whole)) > 0
        assert shapely.area(shapely.difference(whole, shapely.buffer(communes[code].polygon, 0.05))) < 0.1


def test_gaps_and_overlaps_of_one_commune_are_none(
    first: Sample, parcels: dict[str, dict[str, shapely.Geometry]], communes: dict[str, Commune]
) -> None:
    spoilt = {t["where"].split(".")[0] for t in first.manifest.traps if t["source"] == "parcel"}
    code = max((c for c in parcels if c not in spoilt), key=lambda c: len(parcels[c]))
    shapes = np.asarray(list(parcels[code].values()), dtype=object)
    assert shapely.is_valid(shapes).all()
    left, right = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = left < right
    assert shapely.area(shapely.intersection(shapes[left[pairs]], shapes[right[pairs]])).sum() < 0.5
    assert shapely.area(shapely.symmetric_difference(shapely.union_all(shapes), communes[code].polygon)) < 1.0


def test_communes_do_not_overlap(communes: dict[str, Commune]) -> None:
    shapes = np.asarray([c.polygon for c in communes.values()], dtype=object)
    assert shapely.area(shapely.union_all(shapes)) == pytest.approx(shapely.area(shapes).sum(), rel=1e-9)
    assert all(shapely.is_valid(shapes))


def test_parcels_come_in_every_format(first: Sample) -> None:
    names = {p.name for p in (first.inbox / "parcel").glob("*.gdb.zip")}
    assert names == {f"thua_dat_{d}_{END:%Y%m%d}.gdb.zip" for d in FGDB_DISTRICTS}
    assert len(list((first.inbox / "parcel").glob("*.shp.zip"))) == 1
    assert list((first.inbox / "parcel").glob("*.gpkg"))


def test_land_defects_are_what_the_manifest_calls_them(first: Sample, communes: dict[str, Commune]) -> None:
    named = {t["trap"]: t["where"] for t in first.manifest.traps if t["source"] == "parcel"}
    rows: dict[str, list[tuple[str | None, float, shapely.Geometry]]] = {}
    for path in (first.inbox / "parcel").glob(f"*_{END:%Y%m%d}.gpkg"):
        fields, shapes = _layer(path)
        for code, use, area, shape in zip(fields["MATHUADAT"], fields["MALOAIDAT"], fields["DIENTICH"], shapes, strict=True):
            rows.setdefault(code, []).append((use, area, shape))
    assert {c for c, mine in rows.items() if not all(shapely.is_valid(s) for *_, s in mine)} == {named["bow-tie"]}
    (across,), (outside,) = rows[named["parcel across the border of its commune"]], rows[named["parcel outside its commune"]]
    home = communes[named["parcel across the border of its commune"].split(".")[0]].polygon
    assert 1 < home.intersection(across[2]).area < across[2].area - 1
    assert communes[named["parcel outside its commune"].split(".")[0]].polygon.intersection(outside[2]).area < 1
    assert [c for c, mine in rows.items() if mine[0][0] is None] == [named["land-use code missing"]]
    assert [c for c, mine in rows.items() if mine[0][0] == "XYZ"] == [named["land-use code nobody knows"]]
    assert [c for c, mine in rows.items() if len(mine) > 1] == [named["the same parcel twice"]]
    assert rows[named["land-use code of before 2024"]][0][0] == "BHK"
    _, area, shape = rows[named["area attribute is not the area of the geometry"]][0]
    assert area == pytest.approx(1.6 * shape.area, rel=0.01)


def test_faults_of_the_last_day_are_in_the_files(first: Sample) -> None:
    where = {t["trap"]: first.inbox / "station_txt" / t["where"] for t in first.manifest.traps if t["source"] == "station_txt"}

    def rows(path: Path) -> list[list[str]]:
        return [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()]

    def from_on(fault: str) -> list[list[list[str]]]:
        return [rows(p) for p in sorted(where[fault].parent.glob("*.txt")) if p.name >= where[fault].name]

    for fault, status in (("device error until the end", "02"), ("calibration until the end", "01")):
        assert {row[4] for lines in from_on(fault) for row in lines} == {status}
    flat = {lines[4][1] for lines in from_on("flat line for six hours")[:70] if lines[4][4] == "00"}
    assert len(flat) == 1
    others = from_on("another list of parameters from noon")
    assert all("TN" in {row[0] for row in lines} and "Color" not in {row[0] for row in lines} for lines in others) and len(others) > 100
    spike, after = (float(lines[-1][1].replace(",", ".")) for lines in from_on("spike")[:2])
    assert spike > 5 * after


# --- replay ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "status"),
    [
        ("<0>", "00"),
        ("<0> (CRE)", "00"),
        ("<0> [GSM] (CCU)", "00"),
        ("<1> (CSM)", "01"),
        ("<1> [SOC]", "01"),
        ("<-2> (CSM)", "02"),
        ("<-3> [SPC] (CSM)", "02"),
        ("<-5>", "02"),
        ("<3>", "00"),
        (None, "00"),
    ],
)
def test_flags_of_swmp(flag: str | None, status: str) -> None:
    assert status_of(flag) == status
    assert set(STATUS_OF_FLAG) == set(range(-5, 6))


@pytest.mark.parametrize("flag", ["", "0", "<9>", "(CRE)"])
def test_a_flag_nobody_knows_is_not_passed_over(flag: str) -> None:
    with pytest.raises(ValueError, match="SWMP flag"):
        status_of(flag)


def test_replay_is_a_function_of_its_arguments(tmp_path: Path) -> None:
    real = real_data()
    days = (date(2012, 9, 3), date(2012, 9, 4))
    made = [Sample(tmp_path / n, replay(real, tmp_path / n / "inbox", "air_bc", *days)) for n in "ab"]
    assert _bytes(made[0]) == _bytes(made[1])
    assert made[0].manifest == made[1].manifest
    pattern = re.compile(load_contracts((CONTRACTS,))["station_txt"].files.pattern)
    files = list((made[0].inbox / "replay_air_bc").rglob("*.txt"))
    assert len(files) == made[0].manifest.files["replay_air_bc"] and all(pattern.search(p.name) for p in files)
    own = load_contracts((CONTRACTS, made[0].home / "contracts"))
    assert own["replay_air_bc"].time.zone == "UTC" and own["replay_air_bc"].time.span_minutes == 60
    assert own["replay_air_bc"].columns == own["station_txt"].columns


def test_replay_of_nothing_says_so(tmp_path: Path) -> None:
    real = real_data()
    with pytest.raises(ValueError, match="holds no value"):
        replay(real, tmp_path / "inbox", "air_bc", date(2018, 1, 1), date(2018, 1, 31))
    assert not list(tmp_path.rglob("*.txt"))
