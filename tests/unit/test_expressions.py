"""Regular expressions of contracts: what takes for ever in Python's engine goes to one that is linear, or is refused; what is plain stays as it was."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from ingestion.contract import ContractError, load_contract, load_contracts
from ingestion.expressions import ExpressionError, searcher

HOSTILE = [r"^(a+)+$", r"^(a|a)*$", r"^(a|aa)+$", r"^(?P<x>(a|ab)*)b$", r"(x+x+)+y", r"^(.*)(.*)(.*)(.*)(.*)(.*)x$", r"^(?:\w*\d*)*_(?P<b>[(\])]+)?z$",
           r"^(?:(?:a{1,9}){1,9}){1,9}b$"]  # fmt: skip


@pytest.mark.parametrize("pattern", HOSTILE)
def test_no_expression_takes_long(pattern: str) -> None:
    search = searcher(pattern)
    started = time.perf_counter()
    for text in ("a" * 250 + "!", "x" * 255, "aab" * 80, "_" * 200):
        search(text)
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize("pattern", HOSTILE)
def test_the_linear_engine_finds_what_python_finds(pattern: str) -> None:
    for text in ("", "a", "aab", "ab", "xxy", "x", "12a_)]z", "aaab", "_z"):
        match, found = re.search(pattern, text), searcher(pattern)(text)
        # a group that took no part is '' there and None here
        assert found == (match.groupdict("") if match else None), text


def test_shipped_patterns_are_plain() -> None:
    for contract in load_contracts(only_enabled=False).values():
        assert not searcher(contract.files.pattern).__qualname__.startswith("_linear"), contract.source


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", "(", "(" * 2000, r"(?<!x)a+"])
def test_what_no_engine_does_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(ExpressionError):
        searcher(pattern)


def test_a_contract_with_such_a_pattern_is_refused_with_its_place(tmp_path: Path) -> None:
    shipped = next(Path(__file__).parents[2].glob("ingestion/contracts/dossier.yaml")).read_text(encoding="utf-8")
    bad = tmp_path / "dossier.yaml"
    bad.write_text(re.sub(r"pattern: '[^']*'", r"pattern: '^(?=(a+)+)b(?P<as_of>x)$'", shipped), encoding="utf-8")
    with pytest.raises(ContractError, match=r"files\.pattern"):
        load_contract(bad)
