"""A catalog of many files, without the files."""

from __future__ import annotations

import sqlite3

from lake.lake import open_writer
from tnmt.settings import Settings


def change_catalog(settings: Settings, *statements: str) -> None:
    """Changes the catalog itself, for what DuckLake of this version does not write, or would write for hours."""
    con = sqlite3.connect(settings.lake_dir / "catalog.sqlite")
    with con:
        for statement in statements:
            con.execute(statement)
    con.close()


def fill_catalog(settings: Settings) -> None:
    """The tables `clean.wide` and `clean.other`: 10,000 files with 20 columns and 1,000 delete files each, an hour a file from 2025 on."""
    columns = ", ".join(f"c{i} INTEGER" for i in range(19))
    for name in ("wide", "other"):
        for statement in (f"CREATE TABLE lake.clean.{name} (ts TIMESTAMP, {columns})", f"INSERT INTO lake.clean.{name} (ts) VALUES ('2025-01-01')"):
            with open_writer(settings, "test") as con:
                con.execute(statement)
    for name, first in (("wide", 1_000_000), ("other", 2_000_000)):
        table = f"(SELECT table_id FROM ducklake_table WHERE table_name = '{name}')"
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)"
        change_catalog(
            settings,
            f"""{numbers} INSERT INTO ducklake_data_file
                SELECT {first} + i, table_id, begin_snapshot, NULL, NULL, 'day=' || i || '/file-' || i || '.parquet', 1, 'parquet', 1000, 9999, 99, i * 1000, NULL, NULL, NULL, NULL
                FROM ducklake_data_file, n WHERE table_id = {table}""",
            f"""{numbers} INSERT INTO ducklake_file_column_stats
                SELECT {first} + i, table_id, column_id, 9, value_count, null_count, CASE WHEN column_id = 1 THEN datetime('2025-01-01', i || ' hours') END,
                    CASE WHEN column_id = 1 THEN datetime('2025-01-01', i || ' hours', '59 minutes') END, NULL, NULL
                FROM ducklake_file_column_stats, n WHERE table_id = {table}""",
            f"""{numbers} INSERT INTO ducklake_delete_file
                SELECT {first} + 100000 + i, table_id, begin_snapshot, NULL, {first} + i * 10, 'file-' || i || '-delete.parquet', 1, 'parquet', 7, 99, 9, NULL, NULL
                FROM ducklake_data_file, n WHERE table_id = {table} AND data_file_id < {first} AND i < 1000""",
        )
