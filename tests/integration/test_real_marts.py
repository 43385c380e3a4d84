"""The marts of readings on real series, and on the sample, against `tests.readings_oracle`: pandas and integers, no SQL.

The readings themselves are held against their files in test_real_data.py and test_path.py; here they are where the oracle starts. Three years of
hourly PM2.5 of ten stations, and water and weather every 15 minutes, of which the registers expect two years and a month was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lake.lake import open_reader
from tests import readings_oracle as oracle
from tests.conftest import Platform
from tests.integration.real_kit import BC_ROWS, RealPlatform
from tests.marts_kit import dbt
from tests.tiny import AS_OF as SAMPLE_AS_OF
from tnmt.settings import Settings

AS_OF = pd.Timestamp("2014-01-02 07:10:00")
FLAGS = [
    f"flag_{t}"
    for t in (
        "status",
        "range",
        "spike",
        "rate_of_change",
        "flat_line",
        "repeated_record",
        "time_slip",
        "stuck_clock",
        "neighbours",
        "level",
        "dependence",
    )
]


@dataclass(frozen=True)
class Marts:
    """Readings and registers as pandas has them, and where the marts lie."""

    settings: Settings
    reading: pd.DataFrame
    channel: pd.DataFrame
    station: pd.DataFrame
    rejected: pd.DataFrame
    rejection: pd.DataFrame

    def table(self, name: str, columns: str = "*") -> pd.DataFrame:
        return frame(self.settings, f"SELECT {columns} FROM lake.marts_environment.{name}")


def frame(settings: Settings, statement: str) -> pd.DataFrame:
    with open_reader(settings) as con:
        return con.execute(statement).df()


def read(settings: Settings, as_of: pd.Timestamp) -> Marts:
    """What the oracle starts from; values as integers of millionths."""
    reading = frame(
        settings,
        "SELECT r.station_id, s.matrix, r.parameter, r.measured_at, r.span_minutes, (r.value_reported::DECIMAL(38, 6) * 1000000)::BIGINT AS value_reported, "
        "(r.value_valid::DECIMAL(38, 6) * 1000000)::BIGINT AS value_valid, r.status, r.reason, r.conflict, r._received_at "
        f"FROM lake.clean.reading AS r JOIN lake.clean.station AS s USING (station_id) WHERE r.measured_at <= TIMESTAMP '{as_of}'",
    )
    return Marts(
        settings,
        reading.astype({"value_reported": "Int64", "value_valid": "Int64"}),
        frame(settings, "SELECT station_id, parameter, cadence_minutes, valid_from, valid_to FROM lake.clean.station_channel"),
        frame(settings, "SELECT station_id, facility_id, matrix, lon, lat, in_use_from, in_use_to FROM lake.clean.station"),
        frame(
            settings,
            "SELECT DISTINCT s.station_id, d.as_of AS at FROM lake.quarantine.row AS q JOIN lake.ops.delivery AS d USING (delivery_id) "
            "JOIN lake.clean.station AS s ON contains(d.name, s.station_id) WHERE q.target = 'reading'",
        ),
        frame(settings, "SELECT station_id, parameter, applies_from, applies_to FROM lake.clean.adjustment WHERE action = 'reject'"),
    )


@pytest.fixture(scope="module")
def real(real_platform: RealPlatform, tmp_path_factory: pytest.TempPathFactory) -> Marts:
    home: Path = tmp_path_factory.mktemp("dbt")
    build = {"as_of": str(AS_OF), "qc_keep_from": 1}
    dbt(real_platform.settings, home, "seed", **build)
    dbt(real_platform.settings, home, "run", "--select", "+availability_daily", "+aqi_hourly", "+aqi_daily", **build)
    return read(real_platform.settings, AS_OF)


@pytest.fixture(scope="module")
def flagged(real: Marts) -> pd.DataFrame:
    return oracle.qc_flags(real.reading, _near(real.station))


def _near(station: pd.DataFrame) -> dict[str, list[str]]:
    """The eight nearest air stations within 30 km (docs/qc/neighbours.md)."""
    air = station[station.matrix == "ambient_air"].set_index("station_id")
    found = {}
    for one, here in air.iterrows():
        north, east = (air.lat - here.lat) * 111.2, (air.lon - here.lon) * 111.2 * np.cos(np.radians(here.lat))
        km = np.hypot(north, east).drop(one)
        found[one] = list(km[km <= 30].sort_values(kind="stable").index[:8])
    return found


# --- quality control ---------------------------------------------------------------------------------------------


def test_flags_of_real_series(real: Marts, flagged: pd.DataFrame) -> None:
    got = real.table("reading_qc").sort_values([*oracle.KEY, "measured_at"], ignore_index=True)
    assert len(got) == len(flagged) > BC_ROWS
    assert (got[[*oracle.KEY, "measured_at"]] == flagged[[*oracle.KEY, "measured_at"]]).all(axis=None)
    for flag in FLAGS:
        different = got[got[flag].to_numpy() != flagged[flag].to_numpy()]
        assert different.empty, f"{flag}\n{different.head()}\n{flagged.loc[different.index[:5], flag]}"
    assert set(got.flag_consistency) == {2}  # no station has both parameters of a pair
    pd.testing.assert_series_equal(got.flat_minutes.astype("Int64"), flagged.flat_minutes, check_names=False)
    flags = flagged[FLAGS]
    summary = np.select([flagged.value_reported.isna(), *((flags == f).any(axis=1) for f in (4, 3, 1))], [9, 4, 3, 1], 2)
    assert (got.qc_flag == summary).all()
    assert (got.is_withdrawn == (flagged.value_valid.notna() & (summary == 4))).all()
    # the series hold what the rules look for; no flag is compared that never was raised
    raised = {f: set(flagged[f]) for f in FLAGS}
    assert all({3} & raised[f] for f in ("flag_spike", "flag_rate_of_change", "flag_flat_line", "flag_time_slip")), raised
    assert 4 in raised["flag_flat_line"] and got.is_withdrawn.sum() > 0


# --- expected, received, missing ---------------------------------------------------------------------------------


def _slots(marts: Marts, withdrawn: pd.Series, as_of: pd.Timestamp) -> pd.DataFrame:
    """Slots of the readings; those that were withdrawn (why, else missing), or that people rejected, do not count."""
    refused = pd.Series(False, marts.reading.index)
    for d in marts.rejection.itertuples():
        mine = (marts.reading.station_id == d.station_id) & (marts.reading.parameter == d.parameter)
        refused |= mine & (marts.reading.measured_at > d.applies_from) & (marts.reading.measured_at <= d.applies_to)
    r = marts.reading.assign(
        is_valid=marts.reading.value_valid.notna() & withdrawn.isna() & ~refused,
        reason=marts.reading.reason.mask(marts.reading.value_valid.notna() & withdrawn.notna(), withdrawn).mask(refused, "rejected"),
    )
    # an empty cell is nothing that came
    r = r[r.value_reported.notna() | (r.status.fillna("").str.strip() != "") | (r.reason.fillna("value_missing") != "value_missing")]
    return oracle.slots_explained(r, marts.channel, marts.station, marts.rejected, as_of)


def _same(marts: Marts, slots: pd.DataFrame) -> pd.DataFrame:
    """The mart's counts are the oracle's for every station, parameter and day; returned are the oracle's."""
    wanted = oracle.availability(slots)
    got = marts.table("availability_daily").set_index([*oracle.KEY, "day"])
    due = got[got.expected > 0].sort_index()
    assert (got.loc[got.expected == 0, ["received", "missing", "valid"]] == 0).all(axis=None)
    assert due.index.equals(wanted.sort_index().index)
    for column in wanted.columns:
        different = due[due[column] != wanted.sort_index()[column]]
        assert different.empty, f"{column}\n{different[column].head()}\n{wanted.loc[different.index[:5], column]}"
    causes, kinds = [f"missing_{c}" for c in oracle.CAUSES], [f"invalid_{c}" for c in oracle.INVALID]
    assert (got.expected == got.received + got[causes].sum(axis=1)).all()
    assert (got.received == got.valid + got[kinds].sum(axis=1)).all()
    assert got.expected.sum() == len(slots)
    return wanted


@pytest.fixture(scope="module")
def slots(real: Marts, flagged: pd.DataFrame) -> pd.DataFrame:
    failed = flagged.value_valid.notna() & (flagged[FLAGS] == 4).any(axis=1)
    key = pd.MultiIndex.from_frame(flagged.loc[failed, [*oracle.KEY, "measured_at"]])
    is_withdrawn = pd.MultiIndex.from_frame(real.reading[[*oracle.KEY, "measured_at"]]).isin(key)
    return _slots(real, pd.Series(np.where(is_withdrawn, "quality", None), dtype=object), AS_OF)


def test_expected_is_received_and_missing_by_cause_on_real_series(real: Marts, slots: pd.DataFrame) -> None:
    counts = _same(real, slots).sum()
    assert (
        min(counts[c] for c in ("valid", "invalid_calibrating", "invalid_device_error", "invalid_quality", "missing_station", "missing_not_due")) > 0
    )


def test_expected_is_received_and_missing_by_cause_on_the_sample(platform: Platform) -> None:
    as_of = pd.Timestamp(SAMPLE_AS_OF)
    marts = read(platform.settings, as_of)
    gone = marts.table("reading_qc", "station_id, parameter, measured_at, withdrawn_reason").dropna(subset="withdrawn_reason")
    withdrawn = marts.reading[[*oracle.KEY, "measured_at"]].merge(gone, how="left", on=[*oracle.KEY, "measured_at"]).withdrawn_reason
    counts = _same(marts, _slots(marts, withdrawn, as_of)).sum()
    assert min(counts[c] for c in ("valid", "invalid_calibrating", "invalid_device_error", "invalid_rejected", "missing_channel")) > 0


# --- VN_AQI ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hours(real: Marts, slots: pd.DataFrame, flagged: pd.DataFrame) -> pd.DataFrame:
    """Due hours of PM2.5 with their value in millionths, missing where it does not count."""
    pm = flagged[(flagged.parameter == "PM2.5") & flagged.value_valid.notna() & ~(flagged[FLAGS] == 4).any(axis=1)]
    value = pm.assign(slot=pm.measured_at.dt.ceil("h"))[["station_id", "slot", "value_valid"]]
    assert not value.duplicated(["station_id", "slot"]).any()
    return slots[slots.parameter == "PM2.5"].merge(value, how="left", on=["station_id", "slot"])


def test_nowcast_and_index_of_every_hour(real: Marts, hours: pd.DataFrame) -> None:
    got = real.table("aqi_hourly").set_index(["station_id", "hour_end"]).sort_index()
    assert hours.value_valid.notna().sum() > 200_000
    halves = 0
    for station, rows in hours.groupby("station_id"):
        value = (rows.set_index("slot").value_valid.astype(float) / oracle.MICRO).clip(lower=0)
        now = oracle.nowcast(value.reindex(pd.date_range(value.index.min(), value.index.max(), freq="h"))).reindex(value.index)
        mart = got.loc[station].loc[lambda m: m.index <= AS_OF]
        assert mart.index.equals(now.index)
        np.testing.assert_allclose(mart.nowcast_pm2_5.to_numpy(float), now.concentration.to_numpy(), atol=1e-6, rtol=0, equal_nan=True)
        assert (mart.nowcast_hours_pm2_5.fillna(0) == now.hours).all()
        wanted = oracle.particle_index("PM2.5", now.concentration)
        assert mart.aqi_pm2_5.isna().equals(wanted.isna()) and (mart.aqi_pm2_5.fillna(-1) == wanted.fillna(-1)).all(), station
        assert (mart.aqi.fillna(-1) == wanted.fillna(-1)).all()
        halves += int(((now.w == 0.5) & now.concentration.notna()).sum())
    assert halves > 10_000  # the branch w = 1/2 is no rarity
    assert got.nowcast_pm2_5.isna().any() and (got.nowcast_hours_pm2_5 < 12).any()  # and there are gaps


def test_index_of_every_day(real: Marts, hours: pd.DataFrame) -> None:
    got = real.table("aqi_daily").set_index(["station_id", "day"]).sort_index()
    day = hours.groupby(["station_id", "day"]).value_valid.agg(["size", "count", "sum"])
    day = day[day.index.get_level_values("day") + pd.Timedelta(days=1) <= AS_OF]
    mean = (day["sum"].astype(float) / oracle.MICRO / day["count"].astype(float)).clip(lower=0).where(day["count"] * 4 >= day["size"] * 3)
    wanted = oracle.particle_index("PM2.5", mean)
    mart = got.reindex(day.index)
    assert len(got) == len(day) > 8_000 and mart.aqi.isna().any()
    np.testing.assert_allclose(mart.mean_pm2_5.to_numpy(float), mean.to_numpy(), atol=1e-6, rtol=0, equal_nan=True)
    assert (mart.aqi.astype("Int64").fillna(-1) == wanted.fillna(-1)).all()
