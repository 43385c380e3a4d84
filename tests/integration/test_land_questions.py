"""The questions of docs/land.md have answers: each of its queries is run on the sample, as `tnmt sql` runs it."""

from __future__ import annotations

import re

import pytest

from lake.query import query
from tests.conftest import Platform
from tests.tiny import AS_OF
from tnmt.settings import ROOT

BLOCK = re.compile(r"```sql\n(.*?)```", re.DOTALL)
QUERIES = BLOCK.findall((ROOT / "docs/land.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_each_question_has_an_answer(platform: Platform, number: int) -> None:
    names, rows = query(platform.settings, QUERIES[number], closed_reason=None, now=AS_OF)
    assert names and rows
