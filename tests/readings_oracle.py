"""Readings judged, counted and averaged a second time: with pandas and integers, from the rules as the documents state them, without any SQL.

Values are integers of millionths, so that no comparison rounds. Times are GMT+7 without zone.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import numpy as np
import pandas as pd

from tests.marts_kit import seed_rows

MICRO = 1_000_000
LATE = pd.Timedelta(minutes=15)
GAP_SECONDS = 180 * 60
CAUSES = ["not_due", "receiver", "rejected", "facility", "station", "calibration", "channel"]
INVALID = ["rejected", "calibrating", "device_error", "out_of_range", "quality", "unreadable"]
STATES = ["valid", *(f"invalid_{c}" for c in INVALID), *(f"missing_{c}" for c in CAUSES)]
"""What becomes of a slot, under the names of the mart."""
REASON = {"status_calibrating": "calibrating", "status_device_error": "device_error", "out_of_range": "out_of_range"}
KEY = ["station_id", "parameter"]


def millionths(values: Iterable[Decimal | None]) -> pd.array:
    """Nullable integers of 10⁻⁶."""
    return pd.array([None if v is None else int(v * MICRO) for v in values], dtype="Int64")


def environment_day(stamp: pd.Series) -> pd.Series:
    """The day (00:00, 24:00] of a stamp that ends its span."""
    return (stamp - pd.Timedelta(microseconds=1)).dt.normalize()


# --- quality control (docs/qc) -----------------------------------------------------------------------------------


def _bound(keys: pd.MultiIndex, test: str, name: str) -> pd.Series:
    """The seed's bound of each (matrix, parameter), in millionths of its unit."""
    found = {(r["matrix"], r["parameter"]): int(Decimal(r[name]) * MICRO) for r in seed_rows("qc_threshold") if r["test"] == test and r[name]}
    return pd.Series(pd.array([found.get(k) for k in keys], dtype="Int64"))


def qc_flags(reading: pd.DataFrame, near: dict[str, list[str]]) -> pd.DataFrame:
    """Flags of every reading but those of `consistency`, for whole series without ranges or thresholds of their own.

    `reading`: station_id, matrix, parameter, measured_at, span_minutes, value_reported and value_valid (millionths), status, reason, conflict,
    _received_at. `near`: the stations that judge a station. Returns the same rows, ordered by key and time, with flag_… and flat_minutes.
    """
    r = reading.sort_values([*KEY, "measured_at"], ignore_index=True)
    keys = pd.MultiIndex.from_frame(r[["matrix", "parameter"]])
    seconds = (r.measured_at - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    given, valid = r.value_reported.notna(), r.value_valid.notna()
    r["flag_status"] = np.select([~given, r.status.isna(), r.status == "00", r.status.isin(["01", "02"])], [9, 2, 1, 4], 3)

    def beyond(test: str, kind: str) -> pd.Series:
        low, high = _bound(keys, test, f"{kind}_min"), _bound(keys, test, f"{kind}_max")
        return (r.value_reported < low).fillna(False) | (r.value_reported > high).fillna(False)

    bounded = _bound(keys, "range", "fail_min").notna() | _bound(keys, "range", "fail_max").notna()
    r["flag_range"] = np.select(
        [~given, (r.reason == "out_of_range") | beyond("range", "fail"), beyond("range", "suspect"), ~bounded], [9, 4, 3, 2], 1
    )

    v = r[valid].copy()
    v["at"] = seconds[valid]
    by = v.groupby(KEY, sort=False)
    before, after = (v["at"] - by["at"].shift(1)) <= GAP_SECONDS, (by["at"].shift(-1) - v["at"]) <= GAP_SECONDS
    previous, following = by.value_valid.shift(1), by.value_valid.shift(-1)

    def judged(quantity: pd.Series, suspect: pd.Series, fail: pd.Series, there: pd.Series) -> pd.Series:
        flag = pd.Series(1, index=v.index).mask((quantity > suspect).fillna(False), 3).mask((quantity > fail).fillna(False), 4)
        return flag.where(there & (suspect.notna() | fail.notna()), 2)

    def of(test: str, name: str) -> pd.Series:
        return _bound(keys, test, name)[valid.to_numpy()]

    spike = (2 * v.value_valid - previous - following).abs()
    rate = (v.value_valid - previous).abs() * 3600
    elapsed = (v["at"] - by["at"].shift(1)).astype("Int64")
    r["flag_spike"] = judged(spike, 2 * of("spike", "suspect_max"), 2 * of("spike", "fail_max"), before & after).reindex(r.index, fill_value=2)
    r["flag_rate_of_change"] = judged(
        rate, of("rate_of_change", "suspect_max") * elapsed, of("rate_of_change", "fail_max") * elapsed, before
    ).reindex(r.index, fill_value=2)

    changed = ~(before & (previous == v.value_valid).fillna(False))
    since = v["at"].where(changed).groupby([v[c] for c in KEY], sort=False).ffill()
    v["flat"] = (v["at"] // 60 - since.astype("int64") // 60).astype("Int64").clip(upper=1440 - GAP_SECONDS // 60)
    suspect, fail, natural = (of("flat_line", n) for n in ("suspect_max", "fail_max", "suspect_min"))
    flat = pd.Series(1, index=v.index).mask((v.flat * MICRO >= suspect).fillna(False), 3).mask((v.flat * MICRO >= fail).fillna(False), 4)
    flat = flat.where((suspect.notna() | fail.notna()) & ~(v.value_valid <= natural).fillna(False), 2)
    r["flag_flat_line"] = flat.reindex(r.index, fill_value=2)
    r["flat_minutes"] = v.flat.reindex(r.index)

    record = v.groupby(["station_id", "measured_at"]).flat.agg(["size", "min"])
    shared = record[record["size"] >= 3]["min"].reindex(pd.MultiIndex.from_frame(v[["station_id", "measured_at"]])).set_axis(v.index)
    bound = of("repeated_record", "suspect_max")
    r["flag_repeated_record"] = (
        pd.Series(1, index=v.index).mask((shared * MICRO >= bound).fillna(False), 3).where(shared.notna() & bound.notna(), 2)
    ).reindex(r.index, fill_value=2)

    ahead = (r.measured_at - r._received_at) // pd.Timedelta(seconds=1)
    slip = (seconds % 86400 % (r.span_minutes * 60) != 0) | (ahead * MICRO > _bound(keys, "time_slip", "suspect_max") * 60).fillna(False)
    r["flag_time_slip"] = np.where(slip, 3, 1)
    r["flag_stuck_clock"] = np.where(r.conflict, 3, 1)

    r["flag_level"] = 2
    worst = pd.concat([r.flag_range, r.flag_flat_line], axis=1).replace(2, 0).max(axis=1)[given]
    at = dict(zip(zip(r.station_id[given], r.parameter[given], r.measured_at[given], strict=True), worst, strict=True))
    needs: dict[tuple[str, str], list[str]] = {}
    for row in seed_rows("qc_dependence"):
        needs.setdefault((row["matrix"], row["parameter"]), []).append(row["depends_on"])
    others = [
        max((at.get((s, p, t), 0) for p in needs.get((m, own), ())), default=0)
        for s, m, own, t in zip(r.station_id, r.matrix, r.parameter, r.measured_at, strict=True)
    ]
    r["flag_dependence"] = np.select([~given | (np.array(others) == 0), np.array(others) >= 3], [2, 3], 1)

    r["flag_neighbours"] = 2
    bound = _bound(keys, "neighbours", "suspect_max")
    air = r[(r.matrix == "ambient_air") & valid & bound.notna()]
    for _, rows in air.groupby("parameter"):
        wide = rows.pivot(index="measured_at", columns="station_id", values="value_valid").astype(float)
        for station, others in near.items():
            there = wide.reindex(columns=others)
            mine = rows[rows.station_id == station]
            middle = there.median(axis=1).where(there.notna().sum(axis=1) >= 2).reindex(mine.measured_at).set_axis(mine.index)
            apart = (mine.value_valid.astype(float) - middle).abs()
            r.loc[mine.index[middle.notna()], "flag_neighbours"] = 1
            r.loc[mine.index[(apart > bound[mine.index].astype(float)).to_numpy()], "flag_neighbours"] = 3
    return r


# --- slots (docs/availability.md) --------------------------------------------------------------------------------


def _periods(channel: pd.DataFrame, station: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """When each channel is due: (due_from, due_to], with its cadence."""
    p = channel[channel.cadence_minutes > 0].sort_values([*KEY, "valid_from"]).merge(station, on="station_id")
    ends = pd.DataFrame(
        {
            "register": p.valid_to,
            "next": p.groupby(KEY).valid_from.shift(-1),
            "station": p.in_use_to + pd.Timedelta(days=1),
            "build": as_of,
        }
    )
    p["due_from"], p["due_to"] = p[["valid_from", "in_use_from"]].max(axis=1), ends.min(axis=1)
    return p[p.due_from < p.due_to]


def _silent(s: pd.DataFrame) -> pd.DataFrame:
    """A row for each slot that a station owed: station_id, facility_id, hour, slot, got, silent. `s`: the slots of its channels, with `there`."""
    got = s.groupby(["station_id", "slot"]).there.transform("any")
    channel_hour = [s.station_id, s.parameter, s.hour]
    # a channel that is missing also while another of its station comes is silent of itself
    of_itself = (~s.there & got).groupby(channel_hour).transform("any")
    return (
        s.assign(got=got, silent=~s.there & ~of_itself)
        .groupby(["station_id", "facility_id", "hour", "slot"], dropna=False, as_index=False)[["got", "silent"]]
        .any()
    )


def _shared(silent: pd.DataFrame, by: str, least: int) -> pd.MultiIndex:
    """(station_id, slot) of silence that at least so many stations of a group share, none of them silent of itself (docs/availability.md)."""
    g = silent[silent[by].notna()].copy()
    g["through"] = g.groupby([by, "slot"]).got.transform("any")
    moments = g.loc[g.silent & ~g.through, [by, "hour", "slot"]].drop_duplicates()
    quiet = g.loc[g.silent, ["station_id", by, "hour"]].drop_duplicates()
    pairs = quiet.merge(moments, on=[by, "hour"]).sort_values("slot", ignore_index=True)
    owed = g.sort_values("slot").rename(columns={"silent": "was"})[["station_id", "hour", "slot", "was", "through"]]

    def beside(rows: pd.DataFrame, direction: str, exact: bool) -> pd.Series:
        """Whether the nearest of these slots found the station silent; missing where there is none."""
        found = pd.merge_asof(
            pairs, rows[["station_id", "hour", "slot", "was"]], on="slot", by=["station_id", "hour"], direction=direction, allow_exact_matches=exact
        )
        return found.was.astype("boolean")

    met = owed[owed.through]
    before, after = beside(met, "backward", False), beside(met, "forward", False)
    alone = (before.notna() | after.notna()) & before.fillna(True) & after.fillna(True)
    counted = pairs[(beside(owed, "forward", True).fillna(False) & ~alone).astype(bool)]
    counted = counted[counted.groupby([by, "slot"]).station_id.transform("nunique") >= least]
    own = pd.MultiIndex.from_frame(silent.loc[silent.silent, ["station_id", "slot"]])
    told = pd.MultiIndex.from_frame(counted[["station_id", "slot"]])
    return told[told.isin(own)]


def slots_explained(reading: pd.DataFrame, channel: pd.DataFrame, station: pd.DataFrame, rejected: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Every due slot: station_id, parameter, slot (its end), day, hour, state (one of STATES).

    `reading`: station_id, parameter, measured_at, is_valid, reason (of what is not valid; 'quality' where quality control withdrew it).
    `rejected`: station_id, at (time in the name of a file with rows in quarantine).
    """
    periods = _periods(channel, station, as_of)
    due, sent = [], []
    by_series = dict(list(reading.groupby(KEY)))
    for p in periods.itertuples():
        days = np.arange(p.due_from.to_datetime64().astype("datetime64[D]"), p.due_to.to_datetime64().astype("datetime64[D]") + 1)
        minutes = np.arange(p.cadence_minutes, 1441, p.cadence_minutes).astype("timedelta64[m]")
        ends = pd.Series((days[:, None].astype("datetime64[us]") + minutes).ravel())
        ends = ends[(ends > p.due_from) & (ends <= p.due_to)]
        due.append(pd.DataFrame({"station_id": p.station_id, "parameter": p.parameter, "slot": ends}))
        mine = by_series.get((p.station_id, p.parameter))
        if mine is None:
            continue
        mine = mine[(mine.measured_at > p.due_from) & (mine.measured_at <= p.due_to)]
        day = environment_day(mine.measured_at)
        span = pd.Timedelta(minutes=p.cadence_minutes)
        sent.append(mine.assign(slot=day + -(-(mine.measured_at - day) // span) * span))
    s = pd.concat(due, ignore_index=True).astype({"slot": "datetime64[us]"})
    got = pd.concat(sent, ignore_index=True).astype({"slot": "datetime64[us]"})
    got["rank"] = np.select(
        [got.is_valid, *(got.reason.map(REASON).fillna(got.reason) == c for c in INVALID[:-1])], range(len(INVALID)), len(INVALID)
    )
    best = got.groupby([*KEY, "slot"])["rank"].min()
    # a slot that calibrates says so for the whole station, also beside a valid value
    calibrating = got[got.reason == "status_calibrating"][["station_id", "slot"]].drop_duplicates().assign(calibrates=True)
    s = s.merge(best.rename("rank").reset_index(), how="left", on=[*KEY, "slot"])
    s["day"] = environment_day(s.slot)
    s["hour"] = s.slot.dt.ceil("h")
    s = s.merge(station[["station_id", "facility_id"]], on="station_id").merge(calibrating, how="left", on=["station_id", "slot"])
    there = s["rank"].notna()
    silent = _silent(s.assign(there=there))
    receiver, facility = _shared(silent.assign(everywhere=1), "everywhere", 3), _shared(silent, "facility_id", 2)
    at_station = pd.MultiIndex.from_frame(s[["station_id", "slot"]])
    refused = {(r.station_id, r.at.ceil("min") - pd.Timedelta(minutes=m)) for r in rejected.itertuples() for m in range(5)}
    was_refused = at_station.isin(refused) if refused else np.zeros(len(s), bool)
    s["state"] = np.select(
        [
            s["rank"] == 0,
            *(s["rank"] == n + 1 for n in range(len(INVALID))),
            s.slot > as_of - LATE,
            at_station.isin(receiver),
            was_refused,
            at_station.isin(facility),
            at_station.isin(pd.MultiIndex.from_frame(silent.loc[silent.silent, ["station_id", "slot"]])),
            s.calibrates.notna(),
        ],
        STATES[:-1],
        STATES[-1],
    )
    return s


def availability(slots: pd.DataFrame) -> pd.DataFrame:
    """Counts a station, parameter and day, under the names of the mart."""
    named = slots.groupby([*KEY, "day", "state"]).size().unstack(fill_value=0).reindex(columns=STATES, fill_value=0)
    received = slots.state.isin(STATES[: len(INVALID) + 1])
    hours = received.groupby([slots[c] for c in (*KEY, "day", "hour")]).agg(["size", "sum"])
    delivered = (hours["sum"] * 4 >= hours["size"] * 3).groupby(level=[*KEY, "day"]).agg(["size", "sum"])
    named["hourly_values_due"], named["hourly_values_delivered"] = delivered["size"], delivered["sum"]
    return named.astype("int64")


# --- VN_AQI of particles (QĐ 1459, mục 2.2.2 and 2.3) ------------------------------------------------------------


def nowcast(hours: pd.Series) -> pd.DataFrame:
    """NowCast of a series with one row for every hour, NaN where none counts: concentration (NaN where none) and how many hours were there."""
    c = np.column_stack([hours.shift(i).to_numpy(float) for i in range(12)])
    there = ~np.isnan(c)
    least, most = np.where(there, c, np.inf).min(axis=1), np.where(there, c, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        w = np.where(most > 0, np.maximum(0.5, least / most), 1.0)
        weight = np.where(there, w[:, None] ** np.arange(12), 0)
        value = (weight * np.nan_to_num(c)).sum(axis=1) / weight.sum(axis=1) * np.where(w > 0.5, 1, 1 - 0.5**12)
    enough = there[:, :3].sum(axis=1) >= 2
    return pd.DataFrame(
        {"concentration": np.where(enough, value, np.nan), "hours": np.where(enough, there.sum(axis=1), 0), "w": w}, index=hours.index
    )


def particle_index(parameter: str, concentration: pd.Series) -> pd.Series:
    """Sub-index in integers: concentration rounded to 10⁻⁶, index half up; missing where the concentration is."""
    steps = [
        (int(Decimal(r["breakpoint"]) * MICRO), int(r["aqi"]))
        for r in seed_rows("vn_aqi_breakpoint")
        if (r["parameter"], r["averaging"]) == (parameter, "nowcast|24h")
    ]
    bound, index = np.array([b for b, _ in sorted(steps)]), np.array([i for _, i in sorted(steps)])
    c = (concentration.fillna(0) * MICRO).round().astype("int64").to_numpy()
    i = np.clip(np.searchsorted(bound, c, side="left") - 1, 0, len(bound) - 2)
    rise, run = index[i + 1] - index[i], bound[i + 1] - bound[i]
    found = np.where(c > bound[-1], 500, (2 * (np.minimum(c, bound[-1]) - bound[i]) * rise + (2 * index[i] + 1) * run) // (2 * run))
    return pd.Series(found, index=concentration.index).astype("Int64").where(concentration.notna())
