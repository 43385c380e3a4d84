"""A GX suite as SQL: the same JSON that judges the batch gives, per row, the reasons for quarantine.

Rules live once. Each expectation's `meta` has `reason` (code), `action` (quarantine | block | warn) and
`message_vi`. Only the types below may stand in a suite; another one is an error, not a rule that is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tnmt.settings import SettingsError, by_name


class SuiteError(Exception):
    """A suite that cannot be used; the text says which expectation and why."""


@dataclass(frozen=True)
class Rule:
    """One expectation. `bad` is the SQL predicate of a row that breaks it; None for expectations on the whole batch."""

    type: str
    reason: str
    action: str
    message_vi: str
    kwargs: dict[str, Any]
    bad: str | None


def quoted(value: Any) -> str:
    """A value of a suite as an SQL literal."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def quoted_name(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _between(k: dict[str, Any]) -> str:
    parts = []
    if k.get("min_value") is not None:
        parts.append(f"{k['column']} {'<=' if k.get('strict_min') else '<'} {quoted(k['min_value'])}")
    if k.get("max_value") is not None:
        parts.append(f"{k['column']} {'>=' if k.get('strict_max') else '>'} {quoted(k['max_value'])}")
    return " OR ".join(parts)


def _lengths(k: dict[str, Any]) -> str:
    return _between({**k, "column": f"length({k['column']})"})


def _unique(columns: list[str]) -> str:
    names = ", ".join(columns)
    filled = " AND ".join(f"{c} IS NOT NULL" for c in columns)
    return f"({filled}) AND count(*) OVER (PARTITION BY {names}) > 1"


def _pair(k: dict[str, Any]) -> str:
    sign = "<" if k.get("or_equal") else "<="
    return f"{k['column_A']} {sign} {k['column_B']}"


_ROW = {
    "expect_column_values_to_not_be_null": lambda k: f"{k['column']} IS NULL",
    "expect_column_values_to_be_in_set": lambda k: f"{k['column']} NOT IN ({', '.join(quoted(v) for v in k['value_set'])})",
    "expect_column_values_to_be_between": _between,
    # DuckDB's `~` is a full match, so GX sees the pattern as anchored: here too
    "expect_column_values_to_match_regex": lambda k: f"NOT regexp_full_match({k['column']}, {quoted(k['regex'])})",
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_values_to_be_unique": lambda k: _unique([k["column"]]),
    "expect_compound_columns_to_be_unique": lambda k: _unique(list(k["column_list"])),
    "expect_column_pair_values_a_to_be_greater_than_b": _pair,
}


_OPERATORS = {"IN": "IN", "NOT_IN": "NOT IN"}


def _where(condition: dict[str, Any]) -> str:
    """GX's row conditions `Column(name).is_in([…])` and `is_not_in`, NULL fits neither; raises KeyError, TypeError or ValueError on any other."""
    if (operator := _OPERATORS.get(condition["operator"])) is None:
        raise ValueError("only the operators IN and NOT_IN are known")
    if not isinstance(condition["parameter"], list):
        raise TypeError("a list of values was expected")
    return f"{condition['column']['name']} {operator} ({', '.join(quoted(v) for v in condition['parameter'])})"


_BATCH = {"expect_table_row_count_to_be_between", "expect_table_columns_to_match_set"}


def load_suite(name: str, folders: Iterable[Path]) -> dict[str, Any] | None:
    """The suite's JSON from the first folder that has it, or None; raises SuiteError where it is no JSON object."""
    for folder in folders:
        try:
            path = by_name(folder, ".json").get(name)
        except SettingsError as error:
            raise SuiteError(str(error)) from error
        if path is not None:
            try:
                suite = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise SuiteError(f"{path}: no JSON: {error}") from error
            if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
                raise SuiteError(f"{path}: an object with a list `expectations` was expected")
            return suite
    return None


def rules_of(suite: dict[str, Any]) -> list[Rule]:
    """The suite's expectations as rules, in their order; raises SuiteError on a type or action that is not known."""
    rules = []
    for position, expectation in enumerate(suite["expectations"]):
        kind, kwargs, meta = expectation.get("type"), expectation.get("kwargs", {}), expectation.get("meta", {})
        where = f"suite {suite.get('name')}, expectation {position + 1} ({kind})"
        if meta.get("action") not in ("quarantine", "block", "warn") or not meta.get("reason"):
            raise SuiteError(f"{where}: meta needs `reason` and `action` (quarantine, block or warn)")
        if kind in _ROW:
            bad = _ROW[kind](kwargs)
            if condition := kwargs.get("row_condition"):
                try:
                    bad = f"({_where(condition)}) AND ({bad})"
                except (KeyError, TypeError, AttributeError, ValueError) as error:
                    raise SuiteError(
                        f"{where}: row_condition must be a comparison of a column with operator IN or NOT_IN, found {condition}"
                    ) from error
        elif kind in _BATCH and meta["action"] != "quarantine":
            bad = None
        else:
            raise SuiteError(f"{where}: this type cannot be compiled for rows; allowed are {', '.join(sorted({*_ROW, *_BATCH}))}")
        rules.append(Rule(kind, meta["reason"], meta["action"], meta.get("message_vi", meta["reason"]), kwargs, bad))
    return rules


def flags(cases: list[tuple[str, str]]) -> str:
    """SQL for the list of the texts (SQL expressions) whose condition holds; an empty list where none does."""
    if not cases:
        return "CAST([] AS VARCHAR[])"
    each = ", ".join(f"CASE WHEN {when} THEN {text} END" for when, text in cases)
    # nearly every row has none: the list is filtered for the others alone
    return f"CASE WHEN {' OR '.join(f'({when})' for when, _ in cases)} THEN list_filter([{each}], lambda x: x IS NOT NULL) ELSE CAST([] AS VARCHAR[]) END"
