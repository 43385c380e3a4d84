"""`forecasts`, the SQL function behind the forecasts: simple methods, exponential smoothing, and their combination, from many origins at once.

dbt-duckdb registers it through `Plugin` (profiles.yml); what it computes with is loaded where it is called (`marts/forecast_methods.py`).
Which series, which origins, backtest, choice, interval and warning are SQL.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from duckdb.func import ARROW

from marts.forecast_names import METHODS

BLOCK = 6_000_000
"""Products of pairs of methods that are held at once: bounds the memory to some 100 MB, whatever the number of series."""
DUCKDB_FORECASTS = f"STRUCT(origin_number INTEGER, step INTEGER, {', '.join(f'{method} DOUBLE' for method in METHODS)})[]"


def forecasts(series: Any, season: Any, steps: Any, length: Any, stride: Any, patience: Any, least: Any) -> Any:
    """`paths` of a column of series: one list of (origin_number, step, what each method says) a series; number 0 is the end of the series.

    Series of one shape are computed together, in blocks; what is said of one does not depend on the others.
    """
    import numpy as np
    import pyarrow as pa

    from marts.forecast_methods import paths

    kind = pa.struct([("origin_number", pa.int32()), ("step", pa.int32()), *((method, pa.float64()) for method in METHODS)])
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    columns = (season, steps, length, stride, patience, least)
    lists = series.combine_chunks() if isinstance(series, pa.ChunkedArray) else series
    for at, arguments in enumerate(zip(*(column.to_pylist() for column in columns), strict=True)):
        shapes[(len(lists[at]), *arguments)].append(at)
    parts: dict[int, Any] = {}
    for (times, *shape), rows in shapes.items():
        if not times:
            parts |= dict.fromkeys(rows, pa.array([], kind))
            continue
        cells = -(-times // shape[3]) * shape[1]
        block = max(1, BLOCK // max(cells * len(METHODS) ** 2, 1))
        for first in range(0, len(rows), block):
            some = rows[first : first + block]
            values = np.array([lists[at].values.to_numpy(zero_copy_only=False) for at in some], dtype=np.float64).reshape(len(some), times)
            found = paths(values, *shape)
            _, origins, ahead = found["climatology"].shape
            number = np.repeat(np.arange(origins - 1, -1, -1, dtype=np.int32), ahead)
            step = np.tile(np.arange(1, ahead + 1, dtype=np.int32), origins)
            for at, where in enumerate(some):
                arrays = [pa.array(found[m][at].ravel(), from_pandas=True) for m in METHODS]
                parts[where] = pa.StructArray.from_arrays([pa.array(number), pa.array(step), *arrays], fields=list(kind))
    counts = [len(parts[at]) for at in range(len(parts))]
    whole = pa.concat_arrays([parts[at] for at in range(len(parts))]) if parts else pa.array([], kind)
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32()), whole)


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Makes `forecasts(series DOUBLE[], season, steps, length, stride, patience, least)` known to a database."""
    arguments: Any = ["DOUBLE[]", *["INTEGER"] * 6]
    con.create_function("forecasts", forecasts, arguments, DUCKDB_FORECASTS, type=ARROW)


class Plugin(BasePlugin):
    """What dbt-duckdb asks for when it opens its connection."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Registers the function."""
        register(conn)
