"""From a station's file in the inbox to the serving file that shows it: the live worker on a province of 213 stations."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from typing import Any

import duckdb

from lake.lake import create, open_reader
from lake.serving import current
from orchestration.live import Live
from orchestration.run import run
from simulator.sample import generate
from simulator.size import Size
from tests.bench.measure import main
from tnmt.settings import Settings, settings

END = date(2026, 3, 24)
AS_OF = datetime(2026, 3, 25, 0, 10)
PROVINCE = Size("live", 150, 50, 6, 7, 58, 2, 300, 20, 60)


def send(s: Settings, channels: dict[str, list[tuple[str, str]]], at: datetime, value: float) -> None:
    """A file of every station for the slot that ends at `at`."""
    for station, parameters in channels.items():
        path = s.inbox / "station_txt" / f"{station}_{at:%Y%m%d%H%M%S}.txt"
        half = path.with_suffix(".part")
        half.write_text("".join(f"{name}\t{value:.2f}\t{unit}\t{at:%Y%m%d%H%M%S}\t00\n" for name, unit in parameters))
        half.rename(path)


def live(increments: int) -> dict[str, Any]:
    """Seconds from the oldest file of a round to the serving file, of so many rounds; every station must then be seen at the round's time."""
    s = settings()
    create(s)
    generate(s.inbox, s.reference, 1, END, PROVINCE)
    run(s, now=AS_OF, as_of=AS_OF, run_id="first")
    channels: dict[str, list[tuple[str, str]]] = {}
    with open_reader(s) as con:
        for station, name, unit in con.execute(
            "SELECT station_id, coalesce(name_in_file, parameter), unit FROM lake.clean.station_channel WHERE valid_to IS NULL ORDER BY ALL"
        ).fetchall():
            channels.setdefault(station, []).append((name, unit))
    worker = Live(s)
    rounds, equal = [], True
    for n in range(1, increments + 1):
        at = AS_OF + timedelta(minutes=5 * n)
        send(s, channels, at, 7 + n / 100)
        done = worker.increment(at)
        assert done is not None
        rounds.append({"latency": done.latency, "rows": done.rows, "took_in": done.took_in, "built": done.built, "served": done.served})
        with duckdb.connect(str(current(s)), read_only=True) as con:
            seen = con.execute("SELECT count(*) FILTER (last_measured_at = ?) FROM marts_environment.station_status", [at]).fetchall()[0][0]
        equal &= seen == len(channels) and not done.whole_build
    ordered = sorted(r["latency"] for r in rounds)
    return {
        "seconds": ordered[math.ceil(0.95 * len(ordered)) - 1],
        "median": ordered[len(ordered) // 2],
        "stations": len(channels),
        "rounds": rounds,
        "equal": equal,
    }


if __name__ == "__main__":
    main({"live": live})
