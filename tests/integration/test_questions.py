"""The questions of the docs have answers: each of their queries is run on the sample, as `tnmt sql` runs it."""

from __future__ import annotations

import re

import pytest

from lake.query import query
from tests.conftest import Platform
from tests.tiny import AS_OF
from tnmt.settings import ROOT

BLOCK = re.compile(r"```sql\n(.*?)```", re.DOTALL)
QUERIES = [
    pytest.param(block, id=f"{page}-{number}")
    for page in ("land", "procedures")
    for number, block in enumerate(BLOCK.findall((ROOT / f"docs/{page}.md").read_text(encoding="utf-8")))
]


@pytest.mark.parametrize("text", QUERIES)
def test_each_question_has_an_answer(platform: Platform, text: str) -> None:
    names, rows = query(platform.settings, text, closed_reason=None, now=AS_OF)
    assert names and rows
