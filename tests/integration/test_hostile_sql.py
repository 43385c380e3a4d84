"""Thousands of hostile statements against the judge of SQL Lab (dashboards/config): nothing is seen that was not granted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from tests.examples import FUZZ
from tests.hostile_sql import WORD, asked, judge, statements

COUNT = 2000 * max(FUZZ, 1)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with judge(tmp_path_factory.mktemp("serving")) as found:
        yield found


def _memory(name: str) -> int:
    """A figure of this process in kilobytes: VmRSS now, VmHWM at its peak."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))


@pytest.mark.parametrize("count", [COUNT, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_hostile_statements_show_what_was_granted_and_nothing_else(serving: SimpleNamespace, count: int) -> None:
    """Each is refused, fails, or answers without a word of what was not granted; nothing runs past its limits of time and memory."""
    answered = refused = 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on, whatever earlier tests of this process took
    before = _memory("VmRSS")
    for number, sql in enumerate(statements(serving.file, count, first=FUZZ * 1_000_000)):
        started = time.process_time()
        try:
            rows = asked(serving, sql)
            answered += 1
            assert len(rows) <= serving.connect.MAX_ROWS + 1, (number, sql)
            shown = str(rows)
        except (serving.guard.Refused, duckdb.Error) as error:
            refused += isinstance(error, serving.guard.Refused)
            shown = str(error)
        assert WORD not in shown, (number, sql, shown[:500])
        assert time.process_time() - started < 10, (number, sql[:200])
    assert _memory("VmHWM") - before < 2_000_000, "kilobytes"
    assert answered > count * 0.1 and refused > count * 0.5, (answered, refused)


def test_the_statements_are_hostile(serving: SimpleNamespace) -> None:
    """Without the judge the same grammar shows what must not be seen: a test that cannot fail holds nothing."""
    found = 0
    con = duckdb.connect()
    con.execute(f"ATTACH '{serving.file}' AS serving (READ_ONLY)")
    con.execute("USE serving")
    for sql in statements(serving.file, 400):
        try:
            if len(sql) > 5000 or "100000000" in sql or "RECURSIVE" in sql.upper():
                continue
            serving.guard.sized(serving.guard.parse(sql), {})
            found += WORD in str(con.execute(sql).fetchmany(1000))
        except (serving.guard.Refused, duckdb.Error):
            pass
    assert found >= 20, found
