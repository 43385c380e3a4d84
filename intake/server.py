"""The servers of the intake together: their keys, their threads, their end."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ingestion.contract import Contract
from intake.accounts import Door, write_private
from intake.drop import Drop
from intake.ftp import Ftp
from intake.sftp import Sftp
from tnmt.settings import Settings

GRACE = 10.0
"""Seconds that transfers in progress have when the server is told to end."""
TEND_EVERY = 5.0
log = structlog.get_logger("intake")


class Intake:
    """FTP with TLS and SFTP into one drop. Use as a context, or `start` and `stop`."""

    def __init__(self, settings: Settings, contract: Contract) -> None:
        """Makes keys where none is configured; raises OSError where a port is taken, a configured key is not there, or another process takes in."""
        for name in ("pyftpdlib", "asyncssh"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.drop, self.door = Drop(settings, contract), Door(settings)
        try:
            self.ftp = Ftp(settings, self.drop, self.door, settings.intake_certificate or certificate(settings))
            self.sftp = Sftp(settings, self.drop, self.door, settings.intake_host_key or host_key(settings))
        except BaseException:
            self.drop.leave()
            raise
        self._stopping, self._listening = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._failure: OSError | None = None

    def start(self) -> None:
        """Listens on both ports from now on; raises OSError where that of SFTP is taken."""
        self._threads = [threading.Thread(target=target, name=f"intake {target.__name__}") for target in (self._run_sftp, self._run_ftp, self._tend)]
        for thread in self._threads:
            thread.start()
        self._listening.wait()
        if self._failure:
            self.stop()
            raise self._failure

    def stop(self) -> None:
        """Takes no new connection, lets transfers in progress end for a while, then closes."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._tell()
        self.drop.leave()

    def serving(self) -> dict[str, bool]:
        """Which of the servers still serves."""
        return {"sftp": self._threads[0].is_alive(), "ftp": self._threads[1].is_alive()}

    def __enter__(self) -> Intake:
        """Starts."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops."""
        self.stop()

    def _run_ftp(self) -> None:
        self.ftp.serve(self._stopping, GRACE)

    def _run_sftp(self) -> None:
        try:
            self.sftp.serve(self._stopping, self._listening, GRACE)
        except OSError as error:
            self._failure = error
        finally:
            self._listening.set()

    def _tend(self) -> None:
        while not self._stopping.wait(TEND_EVERY):
            self._tell()

    def _tell(self) -> None:
        """Tends the drop. A full disk ends neither the servers nor this: the heartbeat grows old, which `doctor` sees, until there is room again."""
        try:
            self.drop.tend(self.serving())
        except OSError as error:
            log.error("the intake cannot write its heartbeat", error=str(error))


def certificate(settings: Settings) -> Path:
    """A self-signed certificate with its key, made once (0600); loggers of a closed network pin it."""
    path = settings.home / "secrets" / "intake-tls.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, settings.intake_public_address or "tnmt-intake")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_private(path, (private + made.public_bytes(serialization.Encoding.PEM)).decode())
    return path


def host_key(settings: Settings) -> Path:
    """The SSH host key (Ed25519), made once (0600)."""
    path = settings.home / "secrets" / "intake-ssh.key"
    if not path.exists():
        write_private(path, asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode())
    return path
