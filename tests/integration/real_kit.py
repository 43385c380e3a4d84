"""The platform that tests of real data share: two replayed series, the long export, a cadastre and scans, taken in once."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pytest

from ingestion.ingest import Ingested, ingest
from lake.lake import create, open_reader
from simulator.manifest import Manifest
from simulator.replay import replay
from tnmt.settings import Settings, settings

NOW = datetime(2018, 11, 7, 8)
AIR = (date(2012, 10, 1), date(2012, 10, 31))
WATER = (date(2013, 4, 16), date(2013, 5, 15))
CRS = "EPSG:26985"  # NAD83 / Maryland, in which the cadastre's own SHAPEAREA was computed: VN-2000 ends half a world away
CONTRACTS = Path(__file__).parent.parent / "contracts"
BC_ROWS = 229_496
LAYERS = {
    "parcel_lots": 1258,
    "parcel_lots_historical": 121,
    "condo_approval_lots": 3068,
    "air_rights_lots": 529,
    "air_rights_lots_historical": 223,
    "reservations": 911,
    "reservations_historical": 86,
    "land_boundary_changes_2007_2016": 6085,
}


@dataclass(frozen=True)
class RealPlatform:
    """A platform after the replay of stations, and then after the long export, the cadastre and the scans."""

    settings: Settings
    real: Path
    air: Manifest
    water: Manifest
    first: Ingested
    second: Ingested

    def rows(self, statement: str) -> list[tuple]:
        with open_reader(self.settings) as con:
            return con.execute(statement).fetchall()

    def frame(self, statement: str) -> pd.DataFrame:
        with open_reader(self.settings) as con:
            return con.execute(statement).df()


def _sources() -> list[str]:
    return [f"dc_{layer}" for layer in LAYERS]


def take_in(real: Path, home: Path) -> RealPlatform:
    """Makes the platform at `home` from the folder of real data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(home))
        patch.setenv("TNMT_CRS", CRS)
        s = settings()
        create(s)
        air = replay(real, s.inbox, "air_bc", *AIR)
        water = replay(real, s.inbox, "water_swmp", *WATER)
        first = ingest(s, now=NOW, run_id="replay")
        assert not first.errors
        for contract in CONTRACTS.glob("*.yaml"):
            shutil.copy(contract, s.home / "contracts")
        export = s.inbox / "bc_pm25_export" / "bc_pm25_hourly_20140101.csv"
        export.parent.mkdir()
        export.write_bytes(gzip.decompress((real / "air_bc" / "bc_pm25_hourly.csv.gz").read_bytes()))
        for source in _sources():
            (s.inbox / source).mkdir()
            shutil.copyfile(real / "parcels_dc" / "dc_cadastre_2016.gpkg", s.inbox / source / "dc_cadastre_2016.gpkg")
        scans = s.inbox / "scan_file"
        scans.mkdir(exist_ok=True)
        for path in (*(real / "scans").glob("*.pdf"), *(real / "scans").glob("*.png")):
            shutil.copyfile(path, scans / path.name)
        second = ingest(s, now=NOW, run_id="rest")
        assert not second.errors
        return RealPlatform(s, real, air, water, first, second)
