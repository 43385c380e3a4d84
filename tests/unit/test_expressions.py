"""Regular expressions of contracts: what takes for ever in Python's engine goes to one that is linear, or is refused; what is plain stays as it was."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from ingestion.contract import ContractError, load_contract, load_contracts
from ingestion.expressions import ExpressionError, _linear, parser, searcher

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
        assert searcher(pattern)(text) == by_python(pattern, text), text


# each reads something else in RE2's own words: letters of other alphabets, figures, blanks, a class of POSIX, an open repeat, an optional group
ALIKE = [
    r"^(?P<tram>\w+)_(?P<luc>\d+)\.txt$", r"^(?P<a>[\w ]+)-(?P<b>[^\W]+)?\.csv$", r"(?P<a>\S+)\s(?P<b>\D+)", r"^(?P<a>[^\d_]*)(?P<b>_\d{,3})?",
    r"(?i)^(?P<a>phiếu)[ _](?P<b>[^.]+)", r"^(?P<a>[[:alpha:]]+)", r"^(?P<a>.+?)(?:_(?P<b>đợt|lần)_?(?P<c>\d+))?\.xlsx?$", r"^(?P<a>[]\[-]+)(?P<b>x{2,})?",
    r"^(?P<a>(?s:.)+)$", r"(?m)^(?P<a>b.*)$", r"(?a)^(?P<a>\w+)", r"^(?P<a>\u0110\w*)|(?P<b>\x78)$", r"(?x) ^ (?P<a> \w+ ) # tên",
]  # fmt: skip
NAMES = [
    "Trạm_20260324.txt", "ĐỒNG XOÀI-bình.csv", "Phiếu thử.xlsx", "phiếu_Đợt 3.xls", "kết quả_đợt_12.xlsx", "quan\u00a0trắc lần hai", "_12", "_1234", "a:l]",
    "đất_٣٤٥.txt", "x²_1.txt", "[]-xx", "", "\n", "a\nb c\n", "x", "Đ", "ĐắkƠ", "kK\u212a", "e\u0302_1.txt", "A B\u2003C",
]  # fmt: skip


def by_python(pattern: str, text: str) -> dict[str, str | None] | None:
    match = re.search(pattern, text)
    return {k: v or None for k, v in match.groupdict().items()} if match else None


@pytest.mark.filterwarnings("ignore:Possible nested set")
@pytest.mark.parametrize("pattern", ALIKE)
def test_both_engines_mean_the_same(pattern: str) -> None:
    """Which one is taken hangs on the number of repeats alone: it must not be seen in what is found."""
    compiled = re.compile(pattern)
    for text in NAMES:
        assert _linear(compiled, parser.parse(pattern))(text) == searcher(pattern)(text) == by_python(pattern, text), text


@pytest.mark.parametrize("pattern", [r"^(\w+\b)+x$", r"^([^\W\d]+)+$", r"^([a\S]+)+$", r"(?m:^(a+)+$)", r"(?ai)^(k+)+$"])
def test_what_only_one_engine_can_say_is_refused(pattern: str) -> None:
    with pytest.raises(ExpressionError):
        searcher(pattern)


def test_shipped_patterns_are_plain() -> None:
    for contract in load_contracts(only_enabled=False).values():
        for own in contract.each:
            assert not searcher(own.files.pattern).__qualname__.startswith("_linear"), contract.source


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", "(", "(" * 2000, r"(?<!x)a+"])
def test_what_no_engine_does_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(ExpressionError):
        searcher(pattern)


def test_a_contract_with_such_a_pattern_is_refused_with_its_place(tmp_path: Path) -> None:
    shipped = next(Path(__file__).parents[2].glob("ingestion/contracts/*/dossier.yaml")).read_text(encoding="utf-8")
    bad = tmp_path / "dossier.yaml"
    bad.write_text(re.sub(r"pattern: '[^']*'", r"pattern: '^(?=(a+)+)b(?P<as_of>x)$'", shipped), encoding="utf-8")
    with pytest.raises(ContractError, match=r"files\.pattern"):
        load_contract(bad)
