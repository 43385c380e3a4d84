"""A throw-away PostgreSQL on 127.0.0.1 and a free port, for the tests and for the bench."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.support import free_port

PASSWORD = "mat-khau-bi-mat"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that this session started. PostgreSQL refuses root, which then acts as user `postgres`."""

    folder: Path
    port: int
    binaries: Path
    options: str = ""

    def dsn(self, database: str = "postgres") -> str:
        """How to connect, password included."""
        return f"host=127.0.0.1 port={self.port} dbname={database} user=postgres password={PASSWORD}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Runs one statement, or several without results, each committed by itself."""
        with psycopg.connect(self.dsn(database), autocommit=True) as con:
            cursor = con.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        # commits stay synchronous: a killed server keeps what was committed before
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off -c full_page_writes=off {self.options}"
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", "-l", str(self.folder / "log"), "-o", options, "start")

    def kill(self) -> None:
        """Stops the server in the middle of whatever it does: connections break."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def make(self) -> None:
        """Makes the cluster."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb",
            "-D",
            str(self.folder / "data"),
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )

    def _run(self, command: str, *arguments: str) -> None:
        user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [str(self.binaries / command), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
            **user,
        )
        if done.returncode:
            raise RuntimeError(f"{command} failed: {done.stderr.decode()[-500:]}")


def _binaries() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    return installed[-1].parent if installed else None


def new_server(options: str = "") -> Server:
    """Makes and starts one; FileNotFoundError where this machine has no PostgreSQL. `options` go to the server (`-c name=value`)."""
    binaries = _binaries()
    if binaries is None:
        raise FileNotFoundError("no /usr/lib/postgresql/*/bin/postgres (Debian: apt-get install postgresql-15)")
    # not under pytest's folder, which the server's user may not enter
    folder = Path(tempfile.mkdtemp(prefix="tnmt-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Server(folder, free_port(), binaries, options)
    server.make()
    server.start()
    return server


def remove(server: Server) -> None:
    """Stops a server and removes all of it."""
    with suppress(RuntimeError):
        server.kill()
    shutil.rmtree(server.folder, ignore_errors=True)
