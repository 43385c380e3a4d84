"""Starting Spark: it ends with a session that has run a job, or with an error that says why, and then no JVM of ours stays behind."""

from __future__ import annotations

import re
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake.lake import LakeError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)
"""Names of settings whose values nobody else may read: those that Spark itself redacts (spark.redaction.regex)."""

PROBE_SECONDS = 5.0
"""How long one address of a master may take to accept a connection."""


class SparkStartError(LakeError):
    """Spark did not start; the text says what was expected, what was found, what to do."""


def properties(path: Path) -> dict[str, str]:
    """Settings of a Spark properties file: `name value` or `name=value` a line, `#` before comments.

    Raises SparkStartError where the file cannot be read, where a line is of another form, and where others may read a secret in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise SparkStartError(f"settings of Spark: expected a properties file {path}, found {error.strerror}; check TNMT_SPARK_CONF") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(("#", "!")):
            continue
        match = re.fullmatch(r"\s*(spark\.[\w.-]+)(?:\s*[=:]\s*|\s+)(.*?)\s*", line)
        if match is None or line.rstrip().endswith("\\"):  # the line may hold a secret: it is not quoted
            raise SparkStartError(f"settings of Spark: expected `spark.name value` in line {number} of {path}, found something else; correct it")
        found[match[1]] = match[2]
    if mode & 0o077 and any(map(SECRET.search, found)):
        names = ", ".join(sorted(filter(SECRET.search, found)))
        raise SparkStartError(f"settings of Spark: {path} holds {names}: expected mode 0600, found {mode:04o}; chmod 600 it, and change the secret")
    return found


def is_cluster(master: str) -> bool:
    """Whether executors run in other processes than the driver."""
    return not master.startswith("local")


def addresses(master: str) -> list[tuple[str, int]]:
    """Host and port of each master of a `spark://` address; of other masters none: YARN and Kubernetes are found by their own clients."""
    if not master.startswith("spark://"):
        return []
    parts = [part.rpartition(":") for part in master.removeprefix("spark://").split(",")]
    if any(not host or not port.isdigit() for host, _, port in parts):
        raise SparkStartError(f"master: expected spark://host:port[,host:port], found {master}; check TNMT_SPARK_MASTER")
    return [(host.strip("[]"), int(port)) for host, _, port in parts]


def own_address(master: str) -> str | None:
    """Address of this machine on the way to the master: where executors of a standalone cluster find the driver."""
    for host, port in addresses(master):
        with suppress(OSError):
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as way:
                way.connect(address)  # UDP: nothing is sent
                return str(way.getsockname()[0])
    return None


def _reach(master: str) -> None:
    refusals = []
    for host, port in addresses(master):
        try:
            socket.create_connection((host, port), PROBE_SECONDS).close()
            return
        except OSError as error:
            refusals.append(f"{host}:{port} {error.strerror or error}")
    if refusals:
        raise SparkStartError(
            f"Spark: expected a master that answers at {master}, found {'; '.join(refusals)}. "
            "Start it (systemctl start tnmt-spark-master), or correct TNMT_SPARK_MASTER"
        )


def start(master: str, values: Mapping[str, str], seconds: float) -> SparkSession:
    """The session of this process; on a cluster one that has run a job within `seconds` of its registration. Raises SparkStartError."""
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(master).appName("tnmt")
    for name, value in values.items():
        builder = builder.config(name, value)
    running = SparkContext._active_spark_context
    if running is not None:
        if running.master != master and (is_cluster(master) or is_cluster(running.master)):
            raise SparkStartError(f"Spark: expected no session or one on {master}, found one on {running.master}: one a process; stop it first")
        return builder.getOrCreate()
    _reach(master)
    if SparkContext._gateway is None:
        # every user of the machine can read a command line: secrets go through the gateway
        public = SparkConf(loadDefaults=False).setMaster(master).setAll([(n, v) for n, v in values.items() if not SECRET.search(n)])
        SparkContext._ensure_initialized(gateway=launch_gateway(public))
    if not is_cluster(master):
        return builder.getOrCreate()
    gateway = SparkContext._gateway
    spark: SparkSession | None = None
    begun = time.monotonic()
    try:
        with _killed_after(gateway.proc, seconds):
            spark = builder.getOrCreate()
            spark.range(0, 1, 1, 1).count()
        return spark
    except BaseException as error:
        found = None if time.monotonic() - begun >= seconds else _told(error)
        _forget(gateway)
        if not isinstance(error, Exception):
            raise
        raise SparkStartError(_why(master, values, seconds, spark is not None, found)) from None


def _told(error: BaseException) -> str:
    """The line of an error that names it. The JVM is asked for the text of its errors, so before it ends."""
    try:
        lines = str(error).splitlines()
    except OSError:  # it has ended by itself
        lines = []
    return next((line for line in lines if "Exception" in line or "Error" in line), lines[0] if lines else type(error).__name__)[:300]


def _why(master: str, values: Mapping[str, str], seconds: float, registered: bool, found: str | None) -> str:
    """`found` is what Spark said before the time was over, None if it was over."""
    text = f"Spark on {master}: expected a first job to be done within {seconds:.0f} s (TNMT_SPARK_START_SECONDS), found "
    if found is not None:
        return (
            text + f"{found}. Check that the jars of spark.executor.extraClassPath lie on every node, and the logs of the master and of the workers"
        )
    if not registered:
        return text + (
            "a master that accepts connections and does not register this session. Its secret or its encryption is another "
            "(spark.authenticate…, spark.network.crypto… of TNMT_SPARK_CONF), its Spark is of another version, or it cannot reach "
            f"{values.get('spark.driver.host', 'spark.driver.host')}: compare with infra/spark/spark-defaults.conf"
        )
    return text + (
        "this session registered and no executor that ran it. Check that a worker is alive with spark.executor.cores and spark.executor.memory free, "
        f"and that it reaches the driver at {values.get('spark.driver.host', 'spark.driver.host')} (ports: docs/scale-out.md)"
    )


@contextmanager
def _killed_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Ends the process unless the block is left in time: whoever waits in it for the process then gets an error."""
    timer = threading.Timer(seconds, _end, [process])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # Spark removes its scratch folders
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _forget(gateway: Any) -> None:
    """Ends the JVM and lets the next start of this process make a new one."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    _end(gateway.proc)
    with suppress(Exception):
        gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None
