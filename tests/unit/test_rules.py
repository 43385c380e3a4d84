"""Row conditions of a suite: what is compiled, and what is refused with its place."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from quality.rules import SuiteError, rules_of


def _suite(condition: Any) -> dict[str, Any]:
    expectation = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "v", "min_value": 0, "row_condition": condition},
        "meta": {"reason": "negative", "action": "quarantine"},
    }
    return {"name": "s", "expectations": [expectation]}


@pytest.mark.parametrize(("operator", "negative"), [("IN", [-1]), ("NOT_IN", [-2])])
def test_a_condition_says_whose_rows_a_rule_is_for(operator: str, negative: list[int]) -> None:
    """Of p in {a, b}, and of p that is there and not among them; a row without p is neither."""
    (rule,) = rules_of(_suite({"column": {"name": "p"}, "operator": operator, "parameter": ["a", "b"]}))
    rows = "(VALUES ('a', -1), ('c', -2), (NULL, -3), ('b', 1), ('d', 2)) AS t(p, v)"
    assert [v for (v,) in duckdb.sql(f"SELECT v FROM {rows} WHERE {rule.bad}").fetchall()] == negative


@pytest.mark.parametrize(
    "condition",
    [
        {"column": {"name": "p"}, "operator": "NOT_IN", "parameter": "ab"},  # a text is no list: it would be its letters
        {"column": {"name": "p"}, "operator": "IN", "parameter": None},
        {"column": {"name": "p"}, "operator": ">", "parameter": ["a"]},
        {"column": "p", "operator": "IN", "parameter": ["a"]},
        {"operator": "IN", "parameter": ["a"]},
        "p = 'a'",
    ],
)
def test_another_condition_is_refused_with_its_place(condition: Any) -> None:
    with pytest.raises(SuiteError, match=r"suite s, expectation 1 .*row_condition must be"):
        rules_of(_suite(condition))
