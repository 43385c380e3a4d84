"""A contract with several formats: what of it is refused when it is read, and which format the name of a file says."""

from __future__ import annotations

import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingestion.contract import CONTRACTS, Contract, ContractError, load_contract, load_contracts
from ingestion.ingest import shared_folders
from ingestion.load import _name_problem
from ingestion.names import claiming, format_of, groups, said_by
from tests.readers_kit import delivery

CSV = {"reader": "csv", "pattern": r"^m_(?P<as_of>\d{8})\.csv$"}
XLSX = {"reader": "xlsx", "pattern": r"^m_(?P<as_of>\d{8})\.xlsx$"}
GOOD: dict[str, Any] = {
    "title": "Nguồn mẫu",
    "owner": {"unit": "Phòng thử"},
    "terms": "Dùng thử",
    "target": "mau",
    "load": "append",
    "as_of": {"from": "file_name"},
    "files": {"as_of_format": "%Y%m%d"},
    "formats": [CSV, XLSX],
    "columns": {"ma": {"header": "Mã"}},
}


def write(folder: Path, name: str, **changed: Any) -> Path:
    """A contract of that name, GOOD but for `changed`; None takes a field out."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**GOOD, **changed}.items() if v is not None}, allow_unicode=True), encoding="utf-8")
    return path


def of(tmp_path: Path, **changed: Any) -> Contract:
    return load_contract(write(tmp_path, "mau", **changed))


MAP = {"ma": {"header": "Mã"}, "geometry": {"type": "geometry"}}
VECTOR = {"reader": "vector", "crs": "EPSG:9212"}


@pytest.mark.parametrize("changed, told", [
    ({"format": {"reader": "csv"}}, "either format, or formats"),
    ({"formats": None}, "either format, or formats"),
    ({"formats": []}, "either format, or formats"),
    ({"formats": [{"reader": "csv"}]}, r"formats\.0\.pattern: Field required"),
    ({"formats": [CSV, {**XLSX, "reader": "pdf"}]}, r"formats\.1\.reader"),
    ({"formats": [CSV, {**XLSX, "pattern": "("}]}, r"formats\.1\.pattern"),
    ({"formats": [CSV, {**XLSX, "pattern": CSV["pattern"]}]}, "same pattern"),
    ({"formats": [CSV, {**XLSX, "delimiter": ";"}]}, r"formats, entry 2: \['delimiter'\] have no meaning for reader xlsx"),
    ({"formats": [{**CSV, "sheet": "a"}, XLSX]}, r"formats, entry 1: \['sheet'\] have no meaning for reader csv"),
    ({"formats": [CSV, {**XLSX, "pattern": r"^m_\d{8}\.xlsx$"}]}, "named group `as_of` in the pattern of formats, entry 2"),
    ({"formats": [CSV, XLSX], "columns": {"ma": {"from_name": "huyen"}}}, "'huyen' is no named group of the pattern of formats, entry 1"),
    ({"formats": [CSV, {"reader": "vector", "pattern": r"^m_(?P<as_of>\d{8})\.gpkg$"}], "columns": MAP}, "formats, entry 2: crs is needed"),
    ({"formats": [CSV, {**VECTOR, "pattern": r"^m_(?P<as_of>\d{8})\.gpkg$"}], "rows": [{"header": "a", "values": ["b"]}]}, "reader vector .formats, entry 2"),
    ({"formats": [CSV, {"reader": "postgis", "table": "t", "pattern": r"^p_(?P<as_of>\d{8})$"}]}, "entry 2: reader postgis has no files of senders"),
    ({"formats": [CSV, {"reader": "postgis", "pattern": r"^p_(?P<as_of>\d{8})$"}]}, "entry 2: table or query is needed"),
    ({"files": {"as_of_format": "%Y%m%d", "pattern": "^x$"}}, r"files\.pattern has no meaning beside formats"),
    ({"as_of": None, "formats": [{**CSV, "as_of_format": "%Y"}, XLSX]}, "entry 1: as_of_format has a meaning for"),
    ({"formats": [{**CSV, "formerly": "mau"}, XLSX]}, "mau is the source itself"),
    ({"formats": [{**CSV, "formerly": "Mẫu cũ"}, XLSX]}, "must be the name of a source"),
    ({"formats": [{**CSV, "formerly": "mau_csv"}, XLSX], "files": {"as_of_format": "%Y%m%d", "in_place": True}}, "files that stay in place"),
    ({"formats": [{**CSV, "formerly": "mau_csv"}, XLSX], "load": "snapshot"}, "formerly needs a scope"),
])  # fmt: skip
def test_what_says_two_things_or_nothing_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ContractError, match=told):
        of(tmp_path, **changed)


def test_formerly_is_of_several_formats_only(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="formerly"):
        of(tmp_path, formats=None, format={"reader": "csv", "formerly": "mau_csv"}, as_of=None, files=None)


def test_the_name_of_a_file_says_its_format(tmp_path: Path) -> None:
    contract = of(tmp_path, formats=[{**CSV, "as_of_format": "%d%m%Y"}, {**XLSX, "sheet": "Trang 1", "formerly": "mau_xlsx"}])
    csv, xlsx = format_of(contract, "2026/m_02012026.csv"), format_of(contract, "m_20260102.xlsx")
    assert csv is not None and xlsx is not None
    assert (csv.format.reader, csv.files.as_of_format, csv.recorded_as) == ("csv", "%d%m%Y", "mau")
    assert (xlsx.format.sheet, xlsx.files.as_of_format, xlsx.recorded_as) == ("Trang 1", "%Y%m%d", "mau_xlsx")
    assert said_by(contract, "m_02012026.csv") == said_by(contract, "m_20260102.xlsx") == datetime(2026, 1, 2)
    assert groups(contract, "m_20260102.xlsx") == {"as_of": "20260102"}
    for own in (csv, xlsx):  # whole in itself: it can be narrowed no further, and goes to another process
        assert own.each == (own,) and format_of(own, "m_20260102.xlsx") is own
        assert pickle.loads(pickle.dumps(own)) == own and own.columns == contract.columns
    assert contract.folders == ("mau", "mau_xlsx") and len(contract.datings) == 2
    with pytest.raises(LookupError, match="has 2 formats"):
        _ = contract.format


def test_a_copy_with_other_formats_is_narrowed_anew(tmp_path: Path) -> None:
    contract = of(tmp_path)
    assert len(contract.each) == 2
    assert len(contract.model_copy(update={"formats": contract.formats[:1]}).each) == 1


def test_a_name_of_no_format_or_of_two_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    loose = {"reader": "csv", "delimiter": ";", "pattern": r"^m_.*(?P<as_of>\d{8}).*$"}
    contract = of(tmp_path, formats=[CSV, loose])
    assert (format_of(contract, "m_20260102.csv"), groups(contract, "m_20260102.csv")) == (None, None)
    assert len(claiming(contract, "m_20260102.csv")) == 2 and claiming(contract, "m_20260102.txt") == [contract.each[1]]
    twice, none = _name_problem(contract, delivery(b"", "m_20260102.csv")), _name_problem(contract, delivery(b"", "n.csv"))
    assert twice is not None and twice.code == "wrong_name" and "nhiều định dạng" in str(twice) and "mau.yaml" in str(twice)
    assert none is not None and CSV["pattern"] in none.expected and loose["pattern"] in none.expected


def test_a_former_name_that_is_a_source_of_its_own_is_left_to_it(tmp_path: Path) -> None:
    formats = [{**CSV, "formerly": "mau_csv"}, {**XLSX, "formerly": "mau_xlsx"}]
    write(tmp_path, "mau", formats=formats)
    write(tmp_path, "mau_csv", formats=None, format={"reader": "csv"}, as_of=None, files=None)
    contract = load_contracts([tmp_path])["mau"]
    assert (contract.former_names, contract.folders) == (("mau_xlsx",), ("mau", "mau_xlsx"))
    assert [own.recorded_as for own in contract.each] == ["mau", "mau_xlsx"]


def test_two_heirs_of_one_source_are_refused(tmp_path: Path) -> None:
    for name in ("mau", "mau_khac"):
        write(tmp_path, name, formats=[{**CSV, "formerly": "mau_csv"}])
    with pytest.raises(ContractError, match="both say `formerly: mau_csv`"):
        load_contracts([tmp_path])


def test_a_former_inbox_counts_as_one(tmp_path: Path) -> None:
    write(tmp_path, "mau", formats=[{**CSV, "formerly": "mau_csv"}])
    write(tmp_path, "khac", files={"folder": "mau_csv", "as_of_format": "%Y%m%d"})
    assert shared_folders(load_contracts([tmp_path]).values()) == {"mau_csv"}
    write(tmp_path, "khac", files={"folder": "mau_csv/x", "as_of_format": "%Y%m%d"})
    with pytest.raises(ContractError, match="lies in the inbox folder mau_csv of contract mau"):
        load_contracts([tmp_path])


def test_no_two_formats_of_a_shipped_contract_claim_a_name() -> None:
    several = [c for c in load_contracts((CONTRACTS,), only_enabled=False).values() if c.formats]
    assert {c.source for c in several} >= {"parcel", "adjustment", "approval"}
    names = [f"thua_dat_688_20260101{end}" for end in (".gpkg", ".gdb", ".gdb.zip", ".shp.zip")] + ["a.csv", "a.xlsx", "a.csv.xlsx", "a.xlsx.csv"]
    assert not [(c.source, n) for c in several for n in names if len(claiming(c, n)) > 1]
