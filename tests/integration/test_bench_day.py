"""The damaged day of the bench, taken in: the answers that rivals are compared with are those of its generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import day, jobs


def test_a_damaged_day_comes_out_as_its_generator_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the bench compares it, so that a change of the gate is noticed before somebody prints figures of wrong answers. Every kind of damage is there."""
    monkeypatch.setenv("TNMT_HOME", str(tmp_path))
    jobs.make(stations=8)
    want = day.write_day(tmp_path / "inbox" / day.SOURCE, 8)
    assert set(want.kinds) == set(day.DAMAGES)
    done = jobs.publish(day.NOW.isoformat())
    assert jobs.look() == want.answers()
    assert {k: done[k] for k in ("read", "accepted", "duplicate", "quarantined")} == {k: want.answers()[k] for k in done if k in want.answers()}
