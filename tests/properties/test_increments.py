"""Incremental marts equal marts made anew, to the bit, whatever came and whatever was built of it meanwhile.

What comes: late files, weeks of backlog, corrections, decisions, rejected files, other limits, changed registers. What is built: everything,
any selection, the live models alone, live beside a build, upkeep beside a build, two publishers beside a live increment; on both catalogs.

On the real path (files, gate, ledger), with the environment marts of the dbt project run in this process.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ingestion.decide import decide
from ingestion.ingest import contracts_of, ingest
from lake.lake import build_lock, open_reader
from lake.serving import current, publish_serving
from marts.build import plan, record
from simulator.files import write_xlsx
from simulator.registers import write_channel_register, write_period_register, write_station_register
from tests.conftest import new_platform
from tests.examples import examples
from tests.marts_kit import dbt
from tests.postgres_kit import Server
from tests.tiny import TNMT

W, A = "BP_AAAA_NUOTHA", "BP_BBBB_KHOXUN"
PARAMETERS = {W: {"COD": "mg/L", "Flow": "m3/h"}, A: {"PM2.5": "µg/m3"}}
START = datetime(2026, 3, 10)
SLOT = timedelta(hours=1)
SOURCES = ("facility_register", "station_register", "station_channel_register", "station_period_register", "station_txt", "adjustment", "approval")
RUN = ["run", "--select", "+fqn:tnmt.marts.environment.*"]


class Lake:
    """Two stations with a value each hour, and everything that may befall their data."""

    def __init__(self, home: Path, rng: random.Random, **environment: str) -> None:
        self.settings = new_platform(home, **environment)
        self.rng, self.now, self.sent, self.periods, self.registers = rng, START, {W: START, A: START}, 0, 0
        self.cadence = {W: 60, A: 60}
        self.facilities()
        self.stations()
        self.channels()
        self.more()
        self.take_in()
        self.manifest = dbt(self.settings, home, "parse").result
        dbt(self.settings, home, "seed", as_of=str(self.now))
        self.build()
        with open_reader(self.settings) as con:
            built = con.execute("SELECT model FROM lake.ops.built WHERE NOT starts_with(model, 'reference.') ORDER BY model").fetchall()
        self.names = [model.partition(".")[2] for (model,) in built]

    def _version(self) -> str:
        """The date in the name of a newer register."""
        self.registers += 1
        return f"{date(2026, 1, 1) + timedelta(self.registers):%Y%m%d}"

    def facilities(self) -> None:
        """The facility moves to another basin, and gets another name."""
        row = {"facility_id": "CS1", "facility_name": f"Cơ sở {self.registers}", "old_commune_code": "25195"}
        row["basin"] = self.rng.choice(["Sông Bé", "Sông Đồng Nai", "Sông Sài Gòn"])
        columns = contracts_of(self.settings)["facility_register"].columns
        path = self.settings.inbox / "facility_register" / f"co_so_{self._version()}.xlsx"
        write_xlsx(path, "Cơ sở", [c.header[0] for c in columns.values()], [[row.get(name) for name in columns]])

    def stations(self) -> None:
        """The stations get other names, and stand elsewhere."""
        common = {"old_commune": "25195", "lon": 106.9 + self.rng.randint(0, 9) / 100, "lat": 11.5, "in_use_from": date(2026, 1, 1)}
        water = {"matrix": "Nước thải", "standard": "QCVN 40:2011/BTNMT", "standard_class": "A", "kq": 0.9, "kf": 1.1, "facility_id": "CS1"}
        air = {"matrix": "Không khí xung quanh", "standard": "QCVN 05:2023/BTNMT"}
        write_station_register(
            self.settings.inbox / "station_register" / f"tram_{self._version()}.xlsx",
            [{"station_id": s, "station_name": f"{s} {self.registers}", **common, **what} for s, what in ((W, water), (A, air))],
        )

    def channels(self) -> None:
        """Another cadence: other values were due on any day."""
        self.cadence[self.rng.choice([W, A])] = self.rng.choice([30, 60])
        write_channel_register(
            self.settings.inbox / "station_channel_register" / f"thong_so_{self._version()}.csv",
            [
                {"station_id": s, "parameter": p, "unit": u, "minutes": self.cadence[s], "valid_from": "01/01/2026 00:00"}
                for s, ps in PARAMETERS.items()
                for p, u in ps.items()
            ],
        )

    def rejected(self) -> None:
        """A file of a slot of before, of which no line can be placed."""
        at = START + self.rng.randint(1, max(1, (self.now - START) // SLOT)) * SLOT + timedelta(minutes=self.rng.choice([0, 30]))
        path = self.settings.inbox / "station_txt" / f"{W}_{at:%Y%m%d%H%M%S}.txt"
        path.write_text(f"COD\tkhong doc duoc\tdon_vi_la\t{at:%Y%m%d%H%M%S}\t00\n")

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
        assert [r.problems for r in done.loaded.values() if r.blocked] == []

    def dbt(self, *arguments: str, **variables: str | int) -> None:
        """Runs dbt as of now, on what is published."""
        dbt(self.settings, self.settings.home, *arguments, manifest=self.manifest, as_of=f"{self.now:%Y-%m-%d %H:%M:%S}", **variables)

    def build(self, full: bool = False) -> None:
        """The environment marts, of what changed or anew."""
        planned = plan(self.settings, self.now, full=full)
        with build_lock(self.settings, "test build"):  # as every build does: upkeep beside it waits where the catalog is SQLite
            self.dbt(*RUN, **({"affected_from": -1} if full else {}))
        record(self.settings, planned, self.now, f"{self.now:%Y%m%d%H%M}", self.now)

    def subset(self) -> None:
        """Some models and views, as somebody materialises them in Dagster."""
        self.dbt("run", "--select", *self.rng.sample(self.names, self.rng.randint(1, 12)))

    def live(self) -> None:
        """The models of the live worker."""
        self.dbt("run", "--select", "tag:live")

    def beside(self) -> None:
        """A build of before the newest publish, as of then, whose models come after those of a live increment that has seen it."""
        with open_reader(self.settings) as con:
            newest = int(con.execute("SELECT max(seq) FROM lake.ops.gate_result").fetchall()[0][0])
        earlier, self.now = self.now - timedelta(minutes=50), self.now
        self.live()
        chosen = self.rng.sample(self.names, self.rng.randint(3, 20))
        dbt(
            self.settings,
            self.settings.home,
            *("run", "--select", *chosen),
            manifest=self.manifest,
            as_of=f"{earlier:%Y-%m-%d %H:%M:%S}",
            affected_to=newest - self.rng.randint(0, 2),
        )

    def upkeep(self) -> None:
        """The nightly upkeep, in a process of its own, beside a whole build."""
        maintain = subprocess.Popen([TNMT, "maintain"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.build()
        said, _ = maintain.communicate()
        assert maintain.returncode == 0, said

    def publish(self) -> None:
        """Two publishers of the serving file beside a live increment; then one more, whose file has what the lake has."""
        with open_reader(self.settings) as con:
            there = con.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'marts_environment'"
            ).fetchall()
        tables = sorted(f"marts_environment.{name}" for (name,) in there)
        with ThreadPoolExecutor() as pool:
            both = [pool.submit(publish_serving, self.settings, tables, self.now) for _ in range(2)]
            self.live()
        assert all(len(tables) == one.result().tables for one in both)
        publish_serving(self.settings, tables, self.now)
        path = current(self.settings)
        assert path is not None
        marts = self.marts()
        with duckdb.connect(str(path), read_only=True) as con:
            for table in tables:
                assert [repr(r) for r in con.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()] == marts[table.partition(".")[2]], table

    def marts(self) -> dict[str, list[str]]:
        """Every row of every environment mart; repr of a float is exact, and tells -0.0 from 0.0."""
        with open_reader(self.settings) as con:
            names = con.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'marts_environment'"
            ).fetchall()
            return {n: [repr(r) for r in con.execute(f"SELECT * FROM lake.marts_environment.{n} ORDER BY ALL").fetchall()] for (n,) in names}


def befall(lake: Lake, rng: random.Random, moves: int) -> list[str]:
    """Things happen, and parts are built, in any order; ends with a whole build of what is left. Returns what it was."""
    comes = [lake.adjust, lake.approve, lake.late_and_corrected, lake.rejected, lake.limits, lake.facilities, lake.stations, lake.channels]
    builds = [lake.subset, lake.subset, lake.live, lake.beside, lake.build, lake.upkeep, lake.publish]
    done: list[str] = []
    # a changed register makes all days anew, and would hide what the builds after it forget: at most one
    changed = [rng.choice([c for c in comes if c.__name__ in REGISTERS]), *rng.sample([c for c in comes if c.__name__ not in REGISTERS], 4)]
    for come, build in zip(rng.sample(changed, len(changed))[:moves], rng.sample(builds, len(builds)), strict=False):
        lake.more()
        come()
        lake.take_in()
        build()
        done += [come.__name__, build.__name__]
    lake.build()
    return done


REGISTERS = {"limits", "facilities", "stations", "channels"}


def compare(lake: Lake, told: object) -> dict[str, list[str]]:
    """The marts, which are the same made anew."""
    incremental = lake.marts()
    lake.build(full=True)
    anew = lake.marts()
    assert sorted(incremental) == sorted(anew)
    for name, rows in anew.items():
        assert incremental[name] == rows, (name, told)
    return anew


SEEDS = [("sqlite", 0, 4), ("postgres", 1, 4), *(pytest.param(c, s, 5, marks=pytest.mark.long) for s in range(2, 8) for c in ("sqlite", "postgres"))]
"""Catalog, seed, and how many builds there are before all is compared."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("catalog", "seed", "moves"), SEEDS)
def test_any_order_of_subsets_and_increments_equals_a_build_anew(
    catalog: str, seed: int, moves: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", "")
        extra = {}
        if catalog == "postgres":
            server: Server = request.getfixturevalue("postgres")
            server.execute(f"CREATE DATABASE increments_{seed}")
            extra["TNMT_CATALOG"] = f"postgres:{server.dsn(f'increments_{seed}')}"
            patch.setenv("TNMT_CATALOG", "")
        lake = Lake(tmp_path / "home", rng, **extra)
        told = befall(lake, rng, moves)
        compare(lake, told)
        print(f"seed {seed} on {catalog}: {told}")


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
        anew = compare(lake, what)
        # two stations without facility, surface water or sample; what exceeds or is interrupted is drawn
        without = {"unregistered_channel", "wqi_daily", "emission_load_monthly", "station_obligation", "exceedance_episode", "interruption"}
        assert {n for n, rows in anew.items() if not rows} <= without
        with open_reader(lake.settings) as con:
            days = con.execute("SELECT count(DISTINCT day) FROM lake.marts_environment.reading_daily WHERE valid > 0").fetchall()[0][0]
        assert days > 60
