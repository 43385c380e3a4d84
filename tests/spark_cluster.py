"""A standalone Spark cluster on 127.0.0.1 for tests: the commands of the systemd units and the settings of infra/spark, run out of the layer.

    with Cluster(folder, workers=2) as cluster:
        driver = Driver(folder / "driver.log", "tests/spark_driver.py", "job", TNMT_HOME=…, **cluster.environment)

`python -m tests.spark_cluster FOLDER [WORKERS]` keeps one up until it is interrupted, and prints what a session needs to reach it.
"""

from __future__ import annotations

import json
import os
import queue
import re
import secrets
import shlex
import signal
import string
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from lake.spark.read import LAYER
from tests.support import free_port
from tnmt.settings import ROOT

INFRA = ROOT / "infra" / "spark"
SMALL = {
    "spark.driver.port": "0",
    "spark.driver.blockManager.port": "0",
    "spark.blockManager.port": "0",
    "spark.executor.cores": "1",
    "spark.executor.memory": "1g",
    "spark.cores.max": "2",
    "spark.worker.timeout": "15",
    "spark.executor.heartbeatInterval": "3s",
    "spark.network.timeout": "30s",
    "spark.network.timeoutInterval": "10s",
}
"""What differs from the settings of several nodes: free ports, small executors, a silent worker is given up sooner."""


WITH_US = ["setpriv", "--pdeathsig", "TERM"]
"""In front of a command: it ends with the process that started it, even if that one is killed."""


def wait_until(what: Callable[[], Any], seconds: float, text: Callable[[], str]) -> Any:
    """The first true answer of `what`, asked every 0.1 s; AssertionError with `text()` after so many seconds."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, f"not within {seconds} s: {text()}"
        time.sleep(0.1)
    return found


def unit_command(unit: str, environment: Mapping[str, str], instance: str = "") -> list[str]:
    """ExecStart of a unit of infra/spark as systemd would run it."""
    (line,) = re.findall(r"^ExecStart=(.*)$", (INFRA / unit).read_text(), re.MULTILINE)
    return [string.Template(word).substitute(environment) for word in shlex.split(line.replace("%i", instance))]


def settings_file(path: Path, secret: str, changes: Mapping[str, str]) -> Path:
    """The template of the settings with a secret, and `changes` in place of its values; mode 0600."""
    lines = (INFRA / "spark-defaults.conf").read_text().replace("@SECRET@", secret).splitlines()
    kept = [line for line in lines if line.split(" ")[0] not in changes]
    path.touch(mode=0o600)
    path.write_text("\n".join([*kept, *(f"{name} {value}" for name, value in changes.items())]) + "\n")
    return path


class Cluster:
    """Master and workers as child processes, each in a process group of its own with the executors that it starts."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.workers, self.port = folder, workers, free_port()
        self.master = f"spark://127.0.0.1:{self.port}"
        self.secret = secrets.token_hex(32)
        self.conf = settings_file(folder / "spark.conf", self.secret, {**SMALL, "spark.deploy.recoveryDirectory": str(folder / "recovery")})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {"TNMT_SPARK_MASTER": self.master, "TNMT_SPARK_CONF": str(self.conf)}
        """What a session needs to reach it."""

    def __enter__(self) -> Cluster:
        try:
            self.start_master()
            for n in range(self.workers):
                self.start_worker(f"w{n}")
            for n in range(self.workers):
                self.wait_registered(f"w{n}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name, signal.SIGTERM)

    def start_master(self) -> None:
        """Starts the master, at the same port each time, and waits until it takes connections."""
        self._start("master", "tnmt-spark-master.service")
        wait_until(lambda: re.search("New state: ALIVE|Recovery complete", self.log("master")), 60, lambda: self.log("master")[-2000:])

    def start_worker(self, name: str) -> None:
        """Starts a worker with one core."""
        self._start(name, "tnmt-spark-worker@.service")

    def wait_registered(self, name: str) -> None:
        """Waits until the master has taken the worker."""
        wait_until(lambda: "Successfully registered with master" in self.log(name), 60, lambda: self.log(name)[-2000:])

    def stop(self, name: str, with_signal: int = signal.SIGKILL) -> None:
        """Ends one process and the executors that it started."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, with_signal)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with suppress(ProcessLookupError):  # an executor that outlived its worker
            os.killpg(process.pid, signal.SIGKILL)

    def log(self, name: str) -> str:
        """What a process has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def pids(self) -> set[int]:
        """Every process of the cluster, executors included."""
        groups = {p.pid for p in self.processes.values()}
        return {pid for pid in _all_pids() if _stat(pid, 2) in groups}

    def _start(self, name: str, unit: str) -> None:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "TNMT_", "PYSPARK_"))},
            "SPARK_HOME": str(LAYER / "packages" / "pyspark"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_DIRS": str(self.folder / f"scratch-{name}"),
            "TNMT_SPARK_CONF": str(self.conf),
            "TNMT_SPARK_STATE": str(self.folder),
            "TNMT_SPARK_PORT": str(self.port),
            "TNMT_SPARK_MASTER": self.master,
            "TNMT_SPARK_PAGE_PORT": "0",
            "TNMT_SPARK_WORKER_PORT": "0",
            "TNMT_SPARK_WORKER_PAGE_PORT": "0",
            "TNMT_SPARK_CORES": "1",
            "TNMT_SPARK_MEMORY": "1200m",
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*WITH_US, *unit_command(unit, environment, name)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


class Driver:
    """A Spark driver in a process of its own (one a process): takes lines on standard input, tells events as lines of JSON."""

    def __init__(self, log: Path, module: str, *arguments: str, **environment: str) -> None:
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*WITH_US, sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env={**{k: v for k, v in os.environ.items() if not k.startswith("SPARK_")}, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                self._events.put(json.loads(line))
        self._events.put(None)

    def tell(self, line: str) -> None:
        """Gives the driver a line."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def event(self, name: str, seconds: float) -> dict[str, Any]:
        """The next event, which has to be of this name and to come within so many seconds."""
        try:
            found = self._events.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no event {name} within {seconds} s: {self.log.read_text(errors='replace')[-3000:]}") from None
        assert found is not None and found["event"] == name, f"expected {name}, found {found}: {self.log.read_text(errors='replace')[-3000:]}"
        return found

    def close(self) -> None:
        """Ends the driver and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _all_pids() -> Iterator[int]:
    return (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())


def _stat(pid: int, number: int) -> int:
    """A number of /proc/PID/stat, counted from the state (0): 1 is the parent, 2 the process group."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[number])
    except OSError:
        return -1


def children(pid: int) -> set[int]:
    """Processes that a process has started and that still run."""
    return {p for p in _all_pids() if _stat(p, 1) == pid}


def listening(pids: set[int]) -> set[str]:
    """Addresses on which the processes accept connections, without the port; `*` for all of the machine."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                raw = fields[1].partition(":")[0]
                found.add({"00000000": "*", "0" * 32: "*", "0100007F": "127.0.0.1", "0000000000000000FFFF00000100007F": "127.0.0.1"}.get(raw, raw))
    return found


if __name__ == "__main__":
    with Cluster(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2) as running:
        print(" ".join(f"{name}={value}" for name, value in running.environment.items()), flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
