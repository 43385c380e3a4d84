"""The same marts on the SQLite and the PostgreSQL catalog: one setting apart."""

from __future__ import annotations

from pathlib import Path

from tests.postgres_kit import Server
from tests.tiny import FEW, Undisturbed, compare, prepare, state, tnmt
from tnmt.settings import Settings


def test_same_marts_on_both_catalogs(postgres: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    postgres.execute("CREATE DATABASE lake_catalog")
    s = Settings(home=tmp_path / "postgres", catalog=f"postgres:{postgres.dsn('lake_catalog')}")
    # the same sample: a File Geodatabase holds the time of its making, so two would be two deliveries
    prepare(s.home, undisturbed.inbox, TNMT_CATALOG=s.catalog)
    for arguments in (FEW, ()):  # as the other was run: the marts on operations count runs
        done = tnmt(s.home, "run", *arguments, TNMT_CATALOG=s.catalog)
        assert done.returncode in (0, 3), done.stdout + done.stderr
    compare(state(s, operations=True), state(Settings(home=undisturbed.home), operations=True), "PostgreSQL")
