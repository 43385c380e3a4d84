"""Words stand once, what follows from them is up to date, and what tells about a person goes nowhere.

Holds: a column is described in one place and has a unit where it is a figure; sources.yml, the views of staging that only rename, exposures,
the columns that Superset knows and the dictionary page are what contracts, marts, dashboards and words make of them; no mart names a column
that tells about a person, and what nobody described is neither served nor handed over.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dictionary.derive import House, behind
from dictionary.words import COLUMNS, Dictionary, DictionaryError, code_lists, dictionary
from ingestion.merge import LINEAGE_TYPES
from lake.serving import ServingRefused
from marts.build import refuse_persons
from tests.marts_kit import PROJECT
from tnmt.settings import ROOT

HOUSE = House()
WORDS = HOUSE.words
FIGURE = re.compile(r"(double|decimal|integer|bigint|smallint)")
COUNTED = re.compile(r"(_code|_number|line|position|seq|level|rank|layout)$|^year$")
"""Numbers that are names or places in a row."""
AMBIGUOUS = {"Đang hiệu chuẩn"}
"""Names that are a metric's on one page and a code's on another."""


def declared() -> dict[str, dict[str, str | None]]:
    """Columns with their types (None where the yml has none) of every table that people or models read, under the name that the words have for it."""
    found: dict[str, dict[str, str | None]] = {t: dict(HOUSE.columns(t)) for t in HOUSE.targets}
    for path in [*(PROJECT / "models").rglob("*.yml"), *(PROJECT / "seeds").rglob("*.yml")]:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        for model in told.get("models") or []:
            found[model["name"]] = {c["name"]: c.get("data_type") for c in model.get("columns") or []}
        for seed in told.get("seeds") or []:
            found[seed["name"]] = dict(seed["config"]["column_types"])
        for source in told.get("sources") or []:
            if source["name"] not in ("clean", "history"):
                for table in source["tables"]:
                    found[f"{source['name']}.{table['name']}"] = {c["name"]: c["data_type"] for c in table["columns"]}
    return found


DECLARED = declared()


def test_what_is_derived_is_up_to_date() -> None:
    assert [str(p.relative_to(ROOT)) for p in behind(HOUSE.files())] == [], "run `python -m dictionary.derive`"
    assert len(HOUSE.files()) > 20


def test_a_column_is_described_once() -> None:
    assert WORDS.repeated == []


def test_every_column_has_words_and_every_figure_a_unit() -> None:
    assert len(DECLARED) > 120
    wrong = []
    for table, columns in DECLARED.items():
        for name, kind in columns.items():
            word = WORDS.word(table, name)
            if word is None:
                wrong.append(f"{table}.{name}: not described")
            elif FIGURE.match(kind or "") and not word.unit and not COUNTED.search(name):
                wrong.append(f"{table}.{name}: a figure without unit")
    assert not wrong, "\n".join(wrong)


def test_no_word_is_for_what_is_not_there() -> None:
    assert WORDS.unused({t: frozenset(c) for t, c in DECLARED.items()}) == []


def test_no_model_below_staging_names_what_tells_about_a_person() -> None:
    """So that no mart, served table or extract can hold a person under another name; what a model joins or counts by is named here."""
    assert {"address", "owner_name_token", "identity_number_token", "phone"} <= WORDS.personal.keys()
    named = re.compile(rf"\b({'|'.join(sorted(WORDS.personal))})\b")
    found = [
        f"{path.relative_to(PROJECT)}: {match.group()}"
        for layer in ("intermediate", "marts", "serve")
        for path in (PROJECT / "models" / layer).rglob("*.sql")
        for match in named.finditer(re.sub(r"--.*", "", path.read_text(encoding="utf-8")))
    ]
    # certificates are counted, with a scan and without; their numbers and holders are compared in one place, which hands on whether they are equal
    compared = ("certificate_id", "serial_number", "owner_id", "book_number")
    assert set(found) == {
        "models/marts/scans/scan_coverage.sql: certificate_id",
        *(f"models/intermediate/land/int_certificate.sql: {c}" for c in compared),
    }


def node(*columns: str) -> dict[str, Any]:
    return {"marts_land.made_up": {"columns": {c: {} for c in columns}}}


def test_what_tells_about_a_person_or_is_not_described_is_not_served() -> None:
    refuse_persons(node("parcel_id", "area_m2"), WORDS)
    with pytest.raises(ServingRefused, match=r"stays.*made_up\.address \(contract parcel\w*\): tells about a person"):
        refuse_persons(node("parcel_id", "address"), WORDS)
    with pytest.raises(ServingRefused, match=r"made_up\.nobody_knows: not in dictionary"):
        refuse_persons(node("parcel_id", "nobody_knows"), WORDS)


def test_words_of_a_contract_and_of_the_house(tmp_path: Path) -> None:
    """The contract of the one source that brings a column describes it; where a table means something else, that counts; labels fall back."""
    file = tmp_path / "columns.yaml"
    file.write_text("shared: {unit: m, description: Chung, in: {b: {label: Riêng, unit: km}}}\nother: {description: Khác}\n", encoding="utf-8")
    contracts = dictionary().contracts
    contract = contracts["programme_indicator"]
    words = Dictionary({"x": contract}, file)
    own = next(n for n, c in contract.columns.items() if c.description)
    said = words.word("programme_indicator", own)
    assert said is not None and said.description == contract.columns[own].description
    assert words.word("a", "shared") == words.word("stg_a", "shared") and str(words.word("a", "shared")).count("Chung") == 2
    assert str(words.word("b", "shared")) == "Word(label='Riêng', description='Chung', unit='km')" == str(words.word("stg_b", "shared"))
    assert words.word("a", "nobody_knows") is None and words.is_personal("nobody_knows") is None
    file.write_text(f"{own}: {{description: Lần nữa}}\n", encoding="utf-8")
    assert [r.partition(":")[0] for r in Dictionary({"x": contract}, file).repeated] == [own]


@pytest.mark.parametrize("text", ["a: [1]", "a: {label: x}", "a: {description: x, unti: m}", "- a", "a: {description: x, in: {t: 3}}", "a: {"])
def test_a_file_of_words_that_cannot_be_read_says_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "columns.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DictionaryError, match=r"columns\.yaml: expected"):
        Dictionary({}, file)


def test_words_are_sorted() -> None:
    """So that a name is found, and two who add words do not meet at the end of the file."""
    names = re.findall(r"^(\w+):", COLUMNS.read_text(encoding="utf-8"), re.M)
    assert names == sorted(names) and len(names) == len(set(names)) > 400
    assert set(LINEAGE_TYPES) <= set(names)


def test_a_code_has_its_name_in_one_place() -> None:
    """Every list is used, its names differ, and no SQL names codes itself."""
    written = {p: p.read_text(encoding="utf-8") for layer in ("models", "macros") for p in (PROJECT / layer).rglob("*.sql") if p.name != "codes.sql"}
    assert len(HOUSE.codes) > 10
    for name, codes in HOUSE.codes.items():
        assert len({of.name for of in codes.values()}) == len(codes), name
        assert any(f"{name}_vi(" in text for text in written.values()), f"nothing uses the list {name}"
    named = re.compile(r"when '[\w.-]+' then '[^']*[^\x00-\x7f'][^']*'(?!\s*\|\|)")
    assert [str(p.relative_to(PROJECT)) for p, text in written.items() if named.search(text)] == []


@pytest.mark.parametrize("text", ["a: 3", "a: {b: x}", "a: {b: {name: x, color: y}}", "a: {b: {name: x, colour: red}}", "- a", "a: {"])
def test_code_lists_that_cannot_be_read_say_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "codes.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DictionaryError, match=r"codes\.yaml: expected"):
        code_lists(file)


def test_a_table_has_the_columns_of_all_its_sources() -> None:
    """Also what the narrower contract of two brings; sources that give a column two types are refused by name."""
    house = House()
    (wide,) = house.targets["adjustment"]
    narrow = wide.model_copy(update={"source": "adjustment_site"})
    kind = next(iter(narrow.columns.values()))
    house.targets["adjustment"] = [wide, narrow.model_copy(update={"columns": narrow.columns | {"extra": kind}})]
    assert house.columns("adjustment").keys() - HOUSE.columns("adjustment").keys() == {"extra"}
    other = narrow.columns["number"].model_copy(update={"type": "double"})
    house.targets["adjustment"] = [wide, narrow.model_copy(update={"columns": narrow.columns | {"number": other}})]
    with pytest.raises(DictionaryError, match="column number of target adjustment is DOUBLE here"):
        house.columns("adjustment")


def test_a_dashboard_names_no_colour_that_a_list_has() -> None:
    named = {of.name for codes in HOUSE.codes.values() for of in codes.values() if of.colour}
    for path in ROOT.glob("dashboards/*/dashboard.yaml"):
        own = yaml.safe_load(path.read_text(encoding="utf-8"))["colors"]["own"]
        assert not own.keys() & named - AMBIGUOUS, path
