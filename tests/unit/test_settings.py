"""What a platform reads before it does anything: variables, the token key, YAML, paths. Unusable ones are refused with what to do."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ingestion.contract import CONTRACTS, ContractError, Files, load_contract, load_contracts
from sharing.agreement import AGREEMENTS, AgreementError, load_agreement
from tests.support import command
from tnmt.settings import Settings, SettingsError, settings


def test_a_key_is_made_whole_and_never_over_another(tmp_path: Path) -> None:
    s = Settings(home=tmp_path)
    s.make_token_key()
    key = s.token_key
    assert len(key) == 64 and stat.S_IMODE(s.token_key_file.stat().st_mode) == 0o600
    Settings(home=tmp_path).make_token_key()
    assert Settings(home=tmp_path).token_key == key
    assert [p.name for p in s.token_key_file.parent.iterdir()] == ["token.key"]


def test_a_key_is_made_where_the_file_system_has_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fails)
    s = Settings(home=tmp_path)
    s.make_token_key()
    key = s.token_key
    s.make_token_key()
    assert s.token_key == key and [p.name for p in s.token_key_file.parent.iterdir()] == ["token.key"]


@pytest.mark.parametrize("left", ["", "\n", "a" * 31, "khóa"])
def test_a_key_that_was_cut_is_refused(tmp_path: Path, left: str) -> None:
    s = Settings(home=tmp_path)
    s.token_key_file.parent.mkdir(parents=True)
    s.token_key_file.write_text(left, encoding="utf-8")
    with pytest.raises(SettingsError, match="safe copy"):
        s.token_key  # noqa: B018
    s.make_token_key()
    assert s.token_key_file.read_text(encoding="utf-8") == left, "never replaced in silence"


def test_a_missing_key_is_not_made_by_who_needs_it(tmp_path: Path) -> None:
    s = Settings(home=tmp_path)
    with pytest.raises(SettingsError, match="is missing"):
        s.token_key  # noqa: B018
    assert not s.token_key_file.exists()


@pytest.mark.parametrize("name, value", [
    ("TNMT_MEMORY_LIMIT", "10MB"), ("TNMT_MEMORY_LIMIT", "viel"), ("TNMT_THREADS", "zwei"), ("TNMT_CATALOG", "mysql:x"),
])  # fmt: skip
def test_a_variable_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str) -> None:
    monkeypatch.setenv("TNMT_HOME", str(tmp_path))
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        settings()
    code, said = command("status")
    assert code == 1 and name in said


@pytest.mark.parametrize(
    "arguments",
    [("init",), ("status",), ("run",), ("maintain",), ("sql", "SELECT 1"), ("quarantine", "list"), ("extract", "ioc"), ("live", "--once")],
)
@pytest.mark.parametrize("kind", ["parent", "read-only", "empty"])
def test_a_home_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], kind: str) -> None:
    """A parent that is a file, a folder where nothing may be written, a catalog of no bytes."""
    home = tmp_path / "home"
    if kind == "parent":
        home.write_text("a file")
        home = home / "below"
    elif kind == "read-only":
        home = Path("/proc/tnmt")  # root may write anywhere else
    else:
        (home / "lake").mkdir(parents=True)
        (home / "lake" / "catalog.sqlite").touch()
        if arguments == ("init",):
            pytest.skip("a new lake may be made over it: nothing lies there")
    monkeypatch.setenv("TNMT_HOME", str(home))
    code, said = command(*arguments)
    assert code == 1 and ("cannot be used as home" in said or "there is no lake" in said or "were not built yet" in said), said


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "x/y", "", ".", "ioc.yaml/../ioc", "IOC"])
def test_the_name_of_an_agreement_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(AgreementError, match="no name of an agreement"):
        load_agreement(name, (tmp_path, AGREEMENTS))


def test_an_agreement_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agreements").mkdir()
    (tmp_path / "outside.yaml").write_text((AGREEMENTS / "ioc.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "agreements" / "ioc.yaml").symlink_to(tmp_path / "outside.yaml")
    with pytest.raises(AgreementError, match="leads out"):
        load_agreement("ioc", (tmp_path / "agreements",))


@pytest.mark.parametrize("folder", ["../../x", "/etc", "a/../b", ".hidden", "a//b", "a/", "./a", "..", "a\nb", "~x"])
def test_the_inbox_folder_of_a_contract_stays_below_the_inbox(folder: str) -> None:
    with pytest.raises(ValueError, match="below the inbox"):
        Files(folder=folder)


@pytest.mark.parametrize("folder", ["station_txt", "quan trắc/nước", "a-b.c"])
def test_folders_below_the_inbox_are_taken(folder: str) -> None:
    assert Files(folder=folder).folder == folder


def _contracts(at: Path, **folders: str) -> None:
    """A contract of each name, whose inbox folder is this one."""
    shipped = (CONTRACTS / "procedures/dossier.yaml").read_text(encoding="utf-8")
    at.mkdir(exist_ok=True)
    for name, folder in folders.items():
        (at / f"{name}.yaml").write_text(shipped.replace("files: {", f"files: {{folder: '{folder}', "), encoding="utf-8")


@pytest.mark.parametrize("folders", [{"a": "quan_trac", "b": "quan_trac/nuoc"}, {"a": "x/y/z", "b": "x"}])
def test_no_inbox_folder_lies_in_another(tmp_path: Path, folders: dict[str, str]) -> None:
    """The outer source would take each file of the inner one, and refuse it for its name."""
    _contracts(tmp_path, **folders)
    with pytest.raises(ContractError, match=r"lies in the inbox folder .* of") as caught:
        load_contracts([tmp_path])
    assert all(f in str(caught.value) for f in folders.values())


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{n}: &{n} [{','.join(['*' + m] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize("text, word", [
    (BOMB, "anchors"), ("x: &a 1\ny: *a\n", "anchors"), ("- &a [*a]\n", "anchors"), ("x: '" + "a" * 1_100_000 + "'\n", "at most"),
    ("!!python/object/apply:os.system ['true']\n", "constructor"), ("x: [", "YAML"),
])  # fmt: skip
def test_yaml_that_is_no_plain_data_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=word):
        load_contract(path)
    with pytest.raises(AgreementError, match=word if word != "YAML" else "no valid"):
        load_agreement("bad", (tmp_path,))
