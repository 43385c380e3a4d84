"""Incremental marts equal marts made anew, to the bit, whatever came: late files, weeks of backlog, corrections, decisions, other limits.

On the real path (files, gate, ledger), with the environment marts of the dbt project run in this process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ingestion.decide import decide
from ingestion.ingest import contracts_of, ingest
from lake.lake import open_reader
from orchestration.marts import plan, record
from simulator.registers import write_channel_register, write_period_register, write_station_register
from tests.conftest import new_platform
from tests.examples import examples
from tests.marts_kit import dbt

W, A = "BP_AAAA_NUOTHA", "BP_BBBB_KHOXUN"
PARAMETERS = {W: {"COD": "mg/L", "Flow": "m3/h"}, A: {"PM2.5": "µg/m3"}}
START = datetime(2026, 3, 10)
SLOT = timedelta(hours=1)
SOURCES = ("station_register", "station_channel_register", "station_period_register", "station_txt", "adjustment", "approval")
RUN = ["run", "--select", "+fqn:tnmt.marts.environment.*"]


class Lake:
    """Two stations with a value each hour, and everything that may befall their data."""

    def __init__(self, home: Path, rng: random.Random) -> None:
        self.settings = new_platform(home)
        self.rng, self.now, self.sent, self.periods = rng, START, {W: START, A: START}, 0
        common = {"old_commune": "25195", "lon": 106.9, "lat": 11.5, "in_use_from": date(2026, 1, 1)}
        water = {"matrix": "Nước thải", "standard": "QCVN 40:2011/BTNMT", "standard_class": "A", "kq": 0.9, "kf": 1.1}
        air = {"matrix": "Không khí xung quanh", "standard": "QCVN 05:2023/BTNMT"}
        write_station_register(
            self.settings.inbox / "station_register" / "tram_20260101.xlsx",
            [{"station_id": s, "station_name": s, **common, **what} for s, what in ((W, water), (A, air))],
        )
        write_channel_register(
            self.settings.inbox / "station_channel_register" / "thong_so_20260101.csv",
            [
                {"station_id": s, "parameter": p, "unit": u, "minutes": 60, "valid_from": "01/01/2026 00:00"}
                for s, ps in PARAMETERS.items()
                for p, u in ps.items()
            ],
        )
        self.more()
        self.take_in()
        self.manifest = dbt(self.settings, home, "parse").result
        dbt(self.settings, home, "seed", **self.variables(-1, 0))
        self.build()

    def send(self, station: str, at: datetime) -> None:
        """A file of one slot; another value each time it is sent."""
        path = self.settings.inbox / "station_txt" / f"{station}_{at:%Y%m%d%H%M%S}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        status = self.rng.choices(["00", "01", "02"], [20, 1, 1])[0]
        path.write_text("".join(f"{p}\t{self.rng.gauss(60, 20):.2f}\t{u}\t{at:%Y%m%d%H%M%S}\t{status}\n" for p, u in PARAMETERS[station].items()))

    def more(self) -> None:
        """Time goes on by some hours, and most slots of it are sent."""
        until = self.now + self.rng.randint(5, 40) * SLOT
        for station in (W, A):
            while self.sent[station] < until:
                self.sent[station] += SLOT
                if self.rng.random() < 0.85:
                    self.send(station, self.sent[station])
        self.now = until + timedelta(minutes=self.rng.randint(1, 50))

    def late_and_corrected(self) -> None:
        """Files of any hours before, again or for the first time."""
        for _ in range(self.rng.randint(1, 12)):
            self.send(self.rng.choice([W, A]), START + self.rng.randint(1, max(1, (self.now - START) // SLOT)) * SLOT)

    def backlog(self) -> None:
        """A logger drains sixty days."""
        station = self.rng.choice([W, A])
        for n in range(1, 60 * 24 + 1):
            if self.rng.random() < 0.9:
                self.send(station, START - n * SLOT)

    def adjust(self) -> None:
        """Somebody corrects a span of readings, or takes it out."""
        since = START - timedelta(days=self.rng.randint(0, 50)) + self.rng.randint(0, 23) * SLOT
        action, number = self.rng.choice([("reject", None), ("offset", "3.5"), ("scale", "1.1"), ("accept", None)])
        values = {"station_id": W, "parameter": "COD", "action": action, "number": number, "applies_from": since}
        values |= {"applies_to": since + self.rng.randint(1, 60) * SLOT, "reason_vi": "thử", "decided_by": "QA"}
        decide(self.settings, contracts_of(self.settings)["adjustment"], values, self.now)

    def approve(self) -> None:
        """Somebody approves some days."""
        first = START.date() - timedelta(days=self.rng.randint(0, 10))
        values = {"station_id": A, "first_day": first, "last_day": first + timedelta(days=self.rng.randint(0, 9)), "grade": "approved"}
        decide(self.settings, contracts_of(self.settings)["approval"], {**values, "reason_vi": "thử", "decided_by": "QA"}, self.now)

    def limits(self) -> None:
        """Another permit of before comes to light."""
        self.periods += 1
        since = START - timedelta(days=self.rng.randint(0, 60))
        write_period_register(
            self.settings.inbox / "station_period_register" / f"thoi_ky_{date(2026, 4, 1) + timedelta(self.periods):%Y%m%d}.csv",
            [
                {
                    "station_id": W,
                    "valid_from": f"{since:%d/%m/%Y}",
                    "valid_to": f"{since + timedelta(days=self.rng.randint(0, 40)):%d/%m/%Y}",
                    "standard": "QCVN 40:2011/BTNMT",
                    "standard_class": self.rng.choice("AB"),
                    "kq": "0.6",
                    "kf": "0.9",
                }
            ],
        )

    def take_in(self) -> None:
        """Inbox to published."""
        done = ingest(self.settings, now=self.now, run_id=f"{self.now:%Y%m%d%H%M}", only=SOURCES)
        assert not done.errors
        assert all(not r.blocked for r in done.loaded.values())

    def variables(self, affected_from: int, affected_to: int) -> dict[str, str | int]:
        """Of a build as of now."""
        return {"as_of": f"{self.now:%Y-%m-%d %H:%M:%S}", "affected_from": affected_from, "affected_to": affected_to}

    def build(self, full: bool = False) -> None:
        """The environment marts, of what changed or anew."""
        planned = plan(self.settings, self.now, full=full)
        dbt(self.settings, self.settings.home, *RUN, manifest=self.manifest, **self.variables(planned.affected_from, planned.affected_to))
        record(self.settings, planned, self.now, f"{self.now:%Y%m%d%H%M}", self.now)

    def marts(self) -> dict[str, list[str]]:
        """Every row of every environment mart; repr of a float is exact, and tells -0.0 from 0.0."""
        with open_reader(self.settings) as con:
            names = con.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'marts_environment'"
            ).fetchall()
            return {n: [repr(r) for r in con.execute(f"SELECT * FROM lake.marts_environment.{n} ORDER BY ALL").fetchall()] for (n,) in names}


@settings(parent=examples(1), phases=(Phase.explicit, Phase.generate))  # a smaller example costs minutes
@given(seed=st.integers(0, 2**32))
def test_increments_equal_a_build_anew(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", "")
        lake = Lake(tmp_path_factory.mktemp("increments") / "home", rng)
        what: list[Callable[[], None]] = [lake.backlog, lake.adjust, lake.approve, lake.late_and_corrected]
        rng.shuffle(what)
        # other limits make all days anew, and would hide what the increment after them forgets
        for some in ([lake.limits], what):
            lake.more()
            for befall in some:
                befall()
            lake.take_in()
            lake.build()
        incremental = lake.marts()
        lake.build(full=True)
        anew = lake.marts()
        assert sorted(incremental) == sorted(anew)
        for name, rows in anew.items():
            assert incremental[name] == rows, name
        # two stations without facility, surface water or sample; what exceeds or is interrupted is drawn
        without = {"wqi_daily", "emission_load_monthly", "station_obligation", "exceedance_episode", "interruption"}
        assert {n for n, rows in anew.items() if not rows} <= without
        with open_reader(lake.settings) as con:
            days = con.execute("SELECT count(DISTINCT day) FROM lake.marts_environment.reading_daily WHERE valid > 0").fetchall()[0][0]
        assert days > 60
