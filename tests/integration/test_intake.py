"""Stations hand in their files to real servers on loopback, over FTP, FTPS and SFTP, and do everything wrong that can be done."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ftplib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest

from ingestion.ingest import contracts_of, ingest
from intake import accounts, drop
from intake.server import Intake
from lake.lake import create, open_reader
from orchestration.doctor import CHECKS
from tests.conftest import Platform
from tests.tiny import END
from tnmt.settings import Settings

STATIONS = [f"BP_T{n:03}_NUOTHA" for n in range(200)]
AT = datetime(2026, 3, 24, 0, 5)


def content(station: str, at: datetime) -> bytes:
    return f"COD\t{int(station[4:7]) + at.minute}.25\tmg/L\t{at:%Y%m%d%H%M%S}\t00\r\n".encode()


def name_of(station: str, at: datetime) -> str:
    return f"{station}_{at:%Y%m%d%H%M%S}.txt"


class House:
    """A running intake with its accounts."""

    def __init__(self, home: Path, **options: Any) -> None:
        free = {"intake_ftp_port": 0, "intake_sftp_port": 0, "intake_plain_ftp": True}
        self.settings = Settings(home=home, **{**free, **options})
        self.passwords = accounts.issue(self.settings, {s: (s,) for s in STATIONS})
        self.intake = Intake(self.settings, contracts_of(self.settings)["station_txt"])
        self.intake.start()
        self.inbox = self.settings.inbox / "station_txt"

    def ftp(self, station: str, tls: bool = True, password: str | None = None) -> ftplib.FTP:
        client: ftplib.FTP = ftplib.FTP_TLS(context=ssl._create_unverified_context()) if tls else ftplib.FTP()
        client.encoding = "utf-8"
        client.connect("127.0.0.1", self.intake.ftp.port, timeout=30)
        client.login(station, password or self.passwords[station])
        if isinstance(client, ftplib.FTP_TLS):
            client.prot_p()
        return client

    def ssh(self, station: str, password: str | None = None) -> Any:
        return asyncssh.connect(
            "127.0.0.1",
            self.intake.sftp.port,
            username=station,
            password=password or self.passwords[station],
            known_hosts=None,
            client_keys=None,
            config=None,
        )

    def found(self) -> dict[str, list[bytes]]:
        """Base name -> contents of every file that the path would read; hidden and unfinished ones are a failure."""
        held: dict[str, list[bytes]] = {}
        for path in sorted(p for p in self.inbox.rglob("*") if p.is_file()):
            assert path.suffix == ".txt", path
            held.setdefault(path.name, []).append(path.read_bytes())
        return held

    def aside(self) -> list[Path]:
        """Uploads in progress."""
        return list((self.settings.home / "intake" / "uploading").iterdir())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.intake.stop()


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for tests after which it is as before."""
    made = House(tmp_path_factory.mktemp("house"))
    yield made
    made.intake.stop()


def wait(condition: Any, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def test_200_stations_at_once_beside_a_backlog_of_60_days(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """Half by FTPS, half by SFTP, while one logger drains what it kept: all of it arrives, and nobody waits for the logger."""
    late, others = STATIONS[0], STATIONS[1:]
    backlog = [AT - timedelta(minutes=5 * n) for n in range(1, 60 * 288 + 1)]
    sent: dict[str, list[bytes]] = {}
    seconds: list[float] = []
    drained = 0

    def drain() -> None:
        nonlocal drained
        client = house.ftp(late, tls=False)
        for drained, at in enumerate(backlog, 1):  # noqa: B007  # the others look at it
            client.storbinary(f"STOR {at:%Y%m%d}/{name_of(late, at)}", BytesIO(content(late, at)))
            sent[name_of(late, at)] = [content(late, at)]
        client.quit()

    def by_ftps(station: str) -> None:
        began = time.monotonic()
        client = house.ftp(station)
        for n in range(3):
            at = AT + timedelta(minutes=5 * n)
            client.storbinary(f"STOR {name_of(station, at)}", BytesIO(content(station, at)))
            sent[name_of(station, at)] = [content(station, at)]
        client.quit()
        seconds.append(time.monotonic() - began)

    async def by_sftp(station: str, doors: asyncio.Semaphore) -> None:
        async with doors:
            began = time.monotonic()
            async with house.ssh(station) as con, con.start_sftp_client() as sftp:
                for n in range(3):
                    at = AT + timedelta(minutes=5 * n)
                    async with sftp.open(name_of(station, at), "wb") as file:
                        await file.write(content(station, at))
                    sent[name_of(station, at)] = [content(station, at)]
            seconds.append(time.monotonic() - began)

    async def all_by_sftp(stations: list[str]) -> None:
        doors = asyncio.Semaphore(20)
        await asyncio.gather(*(by_sftp(s, doors) for s in stations))

    began = time.monotonic()
    with ThreadPoolExecutor(22) as pool:
        draining = pool.submit(drain)
        wait(lambda: drained > 100)
        sftp = pool.submit(asyncio.run, all_by_sftp(others[100:]))
        list(pool.map(by_ftps, others[:100]))
        sftp.result()
        meanwhile = drained
        draining.result()
    rate = len(sent) / (time.monotonic() - began)
    assert meanwhile < len(backlog)
    assert house.found() == sent
    assert len(sent) == len(backlog) + 3 * len(others) <= house.settings.intake_waiting_files
    assert not house.aside()
    slow = sorted(seconds)[int(0.95 * len(seconds))]
    with capsys.disabled():
        print(f"\nintake: {rate:.0f} files/s; 200 stations beside the backlog, three files each with log-in: p95 {slow:.2f} s")
    assert slow < 15


def test_an_upload_in_progress_is_not_in_the_inbox_and_a_reset_one_never(house: House) -> None:
    for tls in (False, True):
        client = house.ftp(STATIONS[1], tls)
        data = client.transfercmd(f"STOR {name_of(STATIONS[1], AT)}")
        data.sendall(content(STATIONS[1], AT)[:20])
        wait(house.aside)
        time.sleep(0.1)
        assert house.found() == {}
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket(fileno=data.detach()).close()  # a reset, as of a modem that lost power; under TLS without close_notify
        with pytest.raises(ftplib.error_temp, match="426"):
            client.voidresp()
        assert (house.found(), house.aside()) == ({}, [])
        client.storbinary(f"STOR {name_of(STATIONS[1], AT)}", BytesIO(content(STATIONS[1], AT)))
        assert house.found() == {name_of(STATIONS[1], AT): [content(STATIONS[1], AT)]}
        client.close()
        next(house.inbox.rglob("*.txt")).unlink()


def test_tls_without_a_proper_end_is_a_cut(house: House) -> None:
    client = house.ftp(STATIONS[2])
    data = client.transfercmd(f"STOR {name_of(STATIONS[2], AT)}")
    data.sendall(content(STATIONS[2], AT)[:20])
    wait(house.aside)
    raw = socket.socket(fileno=data.detach())
    raw.shutdown(socket.SHUT_WR)  # the end of TCP, not of TLS
    with pytest.raises(ftplib.error_temp, match="426"):
        client.voidresp()
    raw.close()
    assert (house.found(), house.aside()) == ({}, [])


def test_a_lost_control_connection_leaves_nothing_half(house: House) -> None:
    client = house.ftp(STATIONS[3], tls=False)
    data = client.transfercmd(f"STOR {name_of(STATIONS[3], AT)}")
    data.sendall(content(STATIONS[3], AT)[:20])
    wait(house.aside)
    assert client.sock is not None
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    data.close()
    wait(lambda: not house.aside())
    assert house.found() == {}


def test_sftp_killed_before_its_close_leaves_nothing(house: House) -> None:
    station = STATIONS[4]

    async def cut() -> None:
        con = await house.ssh(station)
        sftp = await con.start_sftp_client()
        file = await sftp.open(name_of(station, AT), "wb")
        await file.write(content(station, AT)[:20])
        con.abort()
        await con.wait_closed()

    async def end_politely_without_close() -> None:
        async with house.ssh(station) as con, con.start_sftp_client() as sftp:
            file = await sftp.open(name_of(station, AT), "wb")
            await file.write(content(station, AT)[:20])

    for how in (cut, end_politely_without_close):
        asyncio.run(how())
        wait(lambda: not house.aside())
        assert house.found() == {}


def test_temporary_names_and_folders_of_every_layout(house: House) -> None:
    station, sent = STATIONS[5], {}
    folders = [
        f"{station}/2026/03/24",
        "",
        "20260324",
        "2026/Thang03/20260324",
        "2026/Thang03/Ngay24",
        "2026-03-24",
        "2026/Thang03/24032026",
        "2026_03_24",
        "2026/03/24032026",
        "Nam 2026/thang 03/ngay 24",
    ]
    client = house.ftp(station)
    for n, folder in enumerate(folders):
        at = AT + timedelta(minutes=5 * n)
        step = ""
        for part in folder.split("/") if folder else []:
            step = f"{step}/{part}"
            with suppress(ftplib.error_perm):  # as a logger does: make it, whether or not it is there
                client.mkd(step)
        client.cwd(f"/{folder}")
        client.storbinary(f"STOR {name_of(station, at)}.tmp", BytesIO(content(station, at)))
        assert name_of(station, at) not in house.found()
        client.rename(f"{name_of(station, at)}.tmp", name_of(station, at))
        assert client.size(name_of(station, at)) == len(content(station, at))
        sent[name_of(station, at)] = [content(station, at)]
    assert house.found() == sent
    assert {str(p.parent.relative_to(house.inbox / station)) for p in house.inbox.rglob("*.txt")} == {f or "." for f in folders}

    async def by_sftp() -> None:
        async with house.ssh(station) as con, con.start_sftp_client() as sftp:
            await sftp.makedirs("/2026/03/25032026", exist_ok=True)
            at = AT + timedelta(days=1)
            path = f"/2026/03/25032026/{name_of(station, at)}"
            async with sftp.open(f"{path}.part", "wb") as file:
                await file.write(content(station, at))
            await sftp.posix_rename(f"{path}.part", path)
            assert (await sftp.stat(path)).size == len(content(station, at))
            sent[name_of(station, at)] = [content(station, at)]

    asyncio.run(by_sftp())
    assert house.found() == sent


def test_nothing_in_the_inbox_is_overwritten(house: House) -> None:
    station = STATIONS[6]
    client = house.ftp(station)
    texts = [content(station, AT), content(station, AT), b"other\r\n", b"third\r\n", b"other\r\n"]
    for text in texts:
        client.storbinary(f"STOR {name_of(station, AT)}", BytesIO(text))
    assert sorted(house.found()[name_of(station, AT)]) == sorted({*texts})


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM])
def test_an_inbox_on_another_disk_or_without_hard_links_takes_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    s = Settings(home=tmp_path)
    inbox = s.inbox / "station_txt"
    rename = os.rename

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    def within(old: Any, new: Any) -> None:
        if error == errno.EXDEV and Path(old).is_relative_to(inbox) != Path(new).is_relative_to(inbox):
            fails()
        rename(old, new)

    (inbox / ".uploading").mkdir(parents=True)
    (inbox / ".uploading" / "of a killed one").write_text("x")
    here = drop.Drop(s, contracts_of(s)["station_txt"])
    monkeypatch.setattr(os, "link", fails)
    monkeypatch.setattr(os, "rename", within)
    account = accounts.Account("t", (STATIONS[0],), "", "")
    try:
        for text in (b"one", b"two", b"one"):
            upload = here.begin(account, name_of(STATIONS[0], AT))
            upload.write(text)
            upload.finish()
        upload = here.begin(account, name_of(STATIONS[0], AT) + ".part")
        upload.write(b"three")
        upload.finish()
        here.rename(account, name_of(STATIONS[0], AT) + ".part", name_of(STATIONS[0], AT))
    finally:
        here.leave()
    assert sorted(p.read_bytes() for p in inbox.rglob("*") if p.is_file()) == [b"one", b"three", b"two"]
    assert not list((tmp_path / "intake").rglob("*.part"))


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (f"STOR {name_of(STATIONS[9], AT)}", "không được gửi tệp của trạm"),
        ("STOR readme.txt", "không đúng mẫu"),
        ("STOR ../../inbox/x.txt", "không đúng mẫu"),
        (f"STOR deep/er/{name_of(STATIONS[8], AT)}", "mười kiểu thư mục"),
        (f"STOR ..%2f{name_of(STATIONS[8], AT)}", "không đúng mẫu"),
        ("MKD anything", "mười kiểu thư mục"),
        (f"RNFR {name_of(STATIONS[8], AT)}", ""),
        (f"APPE {name_of(STATIONS[8], AT)}", ""),
        ("REST 10", ""),
        (f"RETR {name_of(STATIONS[8], AT)}", ""),
        (f"DELE {name_of(STATIONS[8], AT)}", ""),
        ("RMD /", ""),
        ("SITE CHMOD 777 /", ""),
    ],
)
def test_what_a_station_may_not_do(shared_house: House, command: str, word: str) -> None:
    house = shared_house
    client = house.ftp(STATIONS[8])
    with pytest.raises(ftplib.error_perm) as refused:
        if command.startswith("STOR"):
            client.storbinary(command, BytesIO(b"x"))
        else:
            client.sendcmd(command)
    assert word in str(refused.value)
    assert house.found() == {}


def test_jail_size_quota(tmp_path: Path) -> None:
    small = House(tmp_path, intake_waiting_files=3, intake_file_bytes=100)
    try:
        station = STATIONS[0]
        client = small.ftp(station)
        assert client.nlst("../../..") == client.nlst("/") == []
        with pytest.raises(ftplib.error_perm, match="lớn hơn 100 byte"):
            client.storbinary(f"STOR {name_of(station, AT)}", BytesIO(b"x" * 500_000))
        for n in range(3):
            client.storbinary(f"STOR {name_of(station, AT + timedelta(minutes=5 * n))}", BytesIO(b"x"))
        with pytest.raises(ftplib.error_perm, match="3 tệp của tài khoản chờ xử lý"):
            client.storbinary(f"STOR {name_of(station, AT + timedelta(hours=1))}", BytesIO(b"x"))

        async def by_sftp() -> None:
            async with small.ssh(STATIONS[1]) as con, con.start_sftp_client() as sftp:
                with pytest.raises(asyncssh.SFTPError, match="lớn hơn 100 byte"):
                    async with sftp.open(name_of(STATIONS[1], AT), "wb") as file:
                        await file.write(b"x" * 500)
                for act in (
                    sftp.remove("/x"),
                    sftp.listdir("/../../"),
                    sftp.symlink("/etc/passwd", "/x"),
                    sftp.open("/../../../secrets/intake-accounts.json", "rb"),
                ):
                    with suppress(asyncssh.SFTPError):
                        assert [n for n in await act if n not in (".", "..")] == []  # type: ignore[union-attr]
                assert (await con.run("ls", check=False)).stdout in ("", None)

        with suppress(asyncssh.ChannelOpenError):
            asyncio.run(by_sftp())
        assert len(small.found()) == 3
    finally:
        small.intake.stop()


def test_wrong_passwords_are_slowed_and_then_not_looked_at(house: House) -> None:
    station = STATIONS[10]
    for n in range(accounts.TRIES + 1):
        with pytest.raises(ftplib.error_perm, match="quá nhiều lần" if n == accounts.TRIES else "Sai"):
            house.ftp(station, password="wrong")
    with pytest.raises(ftplib.error_perm, match="quá nhiều lần"):
        house.ftp(station)  # the right one, from where five wrong ones came
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(house.ssh(station).__aenter__())
    house.ftp(STATIONS[11]).storbinary(f"STOR {name_of(STATIONS[11], AT)}", BytesIO(b"x"))  # others go on
    assert "wrong" not in (house.settings.home / "secrets" / accounts.FILE).read_text()


def test_a_connection_that_logs_in_again_is_one_session(house: House) -> None:
    station = STATIONS[12]
    client = house.ftp(station)
    for _ in range(house.settings.intake_sessions + 1):
        client.login(station, house.passwords[station])
    house.ftp(station).storbinary(f"STOR {name_of(station, AT)}", BytesIO(content(station, AT)))
    assert isinstance(client, ftplib.FTP_TLS)
    client.prot_p()  # a new log-in begins anew
    client.storbinary(f"STOR {name_of(station, AT + timedelta(minutes=5))}", BytesIO(content(station, AT)))


def test_without_tls_a_password_is_not_taken_unless_the_setting_says_so(tmp_path: Path) -> None:
    strict = House(tmp_path, intake_plain_ftp=False)
    try:
        with pytest.raises(ftplib.error_perm, match="SSL/TLS required"):
            strict.ftp(STATIONS[0], tls=False)
        client = strict.ftp(STATIONS[0])
        client.prot_c()  # type: ignore[attr-defined]
        with pytest.raises(ftplib.error_perm, match="SSL/TLS required"):
            client.storbinary(f"STOR {name_of(STATIONS[0], AT)}", BytesIO(b"x"))
    finally:
        strict.intake.stop()


def test_accounts_follow_the_register(house: House) -> None:
    s = house.settings
    before = accounts.read(s)
    assert accounts.issue(s, {n: (n,) for n in STATIONS[1:]}) == {}
    assert not accounts.read(s)[STATIONS[0]].enabled
    with pytest.raises(ftplib.error_perm, match="Sai"):
        house.ftp(STATIONS[0])
    new = accounts.issue(s, {n: (n,) for n in STATIONS}, reset=STATIONS[1])
    assert list(new) == [STATIONS[1]]
    house.ftp(STATIONS[0]).quit()  # back in the register, with its old password
    house.ftp(STATIONS[1], password=new[STATIONS[1]]).quit()
    assert accounts.read(s)[STATIONS[2]] == before[STATIONS[2]]
    assert accounts.path_of(s).stat().st_mode & 0o077 == 0
    with pytest.raises(KeyError, match="no XX"):
        accounts.issue(s, {}, reset="XX")


def test_a_transfer_in_progress_ends_before_the_server_does(tmp_path: Path) -> None:
    made = House(tmp_path)
    client = made.ftp(STATIONS[0], tls=False)
    data = client.transfercmd(f"STOR {name_of(STATIONS[0], AT)}")
    data.sendall(b"first,")
    wait(made.aside)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(made.intake.stop)
        time.sleep(0.5)
        data.sendall(b"second")
        data.close()
        assert client.voidresp().startswith("226")
        stopping.result()
    assert made.found() == {name_of(STATIONS[0], AT): [b"first,second"]}


def test_what_arrived_takes_the_common_path_the_newest_first(house: House) -> None:
    """Landing takes so many files a round, the newest of all stations, until none waits; each is landed once, as it was sent."""
    create(house.settings)
    times = [AT - timedelta(minutes=5 * n) for n in range(6)]
    late = house.ftp(STATIONS[0])
    for at in reversed(times):
        late.storbinary(f"STOR {name_of(STATIONS[0], at)}", BytesIO(content(STATIONS[0], at)))
    house.ftp(STATIONS[1]).storbinary(f"STOR {name_of(STATIONS[1], AT)}", BytesIO(content(STATIONS[1], AT)))
    sent = house.found()
    rounds = []
    for n in range(4):
        done = ingest(house.settings, now=AT + timedelta(minutes=n), run_id=f"round-{n}", only=["station_txt"], most=3)
        rounds.append(done.landed["station_txt"].new)
    assert rounds == [3, 3, 1, 0]
    assert house.found() == {}
    with open_reader(house.settings) as con:
        landed = con.execute(
            "SELECT l.name, l.received_at, decode(f.content) FROM lake.ops.landed AS l JOIN lake.raw.file AS f USING (delivery_id) ORDER BY ALL"
        ).fetchall()
    assert {name.rpartition("/")[2]: [text.encode()] for name, _, text in landed} == sent
    first = {name for name, at, _ in landed if at == AT}
    assert first == {f"{STATIONS[n]}/{name_of(STATIONS[n], at)}" for n, at in [(0, times[0]), (0, times[1]), (1, AT)]}


def test_accounts_come_from_the_register(platform: Platform) -> None:
    found = accounts.registered(platform.settings, END)
    in_use = {r[0] for r in platform.rows(f"SELECT station_id FROM lake.clean.station WHERE coalesce(in_use_to, DATE '9999-12-31') >= DATE '{END}'")}
    assert in_use
    assert set(found) == in_use
    assert all(station in codes for station, codes in found.items())


def test_a_second_intake_is_refused_and_uploads_in_progress_go_on(house: House) -> None:
    client = house.ftp(STATIONS[0], tls=False)
    data = client.transfercmd(f"STOR {name_of(STATIONS[0], AT)}")
    data.sendall(b"first,")
    wait(house.aside)
    with pytest.raises(drop.AlreadyRunning, match=f"process {os.getpid()} takes in"):
        Intake(house.settings, contracts_of(house.settings)["station_txt"])
    data.sendall(b"second")
    data.close()
    assert client.voidresp().startswith("226")
    assert house.found() == {name_of(STATIONS[0], AT): [b"first,second"]}


def test_who_only_asks_whether_an_intake_runs_keeps_none_from_starting(tmp_path: Path) -> None:
    lock = tmp_path / "intake" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("a+") as probe:
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as `is_running` holds it
        timer = threading.Timer(0.2, lambda: fcntl.flock(probe, fcntl.LOCK_UN))
        timer.start()
        with drop._alone(Settings(home=tmp_path)):
            timer.join()
            assert drop.is_running(Settings(home=tmp_path))


def test_uploads_that_begin_while_others_are_counted(shared_house: House) -> None:
    """The servers of the other protocols have threads of their own: one may begin an upload in the middle of a count."""
    of_the_house = shared_house.intake.drop

    class Upload:
        name = "x"

        @property
        def account(self) -> Upload:
            of_the_house.open_uploads.add(cast(Any, Upload()))
            return self

    upload = Upload()
    of_the_house.open_uploads.add(cast(Any, upload))
    try:
        of_the_house._check_room(cast(Any, upload), name_of(STATIONS[0], AT))
    finally:
        of_the_house.open_uploads.clear()


def test_strangers_that_idle_lock_nobody_out(tmp_path: Path) -> None:
    """More connections than there are places, none of which logs in: a station still gets in by either protocol."""
    small = House(tmp_path, intake_connections=8)
    try:
        strangers = [socket.create_connection(("127.0.0.1", port)) for port in (small.intake.ftp.port, small.intake.sftp.port) for _ in range(30)]
        time.sleep(1)
        small.ftp(STATIONS[0]).storbinary(f"STOR {name_of(STATIONS[0], AT)}", BytesIO(b"x"))

        async def by_sftp() -> None:
            async with small.ssh(STATIONS[1]) as con, con.start_sftp_client() as sftp, sftp.open(name_of(STATIONS[1], AT), "wb") as file:
                await file.write(b"y")

        asyncio.run(by_sftp())
        assert sorted(small.found()) == [name_of(s, AT) for s in STATIONS[:2]]
        for one in strangers:
            one.close()
    finally:
        small.intake.stop()


def test_a_stranger_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intake.ftp._Control.timeout", 1)
    small = House(tmp_path)
    try:
        with socket.create_connection(("127.0.0.1", small.intake.ftp.port)) as stranger:
            stranger.settimeout(10)
            said = b""
            while part := stranger.recv(4096):
                said += part
        assert b"421" in said
        client = small.ftp(STATIONS[0])
        time.sleep(2)
        client.storbinary(f"STOR {name_of(STATIONS[0], AT)}", BytesIO(b"x"))  # who logged in has time
    finally:
        small.intake.stop()


def test_files_that_are_never_renamed_have_a_quota(tmp_path: Path) -> None:
    small = House(tmp_path, intake_unfinished_files=3)
    try:
        client = small.ftp(STATIONS[0])
        for n in range(3):
            client.storbinary(f"STOR {name_of(STATIONS[0], AT + timedelta(minutes=5 * n))}.part", BytesIO(b"x"))
        with pytest.raises(ftplib.error_perm, match="3 tệp chưa được đổi sang tên thật"):
            client.storbinary(f"STOR {name_of(STATIONS[0], AT + timedelta(hours=1))}.part", BytesIO(b"x"))
        client.storbinary(f"STOR {name_of(STATIONS[0], AT + timedelta(hours=2))}", BytesIO(b"x"))
        client.rename(f"{name_of(STATIONS[0], AT)}.part", name_of(STATIONS[0], AT))
        client.storbinary(f"STOR {name_of(STATIONS[0], AT + timedelta(hours=1))}.part", BytesIO(b"x"))

        async def by_sftp() -> None:
            async with small.ssh(STATIONS[1]) as con, con.start_sftp_client() as sftp:
                files = [await sftp.open(name_of(STATIONS[1], AT + timedelta(minutes=5 * n)), "wb") for n in range(3)]
                with pytest.raises(asyncssh.SFTPError, match="3 tệp cùng lúc"):
                    await sftp.open(name_of(STATIONS[1], AT + timedelta(hours=1)), "wb")
                for file in files:
                    await file.close()

        asyncio.run(by_sftp())
    finally:
        small.intake.stop()


def test_a_full_disk_is_seen_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat cannot be written for a while: doctor says so, the servers go on, and so does the tending once there is room."""
    monkeypatch.setattr("intake.server.TEND_EVERY", 0.1)

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    small = House(tmp_path)
    beat = small.settings.home / drop.HEARTBEAT
    try:
        wait(beat.exists)
        with monkeypatch.context() as full:
            full.setattr(drop.Drop, "tend", no_room)
            time.sleep(0.5)
            os.utime(beat, (time.time() - 3600,) * 2)
            found = CHECKS["intake"](small.settings)
            assert not found.ok and "silent" in found.found
        small.ftp(STATIONS[0]).storbinary(f"STOR {name_of(STATIONS[0], AT)}", BytesIO(b"x"))
        wait(lambda: drop.heartbeat(small.settings) is not None)
        assert CHECKS["intake"](small.settings).ok
    finally:
        small.intake.stop()
