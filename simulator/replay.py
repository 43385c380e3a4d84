"""Real series as the station files that loggers would have sent, with their gaps, odd stamps and flags as they were.

Nothing is made up but what a Vietnamese platform cannot do without: the station code, and a commune that stands in for
the real place (the suite of the register refuses coordinates outside Vietnam, marts report by commune). The station's
name says so. Origin and licences: docs/real-data.md.

Each kind is a source of its own (`replay_air_bc`, `replay_water_swmp`), and so are its two registers (`…_station`,
`…_channel`): their contracts are the shipped ones with another time zone, span and name, written to
`<TNMT_HOME>/contracts`. A register is a snapshot that replaces what *its source* held before, so the platform's own
register and the replayed ones live side by side in clean.station; nothing has to be merged or refused.

Stamps are written digit by digit as in the source, and the contract says their zone: the platform converts them. Both
published files are in UTC. For BC that is not what its documentation says (Etc/GMT+8 is the zone of the R object): the
text begins at 2011-01-01 08:59:59 and ends at 2014-01-01 07:59:59, which are the three calendar years 2011-2013 in
GMT+8 only if read as UTC.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from simulator.manifest import Manifest
from simulator.province import MATRICES, read_seed
from simulator.registers import write_channel_register, write_station_register
from tnmt.settings import ROOT, by_name

_SHIPPED = by_name(ROOT / "ingestion" / "contracts", ".yaml")
_REFERENCE = ROOT / "dbt_project" / "seeds" / "reference"

STATUS_OF_FLAG = {
    0: "00",  # passed initial QAQC
    2: "00",  # open, reserved: nothing is said against the value
    3: "00",  # calculated: depth corrected for air pressure
    4: "00",  # historical: from before automated QAQC
    5: "00",  # corrected
    1: "01",  # suspect: the figure stays visible and counts nowhere, which of the three codes only 01 does
    -1: "02",  # not collected
    -2: "02",  # missing
    -3: "02",  # rejected
    -4: "02",  # below the sensor's range
    -5: "02",  # above the sensor's range
}
"""NERRS SWMP QAQC flag -> device status of TT 10/2021/TT-BTNMT (00 measuring, 01 calibrating, 02 device error)."""

_FLAG = re.compile(r"<(-?\d)>")


@dataclass(frozen=True)
class _Series:
    """One column of a source as a parameter of a station: name and unit are written as the source has them."""

    column: str
    name: str
    unit: str
    parameter: str
    canonical_unit: str


@dataclass(frozen=True)
class _Site:
    """A real station."""

    code: str
    name: str
    matrix: str
    since: date
    file: str
    series: tuple[_Series, ...]
    ems_id: str = ""


@dataclass(frozen=True)
class Kind:
    """What is particular to one collection of series."""

    title: str
    minutes: int
    zone: str
    stamp: str
    first_day: date
    last_day: date
    contact: str


KINDS = {
    "air_bc": Kind(
        "PM2.5 mỗi giờ, 10 trạm British Columbia (dữ liệu thật, phát lại)",
        60,
        "UTC",
        "date_time",
        date(2011, 1, 1),
        date(2014, 1, 1),
        "B.C. Ministry of Environment",
    ),
    "water_swmp": Kind(
        "Nước và khí tượng mỗi 15 phút, vịnh Apalachicola (dữ liệu thật, phát lại)",
        15,
        "UTC",
        "datetimestamp",
        date(2012, 1, 1),
        date(2014, 1, 1),
        "NOAA NERRS",
    ),
}

_PM25 = (_Series("value", "PM25", "µg/m3", "PM2.5", "µg/m3"),)
_WATER = (
    _Series("temp", "Temp", "°C", "Temp", "°C"),
    _Series("spcond", "SpCond", "mS/cm", "EC", "µS/cm"),
    _Series("sal", "Salinity", "psu", "Salinity", "g/L"),
    _Series("do_pct", "DO_sat", "%", "DO_sat", "%"),
    _Series("do_mgl", "DO", "mg/L", "DO", "mg/L"),
    _Series("depth", "Depth", "m", "Depth", "m"),
    _Series("ph", "pH", "", "pH", "-"),
    _Series("turb", "Turbidity", "NTU", "Turbidity", "NTU"),
)
_WEATHER = (
    _Series("atemp", "Temp", "°C", "Temp", "°C"),
    _Series("rh", "RH", "%", "RH", "%"),
    _Series("bp", "P", "mbar", "P", "hPa"),
    _Series("wspd", "WindSpeed", "m/s", "WindSpeed", "m/s"),
    _Series("wdir", "WindDir", "deg", "WindDir", "deg"),
)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def bc_code(ems_id: str) -> str:
    """Station code of an EMS id: 0310175 -> BC_0175_KHIKXQ."""
    return f"BC_{ems_id[-4:]}_KHIKXQ"


def _sites(real: Path, kind: str) -> list[_Site]:
    if kind == "water_swmp":
        return [
            _Site("FL_APCP_NUOMAT", "Cat Point, Apalachicola Bay, Florida", "surface_water", date(2002, 1, 1), "apacpwq_15min.csv.gz", _WATER),
            _Site("FL_APEB_KHIKXQ", "East Bay, Apalachicola Bay, Florida", "ambient_air", date(2001, 1, 1), "apaebmet_15min.csv.gz", _WEATHER),
        ]
    file = "bc_pm25_hourly.csv.gz"
    measured = {r["ems_id"] for r in _rows(real / kind / file)}
    registered: dict[str, dict[str, str]] = {}
    with (real / kind / "bc_air_stations_2018-11-07.csv").open(encoding="utf-8-sig", newline="") as register:
        for row in csv.DictReader(register):
            registered.setdefault(row["EMS_ID"], row)  # one place has several rows, one for each of its instruments
    return [
        _Site(
            bc_code(i),
            f"{registered[i]['STATION_NAME']}, {registered[i]['CITY']}, British Columbia",
            "ambient_air",
            datetime.strptime(registered[i]["DATE_ESTABLISHED"].split()[0], "%m/%d/%Y").date(),
            file,
            _PM25,
            i,
        )
        for i in sorted(measured)
    ]


def replay(real: Path, inbox: Path, kind: str, start: date, end: date) -> Manifest:
    """Writes the station files of `kind` (air_bc, water_swmp) for the days `start` to `end`, both included, and the registers.

    Days are those of the source's own stamps (UTC). `real` is the folder of docs/real-data.md, `inbox` the platform's,
    beside which the contracts are put. A moment without any value gives no file; a single value that is missing among
    others gives `---`. Doing it twice writes the same bytes. Raises KeyError for another kind, ValueError where no value
    lies between the days or a flag is unknown.
    """
    what = KINDS[kind]
    source = f"replay_{kind}"
    manifest = Manifest(0, end.isoformat(), kind)
    low, high = f"{start} 00:00:00", f"{end} 23:59:59"
    sites = _sites(real, kind)
    by_file = {name: [s for s in sites if s.file == name] for name in {s.file for s in sites}}
    for name, of_file in sorted(by_file.items()):
        by_id = {s.ems_id: s for s in of_file}
        for row in _rows(real / kind / name):
            if not low <= row[what.stamp] <= high:
                continue
            site = by_id[row.get("ems_id", "")]
            if lines := _lines(site, row, row[what.stamp]):
                stamp = re.sub(r"\D", "", row[what.stamp])
                path = inbox / source / site.code / stamp[:4] / stamp[4:6] / stamp[6:8] / f"{site.code}_{stamp}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(("\r\n".join(lines) + "\r\n").encode())
                manifest.add(source, 1, len(lines))
    if not manifest.files[source]:
        raise ValueError(f"{kind} holds no value from {start} to {end}; it holds {what.first_day} to {what.last_day}")
    _write_registers(inbox, source, what, sites, manifest)
    _write_contracts(inbox.parent / "contracts", source, what)
    return manifest


def _lines(site: _Site, row: dict[str, str], moment: str) -> list[str]:
    """L1 lines of one moment, or none where nothing was measured."""
    if not any(row[s.column] for s in site.series):
        return []
    stamp = re.sub(r"\D", "", moment)
    return [f"{s.name}\t{row[s.column] or '---'}\t{s.unit}\t{stamp}\t{status_of(row.get(f'f_{s.column}'))}" for s in site.series]


def status_of(flag: str | None) -> str:
    """Device status of an SWMP flag such as `<-3> [SSM] (CSM)`; 00 for a source without flags (None)."""
    if flag is None:
        return "00"
    found = _FLAG.match(flag)
    if found is None or int(found[1]) not in STATUS_OF_FLAG:
        raise ValueError(f"SWMP flag: <-5> to <5> was expected, found {flag!r}")
    return STATUS_OF_FLAG[int(found[1])]


def _write_registers(inbox: Path, source: str, what: Kind, sites: list[_Site], manifest: Manifest) -> None:
    """The same bytes whatever days are replayed, so that the order of replays does not matter."""
    successor = {r["old_commune_code"]: r["new_commune_code"] for r in read_seed(_REFERENCE, "commune_successor")}
    communes = [r for r in read_seed(_REFERENCE, "administrative_unit") if r["level"] == "commune" and r["valid_to"] == "2025-06-30" and r["lon"]]
    # not the places that the sample gives its own stations
    stand_in = [communes[(i * 13 + 5) % len(communes)] for i in range(len(sites))]
    stamp = f"{what.first_day:%Y%m%d}"
    write_station_register(
        inbox / f"{source}_station" / f"tram_{stamp}.xlsx",
        (
            {
                "station_id": s.code,
                "station_name": f"{s.name} (số liệu thật, vị trí thay thế)",
                "matrix": MATRICES[s.matrix],
                "old_commune": c["unit_code"],
                "commune": successor[c["unit_code"]],
                "lon": float(c["lon"]),
                "lat": float(c["lat"]),
                "in_use_from": s.since,
                "contact": what.contact,
            }
            for s, c in zip(sites, stand_in, strict=True)
        ),
    )
    # ranges of the instruments are not published: left open
    write_channel_register(
        inbox / f"{source}_channel" / f"thong_so_{stamp}.csv",
        (
            {
                "station_id": s.code,
                "parameter": p.parameter,
                "unit": p.canonical_unit,
                "minutes": what.minutes,
                "valid_from": f"{what.first_day:%d/%m/%Y} 00:00",
                "valid_to": "",
                "name_in_file": p.name if p.name != p.parameter else None,
            }
            for s in sites
            for p in s.series
        ),
    )
    manifest.add(f"{source}_station", 1, len(sites))
    manifest.add(f"{source}_channel", 1, sum(len(s.series) for s in sites))


def _write_contracts(folder: Path, source: str, what: Kind) -> None:
    """Copies of the shipped contracts: the same columns and rules, under the names and with the clock of the replay."""
    terms = "Dữ liệu mở dùng để thử và trình diễn; nguồn và giấy phép: docs/real-data.md"
    registers = [f"{source}_station", f"{source}_channel"]
    common: dict[str, Any] = {"title": what.title, "owner": {"unit": what.contact}, "terms": terms, "cadence": []}
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        source: ("station_txt", {"depends_on": registers, "time": {"zone": what.zone, "stamp": "end", "span_minutes": what.minutes}}),
        registers[0]: ("station_register", {"title": f"Danh mục trạm: {what.title}"}),
        registers[1]: ("station_channel_register", {"title": f"Danh mục thông số: {what.title}"}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shipped, change) in changes.items():
        contract = yaml.safe_load(_SHIPPED[shipped].read_text(encoding="utf-8"))
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump(contract | common | change, allow_unicode=True, sort_keys=False, width=1000), encoding="utf-8"
        )
