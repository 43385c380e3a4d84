"""CSV, XLSX and JSON into a table. Every value comes as text in the contract's own spelling (its decimal sign, its date format)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import duckdb
import pyarrow as pa

from ingestion import readers
from ingestion.contract import Contract
from ingestion.model import Delivery, Problem
from ingestion.readers.csv import StrayQuote, csv_tables, loose_csv_tables
from ingestion.readers.json import json_tables
from ingestion.readers.rows import LINE_COLUMNS, Unreadable, columns_of
from ingestion.readers.xlsx import xlsx_tables
from quality.rules import quoted_name

quoted = quoted_name
FLUSH = 32 << 20
Tables = Callable[[Contract, Delivery], Iterator[dict[str, pa.Array]]]
TABLES: dict[str, Tables] = {"csv": csv_tables, "xlsx": xlsx_tables, "json": json_tables}


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Rows of CSV files, workbooks or JSON as text; see `ingestion.readers`.

    `_line` is the row of the sheet, or of the file (a quoted field with line ends counts as one), blank ones counted. `_problem` of a row
    (its columns are NULL, in a workbook the cells that it is about): CSV `fields_too_few`, `fields_too_many`, `quote_stray` (text after a
    closing quote), `lines_joined` (a record whose lines read as rows of their own), `line_cut`; XLSX `formula_error`, `formula_not_computed`,
    `cell_format` (shown as another number than it holds), `merged_quantity`, `cell_unread`.
    Problems of a file: empty_file, binary_file, wrong_encoding, quote_unclosed, header_missing, damaged_file,
    encrypted_file, sheet_missing, far_cell, and those of `match_headers`.
    """
    names = columns_of(contract)
    layout = LINE_COLUMNS | dict.fromkeys(names, "VARCHAR")
    con.execute(f"CREATE OR REPLACE TEMP TABLE {into} ({', '.join(f'{quoted(n)} {t}' for n, t in layout.items())})")
    schema = pa.schema([(n, pa.int32() if t == "INTEGER" else pa.large_string()) for n, t in layout.items()])
    problems: dict[str, Problem] = {}
    waiting: list[pa.Table] = []

    def flush() -> None:
        if waiting:
            con.register("tabular_rows", pa.concat_tables(waiting))
            con.execute(f"INSERT INTO {into} SELECT * FROM tabular_rows")
            con.unregister("tabular_rows")
            waiting.clear()

    def take(delivery: Delivery, tables: Tables) -> None:
        for rows in tables(contract, delivery):
            size = len(rows["_line"])
            rows["_delivery_id"] = pa.repeat(pa.scalar(delivery.delivery_id, pa.large_string()), size)
            waiting.append(pa.table([rows.get(n, pa.nulls(size, pa.large_string())) for n in layout], schema=schema))
            if sum(t.nbytes for t in waiting) > FLUSH:
                flush()

    def take_back(delivery: Delivery) -> None:
        flush()
        con.execute(f"DELETE FROM {into} WHERE _delivery_id = ?", [delivery.delivery_id])

    for delivery in deliveries:
        readers.begin(delivery)
        try:
            try:
                take(delivery, TABLES[contract.format.reader])
            except StrayQuote:
                take_back(delivery)
                take(delivery, loose_csv_tables)
        except Unreadable as error:
            take_back(delivery)
            problems[delivery.delivery_id] = error.problem
    flush()
    if contract.format.skip_footer:
        # the last records are known only when all are read
        con.execute(f"""
            DELETE FROM {into} WHERE (_delivery_id, _line) IN (
                SELECT _delivery_id, unnest(max(_line, {contract.format.skip_footer})) FROM {into} GROUP BY _delivery_id)""")
    return problems
