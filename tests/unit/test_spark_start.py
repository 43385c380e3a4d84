"""Settings of Spark and its start, without Java: what is read, what is refused, and that the files of infra/spark say the same."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import yaml

from lake.lake import LakeError, open_reader
from lake.spark.read import _jar_problems, _object_storage
from lake.spark.start import SECRET, SparkStartError, _reach, addresses, own_address, properties
from tests.spark_cluster import INFRA, settings_file, unit_command
from tnmt.settings import Settings


def _file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_properties_are_read_as_spark_reads_them(tmp_path: Path) -> None:
    file = _file(tmp_path / "spark.conf", "# a comment\n\n  ! another\nspark.a  x y \nspark.b=1\nspark.c : z=2\nspark.authenticate.secret\tabc\n")
    assert properties(file) == {"spark.a": "x y", "spark.b": "1", "spark.c": "z=2", "spark.authenticate.secret": "abc"}


@pytest.mark.parametrize("line", ["spark.authenticate.secret", "authenticate.secret hidden", "spark.authenticate.secret hidden\\"])
def test_a_line_of_another_form_is_named_and_not_quoted(tmp_path: Path, line: str) -> None:
    with pytest.raises(SparkStartError, match="in line 2 of") as error:
        properties(_file(tmp_path / "spark.conf", f"spark.a 1\n{line}\n"))
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = _file(tmp_path / "spark.conf", "spark.authenticate.secret hidden\n", mode)
    with pytest.raises(SparkStartError, match=rf"spark.authenticate.secret: expected mode 0600, found {mode:04o}; chmod 600") as error:
        properties(file)
    assert "hidden" not in str(error.value)
    assert properties(_file(file, "spark.executor.memory 2g\n", mode)) == {"spark.executor.memory": "2g"}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SparkStartError, match="found No such file or directory; check TNMT_SPARK_CONF"):
        properties(tmp_path / "none.conf")


def test_names_of_secrets_are_known() -> None:
    hidden = ("spark.authenticate.secret", "spark.hadoop.fs.s3a.secret.key", "spark.hadoop.fs.s3a.access.key", "spark.ssl.keyPassword")
    assert all(map(SECRET.search, hidden)) and not any(map(SECRET.search, ("spark.executor.memory", "spark.network.crypto.enabled")))


def test_addresses_of_masters() -> None:
    assert addresses("spark://a:7077,10.0.0.2:7078") == [("a", 7077), ("10.0.0.2", 7078)]
    assert addresses("yarn") == addresses("k8s://https://api:6443") == addresses("local[2]") == []
    assert own_address("spark://127.0.0.1:7077") == "127.0.0.1" and own_address("yarn") is None
    for wrong in ("spark://a", "spark://a:b", "spark://:7077"):
        with pytest.raises(SparkStartError, match=r"expected spark://host:port"):
            addresses(wrong)


def test_templates_are_settings(tmp_path: Path) -> None:
    for name in ("yarn.conf", "kubernetes.conf"):
        assert properties(INFRA / name)["spark.authenticate"] == "true"
        assert not any(map(SECRET.search, properties(INFRA / name))), "YARN and Kubernetes make the secret"
    given = properties(settings_file(tmp_path / "spark.conf", "abc", {"spark.cores.max": "4"}))
    assert given["spark.authenticate.secret"] == "abc" and given["spark.cores.max"] == "4"
    for name in ("spark.authenticate", "spark.network.crypto.enabled", "spark.io.encryption.enabled"):
        assert given[name] == "true"
    assert given["spark.master.rest.enabled"] == "false"
    with pytest.raises(SparkStartError, match="expected mode 0600"):
        properties(INFRA / "spark-defaults.conf")  # the template itself is no place for a secret


def test_units_and_containers_run_the_same_commands() -> None:
    node = dict(line.split("=", 1) for line in (INFRA / "spark-node.env").read_text().splitlines() if line and not line.startswith("#"))
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    for service, unit in (("master", "tnmt-spark-master.service"), ("worker", "tnmt-spark-worker@.service")):
        command = unit_command(unit, node, "1")  # a variable that spark-node.env lacks would raise
        (line,) = services[service]["command"]
        in_container = re.sub(r"\$\$\{(\w+)\}", lambda m: node[m[1]], line).split()
        assert in_container == ["exec", *command]
        assert node["TNMT_SPARK_CONF"] == command[command.index("--properties-file") + 1]
        assert not any(map(SECRET.search, command)) and "@SECRET@" not in (INFRA / unit).read_text()


def test_a_master_that_nobody_is_ends_before_java_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = taken.getsockname()[1]
        with pytest.raises(SparkStartError, match=rf"expected a master that answers at spark://127.0.0.1:{port}, found 127.0.0.1:{port} Connection"):
            _reach(f"spark://127.0.0.1:{port}")
        taken.listen()
        _reach(f"spark://127.0.0.1:1,127.0.0.1:{port}")


def test_keys_of_object_storage_are_asked_for_and_never_shown(tmp_path: Path) -> None:
    given = {"home": tmp_path, "data": "s3://kho/data", "s3_endpoint": "https://s3.example:9000/"}
    with pytest.raises(LakeError, match="expected TNMT_S3_KEY_ID and TNMT_S3_SECRET, found one or both unset"):
        open_reader(Settings(**given))
    s = Settings(**given, s3_key_id="khoa", s3_secret="bi mat")
    assert "bi mat" not in repr(s) + str(s) + str(s.model_dump())
    assert s.on_s3 and not Settings(home=tmp_path).on_s3
    assert _object_storage(s) == {
        "spark.hadoop.fs.s3a.endpoint": "https://s3.example:9000",
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "true",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.access.key": "khoa",
        "spark.hadoop.fs.s3a.secret.key": "bi mat",
    }
    assert _object_storage(Settings(home=tmp_path)) == {}
    with pytest.raises(ValueError, match="TNMT_S3_ENDPOINT must begin with"):
        Settings(home=tmp_path, s3_endpoint="s3.example")


def test_jars_for_object_storage_are_named_with_their_command(tmp_path: Path) -> None:
    found = _jar_problems(tmp_path, INFRA / "jars-s3.sha256", "run `make scale-out S3=1`")
    assert [re.search(r"expected (\S+) in", p)[1] for p in found] == ["bundle-2.24.6.jar", "hadoop-aws-3.4.1.jar"]
    assert all(p.endswith("run `make scale-out S3=1`") for p in found)
