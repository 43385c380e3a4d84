"""Regular expressions that a contract brings, in a time that grows no faster than the text.

Python's own engine is quick and can take for ever: it is given only what is seen to be harmless. Everything else goes to RE2 (through Arrow), which
is linear by construction; what RE2 does not know either (look-around, back references) is refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from re import _constants as ops  # type: ignore[attr-defined]  # the parser of `re` has no other name
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 1_000
MOST_FREE_REPEATS = 3
"""Repeats of no fixed length one after another: three over a name of 255 bytes are a million steps."""

Search = Callable[[str], dict[str, str] | None]


class ExpressionError(ValueError):
    """An expression that cannot be used; the text says why."""


@functools.cache
def searcher(text: str) -> Search:
    """A function that gives the named groups of the first match in a text, or None. Raises ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(f"expected a regular expression of at most {LONGEST} characters, found {len(text)}")
    try:
        compiled = re.compile(text)
        tree = parser.parse(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ExpressionError(f"is no regular expression: {error}") from error
    anchored = len(tree) > 0 and tree[0] in ((ops.AT, ops.AT_BEGINNING), (ops.AT, ops.AT_BEGINNING_STRING))
    if _is_plain(tree) and _free(tree) + (not anchored) <= MOST_FREE_REPEATS:
        return lambda name: match.groupdict() if (match := compiled.search(name)) else None
    try:
        return _linear(text, list(compiled.groupindex))
    except pa.ArrowInvalid as error:
        raise ExpressionError(
            "needs an engine that can take for ever: expected no repeat in a repeat, no look-around and no back reference; write it plainly"
        ) from error


def _without_unnamed(text: str) -> str:
    """The same expression with `(?:` for every `(` that names no group: Arrow takes no others."""
    out, at, in_class = [], 0, False
    while at < len(text):
        step = 2 if text[at] == "\\" else 1
        piece = text[at : at + step]
        if in_class:
            in_class = piece != "]"
        elif piece == "[":
            in_class = True
            # a bracket that stands first in a class is one of its characters
            while at + step < len(text) and text[at + step] in "^]":
                piece += text[at + step]
                step += 1
        elif piece == "(" and text[at + 1 : at + 2] != "?":
            piece = "(?:"
        out.append(piece)
        at += step
    return "".join(out)


def _linear(text: str, names: list[str]) -> Search:
    if names:
        text = _without_unnamed(text)
        pc.extract_regex(pa.array([""]), text)  # says now what RE2 does not know

        def groups(name: str) -> dict[str, str] | None:
            found = pc.extract_regex(pa.array([name]), text)[0].as_py()
            return dict(found) if found is not None else None

        return groups
    pc.match_substring_regex(pa.array([""]), text)
    return lambda name: {} if pc.match_substring_regex(pa.array([name]), text)[0].as_py() else None


def _is_plain(tree: Any, inside: bool = False) -> bool:
    """Whether no repeat of a free length stands in another, no choice in a repeat, and nothing looks around or back."""
    for op, value in tree:
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            low, high, body = value
            repeats = high > 1
            if (inside and high != low) or not _is_plain(body, inside or (repeats and high != low) or (repeats and high > 1 and _free(body) > 0)):
                return False
        elif op is ops.SUBPATTERN:
            if not _is_plain(value[3], inside):
                return False
        elif op is ops.BRANCH:
            if inside or not all(_is_plain(branch, inside) for branch in value[1]):
                return False
        elif op not in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN, ops.AT):
            return False
    return True


def _free(tree: Any) -> int:
    """How many repeats of no fixed length a text passes through."""
    count = 0
    for op, value in tree:
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            low, high, body = value
            count += (high != low) + _free(body)
        elif op is ops.SUBPATTERN:
            count += _free(value[3])
        elif op is ops.BRANCH:
            count += max((_free(branch) for branch in value[1]), default=0) + 1
    return count
