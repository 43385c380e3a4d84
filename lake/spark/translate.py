"""SQL of a model, from DuckDB's dialect to Spark's: the same rows, or refused with the construct and the portable way to write it.

sqlglot translates what both dialects name differently. What they compute differently (halves, division, spans of time, decimals) is
rewritten here by the types of the operands. Whatever is not in the set that tests/integration/test_spark_constructs.py runs on both engines
is refused. No Java and no Spark: `make lint` translates every model with `meta.scale_out` (marts/scale_out.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import ErrorLevel, exp, parse_one
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.schema import MappingSchema

from lake.lake import LakeError

Columns = Mapping[str, Mapping[str, str]]
"""{"schema.table": {column: DuckDB type}} of the lake's tables and views that a query reads."""

DECIMAL_MOST = 38
"""Digits of the widest decimal of both engines."""

DAY_SECONDS = 86_400


class Unportable(LakeError):
    """The query uses something that Spark would compute otherwise, or that no test has shown to be the same."""

    def __init__(self, construct: str, portable: str) -> None:
        """`construct` is what stands in the query, `portable` how to write it for both engines."""
        super().__init__(f"not portable: {construct}. {portable}")
        self.construct = construct


@dataclass(frozen=True)
class Translated:
    """Spark SQL, and the columns it reads by table or view `schema.name` of the lake, which it names as `view_name` does."""

    sql: str
    tables: dict[str, tuple[str, ...]]


def view_name(table: str) -> str:
    """Name under which Spark sees the table `schema.name`."""
    return table.replace(".", "__")


def tables_of(query: str) -> set[str]:
    """The tables and views `schema.name` of the lake that a query names. Raises Unportable."""
    try:
        return {f"{t.db}.{t.name}" for t in parse_one(query, read="duckdb").find_all(exp.Table) if t.catalog == "lake"}
    except SqlglotError as error:
        raise Unportable(str(error).splitlines()[0][:200], "Write it so that sqlglot understands it") from None


def to_spark(query: str, columns: Columns) -> Translated:
    """Translates one SELECT of DuckDB over tables of the catalog `lake`. Raises Unportable."""
    nested: dict[str, dict[str, dict[str, str]]] = {}
    for table, of in columns.items():
        schema, _, name = table.partition(".")
        nested.setdefault(schema, {})[name] = dict(of)
    known = MappingSchema({"lake": nested}, dialect="duckdb")
    try:
        tree = _as_written(parse_one(query, read="duckdb"))
        for node in tree.walk():
            _before(node)
        tree = qualify(tree, schema=known, dialect="duckdb")
        tree = annotate_types(tree, schema=known, dialect="duckdb", expression_metadata=TYPES)
    except SqlglotError as error:
        raise Unportable(str(error).splitlines()[0][:200], "Write it so that sqlglot understands it") from None
    read: dict[str, set[str]] = {}
    for scope in traverse_scope(tree):
        for alias, source in scope.sources.items():
            if isinstance(source, exp.Table) and source.db:
                read.setdefault(f"{source.db}.{source.name}", set()).update(c.name for c in scope.columns if c.table == alias)
    # a table of which only rows are counted still needs a column
    tables = {t: tuple(c for c in columns[t] if c in used) or tuple(columns[t])[:1] for t, used in sorted(read.items())}
    return Translated(_translated(tree).sql("spark", unsupported_level=ErrorLevel.RAISE), tables)


# types

_INTEGERS = {"tinyint", "smallint", "int", "bigint", "int128", "hugeint", "utinyint", "usmallint", "uint"}
_FAMILIES = {
    **dict.fromkeys(_INTEGERS, "integer"),
    "decimal": "decimal",
    "double": "float",
    "float": "float",
    "text": "text",
    "varchar": "text",
    "char": "text",
    "date": "date",
    "timestamp": "timestamp",
    "timestampntz": "timestamp",
    "boolean": "boolean",
    "interval": "interval",
    "geometry": "geometry",
    "null": "null",
    "array": "array",
    "list": "array",
}


def _family(node: exp.Expr) -> str:
    """Kind of an operand's type: integer, decimal, float, text, date, timestamp, boolean, interval, geometry, null, array or unknown."""
    if isinstance(node, exp.Null):  # of no type, or, in a UNION, of that of the other side
        return "null"
    kind = node.type.this.value.lower() if node.type is not None else "unknown"
    return _FAMILIES.get(kind, "unknown")


def _returns(kind: str) -> dict[str, Any]:
    return {"returns": exp.DataType.Type[kind]}


def _as_argument(annotator: Any, node: exp.Expr) -> exp.Expr:
    typed: exp.Expr = annotator._annotate_by_args(node, "this")
    return typed


def _product(annotator: Any, node: exp.Mul) -> exp.Expr:
    node = annotator._annotate_binary(node)
    if "interval" in (_family(node.this), _family(node.expression)):
        node.type = exp.DataType.build("INTERVAL")
    return node


FUNCTIONS: dict[str, tuple[str, str]] = {
    # DuckDB's name: (Spark's name, type of the result)
    "bit_count": ("BIT_COUNT", "BIGINT"),
    "epoch_us": ("UNIX_MICROS", "BIGINT"),
    "st_area": ("ST_Area", "DOUBLE"),
    "st_length": ("ST_Length", "DOUBLE"),
    "st_x": ("ST_X", "DOUBLE"),
    "st_y": ("ST_Y", "DOUBLE"),
    "st_xmin": ("ST_XMin", "DOUBLE"),
    "st_xmax": ("ST_XMax", "DOUBLE"),
    "st_ymin": ("ST_YMin", "DOUBLE"),
    "st_ymax": ("ST_YMax", "DOUBLE"),
    "st_intersects": ("ST_Intersects", "BOOLEAN"),
    "st_within": ("ST_Within", "BOOLEAN"),
    "st_contains": ("ST_Contains", "BOOLEAN"),
    "st_touches": ("ST_Touches", "BOOLEAN"),
    "st_overlaps": ("ST_Overlaps", "BOOLEAN"),
    "st_isvalid": ("ST_IsValid", "BOOLEAN"),
    "st_intersection": ("ST_Intersection", "GEOMETRY"),
    "st_difference": ("ST_Difference", "GEOMETRY"),
    "st_union": ("ST_Union", "GEOMETRY"),
    "st_union_agg": ("ST_Union_Aggr", "GEOMETRY"),
    "st_centroid": ("ST_Centroid", "GEOMETRY"),
    "st_geomfromtext": ("ST_GeomFromText", "GEOMETRY"),
    "st_makeenvelope": ("ST_PolygonFromEnvelope", "GEOMETRY"),
}
"""Functions that sqlglot does not know and that give the same in both engines."""


def _anonymous(annotator: Any, node: exp.Anonymous) -> exp.Expr:
    kind = FUNCTIONS.get(node.name.lower(), ("", "UNKNOWN"))[1]
    annotator._set_type(node, exp.DataType.Type[kind])
    return node


TYPES: Any = {
    **DuckDB.EXPRESSION_METADATA,
    exp.Anonymous: {"annotator": _anonymous},
    exp.ArgMax: {"annotator": _as_argument},
    exp.ArgMin: {"annotator": _as_argument},
    exp.Mul: {"annotator": _product},
    exp.Median: {"annotator": _as_argument},
    exp.PercentileCont: {"annotator": _as_argument},
    exp.Floor: {"annotator": _as_argument},
    exp.Ceil: {"annotator": _as_argument},
    exp.Round: {"annotator": _as_argument},
    exp.DateBin: _returns("TIMESTAMP"),
    exp.TimestampTrunc: _returns("TIMESTAMP"),
}

# what is the same in both, once its operands are

SAME: tuple[type[exp.Expr], ...] = (
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Qualify, exp.Order, exp.Ordered, exp.With, exp.CTE, exp.Subquery,
    exp.Union, exp.Table, exp.TableAlias, exp.Alias, exp.Column, exp.Identifier, exp.Star, exp.Literal, exp.Boolean, exp.Null, exp.Paren,
    exp.Tuple, exp.Distinct, exp.Values,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.Between, exp.NullSafeEQ, exp.NullSafeNEQ,
    exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least,
    exp.Mul, exp.Neg, exp.Abs, exp.Sqrt, exp.Pow, exp.Cos, exp.Sin, exp.Radians, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseNot,
    exp.DPipe, exp.Trim, exp.Replace, exp.Contains, exp.StartsWith, exp.Split,
    exp.Window, exp.WindowSpec, exp.Filter, exp.RowNumber, exp.Rank, exp.DenseRank, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue,
    exp.Count, exp.Min, exp.Max, exp.LogicalOr, exp.LogicalAnd, exp.BitwiseOrAgg, exp.BitwiseAndAgg,
    exp.DataType, exp.DataTypeParam, exp.Var, exp.Interval, exp.LastDay,
)  # fmt: skip
"""Node types that need no rule. A node that is neither here nor in a rule is refused."""


_INTERVALS = {
    "to_microseconds": "MICROSECOND",
    "to_seconds": "SECOND",
    "to_minutes": "MINUTE",
    "to_hours": "HOUR",
    "to_days": "DAY",
    "to_months": "MONTH",
}


def _as_written(tree: exp.Expr) -> exp.Expr:
    """Undoes what DuckDB makes of the SQL of a view that it stores: INTERVAL 1 HOUR becomes to_hours(CAST(trunc(CAST(1 AS DOUBLE)) AS BIGINT))."""

    def restored(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Dot) and node.this.name == "main" and isinstance(node.expression, (exp.Func, exp.Tuple)):
            node = node.expression
            if isinstance(node, exp.Anonymous):  # main."trim"(x) is trim(x)
                node = parse_one(f"{node.name}({', '.join(e.sql('duckdb') for e in node.expressions)})", read="duckdb")
        name = "to_days" if isinstance(node, exp.ToDays) else node.name.lower() if isinstance(node, exp.Anonymous) else ""
        arguments = [node.this] if isinstance(node, exp.ToDays) else node.expressions
        if name in _INTERVALS:
            number = arguments[0]
            while isinstance(number, (exp.Cast, exp.Trunc)):
                number = number.this
            if isinstance(number, exp.Literal):
                return exp.Interval(this=exp.Literal.string(number.name), unit=exp.Var(this=_INTERVALS[name]))
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.to.is_type("boolean") and node.this.name in ("t", "f"):
            return exp.Boolean(this=node.this.name == "t")
        if name == "count_star" or (isinstance(node, exp.Count) and node.this is None):  # count(*), and count(*) OVER (…)
            return exp.Count(this=exp.Star(), big_int=True)
        if name == "date_part" and isinstance(arguments[0], exp.Literal):
            return exp.Extract(this=exp.Var(this=arguments[0].name.upper()), expression=arguments[1])
        if isinstance(node, exp.EQ) and isinstance(node.expression, exp.Any) and isinstance(node.expression.this, exp.Subquery):
            return exp.In(this=node.this, query=node.expression.this)
        if name == "row":
            return exp.Tuple(expressions=arguments)
        return node

    for node in reversed(list(tree.bfs())):
        if (made := restored(node)) is not node:
            node.replace(made)
    return tree


def _before(node: exp.Expr) -> None:
    """Refusals that must come before names are resolved: resolving would hide the construct behind another message."""
    match node:
        case exp.Union() if node.args.get("by_name"):
            raise Unportable("UNION BY NAME", "Name the columns of both sides in the same order")
        case exp.With() if node.args.get("recursive"):
            raise Unportable("WITH RECURSIVE", "Make it a model of its own that stays on DuckDB")
        case exp.Join() if (node.method or "").upper() in ("ASOF", "POSITIONAL"):
            raise Unportable(f"{node.method.upper()} JOIN", "Join by the bounds of the span, and pick one with QUALIFY row_number()")
        case exp.Join() if (node.kind or "").upper() in ("SEMI", "ANTI"):
            raise Unportable(f"{node.kind.upper()} JOIN", "Write WHERE … IN (SELECT …), or a LEFT JOIN with IS NULL")
        case exp.Lateral() | exp.Pivot() | exp.Limit() | exp.Offset() | exp.TableSample():
            raise Unportable(type(node).__name__.upper(), _OTHERWISE[type(node)])
        case exp.Unnest() | exp.Table(this=exp.Func()):
            raise Unportable(node.sql("duckdb")[:80], "A function in FROM is DuckDB's own: write SELECT unnest(…) in a subquery")
        case exp.Table() if node.db and node.catalog != "lake":
            raise Unportable(f"table {_text(node)}", "Only tables of the lake are read: lake.schema.name")
        case exp.CurrentTimestamp() | exp.CurrentDate() | exp.CurrentTime() | exp.CurrentDatetime() | exp.Rand():
            raise Unportable(node.sql("duckdb"), "No model reads the clock or chance: use the as_of of the build")
        case exp.Anonymous() if node.name.lower() in ("now", "today", "get_current_timestamp", "uuid"):
            raise Unportable(node.sql("duckdb"), "No model reads the clock or chance: use the as_of of the build")


_OTHERWISE: dict[type[exp.Expr], str] = {
    exp.Lateral: "Write a join or a window",
    exp.Pivot: "Write max(value) FILTER (key = …) for every column",
    exp.Limit: "Which rows are kept is not determined: pick them with QUALIFY row_number()",
    exp.Offset: "Which rows are kept is not determined: pick them with QUALIFY row_number()",
    exp.TableSample: "Which rows are kept is not determined",
}


def _fn(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))


def _cast(node: exp.Expr, kind: str) -> exp.Expr:
    return exp.Cast(this=node, to=exp.DataType.build(kind, dialect="spark"))


def _text(node: exp.Expr) -> str:
    return " ".join(node.sql("duckdb").split())[:100]


class _Refusal(Exception):
    """Says how to write it for both engines; what was refused is the node at hand."""


_UNTESTED = "It is not in the set that is tested on both engines: write it with what is, or add it"


def _translated(tree: exp.Expr) -> exp.Expr:
    """Replaces nodes from the leaves up, so that every rule sees operands that are done and still have their types."""
    originals = list(tree.copy().bfs())
    for node, original in reversed(list(zip(tree.bfs(), originals, strict=True))):
        try:
            if (rule := RULES.get(type(node))) is None and type(node) not in SAME:
                raise _Refusal(_UNTESTED)
            made = rule(node) if rule else node
        except _Refusal as refusal:
            raise Unportable(f"{type(node).__name__.upper()} in `{_text(original)}`", str(refusal)) from None
        if made is not node:
            made.type = node.type
            if node is tree:
                tree = made
            node.replace(made)
    return tree


def _table(node: exp.Table) -> exp.Expr:
    if not node.db:  # a CTE
        return node
    return exp.Table(this=exp.to_identifier(view_name(f"{node.db}.{node.name}"), quoted=True), alias=node.args.get("alias"))


def _to_integer(node: exp.Cast) -> exp.Expr:
    """DuckDB rounds, Spark truncates: halves of a decimal go away from zero, those of a double to the even number."""
    match _family(node.this):
        case "integer" | "boolean" | "null":
            return node
        case "decimal":
            rounded: exp.Expr = _fn("ROUND", node.this.copy())
        case "float":
            rounded = _fn("RINT", node.this.copy())
        case _:
            raise _Refusal("Cast from a number or a boolean")
    return exp.Cast(this=rounded, to=node.to.copy())


def _to_decimal(node: exp.Cast) -> exp.Expr:
    match _family(node.this):
        case "integer" | "decimal" | "boolean" | "null":
            return node
        case "float":
            pass
        case _:
            raise _Refusal("Cast from a number")
    sizes = [int(p.name) for p in node.to.expressions]
    precision, scale = sizes if len(sizes) == 2 else (sizes[0] if sizes else 18, 0 if sizes else 3)
    if precision + scale >= DECIMAL_MOST:
        raise _Refusal(f"Digits and decimals of a cast from DOUBLE must add up to less than {DECIMAL_MOST}")
    # DuckDB multiplies and rounds the double; Spark would round its shortest decimal text
    scaled = _fn("ROUND", exp.Mul(this=exp.Paren(this=node.this.copy()), expression=exp.Literal.number(f"1e{scale}")))
    whole = _cast(scaled, f"DECIMAL({precision}, 0)")
    if scale:
        whole = exp.Paren(this=exp.Mul(this=whole, expression=_cast(exp.Literal.string(f"1e-{scale}"), f"DECIMAL({scale}, {scale})")))
    return exp.Cast(this=whole, to=node.to.copy())


_OF_CAST = {
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint"), _to_integer),
    "decimal": _to_decimal,
}


def _casted(node: exp.Cast) -> exp.Expr:
    wanted = node.to.this.value.lower()
    family, source = _FAMILIES.get(wanted, "unknown"), _family(node.this)
    if wanted in _OF_CAST:
        return _OF_CAST[wanted](node)
    if family == "timestamp":
        if source not in ("date", "timestamp", "null") and not isinstance(node.this, exp.Literal):
            raise _Refusal("Cast from DATE or TIMESTAMP")
        return _ntz(node.this.copy())
    allowed = {
        "date": ("date", "timestamp", "null"),
        "float": ("integer", "decimal", "float", "null"),
        "text": ("integer", "text", "null", "date"),
        "boolean": ("boolean", "null"),
    }.get(family, ())
    if wanted == "float" or (source not in allowed and not isinstance(node.this, exp.Literal)):
        raise _Refusal("It is not the same text or number in both engines")
    return node


def _ntz(node: exp.Expr) -> exp.Expr:
    return _cast(node, "TIMESTAMP_NTZ")


def _micros(node: exp.Expr) -> exp.Expr:
    """Microseconds since 1970; Spark counts those of a moment, which a time without zone becomes in the session's zone, UTC."""
    return _fn("UNIX_MICROS", exp.Cast(this=_ntz(node), to=exp.DataType(this=exp.DataType.Type.TIMESTAMPLTZ)))


def _divided(node: exp.Div) -> exp.Expr:
    divisor = node.expression.unnest()
    zero_safe = isinstance(divisor, exp.Nullif) or (isinstance(divisor, exp.Literal) and float(divisor.name) != 0)
    if isinstance(divisor, exp.Case):
        values = [branch.args["true"] for branch in divisor.args["ifs"]] + ([divisor.args["default"]] if divisor.args.get("default") else [])
        zero_safe = all(isinstance(v, exp.Literal) and float(v.name) != 0 for v in values)
    if not zero_safe:
        raise _Refusal("Division by zero is infinity here and an error there: write a / nullif(b, 0)")
    if _family(node.this) not in _NUMBERS or _family(node.expression) not in _NUMBERS:
        raise _Refusal("Divide numbers")
    return exp.Div(this=_cast(node.this.copy(), "DOUBLE"), expression=_cast(node.expression.copy(), "DOUBLE"))


_NUMBERS = ("integer", "decimal", "float")


def _whole_divided(node: exp.IntDiv) -> exp.Expr:
    """Both engines cut towards zero, in integers."""
    if (_family(node.this), _family(node.expression)) != ("integer", "integer"):
        raise _Refusal("Divide integers with //, or write floor(a / nullif(b, 0))")
    _not_zero(node)
    return exp.Cast(this=exp.Paren(this=exp.IntDiv(this=_paren(node.this), expression=_paren(node.expression))), to=exp.DataType.build("BIGINT"))


def _remainder(node: exp.Mod) -> exp.Expr:
    if (_family(node.this), _family(node.expression)) != ("integer", "integer"):
        raise _Refusal("Take the remainder of integers")
    _not_zero(node)
    return node


def _not_zero(node: exp.Binary) -> None:
    """A divisor of integers that no query should let be zero: Spark stops there, DuckDB gives NULL."""
    divisor = node.expression.unnest()
    if isinstance(divisor, exp.Literal) and float(divisor.name) == 0:
        raise _Refusal("Do not divide by zero")


def _paren(node: exp.Expr) -> exp.Expr:
    return exp.Paren(this=node.copy())


def _moved(node: exp.Add | exp.Sub) -> exp.Expr:
    """Sums and differences; of dates and times they have types of their own."""
    left, right = _family(node.this), _family(node.expression)
    make = type(node)
    if left in _NUMBERS and right in _NUMBERS:
        return node
    match left, right:
        case "timestamp", "interval":
            return node
        case "date", "interval":
            return make(this=_ntz(node.this.copy()), expression=node.expression.copy())
        case "interval", "timestamp" | "date" if make is exp.Add:
            return exp.Add(this=_ntz(node.expression.copy()), expression=node.this.copy())
        case "date", "integer":
            return _fn("DATE_ADD" if make is exp.Add else "DATE_SUB", node.this.copy(), _cast(node.expression.copy(), "INT"))
        case "date", "date" if make is exp.Sub:
            return _cast(_fn("DATEDIFF", node.this.copy(), node.expression.copy()), "BIGINT")
        case "timestamp", "timestamp":
            raise _Refusal("A difference of times is an INTERVAL of another kind there: write date_diff('second', a, b)")
    raise _Refusal("Cast both so that their types say what is meant")


_SPANS = {"second": 1, "minute": 60, "hour": 3600, "day": DAY_SECONDS}


def _unit(node: exp.Expr | None) -> str:
    return node.name.lower().rstrip("s") if node is not None else ""


def _span_between(node: exp.DateDiff) -> exp.Expr:
    """DuckDB counts the boundaries between two times, Spark whole spans: of times cut to the unit both are the same."""
    unit = _unit(node.args.get("unit"))
    families = {_family(node.this), _family(node.expression)}
    if unit not in _SPANS or not families <= {"date", "timestamp"}:
        raise _Refusal(f"date_diff takes {', '.join(_SPANS)} of dates or times")
    if unit == "day":
        return _cast(_fn("DATEDIFF", _cast(node.this.copy(), "DATE"), _cast(node.expression.copy(), "DATE")), "BIGINT")
    later, earlier = (_fn("DATE_TRUNC", exp.Literal.string(unit.upper()), _ntz(side.copy())) for side in (node.this, node.expression))
    return _fn("TIMESTAMPDIFF", exp.Var(this=unit.upper()), earlier, later)


_TRUNCATED = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")


def _truncated(node: exp.TimestampTrunc) -> exp.Expr:
    unit = _unit(node.args.get("unit"))
    if unit not in _TRUNCATED or _family(node.this) not in ("date", "timestamp"):
        raise _Refusal(f"date_trunc takes {', '.join(_TRUNCATED)} of a date or time")
    return _ntz(_fn("DATE_TRUNC", exp.Literal.string(unit.upper()), _ntz(node.this.copy())))


def _bucket(node: exp.DateBin) -> exp.Expr:
    width = node.this
    unit = _unit(width.args.get("unit")) if isinstance(width, exp.Interval) else ""
    seconds = int(width.this.name) * _SPANS.get(unit, 0) if isinstance(width, exp.Interval) and isinstance(width.this, exp.Literal) else 0
    if not seconds or DAY_SECONDS % seconds or node.args.get("zone") or _family(node.expression) not in ("date", "timestamp"):
        raise _Refusal("time_bucket takes a constant width that divides a day (origins differ otherwise); use date_trunc")
    at = _micros(node.expression.copy())
    micros = exp.Literal.number(seconds * 1_000_000)
    start = exp.Sub(this=at, expression=_fn("PMOD", at.copy(), micros))
    return _ntz(_fn("TIMESTAMP_MICROS", start))


def _part_of_time(node: exp.Extract) -> exp.Expr:
    part = node.this.name.lower()
    at = node.expression.copy()
    if _family(node.expression) not in ("date", "timestamp"):
        raise _Refusal("extract takes a date or time")
    match part:
        case "year" | "quarter" | "month" | "day" | "hour" | "minute":
            made: exp.Expr = _fn(part.upper(), at)
        case "isodow":
            made = exp.Paren(this=exp.Add(this=_fn("WEEKDAY", at), expression=exp.Literal.number(1)))
        case "dow":
            made = exp.Paren(this=exp.Sub(this=_fn("DAYOFWEEK", at), expression=exp.Literal.number(1)))
        case _:
            raise _Refusal("extract takes year, quarter, month, day, hour, minute, dow or isodow")
    return _cast(made, "BIGINT")


_FORMATS = {"%Y", "%m", "%d", "%H", "%M", "%S"}


def _formatted(node: exp.TimeToStr) -> exp.Expr:
    pattern = node.args["format"]
    codes = [f"%{c[0]}" for c in pattern.name.split("%")[1:]] if isinstance(pattern, exp.Literal) else [""]
    if (
        not set(codes) <= _FORMATS
        or any(c.isalpha() or c in "'[]{}#" for c in _plain(pattern.name))
        or _family(node.this) not in ("date", "timestamp")
    ):
        raise _Refusal(f"strftime takes {', '.join(sorted(_FORMATS))} with signs between them")
    return node


def _plain(pattern: str) -> str:
    first, *others = pattern.split("%")
    return first + "".join(o[1:] for o in others)


def _summed(node: exp.Sum) -> exp.Expr:
    if _family(node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this) not in ("integer", "decimal"):
        raise _Refusal("The last digits of a sum of DOUBLE depend on its order: cast to decimal before")
    return node


def _averaged(node: exp.Avg) -> exp.Expr:
    raise _Refusal("It is DOUBLE here and DECIMAL there: write cast(sum(x) as double) / nullif(count(x), 0) of a decimal")


def _quantile(node: exp.Median | exp.PercentileCont) -> exp.Expr:
    if _family(node.this) != "float":
        raise _Refusal("The median of integers or decimals is rounded in one engine: cast to double")
    share = node.args.get("expression") or exp.Literal.number("0.5")
    if not isinstance(share, exp.Literal):
        raise _Refusal("The share of a quantile is one constant")
    return _fn("PERCENTILE", node.this.copy(), share.copy())


def _extreme(node: exp.ArgMax | exp.ArgMin) -> exp.Expr:
    """DuckDB passes over rows whose value is NULL, Spark over those whose place is."""
    by = node.expression
    if isinstance(by, exp.Tuple):
        by = _fn("STRUCT", *[e.copy() for e in by.expressions])
    present = exp.Not(this=exp.Is(this=node.this.copy(), expression=exp.Null()))
    place = exp.Case(ifs=[exp.If(this=present, true=by.copy())])
    return _fn("MAX_BY" if isinstance(node, exp.ArgMax) else "MIN_BY", node.this.copy(), place)


def _far(node: exp.StDistance) -> exp.Expr:
    raise _Refusal("DuckDB 1.5.5 gives 0 for shapes apart whose edges lie on one line: compare with ST_Intersects of a buffer, or outside of marts")


def _series(node: exp.GenerateSeries) -> exp.Expr:
    """A list of numbers or times; empty where it would go backwards, which Spark's is not."""
    start, end, step = (node.args.get(k) for k in ("start", "end", "step"))
    assert start is not None
    assert end is not None
    end = end.copy()
    if node.args.get("is_end_exclusive"):
        if step is not None or _family(end) != "integer":
            raise _Refusal("range(a, b) counts integers by one; of times use generate_series")
        end = exp.Sub(this=exp.Paren(this=end), expression=exp.Literal.number(1))
    start = start.copy()
    if step is not None:
        if not isinstance(step, exp.Interval):
            raise _Refusal("The step of generate_series is an interval, or one")
        start, end = _ntz(start), _ntz(end)
    sequence = _fn("SEQUENCE", start, end, step.copy() if step is not None else exp.Literal.number(1))
    return exp.Case(ifs=[exp.If(this=exp.LTE(this=start.copy(), expression=end.copy()), true=sequence)])


def _windowed(node: exp.Window) -> exp.Expr:
    """Spark has no FILTER in a window."""
    inner = node.this
    if isinstance(inner, (exp.FirstValue, exp.LastValue, exp.Lag, exp.Lead, exp.RowNumber)) and not (
        node.args.get("order") or node.args.get("alias")
    ):
        raise _Refusal("Without ORDER BY it is not determined")
    if not isinstance(inner, exp.Filter):
        return node
    made = inner.this.copy()
    if not isinstance(made, (exp.Count, exp.Sum, exp.Min, exp.Max)):
        raise _Refusal("FILTER in a window is for count, sum, min and max")
    value = exp.Literal.number(1) if isinstance(made.this, exp.Star) else made.this.copy()
    made.set("this", exp.Case(ifs=[exp.If(this=inner.expression.this.copy(), true=value)]))
    window = node.copy()
    window.set("this", made)
    return window


def _unnested(select: exp.Select, value: exp.Expr) -> list[exp.Explode]:
    return [e for e in value.find_all(exp.Explode) if e.find_ancestor(exp.Select) is select]


def _projection(node: exp.Select) -> exp.Expr:
    """`f(unnest(list))`: Spark's explode must be outermost, so f goes into the list."""
    for item in list(node.expressions):
        value = item.this if isinstance(item, exp.Alias) else item
        found = _unnested(node, value)
        if not found:
            continue
        if sum(len(_unnested(node, e)) for e in node.expressions) > 1:
            raise _Refusal("One unnest a SELECT")
        if (explode := found[0]) is not value:
            each = exp.to_identifier("_each")
            inside = value.copy()
            for inner in inside.find_all(exp.Explode):
                inner.replace(exp.Column(this=each.copy()))
            value.replace(exp.Explode(this=_fn("TRANSFORM", explode.this.copy(), exp.Lambda(this=inside, expressions=[each]))))
    return node


def _among(node: exp.In) -> exp.Expr:
    """Where an operand is NULL, IN (SELECT …) is NULL in DuckDB and may be false in Spark: allowed where both mean no."""
    if node.args.get("query") is None:
        return node
    child: exp.Expr = node
    while isinstance(child.parent, (exp.And, exp.Or, exp.Paren)):
        child = child.parent
    match child.parent:
        case exp.Where() | exp.Having() | exp.Qualify():
            return node
        case exp.If() if child.arg_key == "this":
            return node
        case exp.Join() if child.arg_key == "on":
            return node
        case exp.Coalesce() if [e.sql() for e in child.parent.expressions] == ["FALSE"]:
            return node
    raise _Refusal("NULL in it is told from false in one engine: put it into WHERE or CASE WHEN, or write coalesce(… IN (SELECT …), false)")


def _shifted(node: exp.BitwiseLeftShift) -> exp.Expr:
    return _fn("SHIFTLEFT", node.this.copy(), _cast(node.expression.copy(), "INT"))


def _named(node: exp.Anonymous) -> exp.Expr:
    known = FUNCTIONS.get(node.name.lower())
    if known is None:
        raise _Refusal(_UNTESTED)
    arguments = [e.copy() for e in node.expressions]
    if node.name.lower() == "epoch_us":
        return _micros(arguments[0])
    if node.name.lower() == "bit_count":
        return _cast(_fn(known[0], *arguments), "BIGINT")
    return _fn(known[0], *arguments)


def _exploded(node: exp.Explode) -> exp.Expr:
    select = node.find_ancestor(exp.Select)
    if not isinstance(select, exp.Select) or not any(node is e for item in select.expressions for e in item.find_all(exp.Explode)):
        raise _Refusal("unnest stands among the columns of a SELECT")
    return node


def _rounded(node: exp.Round) -> exp.Expr:
    if _family(node.this) not in ("decimal", "integer"):
        raise _Refusal("Halves of a DOUBLE are rounded by other digits: cast to a decimal")
    return node


def _cut(node: exp.Floor | exp.Ceil) -> exp.Expr:
    if _family(node.this) not in _NUMBERS or node.args.get("decimals"):
        raise _Refusal("floor and ceil take one number")
    # DuckDB: DOUBLE of a double, a decimal without decimals of a decimal; Spark: a bigint of a double
    made = _fn("FLOOR" if isinstance(node, exp.Floor) else "CEIL", node.this.copy())
    return _cast(made, "DOUBLE") if _family(node.this) == "float" else made


RULES: dict[type[exp.Expr], Callable[[Any], exp.Expr]] = {
    exp.Table: _table,
    exp.Cast: _casted,
    exp.Div: _divided,
    exp.IntDiv: _whole_divided,
    exp.Mod: _remainder,
    exp.Add: _moved,
    exp.Sub: _moved,
    exp.DateDiff: _span_between,
    exp.TimestampTrunc: _truncated,
    exp.DateBin: _bucket,
    exp.Extract: _part_of_time,
    exp.TimeToStr: _formatted,
    exp.Sum: _summed,
    exp.Avg: _averaged,
    exp.Median: _quantile,
    exp.PercentileCont: _quantile,
    exp.ArgMax: _extreme,
    exp.ArgMin: _extreme,
    exp.GenerateSeries: _series,
    exp.Window: _windowed,
    exp.Select: _projection,
    exp.In: _among,
    exp.StDistance: _far,
    exp.BitwiseLeftShift: _shifted,
    exp.Anonymous: _named,
    exp.Explode: _exploded,
    exp.Round: _rounded,
    exp.Floor: _cut,
    exp.Ceil: _cut,
}
