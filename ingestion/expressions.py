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

Search = Callable[[str], dict[str, str | None] | None]


class ExpressionError(ValueError):
    """An expression that cannot be used; the text says why."""


@functools.cache
def searcher(text: str) -> Search:
    """A function that gives the named groups of the first match in a text, or None. Raises ExpressionError.

    Of a group that took no part, or no letter, it gives None.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"expected a regular expression of at most {LONGEST} characters, found {len(text)}")
    try:
        compiled = re.compile(text)
        tree = parser.parse(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ExpressionError(f"is no regular expression: {error}") from error
    anchored = len(tree) > 0 and tree[0] in ((ops.AT, ops.AT_BEGINNING), (ops.AT, ops.AT_BEGINNING_STRING))
    if _is_plain(tree) and _free(tree) + (not anchored) <= MOST_FREE_REPEATS:
        return lambda name: {group: value or None for group, value in match.groupdict().items()} if (match := compiled.search(name)) else None
    try:
        return _linear(compiled, tree)
    except (pa.ArrowInvalid, _NotLinear) as error:
        raise ExpressionError(
            "needs an engine that can take for ever: expected no repeat in a repeat, no look-around, no back reference, "
            r"no \b and no \W or \S beside others in a class; write it plainly"
        ) from error


_CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\p{Nd}",
    ops.CATEGORY_NOT_DIGIT: r"\P{Nd}",
    ops.CATEGORY_WORD: r"\p{L}\p{N}_",
    ops.CATEGORY_SPACE: r"\t\n\v\f\r\x{1c}-\x{1f}\x{20}\x{85}\p{Z}",
}
_ASCII = {ops.CATEGORY_DIGIT: "0-9", ops.CATEGORY_WORD: "0-9A-Za-z_", ops.CATEGORY_SPACE: r"\t\n\v\f\r\x{20}"}
_OPPOSITE = {
    ops.CATEGORY_NOT_DIGIT: ops.CATEGORY_DIGIT,
    ops.CATEGORY_NOT_WORD: ops.CATEGORY_WORD,
    ops.CATEGORY_NOT_SPACE: ops.CATEGORY_SPACE,
}
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s"}


class _InRe2:
    """A parsed expression in RE2's words, which means there what it means here: RE2's own \\w, \\d and \\s know ASCII only, `{,3}` is no repeat there.

    Arrow takes no unnamed groups, so they become `(?:`. Raises ExpressionError for what cannot be said there.
    """

    def __init__(self, names: dict[str, int], flags: int) -> None:
        self._names = {number: name for name, number in names.items()}
        self._flags = flags
        self._categories = _ASCII if flags & re.ASCII else _CATEGORIES

    def whole(self, tree: Any) -> str:
        """The expression with its flags."""
        if self._flags & re.ASCII and self._flags & re.IGNORECASE:
            raise _NotLinear
        return f"(?{said}){self._said(tree)}" if (said := _letters(self._flags)) else self._said(tree)

    def _said(self, tree: Any) -> str:
        return "".join(self._one(op, value) for op, value in tree)

    def _one(self, op: Any, value: Any) -> str:
        if op is ops.LITERAL:
            return _letter(value)
        if op is ops.NOT_LITERAL:
            return f"[^{_letter(value)}]"
        if op is ops.ANY:
            return "."
        if op is ops.IN:
            return self._class(value)
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            low, high, body = value
            most = "" if high is ops.MAXREPEAT else high
            return f"(?:{self._said(body)}){{{low},{most}}}{'?' if op is ops.MIN_REPEAT else ''}"
        if op is ops.SUBPATTERN:
            number, on, off, body = value
            if (on | off) & ~(re.IGNORECASE | re.DOTALL | re.VERBOSE):
                raise _NotLinear
            if number in self._names:
                return f"(?P<{self._names[number]}>{self._said(body)})"
            without = f"-{_letters(off)}" if _letters(off) else ""
            return f"(?{_letters(on)}{without}:{self._said(body)})"
        if op is ops.BRANCH:
            return f"(?:{'|'.join(self._said(branch) for branch in value[1])})"
        if op is ops.AT and value in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING):
            return "^" if value is ops.AT_BEGINNING else r"\A"
        if op is ops.AT and value in (ops.AT_END, ops.AT_END_STRING):
            # Python's end may stand before a last line end
            return r"\z" if value is ops.AT_END_STRING else "$" if self._flags & re.MULTILINE else r"(?:\n?\z)"
        raise _NotLinear

    def _class(self, items: Any) -> str:
        negated = items[0][0] is ops.NEGATE
        items = items[1:] if negated else items
        if len(items) == 1 and items[0][1] in _OPPOSITE:
            negated, items = not negated, [(ops.CATEGORY, _OPPOSITE[items[0][1]])]
        said = ""
        for op, value in items:
            if op is ops.RANGE:
                said += f"{_letter(value[0])}-{_letter(value[1])}"
            elif op is ops.CATEGORY:
                if value not in self._categories:
                    raise _NotLinear
                said += self._categories[value]
            else:
                said += _letter(value)
        return f"[{'^' if negated else ''}{said}]"


class _NotLinear(Exception):
    """Something that RE2 cannot say."""


def _letter(code: int) -> str:
    return f"\\x{{{code:x}}}"


def _letters(flags: int) -> str:
    return "".join(letter for flag, letter in _FLAGS.items() if flags & flag)


def _linear(compiled: re.Pattern[str], tree: Any) -> Search:
    text = _InRe2(dict(compiled.groupindex), compiled.flags).whole(tree)
    if compiled.groupindex:
        pc.extract_regex(pa.array([""]), text)  # says now what RE2 does not know

        def groups(name: str) -> dict[str, str | None] | None:
            found = pc.extract_regex(pa.array([name]), text)[0].as_py()
            return {group: value or None for group, value in found.items()} if found is not None else None

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
