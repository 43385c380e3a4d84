"""Settings of one platform: everything that it keeps lies under one folder, `TNMT_HOME`.

A second platform beside the first is one variable: `TNMT_HOME=/elsewhere tnmt run`.
"""

from __future__ import annotations

import secrets
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent


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

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

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

    @cached_property
    def token_key(self) -> str:
        """Key of the keyed hash that stands for personal values; made once, kept outside the lake, mode 0600."""
        path = self.home / "secrets" / "token.key"
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return path.read_text().strip()


def settings() -> Settings:
    """Settings as the environment has them now."""
    return Settings()
