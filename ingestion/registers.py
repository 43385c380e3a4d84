"""Readings whose place a change of the registers moves: they are gated again, whatever came first, the register or the readings.

A reading is placed by three things of the registers: its code belongs to a station (or did), the station has a matrix, and a spelling in a
file names a parameter of that station. What the registers said when a source was last gated is kept in `ops.resolution`; where they say
something else now, the deliveries that hold readings of those stations and parameters wait again. Ranges, cadences and times in use are
judged by the marts and re-gate nothing; rows in quarantine for want of a register are `requeue`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import duckdb
import structlog

from ingestion.contract import Contract
from ingestion.targets import name_references, name_registers
from lake.lake import has_table, transaction
from tnmt.settings import Settings

log = structlog.get_logger()

PLACED_BY = {"reading": ("station", "station_channel"), "lab_result": ("station",)}
"""Targets whose rows the gate places by the registers, and the targets of those: laboratory results by the codes of stations alone."""

# a spelling by the register of then, else as everybody writes it, where the station's matrix has that parameter
TOUCHED = """
    CREATE OR REPLACE TEMP TABLE touched AS
    WITH before AS (SELECT * FROM lake.ops.resolution WHERE source = $source),
    code AS (SELECT code, station_id, matrix FROM before WHERE code IS NOT NULL),
    name AS (SELECT station_id, name_in_file, parameter FROM before WHERE name_in_file IS NOT NULL),
    moved AS (
        SELECT DISTINCT code.station_id FROM code LEFT JOIN known_station AS now ON code.code = now.code
        WHERE code.station_id IS DISTINCT FROM now.station_id OR code.matrix IS DISTINCT FROM now.matrix
    ),
    spelling AS (
        SELECT
            k.station_id, k.matrix,
            CASE WHEN was.station_id IS NULL THEN coalesce(canonical.parameter, alias.parameter) ELSE was.parameter END AS parameter_then,
            CASE WHEN now.station_id IS NULL THEN coalesce(canonical.parameter, alias.parameter) ELSE now.parameter END AS parameter_now
        FROM (SELECT station_id, name_in_file FROM name UNION SELECT station_id, name_in_file FROM known_name) AS s
        JOIN known_station AS k ON k.code = s.station_id
        LEFT JOIN name AS was ON was.station_id = s.station_id AND was.name_in_file = s.name_in_file
        LEFT JOIN known_name AS now ON now.station_id = s.station_id AND now.name_in_file = s.name_in_file
        LEFT JOIN seed_parameter AS canonical ON canonical.matrix = k.matrix AND canonical.parameter = s.name_in_file
        LEFT JOIN seed_parameter_alias AS alias ON alias.name_in_file = s.name_in_file
    )
    SELECT station_id, NULL::VARCHAR AS parameter FROM moved
    UNION
    SELECT station_id, parameter_then FROM spelling WHERE parameter_then IS NOT NULL AND parameter_then IS DISTINCT FROM parameter_now"""


@dataclass(frozen=True)
class Gates:
    """When each source in force was gated last, as the number of that publish."""

    last: Mapping[str, int]
    target_of: Mapping[str, str]

    def newest(self, targets: Collection[str]) -> int:
        """The last gate of any source of these targets; 0 where there was none."""
        return max((self.last.get(source, 0) for source, target in self.target_of.items() if target in targets), default=0)

    def register_changed(self, contract: Contract) -> bool:
        """Whether a register that the source depends on was gated after it, by whichever source fills it; not where it was never gated itself."""
        registers = {self.target_of[name] for name in contract.depends_on if name in self.target_of}
        return contract.source in self.last and self.newest(registers) > self.last[contract.source]


def last_gates(con: duckdb.DuckDBPyConnection, contracts: Iterable[Contract]) -> Gates:
    """What the ledger says now of these sources."""
    last = dict(con.execute("SELECT source, max(seq) FROM lake.ops.gate_result WHERE source IS NOT NULL GROUP BY source").fetchall())
    return Gates(last, {c.source: c.target for c in contracts})


def requeue_moved(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, gates: Gates) -> int:
    """Puts back the deliveries of the source whose readings the registers place elsewhere now; returns how many.

    Does next to nothing where no register was gated since. Deliveries whose raw bytes were erased stay as they were gated, with a warning.
    """
    newest = gates.newest(PLACED_BY[contract.target])
    last = con.execute("SELECT max(seq) FROM lake.ops.resolution WHERE source = ?", [contract.source]).fetchall()[0][0]
    if last is not None and last >= newest:
        return 0
    name_registers(con)
    was_gated = contract.source in gates.last  # else there is nothing that could move
    if was_gated:
        name_references(con, settings)
        con.execute(TOUCHED, {"source": contract.source})
    with transaction(con):
        count = _requeue_touched(con, contract) if was_gated else 0
        con.execute("DELETE FROM lake.ops.resolution WHERE source = ?", [contract.source])
        # the row without a code says that the registers were looked at, be they empty
        con.execute(
            """
            INSERT INTO lake.ops.resolution (source, seq, code, station_id, matrix, name_in_file, parameter)
            SELECT $source, $seq, NULL, NULL, NULL, NULL, NULL
            UNION ALL SELECT $source, $seq, code, station_id, matrix, NULL, NULL FROM known_station
            UNION ALL SELECT $source, $seq, NULL, station_id, NULL, name_in_file, parameter FROM known_name""",
            {"source": contract.source, "seq": newest},
        )
    return count


def _requeue_touched(con: duckdb.DuckDBPyConnection, contract: Contract) -> int:
    tables = [t for t in (f"clean.{contract.target}", f"clean.{contract.target}_history") if has_table(con, t)]
    parameter = "coalesce(t.parameter, r.parameter)" if contract.target == "reading" else "r.parameter AND t.parameter IS NULL"
    if not tables or not con.execute("SELECT count(*) FROM touched").fetchall()[0][0]:
        return 0
    holding = " UNION ".join(
        f"SELECT r._delivery_id FROM lake.{table} AS r JOIN touched AS t ON r.station_id = t.station_id AND r.parameter = {parameter} "
        "WHERE r._source = $source"
        for table in tables
    )
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE moving AS
        SELECT delivery_id, source, day, stored FROM lake.ops.landed
        WHERE source = $source AND delivery_id IN ({holding})
            AND delivery_id NOT IN (SELECT delivery_id FROM lake.ops.pending WHERE only_waiting IS NOT TRUE)""",
        {"source": contract.source},
    )
    con.execute("DELETE FROM lake.ops.pending WHERE delivery_id IN (SELECT delivery_id FROM moving)")
    con.execute(
        "INSERT INTO lake.ops.pending (delivery_id, source, day) SELECT delivery_id, source, day FROM moving WHERE stored NOT IN ('erasing', 'erased')"
    )
    waiting, erased = con.execute(
        "SELECT count(*) FILTER (stored NOT IN ('erasing', 'erased')), count(*) FILTER (stored IN ('erasing', 'erased')) FROM moving"
    ).fetchall()[0]
    if erased:
        log.warning(
            "readings keep the place that an older register gave them: their raw bytes were erased", source=contract.source, deliveries=erased
        )
    return int(waiting)
