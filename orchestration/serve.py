"""Starts Superset and Dagster on the loopback, waits until both answer, and stops them with their parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from lake.serving import current
from marts.build import dbt_environment, manifest
from tnmt.settings import ROOT, Settings

HOST = "127.0.0.1"
DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    granularity: op
    default_limit: 1
  runs:
    max_concurrent_runs: 1
"""


class ServeError(Exception):
    """Something that serving needs is missing; the text says what to do."""


def _free(port: int, what: str, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise ServeError(f"port {port} for {what} is in use on {HOST}: stop what listens there, or choose another with {option}") from None


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServeError(f"the server for {url} ended with {process.returncode}; last lines of {log}:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ServeError(f"{url} did not answer within {seconds:.0f} s; last lines of {log}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""


def _start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, cwd=ROOT, start_new_session=True
        )


def serve(settings: Settings, port: int, dagster_port: int, *, stay: bool, say: Callable[[str], None]) -> None:
    """Brings both servers up and prints where they are; returns at once unless `stay`, stopping them."""
    superset = ROOT / ".superset" / "bin" / "python"
    if not superset.exists():
        raise ServeError("the Superset environment is missing: run `make superset` once")
    if current(settings) is None:
        raise ServeError("there is no serving file yet: run `tnmt run` first")
    _free(port, "Superset", "--port")
    _free(dagster_port, "Dagster", "--dagster-port")
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    manage = [str(superset), "-m", "dashboards.manage"]
    environment = {**os.environ, "TNMT_HOME": str(settings.home)}
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    manifest(settings)
    here = Path(sys.executable).parent
    dagster = {**dbt_environment(settings), "DAGSTER_HOME": str(home), "TNMT_HOME": str(settings.home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    running: list[subprocess.Popen[bytes]] = []
    try:
        # Dagster comes up while Superset is set up; first it is told what the command line did, so that its pages are not empty
        web = _start(
            [
                *reporter(settings, "NEW"),
                *("--", str(here / "dagster-webserver"), "-h", HOST, "-p", str(dagster_port), "-m", "orchestration.definitions"),
            ],
            logs / "dagster.log",
            dagster,
        )
        running.append(web)
        done = subprocess.run(
            [*manage, "setup", "--home", str(settings.home)], check=False, env=environment, cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            raise ServeError(f"Superset could not be set up:\n{done.stdout[-1500:]}{done.stderr[-2500:]}")
        site = _start([*manage, "serve", "--home", str(settings.home), "--port", str(port)], logs / "superset.log", environment)
        running.append(site)
        _wait(f"http://{HOST}:{port}/health", site, logs / "superset.log", 120)
        _wait(f"http://{HOST}:{dagster_port}/server_info", web, logs / "dagster.log", 120)
        if not stay:
            say(
                "Superset and Dagster were started, set up and stopped again; `tnmt serve` (or `make serve`) starts them and prints addresses and log-in"
            )
            return
        running.append(_start([str(here / "dagster-daemon"), "run", "-m", "orchestration.definitions"], logs / "dagster-daemon.log", dagster))
        say(f"Superset  http://{HOST}:{port}/superset/dashboard/toan-canh/   user: admin   password: {_password(settings)}")
        say(f"Dagster   http://{HOST}:{dagster_port}/")
        say("Ctrl+C stops both.")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        while all(p.poll() is None for p in running):
            time.sleep(1)
        raise ServeError(f"a server ended by itself; see {logs}")
    except KeyboardInterrupt:
        say("stopped")
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def reporter(settings: Settings, what: str, targets: Mapping[str, str] | None = None) -> list[str]:
    """Command that reports the state of the platform to its Dagster (orchestration.defs.increments)."""
    return [sys.executable, "-m", "orchestration.defs.increments", str(settings.home / "dagster"), what, json.dumps(targets or {})]


def tell_dagster(settings: Settings, targets: Mapping[str, str], *, built: bool) -> None:
    """Reports a run of the command line to the Dagster of this platform, where it has one: what it took in or failed to, and the marts it built.

    `targets` are clean tables, with the reason why a source of them failed, or nothing.

    The run does not wait for it, and never fails by it.
    """
    if not (settings.home / "dagster" / "dagster.yaml").exists():
        return
    with suppress(OSError):
        logs = settings.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        environment = {**dbt_environment(settings), "DAGSTER_HOME": str(settings.home / "dagster"), "TNMT_HOME": str(settings.home)}
        _start(reporter(settings, "ALL" if built else "NEW", targets), logs / "dagster-report.log", environment)


def _password(settings: Settings) -> str:
    """The generated password, for the person at this terminal; the file is readable by its owner only."""
    path = settings.home / "superset" / "admin-password"
    return path.read_text().strip() if path.exists() else f"see {path.parent}"
