"""What the command line says and does with what people type, and with what happens to run beside it."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import pytest

from cli.common import moment_of
from ingestion import decide as decisions
from ingestion.ingest import contracts_of
from ingestion.publish import Loaded
from lake.lake import open_reader, open_writer
from simulator.files import write_xlsx
from tests.support import command
from tnmt.settings import Settings

AT = datetime(2026, 3, 24, 12)


@pytest.mark.parametrize(
    "arguments",
    [("run", "--day", "31/12/2026"), ("sample", "--size", "XS", "--end", "hôm qua"), ("run", "--as-of", "24/03/2026"), ("trace", "A", "pH", "x")],
    ids=lambda a: a[0],
)
def test_a_day_that_is_none_is_a_word_of_usage(home: Settings, arguments: tuple[str, ...]) -> None:
    code, said = command(*arguments)
    assert code == 2 and "expected" in said and arguments[-1] in said


def test_a_moment_with_its_offset_is_that_moment(home: Settings) -> None:
    assert moment_of("2026-11-24T16:59Z", home) == moment_of("2026-11-24T23:59", home) == datetime(2026, 11, 24, 23, 59)


@pytest.mark.parametrize(
    ("moment", "day", "told"), [("2999-01-01T00:00", "2026-01-01", "up to now"), ("hôm qua", "2026-01-01", "TIME: expected a time")]
)
def test_what_will_be_known_nobody_knows(home: Settings, moment: str, day: str, told: str) -> None:
    code, said = command("as-known", moment, str(home.home / "x.duckdb"), "--from", day)
    assert code == 2 and told in said and moment.split("T")[0] in said


@pytest.mark.parametrize("number", ["../../x", "QĐ-12/2026", "a" * 300])
def test_a_decision_may_have_any_number(home: Settings, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """It is a text of the row, and names no file."""
    monkeypatch.setattr(decisions, "_refuse_unknown", lambda *given: None)
    values = {"station_id": "S", "parameter": "COD", "action": "reject", "applies_from": AT, "applies_to": AT, "reason_vi": "thử", "decided_by": "QA"}
    path, said = decisions.decide(home, contracts_of(home)["adjustment"], values | {"adjustment_id": number}, AT)
    assert path.parent == home.inbox / "adjustment" and said == number and number in path.read_text(encoding="utf-8")


def test_a_broken_contract_is_told_by_status_and_whole_by_doctor(home: Settings) -> None:
    """Nothing is taken in until it is mended: who looks has to hear of it."""
    (home.home / "contracts").mkdir(exist_ok=True)
    (home.home / "contracts" / "nguon_la.yaml").write_text("source: nguon_la\ntitle: 5\ntarget: end_of\n", encoding="utf-8")
    code, said = command("status")
    assert code == 0 and "broken: nothing is taken in" in said and "nguon_la.yaml" in said
    assert "nguon_la.yaml" in json.loads(command("status", "--json")[1])["broken"][0]
    code, said = command("doctor")
    assert code == 5 and "nguon_la.yaml" in said and "Field required" in " ".join(said.split())
    (home.home / "contracts" / "nguon_la.yaml").unlink()
    assert json.loads(command("status", "--json")[1])["broken"] == []


def test_a_decision_whose_source_fails_says_why(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decisions, "_refuse_unknown", lambda *given: None)
    monkeypatch.setattr("ingestion.ingest.load", no_disk)
    options = ("--from", "2026-03-24T00:00:00", "--to", "2026-03-24T12:00:00", "--reason", "thử", "--by", "QA")
    code, said = command("adjust", "S", "COD", "reject", *options)
    assert code == 1 and "No space left on device" in said and "next run" in said


def test_refused_files_are_listed_beside_a_row_that_names_none(home: Settings) -> None:
    with open_writer(home, "test") as con:
        con.execute(f"INSERT INTO lake.ops.landed VALUES ('d', 'station_txt', 'anh.txt', 'x', 1, '{AT}', '{AT}', DATE '2026-03-24', 'raw.file')")
        con.execute(f"INSERT INTO lake.ops.outcome VALUES ('d', 'station_txt', DATE '2026-03-24', 'quarantined', 'ảnh', 0, 0, 0, 0, '{AT}', 'r', 1)")
        con.execute("INSERT INTO lake.quarantine.row (source, target, day, line) VALUES ('station_txt', 'reading', DATE '2026-03-24', 1)")
    code, said = command("quarantine", "list", "--json")
    assert code == 0 and "ảnh" in said


def test_refused_rows_come_with_their_newest_example_and_outlive_their_source(home: Settings) -> None:
    """Of two deliveries the one that came later, of its rows the first in the file; by time alone, whatever the names and ids."""
    with open_writer(home, "test") as con:
        for delivery, day in (("z", 24), ("a", 25), ("m", 23)):
            con.execute(
                f"INSERT INTO lake.ops.landed VALUES ('{delivery}', 'da_rut', '{delivery}.txt', 'x', 1, '{AT}', '{AT}', DATE '2026-03-24', 'raw.file')"
            )
            for line in (12, 3):
                con.execute(
                    "INSERT INTO lake.quarantine.row (delivery_id, source, target, day, line, reasons, details, received_at) "
                    f"VALUES ('{delivery}', 'da_rut', 'reading', DATE '2026-03-24', {line}, ['bad_value'], 'dòng {line}', TIMESTAMP '2026-03-{day}')"
                )
    code, said = command("quarantine", "list", "da_rut", "--json")
    (row,) = json.loads(said)
    assert code == 0 and (row["rows"], row["deliveries"], row["file"], row["line"], row["example"]) == (6, 3, "a.txt", 3, "dòng 3")


def test_what_is_blocked_is_told_by_every_run_until_it_is_not(home: Settings) -> None:
    """By `status` too, with its reason and the way to try it again; a source of which nothing was published is not fresh by it."""
    write_xlsx(home.inbox / "programme_indicator" / "chi_tieu_20260301.xlsx", "Chỉ tiêu", ["Cột lạ"], [["1"]])
    for _ in range(2):
        code, said = command("run", "programme_indicator", "--no-marts")
        assert code == 3 and "blocked: programme_indicator: chi_tieu_20260301.xlsx" in said
    code, said = command("status", "--json")
    told = json.loads(said)
    (blocked,) = told["blocked"]
    assert "chi_tieu_20260301.xlsx" in blocked["name"] and blocked["reason"] and told["set_aside"] == []
    assert next(r for r in told["sources"] if r["source"] == "programme_indicator")["state"] == "never"
    code, said = command("quarantine", "list", "programme_indicator", "--json")
    assert blocked["delivery_id"] in said and "chi_tieu_20260301.xlsx" in said
    assert command("quarantine", "list", "programme_indicators")[0] == 2


def test_a_blocked_delivery_is_settled_by_the_next_of_its_name_or_by_a_person(home: Settings) -> None:
    """Its bytes stay wrong for ever: without that the exit code of every later run would tell of it, and of nothing else any more."""

    def send(name: str, header: str, value: str) -> None:
        rows = [["R901", "x", "%", "Q3", date(2026, 9, 30), 90, value, "VP", None]]
        columns = ["Mã chỉ tiêu", "Tên chỉ tiêu", "Đơn vị tính", "Kỳ", "Ngày cuối kỳ", "Mục tiêu", header, "Đơn vị báo cáo", "Ghi chú"]
        write_xlsx(home.inbox / "programme_indicator" / name, "Chỉ tiêu", columns, rows)

    def stopped() -> list[dict[str, Any]]:
        told = json.loads(command("status", "--json")[1])
        assert [r["blocked"] for r in told["sources"] if r["source"] == "programme_indicator"] == [len(told["blocked"])]
        return told["blocked"]

    for name in ("chi_tieu_20260301.xlsx", "chi_tieu_20260302.xlsx"):
        send(name, "Cột lạ", "91")
    assert command("run", "programme_indicator", "--no-marts")[0] == 3 and len(stopped()) == 2
    send("chi_tieu_20260301.xlsx", "Thực hiện", "91")
    assert command("run", "programme_indicator", "--no-marts")[0] == 3
    (left,) = stopped()
    assert left["name"] == "chi_tieu_20260302.xlsx"
    decided = ("--reason", "đã gửi lại trong chi_tieu_20260301.xlsx", "--by", "Phòng CNTT")
    assert command("quarantine", "close", "programme_indicator", "--delivery-id", "x" * 12, *decided)[0] == 2
    nothing = command("quarantine", "close", "programme_indicator", "--delivery-id", left["delivery_id"], "--reason", " ", "--by", "Phòng CNTT")
    assert nothing[0] == 2 and "expected a text" in nothing[1]
    assert command("quarantine", "close", "programme_indicator", "--delivery-id", left["delivery_id"], *decided)[0] == 0
    assert stopped() == [] and command("run", "programme_indicator", "--no-marts")[0] == 0
    assert left["delivery_id"] not in command("quarantine", "list", "programme_indicator", "--json")[1]
    assert command("quarantine", "retry", "programme_indicator")[0] == 0  # neither of them comes back by it
    assert command("run", "programme_indicator", "--no-marts")[0] == 0 and stopped() == []
    with open_reader(home) as con:
        said = con.execute("SELECT status, reason, delivery_id FROM lake.ops.delivery ORDER BY received_at, name, status").fetchall()
    again = next(d for status, _, d in said if status == "published")
    # what is written into the ledger, not only what is asked of it: pages, marts and people read the same
    by_hand, by_itself = ((d, why) for status, why, d in sorted(said, key=lambda s: s[2] != left["delivery_id"]) if status == "closed")
    assert by_hand == (left["delivery_id"], "đã gửi lại trong chi_tieu_20260301.xlsx (Phòng CNTT)")
    assert by_itself[1].startswith(f"đã được gửi lại: lần nộp {again} cùng tên, nhận lúc ")
    assert command("quarantine", "retry", "programme_indicator", "--delivery-id", left["delivery_id"])[0] == 0
    assert command("run", "programme_indicator", "--no-marts")[0] == 3 and stopped() == [left]


def test_a_file_of_the_same_name_and_another_month_settles_nothing(home: Settings) -> None:
    """Where no name says which state a file is of, and each brings its own rows; a clock that stands still says nothing either."""
    (home.home / "contracts" / "thu.yaml").parent.mkdir(parents=True, exist_ok=True)
    (home.home / "contracts" / "thu.yaml").write_text(
        "title: Thử\ndescription: Thử\nowner: {unit: x, contact: y}\nterms: z\ntarget: thu\nload: upsert\nkey: [ma]\nformat: {reader: csv, delimiter: ';'}\n"
        "columns:\n  ma: {header: 'Mã', required: true, description: m}\n  so: {header: 'Số', type: 'decimal(9,1)', required: true, description: s}\n"
    )
    (home.inbox / "thu").mkdir(parents=True)
    for month, (rows, code) in enumerate((("T3_1;5\nT3_2;x\n", 3), ("T4_1;7\n", 3))):
        (home.inbox / "thu" / "ket_qua.csv").write_text(f"Mã;Số\n{rows}")
        assert command("run", "thu", "--no-marts")[0] == code, month
    (blocked,) = json.loads(command("status", "--json")[1])["blocked"]
    assert blocked["name"] == "ket_qua.csv"


def test_files_without_a_line_that_could_be_read_are_too_many_like_rows() -> None:
    assert Loaded("station_txt", deliveries=1, quarantined=1).refused_too_many
    assert Loaded("station_txt", deliveries=10, quarantined=1, published=9, rows_read=90, rows_accepted=90, tolerated=0.05).refused_too_many
    assert not Loaded("station_txt", deliveries=20, quarantined=1, published=19, rows_read=90, rows_accepted=90, tolerated=0.05).refused_too_many
    assert not Loaded("station_txt").refused_too_many
