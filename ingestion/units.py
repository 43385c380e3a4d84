"""Conversion of units that contracts name (areas, lengths, money, concentrations): one tested table.

Units of telemetry are resolved per parameter by the seed `unit_alias`, since what a blank or `ppm` means
depends on the parameter; here are the conversions that hold for any quantity.
"""

from __future__ import annotations

from decimal import Decimal


class UnitError(ValueError):
    """Two units between which no conversion is known."""


# unit -> (dimension, factor to the dimension's base unit); exact by definition
_UNITS: dict[str, tuple[str, Decimal]] = {
    "m2": ("area", Decimal(1)),
    "ha": ("area", Decimal(10_000)),
    "km2": ("area", Decimal(1_000_000)),
    "m": ("length", Decimal(1)),
    "cm": ("length", Decimal("0.01")),
    "km": ("length", Decimal(1_000)),
    "vnd": ("money", Decimal(1)),
    "thousand_vnd": ("money", Decimal(1_000)),
    "million_vnd": ("money", Decimal(1_000_000)),
    "billion_vnd": ("money", Decimal(1_000_000_000)),
    "vnd_m2": ("price", Decimal(1)),
    "thousand_vnd_m2": ("price", Decimal(1_000)),
    "m3_day": ("flow", Decimal(1)),
    "m3_h": ("flow", Decimal(24)),
    "ug_m3": ("concentration", Decimal(1)),
    "mg_m3": ("concentration", Decimal(1_000)),
    "percent": ("share", Decimal("0.01")),
    "share": ("share", Decimal(1)),
}


def conversion(source: str, target: str) -> Decimal:
    """Factor by which a figure in `source` is multiplied to be in `target`; raises UnitError."""
    if source == target:
        return Decimal(1)
    for unit in (source, target):
        if unit not in _UNITS:
            raise UnitError(f"unit {unit!r} is not known; known are {', '.join(sorted(_UNITS))}")
    (dimension, factor), (other, base) = _UNITS[source], _UNITS[target]
    if dimension != other:
        raise UnitError(f"{source!r} is {dimension}, {target!r} is {other}: there is no conversion")
    return factor / base
