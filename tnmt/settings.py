"""Settings of one platform: everything that it keeps lies under one folder, `TNMT_HOME`.

A second platform beside the first is one variable: `TNMT_HOME=/elsewhere tnmt run`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent


LEAST_MEMORY = 256_000_000
LEAST_KEY = 32
"""Characters of the shortest key that is taken; one that was made here has 64."""


class SettingsError(Exception):
    """A setting, or a file that the platform keeps beside them, that cannot be used; the text says what to do."""


def bytes_of(text: str) -> int:
    """Bytes of a size as DuckDB writes it: 4GB, 512MB."""
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    upper = text.strip().upper()
    unit = next((u for u in sorted(units, key=len, reverse=True) if upper.endswith(u)), None)
    if unit is None:
        raise ValueError(f"a size such as 4GB was expected, found {text!r}")
    return int(float(upper.removesuffix(unit)) * units[unit])


class Settings(BaseSettings):
    """Read from the environment (prefix `TNMT_`); paths that follow from `home` are properties."""

    model_config = SettingsConfigDict(env_prefix="TNMT_", frozen=True, extra="ignore")

    home: Path = Field(default=ROOT / "var")
    catalog: str = "sqlite"
    """`sqlite` (a file, one writer), or `postgres:<libpq connection string>`."""
    data: str | None = None
    """Folder (or object store prefix) of the lake's Parquet files; `<home>/lake/data` unless said."""
    crs: str = "EPSG:9212"
    """CRS in which geometry is kept: VN-2000 / TM-3 106-15 for the former Bình Phước."""
    threads: int = 2
    memory_limit: str = "4GB"
    reader_memory: str = "4GB"
    """Memory that the process which opens foreign formats (workbooks, maps, scans) may take for reading."""
    reader_seconds: float = 60.0
    """Seconds of the processor that it may take for one delivery, beside two for each megabyte; of the clock four times as many."""
    future_tolerance_minutes: int = 15
    """How far a measuring time may lie after its arrival before the clock is held to be wrong."""
    lock_timeout: float = 600.0
    """Seconds that a writer waits for the one that holds the lake."""
    engine: Literal["duckdb", "spark"] = "duckdb"
    """What computes the models with `meta.scale_out` (docs/scale-out.md); every other model is DuckDB's."""
    spark_staging: str | None = None
    """Where rows go from Spark to DuckDB; `<home>/tmp/spark/staging`, or `<data>-staging` of an object store, unless said. All nodes must reach it."""

    # object storage, where `data` is an `s3://` prefix (docs/scale-out.md)
    s3_endpoint: str | None = None
    """Address of a store of one's own, like `https://s3.example:9000` (buckets are then part of the path); the store of `s3_region` unless said."""
    s3_region: str = "us-east-1"
    s3_key_id: SecretStr | None = None
    s3_secret: SecretStr | None = None

    # Spark past one machine (docs/scale-out.md)
    spark_master: str | None = None
    """`spark://host:port`, `yarn` or `k8s://…`; this machine with `threads` threads unless said."""
    spark_conf: Path | None = None
    """Properties file that is read into every session (template: infra/spark/spark-defaults.conf); mode 0600 where it holds a secret."""
    spark_start_seconds: float = 120.0
    """Seconds that a cluster may take to register a session and to run its first job; then the start ends with an error."""

    # intake of stations' files (docs/intake.md)
    intake_host: str = "127.0.0.1"
    """Address that the servers listen on; one of the network of the stations in production."""
    intake_ftp_port: int = 2121
    intake_sftp_port: int = 2222
    intake_passive_ports: str = "60000-60200"
    """Ports of FTP data connections, first and last."""
    intake_public_address: str | None = None
    """Address that FTP tells stations behind a NAT."""
    intake_plain_ftp: bool = False
    """Whether a station may log in without TLS (its password and data can be read on the way)."""
    intake_certificate: Path | None = None
    """PEM with key and certificate; a self-signed one is made unless said."""
    intake_host_key: Path | None = None
    intake_connections: int = 512
    intake_sessions: int = 8
    """Sessions that one account may have open."""
    intake_idle_seconds: int = 300
    intake_file_bytes: int = 1 << 20
    intake_unfinished_files: int = 100
    """Uploads in progress, and files under an unfinished name, that one account may have."""
    intake_waiting_files: int = 20_000
    """Files of one account that may wait in the inbox: more than the 60 days x 288 that a logger must keep (TT 10/2021 Điều 39)."""

    @field_validator("intake_passive_ports")
    @classmethod
    def _ports(cls, value: str) -> str:
        first, _, last = value.partition("-")
        if not (first.isdigit() and last.isdigit() and 1024 <= int(first) <= int(last) < 65536):
            raise ValueError("TNMT_INTAKE_PASSIVE_PORTS must be two ports like `60000-60200`")
        return value

    @field_validator("reader_memory")
    @classmethod
    def _size(cls, value: str) -> str:
        bytes_of(value)
        return value

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("memory_limit")
    @classmethod
    def _enough_memory(cls, value: str) -> str:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)", value.strip(), re.IGNORECASE)
        if not found:
            raise ValueError(f"must be a size such as 4GB, found {value!r}")
        if float(found[1]) * 1000 ** ("KMGT".index(found[2][0].upper()) + 1) < LEAST_MEMORY:
            raise ValueError(f"must be at least 256MB, found {value!r}: nothing can be computed in less")
        return value

    @field_validator("catalog")
    @classmethod
    def _known_catalog(cls, value: str) -> str:
        if value != "sqlite" and not value.startswith("postgres:"):
            raise ValueError("TNMT_CATALOG must be `sqlite` or `postgres:<connection string>`")
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("TNMT_S3_ENDPOINT must begin with http:// or https://")
        return value and value.rstrip("/")

    @property
    def is_sqlite(self) -> bool:
        """Whether the catalog is the embedded one, with a single writer."""
        return self.catalog == "sqlite"

    @property
    def lake_dir(self) -> Path:
        """Catalog and data files."""
        return self.home / "lake"

    @property
    def data_path(self) -> str:
        """Where the lake's Parquet files lie, with a closing slash."""
        return (self.data or str(self.lake_dir / "data")).rstrip("/") + "/"

    @property
    def on_s3(self) -> bool:
        """Whether the Parquet files lie in object storage."""
        return self.data_path.startswith("s3://")

    @property
    def attach(self) -> str:
        """The DuckLake address of the catalog. May hold a password: never log it."""
        if self.is_sqlite:
            return f"ducklake:sqlite:{self.lake_dir / 'catalog.sqlite'}"
        return "ducklake:" + self.catalog

    @property
    def extensions(self) -> Path:
        """DuckDB extension directory, filled from the wheels."""
        return self.home / "duckdb-extensions"

    @property
    def inbox(self) -> Path:
        """One folder a source; senders write here."""
        return self.home / "inbox"

    @property
    def landing(self) -> Path:
        """Large files by hash."""
        return self.home / "landing"

    @property
    def serving(self) -> Path:
        """Serving files and the symlink to the one in force."""
        return self.home / "serving"

    @property
    def contract_dirs(self) -> tuple[Path, ...]:
        """Where contracts are looked for; a site's own win over the shipped ones."""
        return (ROOT / "ingestion" / "contracts", self.home / "contracts")

    @property
    def suite_dirs(self) -> tuple[Path, ...]:
        """Where GX suites are looked for, a site's own first."""
        return (self.home / "suites", ROOT / "quality" / "suites")

    @property
    def dbt_project(self) -> Path:
        """The dbt project."""
        return ROOT / "dbt_project"

    @property
    def reference(self) -> Path:
        """Reference data, kept once: the seeds of the dbt project."""
        return self.dbt_project / "seeds" / "reference"

    @property
    def token_key_file(self) -> Path:
        """Where the key of the tokens lies, mode 0600."""
        return self.home / "secrets" / "token.key"

    @cached_property
    def token_key(self) -> str:
        """Key of the keyed hash that stands for personal values, kept outside the lake; raises SettingsError where it is missing or cut."""
        path = self.token_key_file
        try:
            key = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise SettingsError(
                f"{path} is missing: without it persons get other tokens than before. Put it back from its safe copy (docs/production.md); "
                "`tnmt init` makes one only for a lake that has none yet"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} cannot be read as a key: {error}. Put it back from its safe copy (docs/production.md)") from None
        if len(key) < LEAST_KEY:
            raise SettingsError(
                f"{path} holds {len(key)} characters, expected at least {LEAST_KEY}: it was cut, by a crash or by hand. "
                "Put it back from its safe copy (docs/production.md); if the lake is new and has taken in nothing, remove the file and run `tnmt init`"
            )
        return key

    @property
    def key_fingerprint(self) -> str:
        """What tells two keys apart and gives none of them away."""
        return hashlib.sha256(b"tnmt token key\0" + self.token_key.encode()).hexdigest()[:16]

    def make_token_key(self) -> None:
        """Makes the key: whole or not at all, whatever is cut, and never over one that is there."""
        path = self.token_key_file
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            give_name(temporary, path)
        except FileExistsError:
            pass  # another process was first
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def give_name(path: Path, name: Path) -> None:
    """Makes `name` a second name of the file, never over another file: raises FileExistsError where one has it.

    Where the file system has no hard links (a share of Windows, a memory card) the file is renamed, if the name is seen to be free. Raises OSError
    (EXDEV) where it lies on another disk.
    """
    try:
        os.link(path, name, follow_symlinks=False)
        return
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        if os.path.lexists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(name)) from None
    path.rename(name)


def settings() -> Settings:
    """Settings as the environment has them now; raises SettingsError where a variable cannot be used."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"TNMT_{'_'.join(map(str, e['loc'])).upper() or '…'}: {e['msg']}" for e in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(f"settings that cannot be used: {problems}. Correct these variables") from None


MOST_YAML_BYTES = 1_000_000
"""No contract or agreement comes near it."""

_PERHAPS = re.compile(r"(?:^|[\s\[{,:?-])[&*]\S", re.MULTILINE)


def by_name(folder: Path, suffix: str) -> dict[str, Path]:
    """{stem: path} of the files of a folder and of the folders in it, a domain each. Raises SettingsError where two have one name."""
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob(f"*{suffix}"), *folder.glob(f"*/*{suffix}")]):
        if path.stem in found:
            raise SettingsError(f"{path} and {found[path.stem]} have one name: keep one of them")
        found[path.stem] = path
    return found


def read_yaml(path: Path) -> Any:
    """What a YAML of ours (contract, agreement) says. Raises OSError, UnicodeDecodeError or yaml.YAMLError, the last for files past 1 MB and for anchors too.

    A few lines of anchors (&) and aliases (*) make gigabytes, and nothing here needs them.
    """
    if (size := path.stat().st_size) > MOST_YAML_BYTES:
        raise yaml.YAMLError(f"expected at most {MOST_YAML_BYTES} bytes, found {size}")
    text = path.read_text(encoding="utf-8")
    if _PERHAPS.search(text):
        for event in yaml.parse(text, yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else "?"
                raise yaml.YAMLError(f"line {line}: anchors (&) and aliases (*) are not taken; write the value out")
    return yaml.load(text, yaml.CSafeLoader)
