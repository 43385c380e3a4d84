"""Whether two tables hold the same rows: everything equal, DOUBLE within 1e-9 relative, geometry by area and equality."""

from __future__ import annotations

import duckdb

TOLERANCE = 1e-9


def difference(con: duckdb.DuckDBPyConnection, left: str, right: str) -> str | None:
    """What differs between two tables or subqueries of `con`, with the first rows of it; None where they are the same.

    Rows are paired in the order of all columns that are compared exactly, then of the rounded ones.
    """
    columns = [{r[0]: r[1] for r in con.execute(f"DESCRIBE SELECT * FROM {side}").fetchall()} for side in (left, right)]
    if list(columns[0].items()) != list(columns[1].items()):
        return f"columns differ: {sorted(set(columns[0].items()) ^ set(columns[1].items()))}"
    counts = [con.execute(f"SELECT count(*) FROM {side}").fetchall()[0][0] for side in (left, right)]
    if counts[0] != counts[1]:
        return f"{counts[0]} rows on the left, {counts[1]} on the right"
    floats = [c for c, kind in columns[0].items() if kind in ("DOUBLE", "FLOAT")]
    shapes = [c for c, kind in columns[0].items() if kind.startswith("GEOMETRY")]
    exact = [c for c in columns[0] if c not in floats and c not in shapes]
    order = ", ".join([f'"{c}"' for c in exact] + [f'round("{c}", 6)' for c in floats] + [f'round(ST_Area("{c}"), 3)' for c in shapes]) or "1"
    unequal = [f'_l."{c}" IS DISTINCT FROM _r."{c}"' for c in exact]
    unequal += [
        f'(_l."{c}" IS NULL) <> (_r."{c}" IS NULL) OR '
        f'NOT coalesce(_l."{c}" = _r."{c}" OR abs(_l."{c}" - _r."{c}") <= {TOLERANCE} * greatest(abs(_l."{c}"), abs(_r."{c}")), true)'
        for c in floats
    ]
    unequal += [f'NOT coalesce(ST_Equals(_l."{c}", _r."{c}"), _l."{c}" IS NULL AND _r."{c}" IS NULL)' for c in shapes]
    wrong = con.execute(
        f"""
        WITH _l AS (SELECT *, row_number() OVER (ORDER BY {order}) AS _row FROM {left}),
        _r AS (SELECT *, row_number() OVER (ORDER BY {order}) AS _row FROM {right})
        SELECT _l, _r FROM _l JOIN _r USING (_row) WHERE {" OR ".join(f"({u})" for u in unequal)} LIMIT 3"""
    ).fetchall()
    if not wrong:
        return None
    told = [{k: (a[k], b[k]) for k in a if a[k] != b[k]} for a, b in wrong]
    return f"rows differ, first columns (left, right): {told}"
