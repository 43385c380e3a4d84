"""Readings of the stations: hourly exports of the old receiver, then the station files of every five minutes.

Values have daily and seasonal cycles and noise; some stations exceed their limits; loggers calibrate, fail, fall
silent, and make every mistake that was seen in real files (DOMAIN 1.3). Each mistake is listed in the manifest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.manifest import Manifest
from simulator.province import PARAMETERS, Province, Station
from simulator.size import Size

# parameter: (usual value, share of a daily cycle, share of a yearly cycle, noise, decimals)
_COURSE = {
    "Flow_in": (42, 0.35, 0.05, 0.08, 1),
    "Flow_out": (40, 0.35, 0.05, 0.08, 1),
    "pH": (7.2, 0.02, 0.0, 0.01, 2),
    "Temp": (29, 0.10, 0.05, 0.005, 1),
    "COD": (48, 0.18, 0.05, 0.10, 1),
    "TSS": (32, 0.15, 0.15, 0.12, 1),
    "NH4": (3.2, 0.2, 0.05, 0.12, 2),
    "Color": (45, 0.1, 0.05, 0.1, 0),
    "PM": (95, 0.2, 0.0, 0.12, 1),
    "SO2": (160, 0.2, 0.0, 0.15, 1),
    "NOx": (310, 0.15, 0.0, 0.1, 1),
    "CO": (380, 0.2, 0.0, 0.15, 1),
    "O2": (8.5, 0.08, 0.0, 0.05, 1),
    "P": (1004, 0.002, 0.002, 0.001, 1),
    "Flow": (65_000, 0.1, 0.0, 0.06, 0),
    "DO": (5.8, 0.15, 0.05, 0.04, 2),
    "EC": (96, 0.05, 0.15, 0.05, 0),
    "Turbidity": (21, 0.1, 0.4, 0.2, 1),
    "N-NO3": (0.9, 0.1, 0.2, 0.1, 2),
    "RH": (78, 0.15, 0.08, 0.01, 1),
    "WindSpeed": (1.8, 0.4, 0.1, 0.3, 1),
    "WindDir": (140, 0.3, 0.3, 0.3, 0),
    "SolarRad": (380, 1.0, 0.1, 0.15, 1),
    "TSP": (88, 0.25, 0.3, 0.15, 1),
    "PM10": (52, 0.25, 0.3, 0.15, 1),
    "PM2.5": (30, 0.28, 0.35, 0.15, 1),
    "PM1": (19, 0.28, 0.35, 0.15, 1),
    "NO": (9, 0.3, 0.1, 0.2, 1),
    "NO2": (21, 0.3, 0.1, 0.15, 1),
    "SO2_air": (14, 0.2, 0.1, 0.2, 1),
    "CO_air": (620, 0.25, 0.15, 0.12, 0),
    "NOx_air": (32, 0.3, 0.1, 0.15, 1),
    "O3": (48, 0.5, 0.15, 0.12, 1),
    "Temp_stack": (148, 0.05, 0.0, 0.03, 1),
}


def _course(matrix: str, parameter: str) -> tuple[float, float, float, float, int]:
    if matrix == "ambient_air" and f"{parameter}_air" in _COURSE:
        return _COURSE[f"{parameter}_air"]
    if matrix == "emission" and parameter == "Temp":
        return _COURSE["Temp_stack"]
    return _COURSE[parameter]


def values(seed: int, station: Station, day: date, slots: int) -> npt.NDArray[np.float64]:
    """True values (slots x parameters) of one station and day, rounded as its logger would. A function of its arguments."""
    rng = np.random.default_rng([seed, station.index, day.toordinal(), slots])
    parameters = PARAMETERS[station.matrix]
    hour = (np.arange(slots) + 1) * 24 / slots
    year = math.cos(2 * math.pi * (day.timetuple().tm_yday - 20) / 365)  # dry season: dust up in January
    level = np.random.default_rng([seed, station.index]).lognormal(0, 0.22, len(parameters))
    if station.index % 9 == 4:
        level[: len(parameters) // 2 + 1] *= 1.9  # a station that exceeds
    weather = np.random.default_rng([seed, 7, day.toordinal()]).lognormal(0, 0.18)
    out = np.empty((slots, len(parameters)))
    for j, parameter in enumerate(parameters):
        usual, daily, yearly, noise, digits = _course(station.matrix, parameter)
        if parameter == "SolarRad":
            column = np.maximum(np.sin((hour - 6) / 12 * math.pi), 0) * usual * 2 - 0.8 * (rng.random(slots) < 0.3)
        else:
            peak = 7.5 if parameter in ("PM2.5", "PM10", "PM1", "TSP", "NO", "NO2", "NOx", "CO", "RH") else 14.0
            column = usual * (1 + daily * np.cos((hour - peak) / 24 * 2 * math.pi)) * (1 + yearly * year) * (1 + noise * rng.standard_normal(slots))
            if parameter not in ("pH", "P", "RH", "Temp", "O2", "WindDir"):
                column *= level[j] * (weather if station.matrix == "ambient_air" else 1)
        if parameter == "RH":
            column = np.minimum(column, 99.9)
        if parameter == "WindDir":
            column = np.mod(column, 360)
        out[:, j] = np.round(np.maximum(column, 0) if parameter != "SolarRad" else column, digits)
    index = {p: j for j, p in enumerate(parameters)}
    if station.matrix == "wastewater":
        # what leaves came in, less what evaporates and stays in the sludge
        out[:, index["Flow_out"]] = np.round(out[:, index["Flow_in"]] * (0.95 + 0.02 * rng.standard_normal(slots)), 1)
    if station.matrix == "ambient_air":
        # NOx is stated as NO2, a third heavier by molecule than NO
        total = out[:, index["NO"]] * 46.006 / 30.006 + out[:, index["NO2"]]
        out[:, index["NOx"]] = np.round(total * (1 + 0.02 * rng.standard_normal(slots)), 1)
        for small, large in (("PM1", "PM2.5"), ("PM2.5", "PM10"), ("PM10", "TSP")):
            out[:, index[large]] = np.round(np.maximum(out[:, index[large]], out[:, index[small]] * 1.15), 1)
    return out


def status(seed: int, station: Station, day: date, slots: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Device status (0, 1, 2) by slot, and whether the station sent at all in that slot."""
    rng = np.random.default_rng([seed, 3, station.index, day.toordinal()])
    code = np.zeros(slots, dtype=np.int8)
    sent = np.ones(slots, dtype=np.bool_)
    per_hour = slots // 24
    if (day.toordinal() + station.index) % 15 == 0:
        start = int(rng.integers(8, 16)) * per_hour
        code[start : start + max(1, per_hour)] = 1
    if rng.random() < 0.05:
        start = int(rng.integers(0, slots - 4 * per_hour))
        code[start : start + 3 * per_hour] = 2
    if rng.random() < 0.10:
        start = int(rng.integers(0, slots - 2))
        sent[start : start + int(rng.integers(1, 10 * per_hour))] = False
    return code, sent


@dataclass(frozen=True)
class _Job:
    seed: int
    out: Path
    stations: tuple[Station, ...]
    units: dict[tuple[str, str], str]
    hourly: tuple[date, ...]
    files: tuple[date, ...]


def silent_from(station: Station, last: date) -> datetime | None:
    """From when on a station is silent at the end of the sample, or None: a few are, so that "status now" has a story."""
    midnight = datetime.combine(last, datetime.min.time())
    if station.index % 23 == 11:
        return midnight + timedelta(hours=9, minutes=40)
    if station.index % 41 == 17:
        return midnight + timedelta(hours=23, minutes=30)
    return None


def _last_day(station: Station, code: npt.NDArray[np.int8], sent: npt.NDArray[np.bool_], grid: npt.NDArray[np.float64]) -> dict[str, int]:
    """What befalls a few devices on the last day of the sample, written into `code` and `grid`; name and first slot of each fault.

    An error or a calibration that lasts to the end gives "status now" a story. A flat line and a spike look like
    measurements: nothing in the file says that they are none.
    """
    slots = len(code)
    faults: dict[str, int] = {}
    if station.index % 29 == 1:
        faults["device error until the end"] = first = slots * 22 // 24
        code[first:] = 2
    if station.index % 37 == 4:
        faults["calibration until the end"] = first = slots * 47 // 48
        code[first:] = 1
    if station.index % 13 == 2:
        faults["flat line for six hours"] = first = slots * 10 // 24
        grid[first : slots * 16 // 24, 4] = grid[first, 4]
    if station.index % 17 == 3:
        faults["spike"] = first = slots * 14 // 24 + int(np.argmax(sent[slots * 14 // 24 :]))
        grid[first, -1] *= 12
    if _other_list(station):
        faults["another list of parameters from noon"] = slots // 2
    return faults


def _other_list(station: Station) -> bool:
    """Whether the station's logger is set up anew at noon of the last day: total nitrogen in the place of colour."""
    return station.matrix == "wastewater" and station.index % 19 == 2


def _write_station(job: _Job, station: Station) -> tuple[int, int, int, int, dict[str, str]]:
    """Writes one station; returns hourly files and rows, station files and rows, and the first file of each fault."""
    parameters = PARAMETERS[station.matrix]
    labels = [station.names[p] for p in parameters]
    digits = [_course(station.matrix, p)[4] for p in parameters]
    hourly: dict[str, list[str]] = {}
    for day in job.hourly:
        grid = values(job.seed, station, day, 24)
        code, sent = status(job.seed, station, day, 24)
        for slot in range(24):
            if not sent[slot]:
                continue
            end = datetime.combine(day, datetime.min.time()) + timedelta(hours=slot + 1)
            lines = hourly.setdefault(f"{day:%Y%m}", [])
            for j, parameter in enumerate(parameters):
                # the old receiver writes its own symbols and units, and turns a device error into 0 (DOMAIN 1.3)
                text = "0" if code[slot] == 2 else f"{grid[slot, j]:.{digits[j]}f}".replace(".", ",")
                lines.append(f"{station.code};{parameter};{job.units[station.matrix, parameter]};{end:%d/%m/%Y %H:%M};{text};0{code[slot]}")
    folder = job.out / "station_hourly"
    for month, lines in hourly.items():
        (folder / f"{station.code}_{month}_{job.hourly[-1]:%Y%m%d}.csv").write_text(
            "Mã trạm;Thông số;Đơn vị;Thời gian;Giá trị;Trạng thái\r\n" + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline=""
        )
    files = rows = 0
    base = job.out / "station_txt" / station.code
    units = [station.units[p] for p in parameters]
    quiet = silent_from(station, job.files[-1]) if job.files else None
    seen: dict[str, str] = {}
    for day in job.files:
        grid = values(job.seed, station, day, 288)
        code, sent = status(job.seed, station, day, 288)
        is_last = day == job.files[-1]
        faults = _last_day(station, code, sent, grid) if is_last else {}
        target = base / f"{day:%Y/%m/%d}"
        target.mkdir(parents=True, exist_ok=True)
        for slot in range(288):
            end = datetime.combine(day, datetime.min.time()) + timedelta(minutes=5 * (slot + 1))
            if not sent[slot] or (quiet and end > quiet):
                continue
            stamp = f"{end:%Y%m%d%H%M%S}"
            lines = []
            for j in range(len(parameters)):
                text = f"{grid[slot, j]:.{digits[j]}f}"
                if code[slot] == 2:
                    text = "0" if j % 2 else "---"
                label, unit = labels[j], units[j]
                if is_last and slot >= 144 and parameters[j] == "Color" and _other_list(station):
                    label, unit = "TN", "mg/L"
                lines.append(f"{label}\t{text.replace('.', ',') if station.comma else text}\t{unit}\t{stamp}\t0{code[slot]}")
            data = ("\ufeff" if station.bom else "") + station.line_end.join(lines) + station.line_end
            (target / f"{station.code}_{stamp}.txt").write_bytes(data.encode())
            files += 1
            rows += len(lines)
            for name, first in faults.items():
                if slot >= first:
                    seen.setdefault(name, f"{station.code}/{day:%Y/%m/%d}/{station.code}_{stamp}.txt")
    return len(hourly), sum(map(len, hourly.values())), files, rows, seen


def _write(job: _Job) -> list[tuple[int, int, int, int, dict[str, str]]]:
    return [_write_station(job, station) for station in job.stations]


def write(out: Path, province: Province, seed: int, end: date, size: Size, manifest: Manifest, processes: int = 2) -> None:
    """Writes all telemetry up to and including the day `end`, then the mistakes."""
    files = tuple(end - timedelta(days=i) for i in reversed(range(size.file_days)))
    hourly = tuple(files[0] - timedelta(days=i + 1) for i in reversed(range(size.hourly_days)))
    for name in ("station_hourly", "station_txt"):
        (out / name).mkdir(parents=True, exist_ok=True)
    jobs = [_Job(seed, out, tuple(province.stations[i :: processes * 4]), province.units, hourly, files) for i in range(processes * 4)]
    if len(province.stations) > 30:
        with ProcessPoolExecutor(processes) as pool:
            done = list(pool.map(_write, jobs))
    else:
        done = [_write(job) for job in jobs]
    for part in done:
        for hourly_files, hourly_rows, station_files, station_rows, faults in part:
            manifest.add("station_hourly", hourly_files, hourly_rows)
            manifest.add("station_txt", station_files, station_rows)
            for name, where in faults.items():
                manifest.trap("station_txt", name, where)
    _mistakes(out / "station_txt", province, end, manifest)


def _mistakes(inbox: Path, province: Province, end: date, manifest: Manifest) -> None:
    """One of every mistake seen in real files, each at a place of its own; see the manifest for what must become of it."""
    by_matrix: dict[str, list[Station]] = {}
    for station in province.stations:
        by_matrix.setdefault(station.matrix, []).append(station)
    at = datetime.combine(end, datetime.min.time()) + timedelta(hours=1)

    def put(name: str, data: bytes, rows: int) -> str:
        path = inbox / "khac" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        manifest.add("station_txt", 1, rows)
        return f"khac/{name}"

    def stamps() -> Iterator[str]:
        # odd seconds: never the stamp of a regular file, so that each mistake stands alone
        moment = at + timedelta(seconds=7)
        while True:
            yield f"{moment:%Y%m%d%H%M%S}"
            moment += timedelta(seconds=11)

    stamp = stamps()
    water, air = by_matrix["wastewater"][0], by_matrix["ambient_air"][0]

    def trap(name: str, station_code: str, lines: list[str] | bytes, rows: int, bad: int, reason: str | None, t: str) -> None:
        data = lines if isinstance(lines, bytes) else ("\r\n".join(lines) + "\r\n").encode()
        manifest.trap("station_txt", name, put(f"{station_code}_{t}.txt", data, rows), rows=bad, reason=reason)

    t = next(stamp)
    trap("empty file", water.code, b"", 0, 0, "empty_file", t)
    t = next(stamp)
    trap("binary file", water.code, b"\x00\x01\x02PK\x03\x04" * 20, 0, 0, "binary_file", t)
    t = next(stamp)
    trap("wrong encoding", water.code, f"Temp\t30.1\t°C\t{t}\t00\r\npH\t7.1\t\t{t}\t00\r\n".encode("latin-1"), 2, 2, "wrong_encoding", t)
    t = next(stamp)
    trap("truncated in a line", water.code, f"pH\t7.1\t\t{t}\t00\r\nTSS\t21.".encode(), 2, 1, "line_malformed", t)
    t = next(stamp)
    trap("unknown station", "BP_LAXX_NUOTHA", [f"pH\t7.1\t\t{t}\t00", f"TSS\t21\tmg/L\t{t}\t00"], 2, 2, "unknown_station", t)
    t = next(stamp)
    trap(
        "unknown parameter with a blank in its name",
        air.code,
        [f"Vinyl chloride\t0.2\tppb\t{t}\t00", f"RH\t70\t%\t{t}\t00"],
        2,
        1,
        "unknown_parameter",
        t,
    )
    t = next(stamp)
    trap("unknown unit", water.code, [f"COD\t40\tmg/kg\t{t}\t00"], 1, 1, "unknown_unit", t)
    t = next(stamp)
    trap("clock a year ahead", water.code, [f"COD\t40\tmg/L\t{end.year + 1}0101000500\t00"], 1, 1, "time_in_future", t)
    t = next(stamp)
    trap("clock at its epoch", water.code, ["COD\t40\tmg/L\t19700101000500\t00"], 1, 1, "time_too_old", t)
    t = next(stamp)
    trap("time that is none", water.code, [f"COD\t40\tmg/L\t{end.year}1399990500\t00"], 1, 1, "measured_at_unreadable", t)
    t = next(stamp)
    trap(
        "wind direction 361, negative radiation, value ---, status missing",
        air.code,
        [f"WindDir\t361\tdeg\t{t}\t00", f"Radiation\t-1.60\tw/m2\t{t}\t00", f"PM10\t---\tµg/m3\t{t}\t00", f"PM2,5\t31,7\tµg/m3\t{t}"],
        4,
        0,
        None,
        t,
    )
    t = next(stamp)
    trap("status nobody knows", water.code, [f"COD\t40\tmg/L\t{t}\t07"], 1, 0, None, t)
    wrong = put("so_lieu_tram.txt", f"pH\t7.1\t\t{at:%Y%m%d%H%M%S}\t00\r\n".encode(), 1)
    manifest.trap("station_txt", "name against the rule", wrong, rows=1, reason="wrong_name")
    # sent again after an outage: the same bytes under another name, and a corrected file under the same name in another folder
    regular = sorted((inbox / water.code).rglob("*.txt"))
    again, corrected = regular[5].read_bytes(), regular[6].read_bytes()
    lines = again.count(b"\n")
    (inbox / "gui_lai").mkdir(exist_ok=True)
    (inbox / "gui_lai" / regular[5].name).write_bytes(again)
    manifest.add("station_txt", 1, lines)
    manifest.duplicates["station_txt"] += lines
    manifest.trap("station_txt", "same bytes, other name", f"gui_lai/{regular[5].name}")
    first = next(i for i, p in enumerate(PARAMETERS[water.matrix]) if p == "COD")
    rows = corrected.split(b"\n")
    fields = rows[first].split(b"\t")
    fields[1] = b"77.7"
    rows[first] = b"\t".join(fields)
    (inbox / "gui_lai" / regular[6].name).write_bytes(b"\n".join(rows))
    manifest.add("station_txt", 1, lines)
    manifest.duplicates["station_txt"] += lines
    manifest.conflicts["station_txt"] += 1
    manifest.trap("station_txt", "same name, other value", f"gui_lai/{regular[6].name}")
