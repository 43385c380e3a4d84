"""What a statement may do, judged on DuckDB's own tree of it. What is not known to be harmless is refused.

Superset checks access on sqlglot's reading of a statement, which differs from DuckDB's (a CTE with the name of a table hides
that table from it, PIVOT and SUMMARIZE hide theirs), and reads it without any limit of time. So, before anything else:

1. `bounded`: length, tokens and nesting, so that every later reading takes bounded time.
2. `tables_of`: DuckDB parses the text; the tree may hold only the kinds of nodes, table references and functions named here.
   A table is named with its schema, or is a CTE that is in scope at that place.
3. `sized`: what it makes of one row, the columns and the expressions that it unfolds into are bounded (sql_size.py).
4. `Judge`: a database without a row, without a file and with the granted tables only. A statement that does not bind there
   reads something else, whatever the tree looked like: to a scope of names that is wrong in our eyes the engine's answer counts.

Nothing here needs Superset. duck_connect.py puts it before every statement that a connection runs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import sql_size

MAX_CHARACTERS = 20_000
MAX_TOKENS = 4_000  # a hundred characters a chart's filter value; Superset reads this many in about half a second
MAX_DEPTH = 30  # brackets, CASE and sub-queries within each other; sqlglot gives up at about 50
MAX_LENGTH = 1_000  # of a text that lpad or rpad makes, times that repeat repeats, bins of equi_width_bins
MAX_MADE = 200_000  # characters that its functions make of one row: DuckDB has 2,048 rows at a time and thread
MAX_COLUMNS = 10_000  # of all its SELECTs
MAX_PARTS = 10_000  # expressions, aliases written out: DuckDB writes them out before it plans
JUDGE_SECONDS = 5

ALLOWED_FUNCTIONS = frozenset(
    word
    for line in Path(__file__).with_name("allowed_functions.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
    for word in line.split()
)
PADDING = {"lpad": 1, "rpad": 1, "repeat": 1, "equi_width_bins": 2}  # function -> argument that is the length
TABLE_FUNCTIONS = {"unnest", "generate_series", "range"}
NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE"}
REFERENCES = {"BASE_TABLE", "SUBQUERY", "JOIN", "EXPRESSION_LIST", "TABLE_FUNCTION", "EMPTY"}
EXPRESSIONS = {
    *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"),
    *("LAMBDA", "OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "WINDOW"),
}
MODIFIERS = {
    *("DISTINCT_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER"),
    *("ASCENDING", "DESCENDING", "ORDER_DEFAULT"),
}

Tables = frozenset[tuple[str, str]]
"""(schema, table), in small letters."""


class Refused(Exception):
    """The statement is not run; the reason is for its author, in Vietnamese."""


# ---- 1. limits


def bounded(sql: str) -> None:
    """Raises Refused for a text that is too long, has too many tokens or is nested too deep to be read in bounded time."""
    if len(sql) > MAX_CHARACTERS:
        raise Refused(f"Câu lệnh dài {len(sql)} ký tự, tối đa {MAX_CHARACTERS}: hãy chia nhỏ")
    if "\0" in sql:
        raise Refused("Câu lệnh chứa ký tự NUL")
    text = sql.encode("utf-8", "surrogatepass")
    tokens = duckdb.tokenize(sql)
    if len(tokens) > MAX_TOKENS:
        raise Refused(f"Câu lệnh có {len(tokens)} thành phần, tối đa {MAX_TOKENS}: hãy chia nhỏ")
    ends = [*(start for start, _ in tokens[1:]), len(text)]
    depth = run = 0
    before: tuple[bytes, ...] = ()
    for (start, kind), end in zip(tokens, ends):
        if kind in (duckdb.token_type.string_const, duckdb.token_type.comment):
            run = 0
            continue
        word = text[start:end].split(b"--")[0].split(b"/*")[0].strip().lower()
        depth += word[:1] in (b"(", b"[", b"{") or word == b"case"
        depth = max(0, depth - (word[:1] in (b")", b"]", b"}") or word == b"end"))
        run = run + 1 if word in (b"not", b"-", b"+", b"~", b"!", b"@") else 0
        if max(depth, run) > MAX_DEPTH:
            raise Refused(f"Câu lệnh lồng nhau quá {MAX_DEPTH} tầng")
        before = (*before[-2:], word)
        if before == (b"as", b"not", b"materialized"):  # the tree does not tell it, and each name of such a CTE is planned anew
            raise Refused("Không cho phép NOT MATERIALIZED: hãy bỏ hai từ đó")


# ---- 2. the tree


def parse(sql: str) -> dict[str, Any]:
    """DuckDB's tree of the one SELECT that `sql` is."""
    bounded(sql)
    con = _parser().cursor()
    try:
        answer = json.loads(con.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
    except (duckdb.Error, ValueError, RecursionError) as error:
        raise Refused("Câu lệnh không đọc được") from error
    finally:
        con.close()
    if answer["error"]:
        if answer.get("error_type") == "not implemented":
            raise Refused("Chỉ cho phép một câu lệnh SELECT")
        raise Refused(f"Câu lệnh không đọc được: {answer.get('error_message', '')}")
    if len(answer["statements"]) != 1 or answer["statements"][0].get("named_param_map"):
        raise Refused("Chỉ cho phép một câu lệnh SELECT, không có tham số")
    return answer["statements"][0]["node"]


def tables_of(sql: str, columns: Mapping[tuple[str, str], int] | None = None) -> Tables:
    """The tables that `sql` names. Raises Refused unless it is one SELECT of harmless parts and of bounded size.

    `columns` says how many each table has; one that is not named there counts as a wide one.
    """
    found: set[tuple[str, str]] = set()
    try:
        tree = parse(sql)
        _look(tree, frozenset(), found)
        sized(tree, columns or {})
    except RecursionError as error:
        raise Refused(f"Câu lệnh lồng nhau quá {MAX_DEPTH} tầng") from error
    tables = frozenset(t for t in found if t[0])
    for _, name in sorted(found - tables):
        if name in {table for _, table in tables}:  # Superset would look for neither rights nor row rules of that table
            raise Refused(f"Tên «{name}» là của một bảng đang đọc: hãy đặt tên khác cho bảng tạm")
    return tables


def sized(tree: dict[str, Any], columns: Mapping[tuple[str, str], int]) -> None:
    """Raises Refused for a statement that unfolds into more than DuckDB may be asked to hold: its own limits do not cover that."""
    size = sql_size.size_of(tree, columns)
    if size.characters > MAX_MADE:
        found = "không có giới hạn" if size.characters >= sql_size.ENDLESS else f"tới {size.characters} ký tự mỗi dòng"
        raise Refused(f"Câu lệnh có thể tạo giá trị quá dài ({found}, tối đa {MAX_MADE}): hãy bớt hàm nối, thay, lặp chữ lồng nhau hoặc trong đệ quy")
    if size.columns > MAX_COLUMNS:
        raise Refused(
            f"Câu lệnh sinh ra quá nhiều cột ({size.columns}, tối đa {MAX_COLUMNS}): hãy ghi tên cột thay cho *, bớt bảng tạm nối với chính nó"
        )
    if size.parts > MAX_PARTS:
        raise Refused(
            f"Câu lệnh có quá nhiều biểu thức ({size.parts}, tối đa {MAX_PARTS}; tên đặt lại được viết thành biểu thức của nó, CUBE thành mọi tổ hợp): "
            "hãy tính từng bước bằng bảng tạm (WITH), bớt cột trong CUBE, ROLLUP"
        )


def _look(part: Any, ctes: frozenset[str], found: set[tuple[str, str]]) -> None:
    """Walks the whole tree: each part is of a known kind, or the statement is refused."""
    if isinstance(part, list):
        for item in part:
            _look(item, ctes, found)
    elif isinstance(part, dict):
        kind, expression = part.get("type"), part.get("class")
        if expression is not None:
            if expression not in EXPRESSIONS:
                raise Refused(f"Không cho phép {expression}")
            if expression == "CONSTANT":
                return
            if "function_name" in part:
                _function(part)
        elif isinstance(kind, str) and kind.endswith("_NODE"):
            _node(part, ctes, found)
            return
        elif isinstance(kind, str) and "sample" in part and "alias" in part:
            _reference(part, ctes, found)
            part = {k: v for k, v in part.items() if k not in ("sample", "function")} | {"arguments": part.get("function", {}).get("children", [])}
        elif isinstance(kind, str) and kind not in MODIFIERS and not kind.endswith("_TYPE_INFO"):
            raise Refused(f"Không cho phép {kind}")
        for name, value in part.items():
            if name != "sample":
                _look(value, ctes, found)


def _node(node: dict[str, Any], ctes: frozenset[str], found: set[tuple[str, str]]) -> None:
    """A query; its CTEs are in scope from where they stand on, and a recursive one in its own second half."""
    if node["type"] not in NODES:
        raise Refused(f"Không cho phép {node['type']}")
    for entry in node["cte_map"]["map"]:
        name, query = entry["key"].lower(), entry["value"]["query"]["node"]
        if name in system_names():
            raise Refused(f"Tên «{entry['key']}» là của hệ thống: hãy đặt tên khác cho bảng tạm")
        if query["type"] == "RECURSIVE_CTE_NODE":
            _look(query["left"], ctes, found)
            _look(query["right"], ctes | {name}, found)
            _look({k: v for k, v in query.items() if k not in ("left", "right", "type")}, ctes, found)
        else:
            _look(query, ctes, found)
        _look({k: v for k, v in entry["value"].items() if k != "query"}, ctes, found)
        ctes = ctes | {name}
        found.add(("", name))
    for name, value in node.items():
        if name not in ("cte_map", "sample"):
            _look(value, ctes, found)


def _reference(part: dict[str, Any], ctes: frozenset[str], found: set[tuple[str, str]]) -> None:
    """One entry of FROM."""
    kind = part["type"]
    if kind not in REFERENCES:
        raise Refused(f"Không cho phép {'DESCRIBE, SUMMARIZE, SHOW' if kind == 'SHOW_REF' else kind}")
    if kind == "TABLE_FUNCTION":
        function = part["function"]
        if function.get("class") != "FUNCTION" or function["function_name"].lower() not in TABLE_FUNCTIONS or function["catalog"]:
            raise Refused(f"Không cho phép hàm bảng {function.get('function_name', '')}")
    if kind == "BASE_TABLE":
        catalog, schema, table = (str(part[f"{k}_name"]).lower() for k in ("catalog", "schema", "table"))
        if part["at_clause"]:
            raise Refused("Không cho phép AT")
        if not schema and not catalog:
            if table not in ctes:
                raise Refused(f"Không có bảng «{part['table_name']}»: ghi tên bảng kèm lược đồ, ví dụ marts_environment.reading_daily")
        elif not schema or catalog not in ("", ALIAS):
            raise Refused(f"Không có bảng «{part['table_name']}» trong phần được xem")
        else:
            found.add((schema, table))


def _function(part: dict[str, Any]) -> None:
    """A call in an expression."""
    name = part["function_name"].lower()
    if part.get("catalog"):
        raise Refused(f"Không cho phép hàm {name}")
    if name in PADDING:
        length = part["children"][PADDING[name]] if len(part["children"]) > PADDING[name] else {}
        value = length.get("value", {}).get("value") if length.get("class") == "CONSTANT" else None
        if not isinstance(value, int) or value > MAX_LENGTH:
            raise Refused(f"Hàm {name} cần độ dài là một số không quá {MAX_LENGTH}")
    elif name not in ALLOWED_FUNCTIONS:
        raise Refused(f"Không cho phép hàm {name}")


# ---- 3. the engine's answer

ALIAS = "serving"  # of the file in every connection: names that users keep do not change with its version
LOCKED: Mapping[str, str] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}


@functools.cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={**LOCKED, "threads": "1"})


@functools.cache
def system_names() -> frozenset[str]:
    """What DuckDB finds under a bare name although nobody made it, and what it could take for a database."""
    rows = _parser().cursor().execute("SELECT view_name FROM duckdb_views() WHERE internal UNION SELECT schema_name FROM duckdb_schemas()").fetchall()
    return frozenset({*(name.lower() for (name,) in rows), ALIAS, "memory", "temp", "system"})


class Unjudged(Refused):
    """No verdict: the statement was not judged for want of time or memory, which may be there next time."""


@contextlib.contextmanager
def _timed(seconds: float, interrupt: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Judge:
    """A locked database that has the granted tables, empty, and nothing else."""

    def __init__(
        self,
        columns: Iterable[tuple[str, str, str, str]],
        granted: Tables | None,
        watched: Callable[[float, Callable[[], None]], contextlib.AbstractContextManager[None]] = _timed,
    ) -> None:
        """`columns` are (schema, table, column, type) of the file in their order; `granted` None means every table.

        `watched` calls the interrupt that it is given when the block under it lasts longer than so many seconds.
        """
        self._watched = watched
        tables: dict[tuple[str, str], list[str]] = {}
        for schema, table, column, kind in columns:
            if granted is None or (schema.lower(), table.lower()) in granted:
                tables.setdefault((schema, table), []).append(f"{_quoted(column)} {kind}")
        self.tables = {(schema.lower(), table.lower()): len(declared) for (schema, table), declared in tables.items()}
        self._con = duckdb.connect(":memory:", config={"threads": "1", "memory_limit": "256MB"})
        self._con.execute(f"ATTACH ':memory:' AS {ALIAS}")
        self._con.execute(f"USE {ALIAS}")
        for schema in {s for s, _ in tables}:
            self._con.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
        for (schema, table), declared in tables.items():
            self._con.execute(f"CREATE TABLE {_quoted(schema)}.{_quoted(table)} ({', '.join(declared)})")
        # only names and types are asked for: an optimizer would compute what is constant, and hear no interrupt meanwhile
        optimizers = ",".join(name for (name,) in self._con.execute("SELECT name FROM duckdb_optimizers()").fetchall())
        self._con.execute(f"SET GLOBAL disabled_optimizers = '{optimizers}'")
        for name, value in LOCKED.items():
            self._con.execute(f"SET {name} = {value}")
        self._verdict = functools.lru_cache(maxsize=512)(self._try)

    def check(self, sql: str) -> None:
        """Raises Refused unless `sql` is one SELECT that reads granted tables only."""
        reason = self._verdict(sql)
        if reason:
            raise Refused(reason)

    def _try(self, sql: str) -> str | None:
        try:
            foreign = sorted(tables_of(sql, self.tables) - self.tables.keys())
            if foreign:
                return f"Không có bảng {', '.join('.'.join(t) for t in foreign)} trong phần được xem"
            self._bind(sql)
        except Unjudged:
            raise
        except Refused as refused:
            return str(refused)
        return None

    def _bind(self, sql: str) -> None:
        con = self._con.cursor()
        try:
            with self._watched(JUDGE_SECONDS, con.interrupt):
                con.execute(f"USE {ALIAS}")
                con.execute(f"EXPLAIN {sql}")
        except duckdb.InterruptException as error:
            raise Unjudged(f"Câu lệnh không xét xong trong {JUDGE_SECONDS} giây") from error
        except duckdb.OutOfMemoryException as error:
            raise Unjudged("Câu lệnh cần nhiều bộ nhớ hơn mức cho phép để được xét") from error
        except (duckdb.Error, RuntimeError) as error:
            raise Refused(f"Câu lệnh không chạy được trên các bảng được xem: {error}") from error
        finally:
            con.close()


def columns_of(con: duckdb.DuckDBPyConnection, database: str) -> list[tuple[str, str, str, str]]:
    """(schema, table, column, type) of every table of an attached database, in order."""
    return con.execute(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = ? ORDER BY schema_name, table_name, column_index",
        [database],
    ).fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def neutral(cell: Any) -> Any:
    """A cell of an export that no spreadsheet takes for a formula: an apostrophe stands before what could start one.

    A carriage return becomes a line feed, which every writer quotes: unquoted it begins a line, and a formula in it.
    """
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    start = text.lstrip(" \u00a0\u3000\ufeff")[:1]
    return (
        f"'{text}"
        if start in ("=", "+", "-", "@", "\t", "\n", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20") and start and not _is_number(text)
        else text
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return text.isascii() and text == text.strip()
