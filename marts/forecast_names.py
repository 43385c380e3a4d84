"""The methods of the forecasts by name, in the order of the columns of int_forecast."""

BASELINES = ("persistence", "seasonal_naive", "climatology", "mean")
"""Methods without anything learnt."""
LEARNT = ("recent_mean", "recent_climatology", "ets_level_slow", "ets_level_fast", "ets_season_slow", "ets_season_fast", "anomaly")
METHODS = (*BASELINES, *LEARNT, "combination")
