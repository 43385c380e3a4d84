"""A day of station files with every known damage, and exactly what must become of it.

The expectation is worked out here from the damage that was done, never with code of the platform.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from simulator.registers import write_channel_register, write_station_register

DAY = date(2026, 3, 31)
NOW = datetime(2026, 4, 1, 0, 10)
SOURCE = "station_txt"
PARAMETERS = {
    "ambient_air": (
        ("Temp", "°C"),
        ("RH", "%"),
        ("WindSpeed", "m/s"),
        ("PM10", "µg/m3"),
        ("PM2.5", "µg/m3"),
        ("NO2", "µg/m3"),
        ("SO2", "µg/m3"),
        ("CO", "µg/m3"),
        ("O3", "µg/m3"),
        ("NO", "µg/m3"),
    ),
    "emission": (
        ("Temp", "°C"),
        ("PM", "mg/Nm3"),
        ("SO2", "mg/Nm3"),
        ("NOx", "mg/Nm3"),
        ("CO", "mg/Nm3"),
        ("O2", "%"),
        ("P", "hPa"),
        ("Flow", "m3/h"),
        ("NO", "mg/Nm3"),
        ("NO2", "mg/Nm3"),
    ),
}
LABEL = {"ambient_air": "Không khí xung quanh", "emission": "Khí thải"}
DAMAGES = (
    "empty",
    "truncated",
    "binary",
    "wrong encoding",
    "wrong name",
    "unreadable value",
    "unreadable time",
    "future",
    "too old",
    "extra columns",
    "header line",
    "unknown station",
    "unknown parameter",
    "unknown unit",
    "sent again",
    "sent again, other values",
    "status missing",
    "status unknown",
    "decimal comma",
    "byte order mark",
    "no value",
)
BLOCK = 100
"""One file in so many is damaged."""


@dataclass
class Expected:
    """Of a day: files, rows by fate, thousandths summed over reported values, and each quarantined line with its reason."""

    files: int = 0
    damaged: int = 0
    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    reported: int = 0
    reported_sum: int = 0
    valid: int = 0
    valid_sum: int = 0
    quarantined: set[tuple[str, int, str]] = field(default_factory=set)
    quarantined_files: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)

    def answers(self) -> dict[str, Any]:
        """The same as our job reports."""
        digest = hashlib.sha256(repr(sorted(self.quarantined)).encode()).hexdigest()
        return {
            "files": self.files,
            "read": self.read,
            "accepted": self.accepted,
            "duplicate": self.duplicate,
            "quarantined": len(self.quarantined),
            "quarantine_lines": digest,
            "quarantined_files": len(self.quarantined_files),
            "reported": self.reported,
            "reported_sum": self.reported_sum,
            "valid": self.valid,
            "valid_sum": self.valid_sum,
        }


def station(number: int) -> tuple[str, str]:
    """(code, matrix) of a station."""
    return (f"BP_T{number:03d}_KHIKXQ", "ambient_air") if number % 2 else (f"BP_T{number:03d}_KHIOKH", "emission")


def write_registers(inbox: Path, stations: int) -> None:
    """Station and channel register, as their keepers hand them over."""
    codes = [station(n) for n in range(stations)]
    write_station_register(
        inbox / "station_register" / "tram_20250101.xlsx",
        (
            {
                "station_id": c,
                "station_name": f"Trạm {c}",
                "matrix": LABEL[m],
                "old_commune": "25195",
                "commune": "25195",
                "lon": 106.9,
                "lat": 11.5,
                "in_use_from": date(2022, 1, 1),
            }
            for c, m in codes
        ),
    )
    common = {"minutes": 5, "valid_from": "01/01/2022 00:00", "valid_to": "", "range_min": 0, "range_max": 1_000_000}
    write_channel_register(
        inbox / "station_channel_register" / "thong_so_20250101.csv",
        ({"station_id": c, "parameter": p, "unit": u, **common} for c, m in codes for p, u in PARAMETERS[m]),
    )


def write_day(inbox: Path, stations: int, slots: range = range(288), *, damage: bool = True, lines: int = 10, seed: int = 1) -> Expected:
    """Writes <inbox>/<station>/yyyy/mm/dd/<station>_<stamp>.txt; returns what must come out. A function of its arguments."""
    rng = random.Random(seed)
    want = Expected()
    start = datetime.combine(DAY, datetime.min.time())
    stamps = {k: f"{start + timedelta(minutes=5 * (k + 1)):%Y%m%d%H%M%S}" for k in slots}
    number = 0
    hit = -1
    for s in range(stations):
        code, matrix = station(s)
        folder = inbox / code / f"{DAY:%Y/%m/%d}"
        folder.mkdir(parents=True, exist_ok=True)
        again = inbox / "gui_lai" / code
        previous: tuple[str, bytes, list[tuple[int, str]]] | None = None
        for k in slots:
            if number % BLOCK == 0:
                hit = number + rng.randrange(2, BLOCK - 2)
            t = stamps[k]
            values = [(rng.randrange(1000, 90_000), f"0{0 if rng.random() < 0.97 else rng.randrange(1, 3)}") for _ in range(lines)]
            rows = [[p, f"{v / 1000:.3f}", u, t, st] for (p, u), (v, st) in zip(PARAMETERS[matrix], values)]
            name, kind = f"{code}/{DAY:%Y/%m/%d}/{code}_{t}.txt", None
            if damage and number >= hit and previous is not None:
                kind, hit = DAMAGES[want.damaged % len(DAMAGES)], 1 << 60
                want.damaged += 1
                want.kinds[kind] += 1
            name, data = _spoil(want, kind, code, name, t, rows, values, previous, rng) if kind else (name, _text(rows))
            want.files += 1
            if kind is None:
                want.read += lines
                _accept(want, values)
                previous = (name, data, values)
            else:
                previous = None
            path = inbox / name
            if name.startswith("gui_lai"):
                again.mkdir(parents=True, exist_ok=True)
            elif kind in ("unknown station",):
                path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
            number += 1
    return want


def _text(rows: list[list[str]]) -> bytes:
    return ("\r\n".join("\t".join(r) for r in rows) + "\r\n").encode()


def _accept(want: Expected, values: list[tuple[int, str]], sign: int = 1) -> None:
    """Rows with these (thousandths, status) became current; status 02 never counts as a figure (QĐ: its 0 means nothing)."""
    for value, status in values:
        want.accepted += sign
        if status != "02":
            want.reported += sign
            want.reported_sum += sign * value
        if status in ("00", ""):
            want.valid += sign
            want.valid_sum += sign * value


def _spoil(
    want: Expected,
    kind: str,
    code: str,
    name: str,
    t: str,
    rows: list[list[str]],
    values: list[tuple[int, str]],
    previous: tuple[str, bytes, list[tuple[int, str]]] | None,
    rng: random.Random,
) -> tuple[str, bytes]:
    """Damages one file and books what must become of it; returns its name and bytes."""
    n = len(rows)

    def bad(where: str, reason: str, *numbers: int, whole: bool = False) -> None:
        want.quarantined |= {(where, i, reason) for i in numbers}
        if whole:
            want.quarantined_files.add(where)

    def but(*numbers: int) -> list[tuple[int, str]]:
        return [v for i, v in enumerate(values, 1) if i not in numbers]

    every = tuple(range(1, n + 1))
    if kind == "empty":
        bad(name, "empty_file", whole=True)
        return name, b""
    if kind == "truncated":
        want.read += 6
        bad(name, "line_malformed", 6)
        _accept(want, values[:5])
        return name, _text(rows[:5]) + f"{rows[5][0]}\t21.".encode()
    if kind == "binary":
        bad(name, "binary_file", whole=True)  # no text, so no lines
        return name, b"\x00\x01\x02PK\x03\x04" * 20 + t.encode()
    want.read += n
    if kind == "wrong encoding":
        bad(name, "wrong_encoding", *every, whole=True)
        return name, _text(rows).decode().encode("latin-1")
    if kind == "wrong name":
        other = name.replace(f"{code}_{t}", f"{code}-{t}")
        bad(other, "wrong_name", *every, whole=True)
        return other, _text(rows)
    if kind == "unknown station":
        other = name.replace(code, code.replace("_T", "_X"))
        bad(other, "unknown_station", *every)
        return other, _text(rows)
    if kind == "future":
        bad(name, "time_in_future", *every)
        return name, _text([[*r[:3], f"{int(t[:4]) + 1}{t[4:]}", r[4]] for r in rows])
    if kind == "header line":
        want.read += 1
        bad(name, "measured_at_unreadable", 1)
        _accept(want, values)
        return name, _text([["parameter", "value", "unit", "time", "status"], *rows])
    if kind in ("sent again", "sent again, other values"):
        assert previous is not None
        first, data, old = previous
        other = f"gui_lai/{code}/{first.rsplit('/', 1)[1]}"
        want.duplicate += n
        if kind == "sent again":
            return other, data
        stamp = first[-18:-4]
        new = [(v, st) for (v, _), (_, st) in zip(values, old)]
        data2 = _text([[p, f"{v / 1000:.3f}", u, stamp, st] for (p, _, u, _, _), (v, st) in zip(rows, new)])
        # two deliveries of one moment: the greater identity is current, whatever the order
        if _identity(other, data2) > _identity(first, data):
            _accept(want, old, -1)
            _accept(want, new)
        return other, data2
    spoiled = {
        "unreadable value": (4, 1, "ERR"),
        "unreadable time": (6, 3, "20261399990500"),
        "too old": (1, 3, "19700101000500"),
        "extra columns": (3, 4, "00\textra\tcolumns"),
        "unknown parameter": (2, 0, "Vinyl chloride"),
        "unknown unit": (7, 2, "furlong"),
        "status unknown": (5, 4, "07"),
        "no value": (8, 1, "---"),
    }
    reasons = {
        "unreadable time": "measured_at_unreadable",
        "too old": "time_too_old",
        "extra columns": "line_malformed",
        "unknown parameter": "unknown_parameter",
        "unknown unit": "unknown_unit",
    }
    if kind in spoiled:
        line, column, text = spoiled[kind]
        rows[line - 1][column] = text
        _accept(want, but(line))
        if kind in reasons:
            bad(name, reasons[kind], line)
        elif kind == "status unknown":
            want.accepted += 1
            want.reported += 1
            want.reported_sum += values[line - 1][0]
        else:
            want.accepted += 1
    elif kind == "status missing":
        rows[1] = rows[1][:4]
        _accept(want, [*but(2), (values[1][0], "")])
    elif kind == "decimal comma":
        for row in rows:
            row[1] = row[1].replace(".", ",") + "0"  # three decimals could be thousands, and would be no figure
        _accept(want, values)
    else:
        _accept(want, values)
        return name, b"\xef\xbb\xbf" + _text(rows)
    return name, _text(rows)


def _identity(name: str, data: bytes) -> str:
    return hashlib.sha256(f"{SOURCE}\0{name}\0{hashlib.sha256(data).hexdigest()}".encode()).hexdigest()[:24]
