"""The pages for engineers name files, models, macros and variables that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ingestion.contract import Contract
from lake.lake import CLOSED_SCHEMAS, SCHEMAS
from tests.marts_kit import PROJECT
from tnmt.settings import ROOT

PAGES = [*sorted((ROOT / "docs/engineers").glob("*.md")), ROOT / "docs/rules.md"]
FILE = re.compile(r"[\w./-]+\.(?:py|sql|ya?ml|csv|md|json)")


def words(*globs: str, pattern: str = r"\w+") -> set[str]:
    """All words of these files of the project that fit."""
    return {word for glob in globs for path in ROOT.glob(glob) for word in re.findall(pattern, path.read_text(encoding="utf-8"))}


ROOMS = ("lake", "quality", "ingestion", "intake", "dictionary", "marts", "sharing", "orchestration", "dashboards", "dbt_project", "docs", "tests")
NAMES = (
    words("dbt_project/macros/**/*.sql", "dbt_project/models/**/*.sql", "dbt_project/seeds/reference/quarantine_reason_code.csv")
    | words(*(f"{room}/**/*.py" for room in ROOMS if room != "tests"), pattern=r"def (\w+)")
    | words("quality/suites/**/*.json", "lake/schema.sql")
    | {*Contract.model_fields, *SCHEMAS, *CLOSED_SCHEMAS}
    | {p.stem for p in PROJECT.glob("seeds/**/*.csv")}
    | {p.stem for p in PROJECT.glob("models/**/*.sql")}
    | set(yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))["vars"])
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    spans = [s for s in re.findall(r"`([^`]+)`", text) if not re.search(r"[<…*\s:]|^thua_dat|^BP_", s.partition("::")[0])]
    assert len(spans) > 15
    missing = []
    for span in spans:
        name, _, test = span.partition("::")
        if FILE.fullmatch(name):
            found = [p for base in (ROOT, PROJECT, page.parent) for p in [base / name] if p.exists()] or (
                [p for room in ROOMS for p in ROOT.glob(f"{room}/**/{name}")] if "/" not in name else []
            )
            if not found or (test and f"def {test}(" not in found[0].read_text(encoding="utf-8")):
                missing.append(span)
        elif re.fullmatch(r"\w+", name) and "_" in name and name not in NAMES:
            missing.append(span)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not (page.parent / target).exists():
            missing.append(target)
    assert not missing, missing


def test_every_promise_has_its_test() -> None:
    """Files and functions that docs/promises.md names; `::name` alone is of the file named before it."""
    missing, promises = [], 0
    for line in (ROOT / "docs/promises.md").read_text(encoding="utf-8").splitlines():
        file = ""
        for span in re.findall(r"`([^`]+)`", line):
            name, _, test = span.partition("::")
            if name.startswith("tests/"):
                file = name
            elif name or not test:
                continue
            promises += 1
            path = ROOT / file
            if not path.exists() or (test and f"def {test.partition('[')[0]}(" not in path.read_text(encoding="utf-8")):
                missing.append(f"{file}::{test}")
    assert promises > 250 and not missing, missing
