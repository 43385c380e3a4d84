"""What integration tests share: the platform of real data, PostGIS, Spark and an object store."""

from __future__ import annotations

import os
import secrets
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from lake.spark.read import LAYER, problems, session
from tests.integration.real_kit import RealPlatform, take_in
from tests.postgres_kit import Server
from tests.spark_cluster import WITH_US, wait_until
from tests.support import free_port, need, real_data
from tnmt.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GATEWAY = LAYER / "bin" / "versitygw"


@pytest.fixture(scope="session")
def postgis(postgres: Server) -> Server:
    """The same server, with PostGIS in its database `postgres`."""
    found = postgres.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'")
    need("postgis", bool(found), "the server has no PostGIS (Debian: apt-get install postgresql-15-postgis-3)")
    postgres.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    return postgres


@pytest.fixture(scope="session")
def real_platform(tmp_path_factory: pytest.TempPathFactory) -> RealPlatform:
    """The platform of real data after all of it was taken in. Add no rows and no marts that another test counts."""
    return take_in(real_data(), tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session of the process, set for small tables."""
    found = problems()
    need("spark", not found, "; ".join(found))
    conf = {"spark.driver.memory": "3g", "spark.sql.adaptive.enabled": "false", "spark.sql.shuffle.partitions": "1"}
    made = session(Settings(home=tmp_path_factory.mktemp("spark")), conf=conf)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server on 127.0.0.1 over a folder with a bucket `kho`; the settings that reach it."""
    need("object-storage", GATEWAY.exists(), f"no {GATEWAY}; run `make parity`")
    folder = tmp_path_factory.mktemp("store")
    (folder / "buckets" / "kho").mkdir(parents=True)
    port, key, secret = free_port(), secrets.token_hex(8), secrets.token_hex(20)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*WITH_US, str(GATEWAY), "--port", f"127.0.0.1:{port}", "--region", "us-east-1", "posix", str(folder / "buckets")],
            env={**os.environ, "ROOT_ACCESS_KEY": key, "ROOT_SECRET_KEY": secret},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def answers() -> bool:
        with suppress(urllib.error.URLError):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/kho", timeout=2).close()
            except urllib.error.HTTPError as error:
                assert error.code == 403, "a bucket that anybody may list"
                return True
        return False

    try:
        wait_until(answers, 30, lambda: (folder / "log").read_text()[-2000:])
        yield {
            "TNMT_DATA": "s3://kho/ho",
            "TNMT_S3_ENDPOINT": f"http://127.0.0.1:{port}",
            "TNMT_S3_KEY_ID": key,
            "TNMT_S3_SECRET": secret,
        }
    finally:
        process.terminate()
        process.wait(10)
