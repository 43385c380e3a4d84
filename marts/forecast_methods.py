"""What each method of the forecasts says, from many origins of many series at once, on numpy alone.

Sources: Hyndman, Koehler, Ord, Snyder, Forecasting with Exponential Smoothing (2008), chapter 2, for the smoothing recursions; Bates and
Granger, The combination of forecasts (1969), and Breiman, Stacked regressions (1996), for weights that are not negative. Sums run in a
fixed order, element by element and without BLAS: neither threads nor neighbours in an array change a bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from marts.forecast_names import METHODS

Array = npt.NDArray[np.float64]

MOST_MISSING = 0.25
"""With a greater share of gaps between the first value of a window and its end, there are baselines only."""
FADING = 0.7
"""Weight of a season against the one after it, in the mean that prefers recent seasons."""
SLOW, FAST = 0.1, 0.4
"""Smoothing parameters alpha of the level. The backtest chooses, and the combination weighs, between them."""
SHRINKAGE = 10
"""So many pairs of a typical size tie the weights to the plain mean of all methods (ridge)."""
ROUNDS = 40
"""Sweeps of the coordinate descent. Fixed, so that a series' result hangs on nothing else."""
DECIMALS = 6


def phase_mean(windows: Array, season: int, fading: float = 1.0) -> Array:
    """Mean of each phase of the season, windows x season, NaN where a phase has no value. The newest value is of the last phase."""
    folded = windows.reshape(len(windows), -1, season)
    total, weight = np.zeros((len(windows), season)), np.zeros((len(windows), season))
    for ago in range(folded.shape[1]):
        value = folded[:, -1 - ago]
        known = ~np.isnan(value)
        total += np.where(known, value, 0) * fading**ago
        weight += known * fading**ago
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)


def newest(windows: Array) -> Array:
    """The last value of each window that is there, NaN where none is."""
    found = np.full(len(windows), np.nan)
    for at in range(windows.shape[1]):
        found = np.where(np.isnan(windows[:, at]), found, windows[:, at])
    return found


def level(windows: Array, alpha: float) -> Array:
    """Level of ETS(A,N,N) at the end of each window, started at its first value; a gap leaves the level as it is."""
    state = np.full(len(windows), np.nan)
    for at in range(windows.shape[1]):
        value = windows[:, at]
        moved = np.where(np.isnan(state), value, state + alpha * (value - state))
        state = np.where(np.isnan(value), state, moved)
    return state


def each_method(windows: Array, season: int, steps: int, patience: int, least: int) -> dict[str, Array]:
    """What each method but the combination says of the next `steps` values, windows x steps, NaN where it says nothing.

    `windows` holds a history in each row, oldest first, whole seasons long. `patience`: a last value older than so many steps stands for
    nothing. With fewer than `least` values, or too many gaps, there are baselines only. ETS with a season is ETS(A,N,A) with gamma = 0 on
    the phases' means: its level is that of the series without them; with alpha = 1 (`anomaly`) the last departure from them stays.
    """
    phases = np.arange(steps) % season
    there = ~np.isnan(windows)
    count = there.sum(axis=1)
    flat = phase_mean(windows, 1)[:, 0]
    known = phase_mean(windows, season)
    pattern = np.where(np.isnan(known), flat[:, None], known)
    folded = windows.reshape(len(windows), -1, season)
    same_phase = np.full((len(windows), season), np.nan)
    for ago in range(folded.shape[1]):
        same_phase = np.where(np.isnan(same_phase), folded[:, -1 - ago], same_phase)
    departure = windows - np.tile(pattern, (1, windows.shape[1] // season))

    def constant(value: Array) -> Array:
        return np.repeat(value[:, None], steps, axis=1)

    since = windows.shape[1] - np.argmax(there, axis=1)
    enough = ((count >= least) & (count >= (1 - MOST_MISSING) * since))[:, None]
    recent = phase_mean(windows, season, FADING)
    learnt = {
        "recent_mean": constant(phase_mean(windows[:, -season:], 1)[:, 0]),
        "recent_climatology": np.where(np.isnan(recent), flat[:, None], recent)[:, phases],
        "ets_level_slow": constant(level(windows, SLOW)),
        "ets_level_fast": constant(level(windows, FAST)),
        "ets_season_slow": pattern[:, phases] + constant(level(departure, SLOW)),
        "ets_season_fast": pattern[:, phases] + constant(level(departure, FAST)),
        "anomaly": pattern[:, phases] + constant(newest(departure)),
    }
    return {
        "persistence": constant(newest(windows[:, -patience:])),
        "seasonal_naive": same_phase[:, phases],
        "climatology": pattern[:, phases],
        "mean": constant(flat),
    } | {name: np.where(enough, value, np.nan) for name, value in learnt.items()}


def weights(products: Array, targets: Array, pairs: Array) -> Array:
    """Weights of the departures of the methods from the climatology, methods x cells, none negative, their sum at most 1.

    `products` is methods x methods x cells and `targets` methods x cells: sums over the `pairs` that a cell may learn from. Least squares,
    tied to the plain mean of all methods, which is what comes out without pairs. By coordinate descent, element by element: no BLAS, so
    that neither threads nor neighbours in an array matter.
    """
    count = len(targets)
    prior = 1 / (count + 1)
    trace = np.zeros_like(targets[0])
    for i in range(count):
        trace += products[i, i]
    tie = SHRINKAGE * trace / count / np.maximum(pairs, 1)
    tie = np.where(tie > 0, tie, 1.0)
    found = np.full_like(targets, prior)
    for _ in range(ROUNDS):
        for i in range(count):
            rest = targets[i] + tie * prior
            for j in range(count):
                if j != i:
                    rest = rest - products[i, j] * found[j]
            found[i] = np.maximum(rest / (products[i, i] + tie), 0)
    total = np.zeros_like(trace)
    for i in range(count):
        total += found[i]
    shared: Array = found / np.maximum(total, 1)
    return shared


def combined(methods: dict[str, Array], observed: Array, gap: int) -> Array:
    """The combination, series x origins x steps: weights of each origin and step from the origins whose steps were all over by then.

    `methods` and `observed` are series x origins x steps, origins from the oldest; an origin learns from those at least `gap` before it.
    Far steps learn from their neighbours too: steps 7 to 12 from one to each side, 13 to 18 from two, and so on.
    """
    base = methods["climatology"]
    names = [name for name in METHODS if name in methods and name != "climatology"]
    departures = [methods[name] - base for name in names]
    wanted = observed - base
    usable = ~np.isnan(wanted)
    for departure in departures:
        usable &= ~np.isnan(departure)
    inputs = [np.where(usable, departure, 0) for departure in departures]
    wanted = np.where(usable, wanted, 0)

    def learnt(product: Array) -> Array:
        past = np.zeros_like(product)
        past[:, gap:] = np.cumsum(product, axis=1)[:, : max(product.shape[1] - gap, 0)]
        pooled = np.empty_like(past)
        for step in range(past.shape[2]):
            reach = step // 6
            pooled[:, :, step] = past[:, :, step]
            for near in [n for n in range(step - reach, step + reach + 1) if n != step and 0 <= n < past.shape[2]]:
                pooled[:, :, step] += past[:, :, near]
        return pooled.ravel()

    size = len(names)
    products, targets = np.empty((size, size, base.size)), np.empty((size, base.size))
    for i in range(size):
        targets[i] = learnt(inputs[i] * wanted)
        for j in range(i, size):
            products[i, j] = products[j, i] = learnt(inputs[i] * inputs[j])
    found = weights(products, targets, learnt(usable.astype(np.float64))).reshape(size, *base.shape)
    result = base.copy()
    for weight, departure in zip(found, departures, strict=True):
        result = result + weight * departure
    return result


def paths(series: Array, season: int, steps: int, length: int, stride: int, patience: int, least: int) -> dict[str, Array]:
    """What every method says from every origin, series x origins x steps, origins from the oldest, the last one the end of the series.

    `series` is series x times, regular, oldest first, NaN where a value is missing; `length` is the history of one origin in values,
    `stride` lies between origins, whose histories all lie in the series. An origin sees nothing after it: neither in its history nor in the weights of its combination.
    """
    times = series.shape[1]
    ends = np.arange(times, min(times, length) - 1, -stride)[::-1]
    padded = np.concatenate([np.full((len(series), length), np.nan), series, np.full((len(series), steps), np.nan)], axis=1)
    windows = np.stack([padded[:, end : end + length] for end in ends], axis=1)
    observed = np.stack([padded[:, length + end : length + end + steps] for end in ends], axis=1)
    shape = (len(series), len(ends), steps)
    found = {n: v.reshape(shape) for n, v in each_method(windows.reshape(-1, length), season, steps, patience, least).items()}
    found["combination"] = combined(found, observed, -(-steps // stride))
    return {name: np.round(value, DECIMALS) + 0.0 for name, value in found.items()}
