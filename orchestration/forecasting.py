"""`ets_forecast`, the SQL function behind the forecasts: exponential smoothing of statsmodels, called by dbt models.

dbt-duckdb registers it through `Plugin` (profiles.yml). Which series, which training window, backtest, choice and warning are SQL.
Source of the models and their variances: Hyndman, Koehler, Ord, Snyder, Forecasting with Exponential Smoothing (2008), table 6.1,
ETS(A,N,N) and ETS(A,N,A).
"""

from __future__ import annotations

import warnings
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

MOST_MISSING = 0.25
"""A history with a greater share of gaps is not forecast."""
LEAST_SEASONS, LEAST_VALUES = 4, 14
"""A seasonal history has at least so many seasons, one without season so many values."""


def ets_forecast(history: list[float | None], season: int, steps: int) -> list[dict[str, float | None]]:
    """Mean and standard deviation of the next `steps` values of a regular series, oldest first, None where one is missing.

    `season` is the length of a season in values, 1 for none. Gaps inside are filled along a straight line; leading ones are cut, and
    of trailing ones the forecast reaches over. Where the history is too short or too full of gaps, every mean is None. A function of
    its arguments: the same machine and versions give the same bits.
    """
    nothing: list[dict[str, float | None]] = [{"mean": None, "deviation": None}] * steps
    there = [i for i, value in enumerate(history) if value is not None]
    if not there:
        return nothing
    known = history[there[0] : there[-1] + 1]
    trailing = len(history) - 1 - there[-1]
    if len(known) < (LEAST_SEASONS * season if season > 1 else LEAST_VALUES) or 1 - len(there) / (len(known) + trailing) > MOST_MISSING:
        return nothing
    import numpy as np
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    at = np.arange(len(known))
    given = np.array([i - there[0] for i in there])
    series = np.interp(at, given, np.array([history[i] for i in there], dtype=np.float64))
    if np.ptp(series) == 0:
        return [{"mean": float(series[-1]), "deviation": 0.0}] * steps
    shape: dict[str, Any] = {"seasonal": "add", "seasonal_periods": season} if season > 1 else {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a fit that did not converge is judged by its backtest, as every other
        fit = ETSModel(series, error="add", initialization_method="heuristic", **shape).fit(disp=False)
        mean = np.asarray(fit.forecast(trailing + steps))[trailing:]
    ahead = np.arange(trailing, trailing + steps)
    alpha = float(fit.smoothing_level)
    growth = 1 + alpha**2 * ahead
    if season > 1:
        gamma = float(fit.smoothing_seasonal)
        growth = growth + gamma * (ahead // season) * (2 * alpha + gamma)
    deviation = np.sqrt(float(fit.scale) * growth)
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
        return nothing
    return [{"mean": float(m), "deviation": float(d)} for m, d in zip(mean, deviation, strict=True)]


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Makes `ets_forecast(history DOUBLE[], season INTEGER, steps INTEGER)` known to a database; returns a list of `steps` structs."""
    con.create_function(
        "ets_forecast",
        ets_forecast,
        ["DOUBLE[]", "INTEGER", "INTEGER"],
        'STRUCT("mean" DOUBLE, deviation DOUBLE)[]',
    )


class Plugin(BasePlugin):
    """What dbt-duckdb asks for when it opens its connection."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Registers the function."""
        register(conn)
