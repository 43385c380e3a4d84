"""How large what a statement makes may become, reckoned from DuckDB's tree of it before anything runs.

DuckDB's limit of memory covers tables, sorts and aggregates, but neither the texts and lists that a function makes row by row nor the
work of its own planner: `replace` within `replace` makes a gigabyte of one row, a chain of aliases (`a + a AS b, b + b AS c, …`) or of
CTEs that join themselves doubles with every link, and neither hears an interrupt meanwhile. Here every value has an upper bound in characters:

* a constant its own length, what is stored `STORED`, a number or a moment `FIXED`;
* a function what its arguments add up to, unless it is named below as making more of them or less;
* a name that another part of the statement defines the largest value there (that name's own, where it is an alias of the same SELECT).

`Size` is counted over the whole statement. Nothing that this module does not know is taken for small.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

FIXED = 20
STORED = 100  # characters; longer stored texts (boundaries) are few
GATHERED = 20  # values that an aggregate puts into one; the aggregate itself is under DuckDB's limit of memory
UNKNOWN_COLUMNS = 100
ENDLESS = 10**18
NESTED = 3  # lambdas, and recursions, within each other that are reckoned twice; what is deeper counts as endless or by its larger bound

KEEPS = frozenset(  # no longer than the longest argument
    [
        "any_value",
        "arbitrary",
        "arg_max",
        "arg_max_null",
        "arg_max_nulls_last",
        "arg_min",
        "arg_min_null",
        "arg_min_nulls_last",
        "argmax",
        "argmin",
        "coalesce",
        "ifnull",
        "nullif",
        "first",
        "first_value",
        "last",
        "last_value",
        "nth_value",
        "lag",
        "lead",
        "fill",
        "greatest",
        "least",
        "max",
        "max_by",
        "min",
        "min_by",
        "median",
        "mode",
        "quantile",
        "quantile_cont",
        "quantile_disc",
        "lower",
        "upper",
        "lcase",
        "ucase",
        "trim",
        "ltrim",
        "rtrim",
        "left",
        "right",
        "left_grapheme",
        "right_grapheme",
        "substr",
        "substring",
        "substring_grapheme",
        "reverse",
        "split_part",
        "regexp_extract",
        "translate",
        "nfc_normalize",
        "strip_accents",
        "array_extract",
        "list_extract",
        "list_element",
        "element_at",
        "struct_extract",
        "struct_extract_at",
        "map_extract",
        "map_extract_value",
        "array_slice",
        "list_slice",
        "list_filter",
        "array_filter",
        "filter",
        "list_distinct",
        "array_distinct",
        "list_sort",
        "array_sort",
        "list_reverse_sort",
        "array_reverse_sort",
        "list_reverse",
        "array_reverse",
        "flatten",
        "unnest",
        "list_first",
        "list_last",
        "list_min",
        "list_max",
        "url_decode",
        "parse_filename",
        "parse_dirname",
        "parse_dirpath",
        "union_extract",
        "switch",
        "list_any_value",
        "array_unique",
        "list_unique",
        "&",
        "|",
        "xor",
        "~",
        "<<",
        ">>",
    ]
)
SHORT = frozenset(
    ["md5", "sha1", "sha256", "dayname", "monthname", "format_bytes", "formatreadablesize", "formatreadabledecimalsize", "to_base", "hash"]
)
TIMES = {  # so many times its arguments
    **dict.fromkeys(["hex", "to_hex", "base64", "to_base64", "regexp_escape"], 2),
    **dict.fromkeys(["bin", "to_binary"], 8),
    **dict.fromkeys(["url_encode", "strftime"], 9),
    "encode": 4,
    "typeof": 8,
    **dict.fromkeys(
        [
            "to_json",
            "json_quote",
            "json_object",
            "json_array",
            "array_to_json",
            "row_to_json",
            "json_merge_patch",
            "json_structure",
            "json_transform",
            "json_transform_strict",
            "from_json",
            "from_json_strict",
            "json",
        ],
        6,
    ),
    **dict.fromkeys(
        [
            "string_split",
            "str_split",
            "split",
            "string_split_regex",
            "str_split_regex",
            "regexp_split_to_array",
            "string_to_array",
            "regexp_extract_all",
            "parse_path",
        ],
        16,
    ),
    **dict.fromkeys(
        ["list", "array_agg", "string_agg", "listagg", "group_concat", "histogram", "json_group_array", "json_group_object", "json_group_structure"],
        GATHERED,
    ),
    **dict.fromkeys(["approx_top_k", "bitstring_agg"], GATHERED),
}
PRODUCT = frozenset(  # each of one for each of the other
    [
        "array_to_string",
        "array_to_string_comma_default",
        "list_string_agg",
        "list_aggr",
        "list_aggregate",
        "array_aggr",
        "array_aggregate",
        "list_select",
        "array_select",
        "json_extract",
        "json_extract_path",
        "json_extract_string",
        "json_extract_path_text",
        "json_value",
        "json_keys",
        "json_type",
        "->",
        "->>",
        "json_pretty",
    ]
)
MAPS = frozenset(["list_transform", "array_transform", "list_apply", "array_apply", "apply"])
FILTERS = frozenset(["list_filter", "array_filter", "filter"])
REDUCES = frozenset(["list_reduce", "array_reduce", "reduce"])
TRUTHS = {"COMPARISON", "CONJUNCTION", "BETWEEN"}
TRUTH_OPERATORS = {"OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "COMPARE_IN", "COMPARE_NOT_IN", "GROUPING_FUNCTION"}
KEEPING_OPERATORS = {"OPERATOR_COALESCE", "OPERATOR_NULLIF", "ARRAY_EXTRACT", "ARRAY_SLICE", "STRUCT_EXTRACT", "OPERATOR_TRY"}
FIXED_TYPES = frozenset(
    [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP_NS",
        "INTERVAL",
        "UUID",
    ]
) | {"TIMESTAMP WITH TIME ZONE", "TIME WITH TIME ZONE"}


@dataclass
class Size:
    """Of a whole statement."""

    characters: int = 0
    """Upper bound of what its functions make of one row, those of every step added up; what is no longer than a stored value is not counted."""
    columns: int = 0
    """Of all its SELECTs, stars written out."""
    parts: int = 0
    """Expressions, aliases written out."""


@dataclass(frozen=True)
class Value:
    """Bounds of one value."""

    length: int = STORED
    parts: int = 1


@dataclass(frozen=True)
class Rows:
    """Bounds of what one entry of FROM, or a query, yields."""

    columns: int = 0
    length: int = FIXED
    names: frozenset[str] = frozenset()
    """By which its whole row may be asked for."""


@dataclass(frozen=True)
class _Scope:
    ctes: Mapping[str, Rows]
    seen: Rows
    """What stands in FROM here and around."""
    values: Mapping[str, Value]
    """Aliases of this SELECT."""
    parameters: Mapping[str, Value]
    """Of the lambdas around."""
    nested: int = 0
    """Lambdas and recursions around."""


def size_of(node: dict[str, Any], columns: Mapping[tuple[str, str], int]) -> Size:
    """Of the statement that `node` is; `columns` are those of the tables, in small letters."""
    reckoning = _Reckoning(columns)
    reckoning.query(node, _Scope({}, Rows(), {}, {}))
    return reckoning.size


@functools.cache
def fixed_functions() -> frozenset[str]:
    """Functions of DuckDB whose every form yields a number, a truth value or a moment."""
    with duckdb.connect(":memory:") as con:
        rows = con.execute("SELECT lower(function_name), list(coalesce(return_type, '')) FROM duckdb_functions() GROUP BY ALL").fetchall()
    return frozenset(name for name, types in rows if FIXED_TYPES.issuperset(types)) | {
        "=",
        "<>",
        "<",
        ">",
        "<=",
        ">=",
        "!",
        "grouping",
        "grouping_id",
    }


class _Reckoning:
    def __init__(self, columns: Mapping[tuple[str, str], int]) -> None:
        self.columns, self.size = columns, Size()

    # ---- queries

    def query(self, node: dict[str, Any], scope: _Scope) -> Rows:
        for entry in node["cte_map"]["map"]:
            name, rows = entry["key"].lower(), self.query(entry["value"]["query"]["node"], scope)
            scope = replace(scope, ctes={**scope.ctes, name: rows})
        if node["type"] == "SELECT_NODE":
            return self._select(node, scope)
        if node["type"] == "RECURSIVE_CTE_NODE":
            found = self._recursion(node, scope)
        else:
            sides = [self.query(side, scope) for side in (node.get("left"), node.get("right"), *node.get("children", ())) if side]
            found = Rows(sum(s.columns for s in sides), max(s.length for s in sides))  # by name: each side may bring its own
        self._all(node["modifiers"], replace(scope, seen=found))
        return found

    def _recursion(self, node: dict[str, Any], scope: _Scope) -> Rows:
        """Of as many steps as may be: endless, where a step makes more of what it is given."""
        first = self.query(node["left"], scope)

        def step(length: int) -> Rows:
            given = replace(first, length=length)
            return self.query(node["right"], replace(scope, ctes={**scope.ctes, node["cte_name"].lower(): given}, nested=scope.nested + 1))

        once = step(max(first.length, FIXED))
        columns, length = max(first.columns, once.columns), max(first.length, FIXED, once.length)
        if length > max(first.length, FIXED) and (scope.nested >= NESTED or step(length).length > length):
            self.size.characters = length = ENDLESS
        return Rows(columns, length)

    def _select(self, node: dict[str, Any], scope: _Scope) -> Rows:
        rows = self._from(node["from_table"], scope)
        inner = replace(scope, seen=_beside(rows, scope.seen), values={})
        columns = length = 0
        for item in node["select_list"]:
            before = (self.size.characters, self.size.parts)
            value = self.value(item, inner)
            spread = _spread(item, rows)
            columns += spread + (value.length // FIXED if item.get("function_name", "").lower() == "unnest" else 0)  # of a struct its fields
            self.size.characters += (self.size.characters - before[0]) * (spread - 1)
            self.size.parts += (self.size.parts - before[1]) * (spread - 1)
            length = max(length, value.length)
            if item.get("alias"):
                inner = replace(inner, values={**inner.values, item["alias"].lower(): value})
        for name in ("where_clause", "group_expressions", "having", "qualify", "modifiers"):
            self._all(node[name], inner)
        columns = min(columns, ENDLESS)
        self.size.columns += columns
        self.size.parts += sum(len(s) for s in node["group_sets"])
        return Rows(columns, length)

    def _from(self, part: dict[str, Any], scope: _Scope) -> Rows:
        """One entry of FROM, with all that it joins."""
        kind = part["type"]
        if kind == "JOIN":
            left = self._from(part["left"], scope)
            both = _beside(left, self._from(part["right"], replace(scope, seen=_beside(left, scope.seen))))
            self._all(part.get("condition"), replace(scope, seen=_beside(both, scope.seen)))
            return both
        names = frozenset(str(n).lower() for n in (part.get("alias"), part.get("table_name")) if n)
        if kind == "BASE_TABLE":
            schema, table = str(part["schema_name"]).lower(), str(part["table_name"]).lower()
            known = scope.ctes.get(table) if not schema else None
            found = known or Rows(self.columns.get((schema, table), UNKNOWN_COLUMNS), STORED)
        elif kind == "SUBQUERY":
            found = self.query(part["subquery"]["node"], scope)
        elif kind == "EXPRESSION_LIST":
            values = [[self.value(v, scope) for v in row] for row in part["values"]]
            found = Rows(max(map(len, values)), max(v.length for row in values for v in row))
        elif kind == "TABLE_FUNCTION":
            length = self.value(part["function"], scope).length
            found = Rows(2 + length // FIXED, length)  # unnest of structs makes columns of them
        else:
            found = Rows()
        return replace(found, names=names)

    # ---- values

    def _all(self, part: Any, scope: _Scope) -> None:
        for expression in _expressions(part):
            self.value(expression, scope)

    def value(self, part: dict[str, Any], scope: _Scope) -> Value:
        """Bounds of an expression; what it makes is added to the size of the statement."""
        kind, sub = part["class"], [*_children(part)]
        if part.get("function_name") and part["function_name"].lower() in MAPS | FILTERS | REDUCES and len(sub) > 1 and sub[1]["class"] == "LAMBDA":
            found = self._lambda(part["function_name"].lower(), sub, scope)
        elif kind == "LAMBDA":
            found = self.value(part["expr"], replace(scope, parameters={**scope.parameters, **dict.fromkeys(_parameters(part), Value())}))
        else:
            given = [self.value(s, scope) for s in sub]
            if _is_sum(part):  # of what a sum adds up only the whole counts
                self.size.characters -= sum(v.length for s, v in zip(sub, given) if _is_sum(s) and v.length > STORED)
            for other in _others(part):
                self.value(other, scope)
            parts = 1 + sum(v.parts for v in given)
            found = Value(min(self._length(part, [v.length for v in given], scope), ENDLESS), min(parts, ENDLESS))
        if kind == "COLUMN_REF":
            found = _named(part["column_names"], scope)
        if kind in ("FUNCTION", "WINDOW", "CAST", "OPERATOR", "COLLATE", "LAMBDA") and found.length > STORED:
            self.size.characters += found.length
        self.size.parts += found.parts if kind == "COLUMN_REF" else 1
        return found

    def _length(self, part: dict[str, Any], given: list[int], scope: _Scope) -> int:
        kind, most, total = part["class"], max(given, default=FIXED), sum(given)
        if kind == "CONSTANT":
            return len(str(part["value"].get("value", "")))
        if kind in TRUTHS or (kind == "OPERATOR" and part["type"] in TRUTH_OPERATORS):
            return FIXED
        if kind == "CAST":
            target = str((part.get("cast_type") or {}).get("id", ""))
            if target in FIXED_TYPES:
                return FIXED
            return most if part["child"]["class"] in ("COLUMN_REF", "CONSTANT") else most * 4
        if kind == "CASE" or (kind == "OPERATOR" and part["type"] in KEEPING_OPERATORS):
            return most
        if kind == "COLLATE":
            return most * 4
        if kind == "STAR":
            return max(scope.seen.columns, 1) * scope.seen.length if part.get("columns") or part.get("expr") else max(scope.seen.length, most)
        if kind == "POSITIONAL_REFERENCE":
            return scope.seen.length
        if kind == "SUBQUERY":
            rows = self.query(part["subquery"]["node"], replace(scope, values={}, seen=_widened(scope)))
            whole = {"EXISTS": FIXED, "NOT_EXISTS": FIXED, "ANY": FIXED, "ARRAY": rows.length * GATHERED}
            return whole.get(part["subquery_type"], rows.length * max(rows.columns, 1))
        if "function_name" in part:
            return _call(part, given, most, total)
        return total

    def _lambda(self, name: str, sub: list[dict[str, Any]], scope: _Scope) -> Value:
        """Of n characters a list has n elements of one, or one of n, or what lies between: the larger of both bounds, and their product where it is deep."""
        values = self.value(sub[0], scope)

        def body(length: int) -> Value:
            given = dict.fromkeys(_parameters(sub[1]), Value(length))
            return self.value(sub[1]["expr"], replace(scope, parameters={**scope.parameters, **given}, nested=scope.nested + 1))

        rest = [self.value(s, scope) for s in sub[2:]]
        longest = max([values.length, *(r.length for r in rest)])
        whole = body(longest)
        parts = 1 + values.parts + whole.parts + sum(r.parts for r in rest)
        if name in FILTERS:
            return Value(values.length, parts)
        if name in MAPS:
            each = whole if scope.nested >= NESTED else body(1)
            return Value(min(max(values.length * each.length, whole.length), ENDLESS), parts)
        return Value(longest if whole.length <= max(longest, FIXED) else ENDLESS, parts)


def _call(part: dict[str, Any], given: list[int], most: int, total: int) -> int:
    """Of a call whose arguments are `given` long."""
    name = part["function_name"].lower()
    if name == "chr":
        return 1
    if name in fixed_functions() or name in SHORT:
        return FIXED
    if _is_sum(part) and any(_is_fixed(c) for c in part["children"]):
        return FIXED  # of numbers and moments; + joins lists too, but no list with one of these
    if name in KEEPS:
        return most
    if name == "repeat":
        return given[0] * max(_number(part, 1), 1)
    if name in ("lpad", "rpad"):
        return max(_number(part, 1), 1)
    if name == "equi_width_bins":
        return FIXED * max(_number(part, 2), 1)
    if name == "replace" and len(given) == 3:
        sought = part["children"][1]
        least = max(given[1], 1) if sought["class"] == "CONSTANT" else 1
        return given[0] * max(-(-given[2] // least), 1)
    if name == "regexp_replace" and len(given) > 2:
        return given[0] * (1 + 2 * given[2])
    if name == "concat_ws":
        return total + given[0] * len(given)
    if name in PRODUCT:
        product = most if name == "json_pretty" else 1
        for length in given:
            product = min(product * max(length, 1), ENDLESS)
        return product
    return max(total, FIXED) * TIMES.get(name, 1)


def _is_sum(part: dict[str, Any]) -> bool:
    return str(part.get("function_name", "")).lower() in ("+", "add")


def _is_fixed(part: dict[str, Any]) -> bool:
    """Whether an expression is a number, a truth value or a moment, whatever its columns are."""
    if part["class"] == "CONSTANT":
        return True
    if part["class"] == "CAST":
        return str((part.get("cast_type") or {}).get("id", "")) in FIXED_TYPES
    name = str(part.get("function_name", "")).lower()
    return name in fixed_functions() or (_is_sum(part) and any(_is_fixed(c) for c in part["children"]))


def _named(names: list[str], scope: _Scope) -> Value:
    """A name: of a lambda or an alias here, of a whole row, or of a column of what is in FROM."""
    first = names[0].lower()
    column = Value(max(scope.seen.length, FIXED))
    if first in scope.seen.names and len(names) == 1:
        column = Value(min(scope.seen.length * max(scope.seen.columns, 1), ENDLESS))
    if first in scope.parameters:
        return scope.parameters[first]
    known = scope.values.get(first, column)
    return Value(max(known.length, column.length), known.parts)  # an alias may be hidden by a column of the same name


def _widened(scope: _Scope) -> Rows:
    """What a sub-query sees of the query around it: its aliases too."""
    return replace(scope.seen, length=max([scope.seen.length, *(v.length for v in scope.values.values())]))


def _beside(one: Rows, other: Rows) -> Rows:
    return Rows(min(one.columns + other.columns, ENDLESS), max(one.length, other.length), one.names | other.names)


def _spread(item: dict[str, Any], rows: Rows) -> int:
    """Columns that an item of a SELECT becomes."""
    if any(e["class"] == "STAR" for e in (item, *_expressions_within(item))):
        return max(rows.columns, 1) + (rows.length // FIXED if item.get("relation_name") else 0)
    return 1


def _number(part: dict[str, Any], place: int) -> int:
    """The constant at this place of a call; where it is none, no end of it."""
    argument = part["children"][place] if len(part["children"]) > place else {}
    value = argument.get("value", {}).get("value") if argument.get("class") == "CONSTANT" else None
    return value if isinstance(value, int) else ENDLESS


def _parameters(part: dict[str, Any]) -> list[str]:
    """Names that a lambda gives."""
    return [e["column_names"][0].lower() for e in (part["lhs"], *_expressions_within(part["lhs"])) if e["class"] == "COLUMN_REF"]


def _children(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the value of an expression is made of."""
    keys: Iterable[str] = ("children", "child", "case_checks", "else_expr", "left", "right", "input", "lower", "upper", "expr", "replace_list")
    for key in keys:
        yield from _expressions(part.get(key))


def _others(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What else stands in an expression: filters, orders, frames."""
    known = {
        "children",
        "child",
        "case_checks",
        "else_expr",
        "left",
        "right",
        "input",
        "lower",
        "upper",
        "expr",
        "replace_list",
        "lhs",
        "subquery",
        "value",
    }
    for key, value in part.items():
        if key not in known:
            yield from _expressions(value)


def _expressions(part: Any) -> Iterator[dict[str, Any]]:
    """The outermost expressions in a piece of the tree."""
    if isinstance(part, dict):
        if "class" in part:
            yield part
        elif not str(part.get("type", "")).endswith("_NODE"):
            for value in part.values():
                yield from _expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from _expressions(value)


def _expressions_within(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in part.items():
        if key != "subquery":
            for expression in _expressions(value):
                yield expression
                yield from _expressions_within(expression)
