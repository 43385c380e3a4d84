"""Personal data from the first day: closed to other OS users, tokens elsewhere, masked in quarantine, in no file that leaves."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lake.lake import CLOSED_SCHEMAS, open_reader
from lake.query import QueryRefused, query
from tests.conftest import Platform
from tests.support import need
from tests.tiny import AS_OF


def _people(platform: Platform) -> list[tuple]:
    return platform.rows("SELECT owner_name, identity_number, phone FROM lake.typed_closed.land_owner WHERE identity_number IS NOT NULL")


def test_another_user_reads_nothing(platform: Platform) -> None:
    need("root", os.geteuid() == 0, "only root can become another user")
    nobody = pwd.getpwnam("nobody")
    s = platform.settings
    # the way to the platform is open, as it would be on a server; what is closed must be closed by itself
    for folder in [s.home, *s.home.parents]:
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    closed = [s.lake_dir / "catalog.sqlite", s.home / "secrets" / "token.key", s.landing / "closed", *(Path(s.data_path) / n for n in CLOSED_SCHEMAS)]
    control = s.home / "open-to-all"
    control.write_text("x")
    control.chmod(0o644)
    script = 'for p in "$@"; do if [ -d "$p" ]; then ls "$p"; else cat "$p"; fi >/dev/null 2>&1 && echo "READ $p"; done; true'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *map(str, [*closed, control])], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
                          capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}, cwd="/")  # fmt: skip
    assert done.stdout.split("\n")[:-1] == [f"READ {control}"], done.stdout


def test_no_open_table_holds_a_person(platform: Platform) -> None:
    people = _people(platform)
    assert len(people) > 50
    secrets = {v for row in people for v in row if v}
    with open_reader(platform.settings) as con:
        con.execute("LOAD spatial")
        con.execute("CREATE TEMP TABLE secret AS SELECT unnest(?::VARCHAR[]) AS v", [sorted(secrets)])
        for schema, table, column in con.execute(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE table_catalog = 'lake' AND data_type = 'VARCHAR' "
            "AND table_schema NOT LIKE '%\\_closed' ESCAPE '\\'"
        ).fetchall():
            found = con.execute(f'SELECT count(*) FROM lake.{schema}."{table}" SEMI JOIN secret ON "{column}" = v').fetchall()[0][0]
            assert found == 0, f"{schema}.{table}.{column} holds personal values"
        masked = con.execute("SELECT raw_text FROM lake.quarantine.row WHERE source = 'land_owner'").fetchall()
        assert masked and all("***" in m[0] and not any(s in m[0] for s in secrets) for m in masked)
        kept = con.execute("SELECT raw_text FROM lake.quarantine_closed.row WHERE source = 'land_owner'").fetchall()
        assert any(str(v) in k[0] for k in kept for v in ("CSD",)) and "***" not in kept[0][0]
    for log in (platform.settings.home / "logs").glob("*"):
        text = log.read_text(errors="replace")
        assert not [s for s in secrets if len(s) > 8 and s in text], log


def test_tokens_join_and_cannot_be_made_without_the_key(platform: Platform) -> None:
    import hashlib

    names = platform.rows(
        "SELECT t.owner_name, c.owner_name_token FROM lake.typed_closed.land_owner AS t JOIN lake.clean.land_owner AS c USING (owner_id)"
    )
    token_of: dict[str, str] = {}
    for name, token in names:
        assert token_of.setdefault(name, token) == token
        assert token != hashlib.sha256(name.upper().encode()).hexdigest()[:32]
    assert len(set(token_of.values())) == len(token_of)


def test_sql_refuses_closed_schemas_without_a_reason(platform: Platform) -> None:
    statement = "SELECT count(*) FROM lake.typed_closed.land_owner"
    with pytest.raises(QueryRefused, match="--closed"):
        query(platform.settings, statement, now=AS_OF)
    names, rows = query(platform.settings, statement, now=AS_OF, closed_reason="kiểm tra")
    assert names == ["count_star()"] and rows[0][0] > 0
    assert platform.rows("SELECT reason, statement FROM lake.ops.closed_access") == [("kiểm tra", statement)]


@pytest.mark.parametrize("statement", [
    "DELETE FROM lake.clean.reading", "SELECT 1; SELECT 2", "COPY (SELECT 1) TO 'x.csv'", "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'", "SELECT * FROM glob('/*')", "ATTACH 'x.db'", "SELECT * FROM query('SELECT 1')", "PRAGMA database_list",
])  # fmt: skip
def test_sql_only_reads_tables(platform: Platform, statement: str) -> None:
    with pytest.raises(QueryRefused):
        query(platform.settings, statement, now=AS_OF)


def test_sql_prints_a_header_first(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.main import app

    monkeypatch.setenv("TNMT_HOME", str(platform.settings.home))
    result = CliRunner().invoke(app, ["sql", "SELECT 1 AS a, NULL AS b, 'x,y' AS c", "--format", "csv"])
    assert result.stdout == 'a,b,c\n1,,"x,y"\n', result.output
