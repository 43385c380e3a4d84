"""Certificates, mortgages and clean land data on the sample: planted defects are found and nothing else is, figures are those of plain Python."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime
from itertools import groupby
from typing import Any

import pytest

from ingestion.ingest import ingest
from lake.lake import open_reader
from simulator.manifest import Manifest
from simulator.renumbering import COMMUNE
from tests.conftest import Platform
from tnmt.settings import Settings


def planted(manifest: Manifest, name: str) -> list[str]:
    """Where the sample has this defect."""
    return [place for trap in manifest.traps if trap["trap"] == name for place in trap["where"].split(" ")]


@pytest.mark.parametrize("kind", ["serial_twice", "two_valid_on_parcel", "date_order"])
def test_defects_of_certificates_are_found_and_no_others(platform: Platform, kind: str) -> None:
    names = dict(
        platform.rows("SELECT DISTINCT parcel_id_on_certificate, parcel_id FROM lake.intermediate.int_certificate WHERE parcel_id IS NOT NULL")
    )
    found = platform.rows(f"SELECT DISTINCT parcel_id FROM lake.marts_land.certificate_issue WHERE kind = '{kind}'")
    assert sorted(p for (p,) in found) == sorted(names.get(p, p) for p in planted(platform.manifest, kind))


def test_a_certificate_names_a_parcel_or_says_why_not(platform: Platform) -> None:
    """Oracle: the numbers that parcels of old communes ever bore, looked up in Python."""
    bore: dict[str, set[str]] = defaultdict(set)
    for identifier, uid in platform.rows("SELECT identifier, parcel_uid FROM lake.marts_land.parcel_alias WHERE NOT is_new_unit"):
        bore[identifier].add(uid)
    in_force = {u for (u,) in platform.rows("SELECT parcel_uid FROM lake.marts_land.parcel_current")}
    expected: Counter[str] = Counter()
    for parcel, status in platform.rows("SELECT parcel_id, status FROM lake.clean.land_certificate"):
        uids = bore[parcel]
        expected["no_parcel"] += not uids
        expected["parcel_not_unique"] += len(uids) > 1
        expected["parcel_retired"] += len(uids) == 1 and uids.isdisjoint(in_force) and status == "valid"
    kinds = "('no_parcel', 'parcel_not_unique', 'parcel_retired')"
    found = Counter(dict(platform.rows(f"SELECT kind, count(*) FROM lake.marts_land.certificate_issue WHERE kind IN {kinds} GROUP BY 1")))
    assert found == +expected and found["no_parcel"] >= 1 and found["parcel_retired"] >= 1
    (place,) = planted(platform.manifest, "no_parcel")
    assert platform.rows(f"SELECT kind FROM lake.marts_land.certificate_issue WHERE parcel_id = '{place}'") == [("no_parcel",)]


def test_an_issue_leads_to_its_line_and_shows_no_number(platform: Platform) -> None:
    rows = platform.rows("""SELECT count(*), count(sent.certificate_id) FROM lake.marts_land.certificate_issue AS issue
        LEFT JOIN lake.clean.land_certificate AS sent ON issue.source_delivery_id = sent._delivery_id AND issue.source_line = sent._line""")
    assert rows[0][0] == rows[0][1] > 0
    columns = {
        c for (c,) in platform.rows("SELECT column_name FROM duckdb_columns() WHERE table_name = 'certificate_issue' AND database_name = 'lake'")
    }
    assert not columns & {"certificate_id", "serial_number", "book_number", "owner_id"}


def test_mortgages_are_those_of_a_ledger(platform: Platform) -> None:
    """Oracle: each parcel's registrations and deletions in order, one by one."""
    events = platform.rows("""SELECT coalesce(parcel_uid, parcel_id_in_record), nullif(commune_code, 'unknown'), changed_on, change_id, transaction_code
        FROM lake.intermediate.int_land_transaction WHERE transaction_code IN ('TC', 'XC') ORDER BY 1, 3, 4""")
    assert any(e[1] for e in events)
    opened: Counter[tuple[Any, Any]] = Counter()
    stray: Counter[Any] = Counter()
    for _, of_parcel in groupby(events, lambda e: e[0]):
        count = 0
        for _, commune, on, _, code in of_parcel:
            step = 1 if code == "TC" else -1 if count else 0
            count += step
            opened[commune, on.replace(day=1)] += step
            stray[commune] += code == "XC" and step == 0
    found = platform.rows("SELECT commune_code, month, open_at_end FROM lake.marts_land.mortgage_balance ORDER BY 1, 2")
    expected = {(c, m): sum(n for (commune, month), n in opened.items() if commune == c and month <= m) for c, m, _ in found}
    assert {(c, m): n for c, m, n in found} == expected
    assert {c for c, _ in opened} == {c for c, _, _ in found}
    strays = dict(platform.rows("SELECT commune_code, sum(cleared_without_registration) FROM lake.marts_land.mortgage_balance GROUP BY 1"))
    assert {c: n for c, n in strays.items() if n} == +stray


def test_group_1_by_the_national_system_and_by_us(platform: Platform) -> None:
    """What it reports is that of its newest file, for the parcels of the new commune alone; a filled-in book number is no group 1 with us."""
    flags = dict(platform.rows("SELECT sheet_number::VARCHAR || '.' || parcel_number, is_group_1 FROM lake.clean.land_data_group"))
    state = platform.rows("""SELECT parcel_id, group_reported, group_computed, is_placeholder, missing_codes
        FROM lake.marts_land.land_data_state WHERE group_reported IS NOT NULL""")
    assert {p.removeprefix(f"{COMMUNE}."): g for p, g, *_ in state} == {n: 1 if ok else 2 for n, ok in flags.items()}
    assert all((c == 1) == (codes is None) for _, _, c, _, codes in state)
    assert all("placeholder" in codes for _, _, _, filled, codes in state if filled)
    where = f"certificate.parcel_id_on_certificate = '{planted(platform.manifest, 'placeholder')[0]}'"
    filled = platform.rows(f"""SELECT state.is_placeholder FROM lake.marts_land.land_data_state AS state
        JOIN lake.intermediate.int_certificate AS certificate ON state.parcel_uid = certificate.parcel_uid WHERE {where}""")
    assert filled in ([(True,)], []), "the parcel may have been split since"


def test_defects_are_counted_and_unknown_codes_are_shown(platform: Platform) -> None:
    """Oracle: the paths of the newest file, cut in Python; and no number of a person or a certificate is anywhere."""
    expected: Counter[str] = Counter()
    only: Counter[str] = Counter()
    sent = [paths for (paths,) in platform.rows("SELECT defect_paths FROM lake.clean.land_data_group WHERE defect_paths IS NOT NULL")]
    assert not any(char.isdigit() for paths in sent for char in paths)
    for paths in sent:
        codes = {"|".join(path.split("|")[-2:]) for path in paths.split(";")}
        expected.update(codes)
        only.update(codes if len(codes) == 1 else ())
    found = platform.rows("SELECT defect_code, parcels, only_this_defect, defect_vi FROM lake.marts_land.land_data_defect WHERE basis = 'reported'")
    assert {code: n for code, n, *_ in found} == expected
    assert {code: n for code, _, n, _ in found if n} == only
    assert {vi for code, _, _, vi in found if code == "THUADAT|MAMOI"} == {"Mã chưa có trong danh mục: THUADAT|MAMOI"}


def test_a_row_that_is_refused_shows_no_number_of_a_person(home: Settings) -> None:
    """What the contract drops from a column is not in the quarantine either, where the text of a row is shown."""
    (home.inbox / "land_data_group").mkdir(parents=True)
    row = {
        "xaId": 25195,
        "soHieuToBanDo": 0,
        "soThuTuThua": 5,
        "daDongBoBaKhoiThongTin": True,
        "trangThaiXacThucChu": 1,
        "duLieuDangVanHanh247": True,
    }
    row |= {"thongTinDangKyDapUngNhom1": False, "thongTinDangKyChuaDapUngNhom1": ["TINHHINHDANGKY.90001|CANHAN.30007|loaiDoiTuongId"]}
    good = row | {"soHieuToBanDo": 1}
    path = home.inbox / "land_data_group" / "phan_loai_25195_20260323.json"
    path.write_text(json.dumps([row, *({**good, "soThuTuThua": n} for n in range(1, 99))]), encoding="utf-8")
    done = ingest(home, now=datetime(2026, 3, 25), run_id="one", only=["land_data_group"])
    assert not done.errors and done.loaded["land_data_group"].rows_accepted == 98
    with open_reader(home) as con:
        (shown,) = con.execute("SELECT raw_text FROM lake.quarantine.row").fetchall()
        assert "sheet_number=0" in shown[0] and "CANHAN|loaiDoiTuongId" in shown[0] and "30007" not in shown[0] and "90001" not in shown[0]
        assert con.execute("SELECT DISTINCT defect_paths FROM lake.clean.land_data_group").fetchall() == [("TINHHINHDANGKY|CANHAN|loaiDoiTuongId",)]


def test_progress_of_each_week_is_what_was_sent_by_then(platform: Platform) -> None:
    """A row a week from the first file to the last; oracle: the versions that stood at its end."""
    weeks = platform.rows(
        "SELECT week_end, parcels, group_1, synced, owner_matched, group_1_last_week FROM lake.marts_land.land_data_progress ORDER BY 1"
    )
    assert len(weeks) == 2 and weeks[1][2] > weeks[0][2] > 0 and weeks[1][5] == weeks[0][2]
    for week_end, *counts, _ in weeks:
        of_then = platform.rows(f"""SELECT count(*), count(*) FILTER (is_group_1), count(*) FILTER (is_synced), count(*) FILTER (owner_check = 'matched')
            FROM lake.staging.stg_land_data_group_version
            WHERE valid_from < DATE '{week_end}' + 1 AND coalesce(valid_to >= DATE '{week_end}' + 1, true)""")
        assert of_then == [tuple(counts)], week_end


def test_the_two_clocks_of_the_sample_differ(platform: Platform) -> None:
    """Some dossiers are late on paper only, since they waited; and what a month received is all that became of it."""
    found = dict(platform.rows("SELECT timeliness, count(*) FROM lake.marts_procedures.dossier GROUP BY 1"))
    assert found["on_time"] > 0 and found["late_by_system_only"] > 0 and "no_deadline" not in found
    paused = platform.rows("SELECT count(*) FROM lake.marts_procedures.dossier WHERE paused_days > 0")[0][0]
    waiting = platform.rows("SELECT count(DISTINCT dossier_id) FROM lake.clean.dossier_step WHERE step_kind <> 'work'")[0][0]
    assert 0 < paused <= waiting


def test_planted_defects_of_parcels_break_their_rules_and_no_other_parcel_does(platform: Platform) -> None:
    rules = {
        "shape_invalid": "bow-tie",
        "area_differs_much": "area attribute is not the area of the geometry",
        "land_use_missing": "land-use code missing",
        "outside_commune": "parcel outside its commune",
    }
    none = ("area_missing", "area_differs", "number_missing", "number_twice", "code_malformed", "code_elsewhere", "overlap_identical")
    found: dict[str, list[str]] = defaultdict(list)
    for rule, parcel in platform.rows("SELECT rule_id, parcel_id FROM lake.marts_land.cadastre_issue WHERE is_open"):
        found[rule].append(parcel)
    assert {rule: found[rule] for rule in (*rules, *none)} == {r: planted(platform.manifest, trap) for r, trap in rules.items()} | {
        r: [] for r in none
    }
    former = platform.rows("SELECT count(*) FROM lake.marts_land.parcel_current WHERE land_use_code = 'BHK'")
    assert len(found["land_use_former"]) == former[0][0] > 0
    certificates = platform.rows("SELECT count(*) FROM lake.marts_land.certificate_issue")
    assert sum(len(parcels) for rule, parcels in found.items() if rule.startswith("certificate_")) == certificates[0][0]
    assert platform.rows("SELECT count(*) FROM lake.marts_land.cadastre_issue WHERE lon IS NOT NULL AND NOT (lon BETWEEN 106 AND 108 AND lat BETWEEN 11 AND 13)") == [(0,)]  # fmt: skip
    (shrunk,) = planted(platform.manifest, "gap around it")
    around = platform.rows(
        f"SELECT gap_kind, width_m FROM lake.marts_land.parcel_gap WHERE list_contains(string_split(neighbour_ids, ', '), '{shrunk}')"
    )
    assert around and all(kind in ("sliver", "open") and width < 1 for kind, width in around)
