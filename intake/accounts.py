"""Accounts of the stations: made from the register, one a station, with passwords that only the station and its hash here know."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from ingestion.ledger import stations_in_use
from lake.lake import open_reader
from tnmt.settings import Settings

FILE = "intake-accounts.json"
TRIES, TRIES_OF_ADDRESS, WINDOW = 5, 100, 600.0
"""After so many wrong passwords for an account from one address (or for any account from it) within so many seconds, none is looked at."""

LOGIN_SECONDS = 20
"""Within so many seconds a new connection has to have logged in."""


class Denied(Exception):
    """A log-in that is refused, in words for the sender (Vietnamese)."""


@dataclass(frozen=True)
class Account:
    """One account. `stations` are the codes that its files may bear; a disabled one keeps its place and may not log in."""

    name: str
    stations: tuple[str, ...]
    salt: str
    digest: str
    enabled: bool = True

    def is_right(self, password: str) -> bool:
        """Whether this is its password. It has 120 random bits, so that a plain keyed hash cannot be searched."""
        return hmac.compare_digest(_digest(self.salt, password), self.digest)


def _digest(salt: str, password: str) -> str:
    return hashlib.sha256(f"{salt}:{password}".encode()).hexdigest()


def path_of(settings: Settings) -> Path:
    """The file of accounts, mode 0600."""
    return settings.home / "secrets" / FILE


def read(settings: Settings) -> dict[str, Account]:
    """The accounts by name; empty before the first `issue`."""
    try:
        rows = json.loads(path_of(settings).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {row["name"]: Account(**{**row, "stations": tuple(row["stations"])}) for row in rows}


def registered(settings: Settings, today: date) -> dict[str, tuple[str, ...]]:
    """The stations in use, each with the codes that its files may bear. Raises LakeError where there is no lake."""
    with open_reader(settings) as con:
        rows = stations_in_use(con, today)
    return {station: (station, *(code.strip() for code in (former or "").split(";") if code.strip())) for station, former in rows}


def issue(settings: Settings, stations: Mapping[str, tuple[str, ...]], reset: str | None = None) -> dict[str, str]:
    """Brings the accounts to the register (station -> codes that its files may bear); returns the new passwords by account.

    A station that left the register is disabled, one that came back is enabled with the password it had. `reset` names an account
    that gets a new password; raises KeyError where the register has none of that name.
    """
    if reset is not None and reset not in stations:
        raise KeyError(f"the register of stations has no {reset}")
    accounts, new = read(settings), {}
    for name, codes in stations.items():
        if name in accounts and name != reset:
            accounts[name] = replace(accounts[name], stations=codes, enabled=True)
            continue
        new[name], salt = secrets.token_urlsafe(15), secrets.token_hex(8)
        accounts[name] = Account(name, codes, salt, _digest(salt, new[name]))
    accounts |= {n: replace(a, enabled=False) for n, a in accounts.items() if n not in stations}
    write_private(path_of(settings), json.dumps([asdict(a) for a in accounts.values()], ensure_ascii=False, indent=1))
    return new


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner reads (0600), in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Door:
    """Lets accounts in. Shared by the servers of all protocols; sees a changed file of accounts at the next log-in."""

    def __init__(self, settings: Settings) -> None:
        """An empty house: no session, no failed try."""
        self._settings = settings
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}
        self._read_of = -1
        self._failed: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._sessions: dict[str, int] = defaultdict(int)

    def enter(self, name: str, password: str, address: str) -> Account:
        """The account, whose session is open from now on until `leave`; raises Denied."""
        with self._lock:
            self._refresh()
            limits = {(name, address): TRIES, ("", address): TRIES_OF_ADDRESS}
            if any(self._recent(key) >= most for key, most in limits.items()):
                raise Denied(f"Sai mật khẩu quá nhiều lần; hãy thử lại sau {WINDOW / 60:.0f} phút hoặc liên hệ Phòng Quan trắc")
            account = self._accounts.get(name)
            if account is None or not account.enabled or not account.is_right(password):
                for key in limits:
                    self._failed[key].append(time.monotonic())
                raise Denied("Sai tài khoản hoặc mật khẩu")
            if self._sessions[name] >= self._settings.intake_sessions:
                raise Denied(f"Tài khoản đang mở {self._sessions[name]} phiên, nhiều nhất là {self._settings.intake_sessions}; hãy đóng phiên cũ")
            self._failed.pop((name, address), None)
            self._sessions[name] += 1
            return account

    def leave(self, account: Account) -> None:
        """Ends a session."""
        with self._lock:
            self._sessions[account.name] -= 1

    def _recent(self, key: tuple[str, str]) -> int:
        tries = self._failed[key]
        while tries and time.monotonic() - tries[0] > WINDOW:
            tries.popleft()
        if not tries:
            del self._failed[key]
        return len(tries)

    def _refresh(self) -> None:
        try:
            stamp = path_of(self._settings).stat().st_mtime_ns
        except FileNotFoundError:
            stamp = 0
        if stamp != self._read_of:
            self._accounts, self._read_of = read(self._settings), stamp
