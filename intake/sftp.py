"""SFTP on asyncssh: a file is complete when its handle was closed by the client, and by nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import asyncssh
import asyncssh.sftp

from intake.accounts import LOGIN_SECONDS, Account, Denied, Door
from intake.drop import Drop, Refused, Upload
from tnmt.settings import Settings

_ACCOUNT = "tnmt.account"
_NO = asyncssh.SFTPPermissionDenied("Tài khoản trạm chỉ được gửi tệp, đổi tên và tạo thư mục")


class _Handler(asyncssh.sftp.SFTPServerHandler):
    """asyncssh closes the handles that a lost connection left open as if the client had; this one tells the server first."""

    async def _cleanup(self, exc: Exception | None) -> None:
        cast("_Station", self._server).is_lost = True
        await super()._cleanup(exc)


asyncssh.sftp.SFTPServerHandler = _Handler  # type: ignore[misc]  # it is made inside the library, which takes no factory


class _Station(asyncssh.SFTPServer):
    """What one session may do: what FTP offers, and nothing else."""

    is_lost = False

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], drop: Drop) -> None:
        account = chan.get_extra_info(_ACCOUNT)
        self._drop, self._account, self._jail = drop, account, drop.jail(account)
        super().__init__(chan, chroot=os.fsencode(self._jail))

    def _relative(self, path: bytes) -> str:
        return os.path.relpath(os.fsdecode(self.map_path(path)), self._jail)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        if not pflags & asyncssh.FXF_WRITE or pflags & asyncssh.FXF_APPEND:
            raise _NO
        return self._told(self._drop.begin, self._relative(path))

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        return cast(Upload, file_obj).write(data, offset)

    def close(self, file_obj: object) -> None:
        upload = cast(Upload, file_obj)
        if self.is_lost:
            upload.close()
            return
        try:
            upload.finish()
        except Refused as refused:
            raise asyncssh.SFTPFailure(str(refused)) from None

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._told(self._drop.rename, self._relative(oldpath), self._relative(newpath))

    posix_rename = rename

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._told(self._drop.make_folder, self._relative(path))

    def stat(self, path: bytes) -> Any:
        size = self._drop.size(self._account, self._relative(path))
        if size is not None:
            return asyncssh.SFTPAttrs(size=size, permissions=0o100600)
        return super().stat(path)

    lstat = stat

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        return asyncssh.SFTPAttrs(size=cast(Upload, file_obj).size, permissions=0o100600)

    def fsync(self, file_obj: object) -> None:
        """Every file is synchronised before its close is answered."""

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Clients set times and rights after an upload; nothing here depends on them."""

    lsetstat = setstat

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """As `setstat`."""

    def _told(self, act: Any, *paths: str) -> Any:
        try:
            return act(self._account, *paths)
        except Refused as refused:
            raise asyncssh.SFTPPermissionDenied(str(refused)) from None

    def _refuse(self, *_: Any) -> Any:
        raise _NO

    def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        return super().scandir(path)


for _name in ("open56", "read", "remove", "rmdir", "readlink", "symlink", "link", "lock", "unlock", "statvfs", "fstatvfs"):
    setattr(_Station, _name, _Station._refuse)


class _Connection(asyncssh.SSHServer):
    """One SSH connection: a password, then SFTP; no shell, no forwarding."""

    def __init__(self, door: Door, open_connections: dict[_Connection, None], most: int) -> None:
        self._door, self._all, self._most, self._account = door, open_connections, most, cast(Account | None, None)
        self._con: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._con = conn
        self._all[self] = None
        if len(self._all) > self._most:
            # the one that has been a stranger for longest makes room: nobody locks the stations out by idling
            next((c for c in self._all if c._account is None), self).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.pop(self, None)
        if self._account:
            self._door.leave(self._account)

    def abort(self) -> None:
        """Ends the connection now."""
        if self._con:
            self._con.abort()

    def password_auth_supported(self) -> bool:
        return True

    def kbdint_auth_supported(self) -> bool:
        return False

    async def validate_password(self, username: str, password: str) -> bool:
        assert self._con is not None
        try:
            self._account = self._door.enter(username, password, self._con.get_extra_info("peername")[0])
        except Denied as denied:
            await asyncio.sleep(1)  # as long as FTP lets one wait
            self._con.send_auth_banner(f"{denied}\r\n")
            return False
        self._con.set_extra_info(**{_ACCOUNT: self._account})
        return True


class Sftp:
    """The listening server; `serve` runs it in a thread of its own until `stopping` says so."""

    def __init__(self, settings: Settings, drop: Drop, door: Door, host_key: Path) -> None:
        """Remembers how; it listens once `serve` runs."""
        self._settings, self._drop, self._door, self._key = settings, drop, door, host_key
        self.port = 0

    def serve(self, stopping: Any, listening: Any, grace: float) -> None:
        """Goes on until the event `stopping` is set, then up to `grace` seconds for the uploads in progress; sets `listening`."""
        asyncio.run(self._serve(stopping, listening, grace))

    async def _serve(self, stopping: Any, listening: Any, grace: float) -> None:
        connections: dict[_Connection, None] = {}

        def connection() -> _Connection:
            return _Connection(self._door, connections, self._settings.intake_connections)

        acceptor = await asyncssh.listen(
            self._settings.intake_host,
            self._settings.intake_sftp_port,
            server_factory=connection,
            server_host_keys=[str(self._key)],
            sftp_factory=lambda chan: _Station(chan, self._drop),
            sftp_version=3,
            allow_scp=False,
            allow_pty=False,
            agent_forwarding=False,
            login_timeout=LOGIN_SECONDS,
            keepalive_interval=self._settings.intake_idle_seconds // 3,
            backlog=self._settings.intake_connections,
            public_key_auth=False,
            gss_host=None,
        )
        self.port = acceptor.get_port()
        listening.set()
        while not stopping.is_set():
            await asyncio.sleep(0.2)
        acceptor.close()
        for _ in range(int(grace / 0.1)):
            if not self._drop.open_uploads:
                break
            await asyncio.sleep(0.1)
        for one in list(connections):
            one.abort()
        await asyncio.sleep(0)
