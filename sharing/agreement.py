"""An agreement to share: who receives what, column by column, for how long. Nothing is shared that it does not name."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tnmt.settings import read_yaml

AGREEMENTS = Path(__file__).parent / "agreements"


class AgreementError(Exception):
    """An agreement that cannot be used; the text names the place."""


class Product(BaseModel):
    """One table of an agreement; `period_days` counts back from the as-of day."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    table: str = Field(pattern=r"^marts_[a-z]+\.[a-z_]+$")
    columns: tuple[str, ...] = Field(min_length=1)
    period_column: str | None = None
    period_days: int | None = Field(None, gt=0)
    group_size_column: str | None = None
    """Rows that count fewer than `min_group_size` in this column are left out (small groups re-identify)."""


class Agreement(BaseModel):
    """Terms under which one receiver gets products (NĐ 47/2020/NĐ-CP Điều 38)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    receiver: str
    agreement: str
    contact: str = ""
    purpose: str
    legal_basis: str
    valid_from: date
    expires_on: date
    min_group_size: int = Field(5, ge=1)
    products: tuple[Product, ...] = Field(min_length=1)


_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def load_agreement(name: str, folders: tuple[Path, ...] = (AGREEMENTS,)) -> Agreement:
    """The agreement `name` from the first folder that has it; raises AgreementError. A name is no path."""
    known = sorted(p.stem for f in folders if f.is_dir() for p in f.glob("*.yaml"))
    if not _NAME.fullmatch(name):
        raise AgreementError(
            f"{name!r} is no name of an agreement: lower case letters, digits, _ and - were expected; there are {', '.join(known) or 'none'}"
        )
    for folder in folders:
        path = folder / f"{name}.yaml"
        if path.exists():
            if not path.resolve().is_relative_to(folder.resolve()):
                raise AgreementError(f"{path} leads out of its folder, to {path.resolve()}: put the file itself there")
            try:
                return Agreement(**read_yaml(path))
            except (ValidationError, yaml.YAMLError, TypeError, UnicodeDecodeError, OSError) as error:
                raise AgreementError(f"{path} is no valid agreement: {error}") from error
    raise AgreementError(f"there is no agreement {name!r}; there are {', '.join(known) or 'none'}")
