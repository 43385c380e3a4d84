"""FTP and FTPS (explicit TLS, RFC 4217) on pyftpdlib: what it may do for a station, and when a transfer counts as ended.

Stream mode ends a file by closing the connection (RFC 959, 3.3). Under TLS a close without `close_notify` is a cut; on a plain
connection only a reset is, so a station on a bad line should use FTPS or SFTP.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

from OpenSSL import SSL
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.exceptions import AuthenticationFailed, FilesystemError, _RetryError
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.log import logger
from pyftpdlib.servers import FTPServer

from intake.accounts import LOGIN_SECONDS, Account, Denied, Door
from intake.drop import Drop, Refused, Upload
from tnmt.settings import Settings

NOT_OFFERED = ("REST", "APPE", "RETR", "DELE", "STOU", "RMD", "XRMD", "SITE", "SITE CHMOD", "SITE HELP", "MFMT", "REIN")


class _Authorizer(DummyAuthorizer):
    """The door as pyftpdlib asks for it; rights are those of every station: list, change and make folders, store, rename."""

    def __init__(self, door: Door, drop: Drop) -> None:
        super().__init__()
        self._door, self._drop = door, drop

    def validate_authentication(self, username: str, password: str, handler: Any) -> None:
        handler.leave()  # a connection that logs in again is one session, not two
        try:
            handler.account = self._door.enter(username, password, handler.remote_ip)
        except Denied as denied:
            raise AuthenticationFailed(str(denied)) from None
        handler.jail = self._drop.jail(handler.account)

    def get_home_dir(self, username: str) -> str:
        return str(self._drop.settings.home / "intake" / "accounts" / username)

    def has_perm(self, username: str, perm: str, path: str | None = None) -> bool:
        return perm in "elmfw"

    def get_perms(self, username: str) -> str:
        return "elmfw"

    def get_msg_login(self, username: str) -> str:
        return "Xin chào."

    def get_msg_quit(self, username: str) -> str:
        return "Tạm biệt."


class _Jail(AbstractedFS):
    """The account's folder; a file that is opened to be stored is an upload of the drop."""

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def open(self, filename: str, mode: str) -> Upload:
        try:
            upload: Upload = self.cmd_channel.drop.begin(self.cmd_channel.account, self._relative(filename))
        except Refused as refused:
            raise FilesystemError(str(refused)) from None
        return upload

    def rename(self, src: str, dst: str) -> None:
        try:
            self.cmd_channel.drop.rename(self.cmd_channel.account, self._relative(src), self._relative(dst))
        except Refused as refused:
            raise FilesystemError(str(refused)) from None

    def mkdir(self, path: str) -> None:
        try:
            self.cmd_channel.drop.make_folder(self.cmd_channel.account, self._relative(path))
        except Refused as refused:
            raise FilesystemError(str(refused)) from None


class _Data(TLS_DTPHandler):
    """A data connection that says "226" only when the file is in the inbox, and knows a cut from an end where the protocol can tell."""

    _cut = False

    def push(self, data: bytes) -> None:
        if data:
            super().push(data)
            return
        # the names in an empty folder: written before TLS is agreed on, no bytes count as a broken connection, and the client sees a reset
        self._initialized = True
        self._wanted_io_events = self.ioloop.WRITE
        self.modify_ioloop_events(self.ioloop.WRITE)

    def recv(self, buffer_size: int) -> bytes:
        try:
            data = self.socket.recv(buffer_size)
        except SSL.WantReadError as error:
            self._ssl_want_read = True
            raise _RetryError from error
        except SSL.WantWriteError as error:
            self._ssl_want_write = True
            raise _RetryError from error
        except SSL.ZeroReturnError:
            data = b""
        except BlockingIOError as error:
            raise _RetryError from error
        except (SSL.Error, OSError):
            self._cut = self._error = True  # `_error`: there is nobody to end TLS with
            data = b""
        if not data or (self.receive and self.file_obj is not None and self.file_obj.is_lost):
            self.handle_close()
            return b""
        return bytes(data)

    def handle_close(self) -> None:
        if self._closed or not self.receive or self.file_obj is None:
            super().handle_close()
            return
        if self._cut:
            self._resp = ("426 Kết nối bị ngắt giữa chừng; hãy gửi lại tệp.", logger.debug)
        else:
            try:
                self.file_obj.finish()
                self.transfer_finished = True
                self._resp = ("226 Đã nhận đủ tệp.", logger.debug)
            except Refused as refused:
                self._resp = (f"552 {refused}.", logger.debug)
        self.close()


class _Control(TLS_FTPHandler):
    """A control connection of one account."""

    drop: Drop
    door: Door
    account: Account | None = None
    jail: Path | None = None
    dtp_handler = _Data
    abstracted_fs = _Jail
    proto_cmds: ClassVar[dict[str, Any]] = {name: about for name, about in TLS_FTPHandler.proto_cmds.items() if name not in NOT_OFFERED}
    banner = "TNMT."
    auth_failed_timeout = 1
    timeout = LOGIN_SECONDS
    idle_seconds = LOGIN_SECONDS
    began = 0.0
    _idler: Any
    max_login_attempts = 3
    use_sendfile = False

    def handle(self) -> None:
        self.began = time.monotonic()
        super().handle()

    def on_login(self, username: str) -> None:
        """Who logged in may be idle for longer than a stranger."""
        self.timeout = self.idle_seconds
        before, self._idler = self._idler, self.ioloop.call_later(self.timeout, self.handle_timeout, _errback=self.handle_error)
        if before is not None and not before.cancelled:
            before.cancel()

    def ftp_SIZE(self, path: str) -> None:
        size = self.drop.size(self.account, os.path.relpath(path, self.fs.root)) if self.account else None
        self.respond("550 Không có tệp này." if size is None else f"213 {size}")

    def leave(self) -> None:
        """Ends the session of the account, if one is logged in."""
        account, self.account = self.account, None
        if account is not None:
            self.door.leave(account)

    def close(self) -> None:
        self.leave()
        super().close()


class _Server(FTPServer):
    """Where all places are taken, the connection that has been a stranger for longest makes room: nobody locks the stations out by idling."""

    def handle_accepted(self, sock: Any, addr: Any) -> Any:
        if self._map_len() >= self.max_cons:
            strangers = [c for c in self.ioloop.socket_map.values() if isinstance(c, _Control) and c.account is None]
            if strangers:
                min(strangers, key=lambda c: c.began).close()
        return super().handle_accepted(sock, addr)


class Ftp:
    """The listening server; `serve` runs it in a thread of its own until `stopping` says so."""

    def __init__(self, settings: Settings, drop: Drop, door: Door, certificate: Path) -> None:
        """Listens from now on; raises OSError where the port is taken."""
        first, last = (int(p) for p in settings.intake_passive_ports.split("-"))
        handler = type(
            "Control",
            (_Control,),
            {
                "drop": drop,
                "door": door,
                "authorizer": _Authorizer(door, drop),
                "certfile": str(certificate),
                "tls_control_required": not settings.intake_plain_ftp,
                "tls_data_required": not settings.intake_plain_ftp,
                "passive_ports": range(first, last + 1),
                "masquerade_address": settings.intake_public_address,
                "idle_seconds": settings.intake_idle_seconds,
            },
        )
        self._drop = drop
        self._server = _Server((settings.intake_host, settings.intake_ftp_port), handler, ioloop=IOLoop())
        self._server.max_cons = settings.intake_connections
        self._server.max_cons_per_ip = 0
        self.port: int = self._server.socket.getsockname()[1]

    def serve(self, stopping: Any, grace: float) -> None:
        """Goes on until the event `stopping` is set, then up to `grace` seconds for the transfers in progress."""
        while not stopping.is_set():
            self._server.ioloop.loop(timeout=0.2, blocking=False)
        self._server.close()
        for _ in range(int(grace / 0.1)):
            if not self._drop.open_uploads:
                break
            self._server.ioloop.loop(timeout=0.1, blocking=False)
        self._server.close_all()
