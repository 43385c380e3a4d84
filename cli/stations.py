"""Intake of the files that stations send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.common import fail
from tnmt.clock import now
from tnmt.settings import settings

app = typer.Typer()


@app.command()
def accounts(
    passwords: Annotated[Path, typer.Argument(metavar="OUT", help="CSV of the new passwords, to hand out and then to destroy.")],
    reset: Annotated[str | None, typer.Option(help="A station whose account gets a new password.")] = None,
) -> None:
    """Bring the intake accounts to the register of stations. New passwords are written once, here; the platform keeps hashes."""
    from intake.accounts import issue, registered, write_private
    from lake.lake import LakeError

    s = settings()
    if passwords.exists():
        fail(f"{passwords} is there already; name a new file, so that no password is lost", 2)
    try:
        stations = registered(s, now().date())
        new = issue(s, stations, reset)
    except LakeError as error:
        fail(str(error))
    except KeyError as error:
        fail(str(error.args[0]), 2)
    print(f"{len(stations)} accounts in use, {len(new)} with a new password")
    if new:
        write_private(passwords, "".join(f"{name},{password}\n" for name, password in [("tai_khoan", "mat_khau"), *new.items()]))
        print(f"passwords in {passwords} (readable by you alone)")


@app.command()
def intake() -> None:
    """Stay, and take in the files that stations send by FTPS and SFTP; complete ones go into the inbox."""
    import signal
    import threading

    from ingestion.ingest import contracts_of
    from intake.accounts import read
    from intake.drop import AlreadyRunning
    from intake.server import Intake

    s = settings()
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: ended.set())
    try:
        with Intake(s, contracts_of(s)["station_txt"]) as server:
            kind = "FTP and FTPS" if s.intake_plain_ftp else "FTPS"
            print(f"intake: {kind} on {s.intake_host}:{server.ftp.port}, SFTP on {s.intake_host}:{server.sftp.port}", flush=True)
            if not read(s):
                print("no account yet: make them with `tnmt accounts OUT`", flush=True)
            while not ended.wait(1):
                if stopped := [name for name, serves in server.serving().items() if not serves]:
                    fail(f"the intake ends, as {' and '.join(stopped)} did; see the log above and start it again")
    except AlreadyRunning as error:
        fail(f"the intake cannot start: {error}")
    except OSError as error:
        fail(f"the intake cannot start: {error}; see TNMT_INTAKE_HOST, TNMT_INTAKE_FTP_PORT, TNMT_INTAKE_SFTP_PORT in docs/intake.md")
