"""The contract of a source: one YAML says all that is particular to it.

Header names, layout, units, decimal sign, time zone and CRS are data here, never code: a new source is a
new YAML in `ingestion/contracts/<domain>/` or in `<TNMT_HOME>/contracts/`, and code only where its format is new.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ingestion.expressions import searcher
from ingestion.units import UnitError, conversion
from tnmt.settings import SettingsError, by_name, read_yaml

CONTRACTS = Path(__file__).parent / "contracts"

SIMPLE_TYPES = {
    "text": "VARCHAR",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "double": "DOUBLE",
    "geometry": "GEOMETRY",
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")
_OFFSET = re.compile(r"([+-])(\d{2}):(\d{2})")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_READING = ("station_id", "parameter", "value", "unit", "measured_at", "status")
"""What a reading is made of (ingestion/reading.sql)."""
SQL_WORDS = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "anti",
        "any",
        "array",
        "as",
        "asc",
        "asof",
        "asymmetric",
        "at",
        "authorization",
        "binary",
        "both",
        "by",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "default",
        "deferrable",
        "desc",
        "describe",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "glob",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lambda",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "pivot",
        "pivot_longer",
        "pivot_wider",
        "placing",
        "positional",
        "primary",
        "qualify",
        "references",
        "returning",
        "right",
        "select",
        "semi",
        "show",
        "similar",
        "some",
        "summarize",
        "symmetric",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "unpack",
        "unpivot",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ]
)
"""Words that DuckDB takes for no column's name (duckdb_keywords). Written down: to ask for them takes 0.02 s at every start."""


def re2(pattern: str) -> int:
    """Number of groups of a pattern that RE2 knows (its time is linear in the text, whatever the pattern); ValueError for any other."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
        return re.compile(pattern).groups
    except (pa.ArrowInvalid, re.error) as error:
        raise ValueError(f"is no regular expression of RE2: {error}") from error


class ContractError(Exception):
    """A contract that cannot be used; the text says what, expected, found and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Owner(_Strict):
    """The unit that answers for the source, and whom to ask."""

    unit: str
    contact: str = ""


class AsOf(_Strict):
    """Where a delivery says which moment it describes: its file name, a column (the latest value), or its arrival."""

    origin: Literal["file_name", "column", "received"] = Field("received", alias="from")
    column: str | None = None


def _compiles(value: str) -> str:
    searcher(value)
    return value


NamePattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression for the names of files, which compiles in every engine that reads it."""


class Files(_Strict):
    """Which files belong to the source. Named groups of `pattern`, or of the patterns of its `formats`, can feed columns (`from_name`)."""

    pattern: NamePattern = r"^.+$"
    as_of_format: str = "%Y%m%d%H%M%S"
    small: bool = False
    in_place: bool = False
    """Files stay where they are and are known by hash (scans); the inbox is a folder that is only read."""
    quiet_seconds: float | None = Field(None, ge=0)
    """A file is taken when its last change is this old. Unsaid: at once where nobody has it open for writing, else, if not small, after 3 s."""
    folder: str | None = None
    """Inbox folder; the source's name unless said. Several sources may share one, told apart by `pattern`."""

    @field_validator("folder")
    @classmethod
    def _below_the_inbox(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\w[\w .-]*(/\w[\w .-]*)*", value):
            raise ValueError("must be a folder below the inbox, such as `quan_trac` or `quan_trac/nuoc`: no absolute path, no `..`")
        return value


class Format(_Strict):
    """The reader and its options. Options of other readers are refused by `Contract`."""

    reader: Literal["station_txt", "csv", "xlsx", "json", "vector", "postgis", "scan"]
    # text
    delimiter: str = ","
    quote: str = '"'
    encoding: Literal["utf-8", "utf-8-sig", "windows-1258", "tcvn3"] = "utf-8-sig"
    decimal: Literal[".", ",", "any"] | None = None
    """Unsaid: either sign, where it cannot be one of thousands (12,5 and 0.673 are read, 1.250 and 1,250 refused). `any`: loggers, whose
    point is always decimal; their comma is, unless three digits follow as after a group of thousands."""
    thousands: Literal["", ".", ",", " "] = ""
    last_line: Literal["ended", "whole"] = "ended"
    """`whole`: a last line without line end is complete (else it counts as cut where nothing in it proves that it is not)."""
    header_row: int = Field(1, ge=1)
    skip_footer: int = Field(0, ge=0)
    # workbooks
    sheet: str | None = None
    # JSON: where the records lie (`ketQua.danhSach`); unsaid: the list that the file is, or the only one of its object
    records: str | None = None
    # vector files and PostGIS
    layer: str | None = None
    crs: str | None = None
    text: Literal["unicode", "tcvn3", "windows-1258"] = "unicode"
    table: str | None = None
    query: str | None = None
    watermark: str | None = None
    # station files: reference `txt_line_layouts`
    layout: Literal["L1", "L2", "L3", "L4"] = "L1"
    layouts_by_station: dict[str, Literal["L1", "L2", "L3", "L4"]] = {}

    @property
    def decimal_sign(self) -> str:
        """How a number that is known to be one is written in this format."""
        return "," if self.decimal == "," or (self.decimal is None and self.thousands == ".") else "."

    @model_validator(mode="after")
    def _signs_differ(self) -> Format:
        if self.thousands and self.thousands == self.decimal:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        if self.thousands and self.decimal == "any":
            raise ValueError("decimal: any has no thousands separator")
        return self

    @field_validator("crs")
    @classmethod
    def _epsg(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(EPSG:\d{4,6}|OGC:CRS84)", value):
            raise ValueError("must be written as EPSG:<number>, for instance EPSG:9212")
        return value


class NamedFormat(Format):
    """One of several formats of a source, known by the names of its files (`ingestion.names.format_of`)."""

    pattern: NamePattern
    """As `files.pattern` of a source with one format. A name that two of them fit is refused at the gate: which one is meant it does not say."""
    as_of_format: str | None = None
    """Where it differs from `files.as_of_format`."""
    formerly: str | None = None
    """The source under which an earlier version recorded deliveries of this format: this one takes them over, with what still comes to that inbox."""

    @field_validator("formerly")
    @classmethod
    def _is_a_source(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("must be the name of a source: lower case letters, digits and _")
        return value


_OF_A_NAMED_FORMAT = frozenset(NamedFormat.model_fields) - frozenset(Format.model_fields)
_OPTIONS_OF = {
    "station_txt": {"layout", "layouts_by_station", "encoding", "decimal", "delimiter", "last_line"},
    "csv": {"delimiter", "quote", "encoding", "decimal", "thousands", "header_row", "skip_footer", "last_line"},
    "xlsx": {"sheet", "header_row", "skip_footer", "decimal", "thousands"},
    "json": {"records", "decimal", "thousands"},
    "vector": {"layer", "crs", "text", "decimal", "thousands"},
    "postgis": {"table", "query", "watermark", "crs", "decimal", "thousands"},
    "scan": set[str](),
}


class Time(_Strict):
    """Meaning of the stamps in the file: their zone, whether they mark start or end of a span, and its length."""

    zone: str = "+07:00"
    stamp: Literal["end", "start"] = "end"
    span_minutes: int = Field(5, gt=0)

    @field_validator("zone")
    @classmethod
    def _known(cls, value: str) -> str:
        if not _OFFSET.fullmatch(value):
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError("must be an offset such as +07:00 or an IANA zone such as Etc/GMT+8") from error
        return value

    @property
    def tzinfo(self) -> ZoneInfo | timezone:
        """The zone as Python knows it."""
        return zone_of(self.zone)


def zone_of(text: str) -> ZoneInfo | timezone:
    """An offset or the name of a zone, as Python knows it."""
    if match := _OFFSET.fullmatch(text):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    return ZoneInfo(text)


class Column(_Strict):
    """One column of the target: where it comes from, its type and unit, and whether it tells about a person."""

    header: tuple[str, ...] = ()
    """Spellings of the one header that names it; several columns may take from the same header."""
    join: tuple[str, ...] = ()
    """Headers whose texts, put together with `join_with` in between, are the column (a date and an hour)."""
    join_with: str = " "
    part: str | None = None
    """Regular expression (RE2) with one group: what it finds is the column. A text in which it finds nothing cannot be read."""
    otherwise: str | None = None
    """What an empty cell, or a column that the file lacks, stands for."""
    optional: bool = False
    """The file may lack the header, whatever `missing_columns` says; the column is empty then."""
    from_name: str | None = None
    constant: str | int | float | bool | None = None
    type: str = "text"
    format: str | None = None
    unit: str | None = None
    source_unit: str | None = None
    required: bool = False
    personal: Literal["token", "closed", "linked"] | None = None
    """`token` and `closed` say something about a person; `linked` leads to one through another register: it stays as it is inside, and never leaves."""
    normalise: Literal["upper", "serial", "path"] | None = None
    """`path`: a list (by `;`) of paths such as `GIAYCHUNGNHAN.123_4|CANHAN.77`, of which the kinds are kept: the numbers lead to persons."""
    true_values: tuple[str, ...] = ("1", "true", "t", "yes", "y", "có", "co", "x")
    unreadable: Literal["quarantine", "null"] = "quarantine"
    """What becomes of a row whose text cannot be read as `type`: quarantined, or NULL with a note."""
    null_values: tuple[str, ...] = ("", "---", "--", "NULL", "null", "N/A")
    false_values: tuple[str, ...] = ("0", "false", "f", "no", "n", "không", "khong", "")
    values: dict[str, str] = {}
    """Sender's code -> ours. A code that is not named stays as it is. Compared in NFC, without invisible letters and double blanks."""
    patterns: dict[str, str] = {}
    """Regular expression (RE2) for the whole text -> our code, for texts that `values` does not name; the first that fits."""
    not_before: date | None = None
    not_after: date | Literal["as_of"] | None = None
    """Bounds of a date or timestamp (1900-01-01 and 2099-12-31 unless said); `as_of`: a day after what the delivery describes."""
    merged: Literal["repeat", "refuse"] | None = None
    """What a cell merged over several rows of a workbook says of each: its value (texts, dates, keys unless said), or nothing certain (figures)."""
    label: str | None = None
    description: str = ""
    """Heading (what the description says unless another is given) and meaning, where no other source brings the column: dictionary/columns.yaml
    has the words of the others."""

    @field_validator("header", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("type")
    @classmethod
    def _type_known(cls, value: str) -> str:
        if value not in SIMPLE_TYPES and not _DECIMAL.fullmatch(value):
            raise ValueError(f"must be one of {', '.join(SIMPLE_TYPES)} or decimal(p,s)")
        return value

    @field_validator("join", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("part")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        if value is not None and re2(value) != 1:
            raise ValueError("must have one group, which is the part that is taken")
        return value

    @field_validator("patterns")
    @classmethod
    def _compile(cls, value: dict[str, str]) -> dict[str, str]:
        for pattern in value:
            re2(pattern)
        return value

    @field_validator("format")
    @classmethod
    def _no_names_of_zones(cls, value: str | None) -> str | None:
        if value is not None and "%Z" in value:
            raise ValueError("%Z (the name of a zone) is read by tables that change; only an offset in figures (%z) can be read")
        return value

    @model_validator(mode="after")
    def _bounds_of_times(self) -> Column:
        if (self.not_before or self.not_after) and self.type not in ("date", "timestamp"):
            raise ValueError("not_before and not_after have a meaning for date and timestamp only")
        if self.join and self.header:
            raise ValueError("join names the headers of the column itself: header has no meaning beside it")
        return self

    @property
    def is_figure(self) -> bool:
        """Whether it is a number that is counted with."""
        return self.type in ("integer", "bigint", "double") or _DECIMAL.fullmatch(self.type) is not None

    @property
    def sql_type(self) -> str:
        """Type of the column in the lake."""
        return SIMPLE_TYPES.get(self.type) or self.type.upper()


class RowFilter(_Strict):
    """Which rows of a file belong to the source: those whose cell under `header` is one of `values`, or fits `pattern` (RE2, the whole text)."""

    header: str
    values: tuple[str, ...] = ()
    pattern: str | None = None
    exclude: bool = False
    """Turns it round: such rows do not belong to it."""

    @model_validator(mode="after")
    def _says_something(self) -> RowFilter:
        if bool(self.values) == bool(self.pattern):
            raise ValueError("needs either values or a pattern")
        if self.pattern:
            re2(self.pattern)
        return self


class WideParameter(_Strict):
    """A column of a wide export that holds one parameter."""

    parameter: str
    unit: str = ""
    status_header: str | None = None


class Unpivot(_Strict):
    """Turns a wide export (a column a parameter) into rows with these column names."""

    columns: dict[str, WideParameter]
    parameter: str = "parameter"
    value: str = "value"
    unit: str = "unit"
    status: str = "status"

    @field_validator("parameter", "value", "unit", "status")
    @classmethod
    def _names(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be lower case letters, digits and _")
        return value


class Cadence(_Strict):
    """From `valid_from` on, a delivery is due every `minutes`."""

    valid_from: date
    minutes: int = Field(gt=0)


class Retention(_Strict):
    """How long raw bytes are kept, and the rule that says so."""

    raw_days: int = Field(1825, gt=0)
    basis: str = ""


def _name_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


NameList = Annotated[tuple[str, ...], BeforeValidator(_name_list)]


class Contract(_Strict):
    """All that is particular to one source. `source` is the stem of its YAML and the name of its inbox folder."""

    source: str
    title: str
    description: str = ""
    owner: Owner
    terms: str
    target: str
    table: str | None = None
    """What the target holds, with its grain ("Một dòng là …"), in Vietnamese; of several sources of one target one says it."""
    load: Literal["append", "upsert", "snapshot", "incremental"]
    key: NameList = ()
    scope: NameList = ()
    history: bool = False
    """Of a snapshot: whether rows of superseded deliveries are kept in <target>_history (upserts always keep theirs)."""
    depends_on: NameList = ()
    as_of: AsOf = AsOf()
    files: Files = Files()
    single: Format | None = Field(None, alias="format")
    """The format of all its files; read as `format`."""
    formats: tuple[NamedFormat, ...] = ()
    """Several, told apart by the names of files; in place of `format` and `files.pattern`."""
    time: Time = Time()
    columns: dict[str, Column]
    rows: tuple[RowFilter, ...] = ()
    """Rows that every one of these takes belong to the source; the others of the file are left where they are (raw)."""
    unpivot: Unpivot | None = None
    cadence: tuple[Cadence, ...] = ()
    lateness_minutes: int = Field(0, ge=0)
    tolerated_bad_share: float = Field(0.0, ge=0.0, le=1.0)
    unknown_columns: Literal["ignore", "reject"] = "ignore"
    missing_columns: Literal["reject", "null"] = "reject"
    sensitivity: Literal["public", "internal", "personal"] = "internal"
    retention: Retention = Retention()
    suite: str | None = None
    enabled_by: str | None = None
    affected: dict[Literal["unit", "day"], str] = {}
    """Columns that name the (unit, day) which a changed row touches; marts recompute exactly those."""

    @property
    def personal(self) -> bool:
        """Whether raw and quarantined rows belong to the closed schemas."""
        return self.sensitivity == "personal"

    @property
    def enabled(self) -> bool:
        """Sources with a live connection exist only where it is configured."""
        return self.enabled_by is None or bool(os.environ.get(self.enabled_by))

    @property
    def is_sent(self) -> bool:
        """Whether it comes as files that a sender puts into an inbox; scans lie where they are, and a database is asked."""
        return not self.files.in_place and any(one.format.reader != "postgis" for one in self.each)

    @property
    def suite_name(self) -> str:
        """Stem of the GX suite in `quality/suites/<domain>/`."""
        return self.suite or self.target

    @property
    def folder(self) -> str:
        """Name of the inbox folder."""
        return self.files.folder or self.source

    @property
    def format(self) -> Format:
        """The format of its files. Of a source with several only a contract narrowed to one of them has it; raises LookupError for the others."""
        if self.single is None:
            raise LookupError(
                f"contract {self.source} has {len(self.formats)} formats: which one is said by a file's name (ingestion.names.format_of)"
            )
        return self.single

    @property
    def each(self) -> tuple[Contract, ...]:
        """The contract narrowed to each of its formats, in their order: with one `format`, and the pattern of that; itself where it has one anyway."""
        return self.narrowed if self.formats else (self,)

    @functools.cached_property
    def narrowed(self) -> tuple[Contract, ...]:
        """See `each`."""
        return tuple(
            self.model_copy(
                update={
                    "single": one,
                    "formats": (),
                    "files": self.files.model_copy(
                        update={"pattern": one.pattern, "as_of_format": one.as_of_format or self.files.as_of_format},
                    ),
                }
            )
            for one in self.formats
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Contract:
        """As pydantic's, without what was worked out for the original."""
        copied = super().model_copy(update=update, deep=deep)
        for worked_out in ("file_columns", "helpers", "narrowed"):
            vars(copied).pop(worked_out, None)
        return copied

    @property
    def recorded_as(self) -> str:
        """The source that identifies deliveries of its one format: what an earlier version called it, so that it knows them when they are sent again."""
        return (self.format.formerly if isinstance(self.format, NamedFormat) else None) or self.source

    @property
    def former_names(self) -> tuple[str, ...]:
        """Sources of an earlier version that this one takes over."""
        return tuple(dict.fromkeys(f.formerly for f in self.formats if f.formerly is not None))

    @property
    def folders(self) -> tuple[str, ...]:
        """Inbox folders that it reads: its own, and those of its former names, as senders do not change their paths on the day of an upgrade."""
        return tuple(dict.fromkeys((self.folder, *self.former_names)))

    @functools.cached_property
    def file_columns(self) -> dict[str, Column]:
        """Columns that a reader has to bring (not from the file's name, not constant)."""
        return {name: column for name, column in self.columns.items() if column.from_name is None and column.constant is None}

    @functools.cached_property
    def helpers(self) -> dict[str, str]:
        """Headers that a reader has to bring though they are no columns: of filters and of what is joined. By the name that they get."""
        headers = [f.header for f in self.rows] + [h for c in self.columns.values() for h in c.join]
        return {f"= {h}": h for h in headers}

    @property
    def datings(self) -> tuple[str, ...]:
        """How the time of a delivery is read, format by format, for `names.said_once`: deliveries are recorded under its day, so that another way
        finds them under another."""
        if self.as_of.origin != "file_name":
            return ("received",)
        return tuple(dict.fromkeys(json.dumps([c.files.pattern, c.files.as_of_format, self.time.zone]) for c in self.each))

    def cadence_at(self, moment: datetime) -> int | None:
        """Minutes between due deliveries at `moment`, or None where none is due."""
        in_force = [c for c in self.cadence if c.valid_from <= moment.date()]
        return max(in_force, key=lambda c: c.valid_from).minutes if in_force else None

    @property
    def allowed_minutes(self) -> int | None:
        """Minutes without a delivery that its newest cadence allows, lateness counted in; None without one. At a moment the ledger says it (lake/rules.sql)."""
        return max(self.cadence, key=lambda c: c.valid_from).minutes + self.lateness_minutes if self.cadence else None

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        for label, name in (("source", self.source), ("target", self.target), ("suite", self.suite_name)):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{label} {name!r} must be lower case letters, digits and _")
        made = {self.unpivot.parameter, self.unpivot.value, self.unpivot.unit, self.unpivot.status} if self.unpivot else set[str]()
        for name in self.columns:
            if not _NAME.fullmatch(name):
                raise ValueError(f"column {name!r} must be lower case letters, digits and _, not starting with _")
        if words := sorted(SQL_WORDS & {*self.columns, *made}):
            raise ValueError(f"columns {words} are reserved words of SQL, which every statement on them would have to quote: give them other names")
        if self.target == "reading" and (missing := set(_READING) - set(self.columns) - made):
            raise ValueError(
                f"target reading needs the columns {sorted(missing)} (a constant or an empty `otherwise` will do where the file says nothing)"
            )
        known = set(self.columns) | {"_source"} | made
        for label, names in (("key", self.key), ("scope", self.scope), ("affected", tuple(self.affected.values()))):
            if missing := set(names) - known:
                raise ValueError(f"{label} names {sorted(missing)}, which are no columns of the contract")
        if self.load in ("upsert", "incremental") and not self.key:
            raise ValueError(f"load: {self.load} needs a key")
        if self.scope and self.load != "snapshot":
            raise ValueError("scope has a meaning for load: snapshot only")
        if self.history and (self.load != "snapshot" or self.personal):
            raise ValueError("history has a meaning for load: snapshot of sources without personal columns only")
        if any(c.personal in ("token", "closed") for c in self.columns.values()) != self.personal:
            raise ValueError("sensitivity: personal and columns marked personal (token, closed) go together")
        for name, column in self.columns.items():
            if column.source_unit is not None:
                try:
                    conversion(column.source_unit, column.unit or "")
                except UnitError as error:
                    raise ValueError(f"column {name}: {error}") from error
        if self.as_of.origin == "column" and self.as_of.column not in self.columns:
            raise ValueError("as_of: {from: column} needs `column`, one of the contract's columns")
        if (self.single is not None) == bool(self.formats):
            raise ValueError("needs either format, or formats: a list with the pattern of each; not both")
        if self.single is not None:
            self._check_format(self.single, self.files.pattern, "format", "files.pattern")
        for number, one in enumerate(self.formats, 1):
            self._check_format(one, one.pattern, f"formats, entry {number}", f"the pattern of formats, entry {number}")
        if self.formats:
            self._check_formats()
        return self

    def _check_format(self, form: Format, pattern: str, label: str, pattern_label: str) -> None:
        """Raises ValueError where a format, or the pattern of its files, does not go with the contract."""
        groups = set(re.compile(pattern).groupindex)
        for name, column in self.columns.items():
            if column.from_name is not None and column.from_name not in groups:
                raise ValueError(f"column {name}: from_name {column.from_name!r} is no named group of {pattern_label}")
        if self.as_of.origin == "file_name" and "as_of" not in groups:
            raise ValueError(f"as_of: {{from: file_name}} needs a named group `as_of` in {pattern_label}")
        if (self.helpers or self.unpivot) and form.reader not in ("csv", "xlsx"):
            raise ValueError(f"rows, join and unpivot have no meaning for reader {form.reader} ({label})")
        foreign = form.model_fields_set - _OPTIONS_OF[form.reader] - {"reader"}
        if isinstance(form, NamedFormat):
            foreign -= _OF_A_NAMED_FORMAT
        if foreign:
            raise ValueError(f"{label}: {sorted(foreign)} have no meaning for reader {form.reader}")
        if form.reader in ("vector", "postgis") and "geometry" in self.columns and not form.crs:
            raise ValueError(f"{label}: crs is needed where there is a geometry (never assumed)")
        if form.reader == "postgis" and not (form.table or form.query):
            raise ValueError(f"{label}: table or query is needed for reader postgis")

    def _check_formats(self) -> None:
        """Raises ValueError where its formats do not go together, or cannot take over what they name."""
        if "pattern" in self.files.model_fields_set:
            raise ValueError("files.pattern has no meaning beside formats: each of them has a pattern of its own")
        if len({f.pattern for f in self.formats}) < len(self.formats):
            raise ValueError("formats: two have the same pattern, so that no file name tells which of them it is")
        for number, one in enumerate(self.formats, 1):
            if one.reader == "postgis":
                raise ValueError(
                    f"formats, entry {number}: reader postgis has no files of senders to be told apart by; give it a contract with a format"
                )
            if one.as_of_format is not None and self.as_of.origin != "file_name":
                raise ValueError(f"formats, entry {number}: as_of_format has a meaning for as_of: {{from: file_name}} only")
        if self.source in self.former_names:
            raise ValueError(f"formerly: {self.source} is the source itself; leave it out")
        if self.former_names and self.files.in_place:
            raise ValueError("formerly has no meaning for files that stay in place: what was recorded of them names the folder in which they lie")
        if self.former_names and self.load == "snapshot" and not self.scope:
            raise ValueError("formerly needs a scope where load is snapshot: of two sources that each were a whole, which one stands is not said")


def load_contract(path: Path) -> Contract:
    """Reads one contract; raises ContractError with the file, the place and the reason."""
    try:
        data = read_yaml(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ContractError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ContractError(f"{path}: a mapping was expected, found {type(data).__name__}")
    try:
        return Contract(**({"source": path.stem} | data))
    except ValidationError as error:
        lines = "\n".join(
            f"  {'.'.join(str(p) for p in e['loc']) or 'contract'}: {e['msg']} (found {str(e['input'])[:80]!r})" for e in error.errors()
        )
        raise ContractError(f"{path} is no valid contract; correct these places:\n{lines}") from error


def by_target(contracts: Iterable[Contract]) -> dict[str, list[Contract]]:
    """The contracts by the clean table that they fill: tables by name, contracts in the order given."""
    found: dict[str, list[Contract]] = {}
    for contract in contracts:
        found.setdefault(contract.target, []).append(contract)
    return dict(sorted(found.items()))


def domains(folders: Iterable[Path] = (CONTRACTS,)) -> dict[str, str]:
    """The domain of each source: the folder of its first contract (a site's own leaves it there); `site` where that lies in none. Raises ContractError."""
    found: dict[str, str] = {}
    try:
        for folder in folders:
            for name, path in by_name(folder, ".yaml").items():
                found.setdefault(name, "site" if path.parent == folder else re.sub(r"\W", "_", path.parent.name))
    except SettingsError as error:
        raise ContractError(str(error)) from error
    return found


def _check_folders(contracts: Iterable[Contract]) -> None:
    """Refuses an inbox folder within that of another source, which takes all that lies below its own; raises ContractError."""
    readers: dict[str, str] = {}
    for contract in contracts:
        for folder in contract.folders:
            readers.setdefault(folder, contract.source)
    for folder, source in readers.items():
        for outer in (str(p) for p in PurePosixPath(folder).parents):
            if outer in readers:
                raise ContractError(
                    f"contract {source}: its inbox folder {folder} lies in the inbox folder {outer} of contract {readers[outer]}, which would take "
                    "every file of it: expected folders side by side, or one that both share, told apart by files.pattern; change files.folder of one"
                )


def _without_names_in_use(found: dict[str, Contract]) -> dict[str, Contract]:
    """The contracts without former names that are sources of their own (a site's): of those nothing is taken over.

    Raises ContractError where two contracts name the same.
    """
    settled, heirs = dict[str, Contract](), dict[str, str]()
    for source, contract in found.items():
        if in_use := set(contract.former_names) & found.keys():
            formats = [f.model_copy(update={"formerly": None}) if f.formerly in in_use else f for f in contract.formats]
            contract = contract.model_copy(update={"formats": tuple(formats)})  # noqa: PLW2901  # the contract that is kept, without what is another source's
        for name in contract.former_names:
            if heirs.setdefault(name, source) != source:
                raise ContractError(
                    f"contracts {heirs[name]} and {source} both say `formerly: {name}`: expected one source that takes its deliveries over; "
                    "take the line out of one of them"
                )
        settled[source] = contract
    return settled


def load_contracts(folders: Iterable[Path] = (CONTRACTS,), *, only_enabled: bool = True) -> dict[str, Contract]:
    """All contracts by source, each after the sources that it depends on. A later folder wins over an earlier one."""
    found: dict[str, Contract] = {}
    for folder in folders:
        try:
            paths = by_name(folder, ".yaml")
        except SettingsError as error:
            raise ContractError(str(error)) from error
        for path in paths.values():
            contract = load_contract(path)
            found[contract.source] = contract
    found = _without_names_in_use(found)
    _check_folders(found.values())
    ordered: dict[str, Contract] = {}

    def add(name: str, chain: tuple[str, ...] = ()) -> None:
        if name in chain:
            raise ContractError(f"contracts depend on each other in a circle: {' -> '.join((*chain, name))}")
        if name not in found:
            raise ContractError(f"contract {chain[-1]} depends on {name!r}, of which there is no contract")
        for other in found[name].depends_on:
            add(other, (*chain, name))
        ordered.setdefault(name, found[name])

    for name in found:
        add(name)
    return {name: c for name, c in ordered.items() if c.enabled or not only_enabled}
