"""What a column is called, in which unit it is, what it means, and whether it tells about a person.

A column is described once: in the contract of the one source that brings it, or in `columns.yaml` where several bring it or the marts make
it. `in` there names the tables in which the same name means something else. Persons are marked in the contracts alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingestion.contract import CONTRACTS, Contract, ContractError, load_contracts

COLUMNS = Path(__file__).with_name("columns.yaml")
CODES = Path(__file__).with_name("codes.yaml")
UNITS = {"m3_day": "m3/ngày", "vnd_m2": "đồng/m2", "percent": "%", "share": "1"}
"""Units as contracts write them (ingestion.units), where people read them otherwise."""
M = TypeVar("M", bound=BaseModel)


class DictionaryError(ValueError):
    """The words cannot be read; the text says where and why."""


@dataclass(frozen=True)
class Word:
    """What people see of a column, in Vietnamese: heading (where none is given the beginning of the meaning, to `;`, `:` or `(`), meaning, unit."""

    label: str
    description: str
    unit: str | None


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str | None = None
    unit: str | None = None
    description: str | None = None


class _Entry(_Words):
    description: str
    elsewhere: dict[str, _Words] = Field(default={}, alias="in")


class Dictionary:
    """All words, of these contracts and this file. Raises DictionaryError where the file cannot be read."""

    def __init__(self, contracts: Mapping[str, Contract], path: Path = COLUMNS) -> None:
        """Those of the contracts stand beside those of the file."""
        self.contracts = contracts
        self._entries = _validated(path, _Entry, _mapping(path))
        described = dict.fromkeys(self._entries, path.name)
        self.repeated: list[str] = []
        """Columns that are described in more than one place, and where; the first counts."""
        for contract in contracts.values():
            for name, column in contract.columns.items():
                if not column.description or column.personal in ("token", "closed"):
                    continue
                if name in described:
                    self.repeated.append(
                        f"{name}: in {described[name]} and in the contract {contract.source}; describe it in {path.name} alone, "
                        f"with `in: {{{contract.target}: …}}` where it means something else there"
                    )
                    continue
                described[name] = f"the contract {contract.source}"
                unit = UNITS.get(column.unit or "", column.unit)
                self._entries[name] = _Entry(label=column.label, unit=unit, description=column.description)

    def word(self, table: str, column: str) -> Word | None:
        """Of a column of a table (its bare name, with `ops.` or `quarantine.` before it there; a view of staging has the words of its table)."""
        entry = self._entries.get(column)
        if entry is None:
            return None
        own = entry.elsewhere.get(table) or entry.elsewhere.get(table.removeprefix("stg_")) or _Words()
        description = own.description or entry.description
        return Word(own.label or entry.label or re.split(r"[;:(]", description)[0].strip(), description, own.unit or entry.unit)

    @cached_property
    def personal(self) -> dict[str, str]:
        """Names of columns that tell about a person, wherever they stand, each with the contract that says so (token, closed, linked)."""
        return {
            f"{name}_token" if column.personal == "token" else name: contract.source
            for contract in self.contracts.values()
            for name, column in contract.columns.items()
            if column.personal
        }

    def is_personal(self, column: str) -> bool | None:
        """Whether a column tells about a person; None, which is taken for yes, where nobody described it."""
        if column in self.personal:
            return True
        return False if column in self._entries else None

    def unused(self, seen: Mapping[str, frozenset[str]]) -> list[str]:
        """Words for columns, or tables, that are not there: `seen` has the columns by table."""
        everywhere = frozenset().union(*seen.values())
        return [name for name in self._entries if name not in everywhere] + [
            f"{name} in {table}" for name, entry in self._entries.items() for table in entry.elsewhere if name not in seen.get(table, ())
        ]


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise DictionaryError(f"{path.name}: expected a YAML file, found: {error}") from error
    if not isinstance(found, dict):
        raise DictionaryError(f"{path.name}: expected a mapping of names, found {type(found).__name__}")
    return found


def _validated(path: Path, kind: type[M], entries: Any) -> dict[str, M]:
    try:
        return {str(name): kind.model_validate(entry) for name, entry in entries.items()}
    except (ValidationError, AttributeError) as error:
        raise DictionaryError(
            f"{path.name}: expected `name: {{{', '.join(of.alias or name for name, of in kind.model_fields.items())}}}`, found: {error}"
        ) from error


class Code(BaseModel):
    """A code of a list: its Vietnamese name, and the colour (hex) by which charts show it, where they do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    colour: str | None = Field(default=None, pattern="^#[0-9a-f]{6}$")


def code_lists(path: Path = CODES) -> dict[str, dict[str, Code]]:
    """The code lists by name, each with its codes in their order. Raises DictionaryError."""
    return {name: _validated(path, Code, codes) for name, codes in _mapping(path).items()}


def dictionary(folders: Iterable[Path] = (CONTRACTS,), path: Path = COLUMNS) -> Dictionary:
    """That of the house, with the contracts of these folders. Raises DictionaryError, also where a contract cannot be read."""
    try:
        contracts = load_contracts([f for f in folders if f.is_dir()], only_enabled=False)
    except ContractError as error:
        raise DictionaryError(str(error)) from error
    return Dictionary(contracts, path)
