"""What decides a mart and what it reads, as dbt's graph has it: hash, registers, moment (marts.parsed.describe)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from marts.build import dbt_environment
from marts.parsed import describe, parsed
from tnmt.settings import Settings


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    here = Settings(home=tmp_path_factory.mktemp("built"))
    before = dict(os.environ)
    os.environ.update(dbt_environment(here))
    yield parsed(here)
    os.environ.clear()
    os.environ.update(before)


def codes(manifest: Any) -> dict[str, str]:
    return {built["table"].partition(".")[2]: built["code"] for built in describe(manifest).values()}


def below(manifest: Any, key: str) -> set[str]:
    """Names of the tables that read this node, through anything; by the other direction of the graph."""
    manifest.build_parent_and_child_maps()
    found, waiting = set[str](), [key]
    while waiting:
        new = {k for k in manifest.child_map[waiting.pop()] if k.startswith("model.")} - found
        found |= new
        waiting += new
    return {manifest.nodes[k].name for k in found if manifest.nodes[k].config.materialized != "view"}


def test_registers_follow_from_the_graph(manifest: Any) -> None:
    """The clean tables that dbt's own map of parents leads to; those whose rows name no days recompute every day."""
    described = describe(manifest)
    manifest.build_parent_and_child_maps()
    for key, built in described.items():
        above, waiting = set[str](), [key]
        while waiting:
            new = set(manifest.parent_map[waiting.pop()]) - above
            above |= new
            waiting += new
        sources = [manifest.sources[k] for k in above if k in manifest.sources]
        assert set(built["targets"]) == {s.name.removesuffix("_history") for s in sources if s.schema == "clean"}, built["table"]
        assert built["open"] == any(s.schema != "clean" for s in sources), built["table"]
    incremental = {b["table"].partition(".")[2]: b for b in described.values() if b["incremental"]}
    assert len(incremental) >= 11
    # the list by hand forgot the facility, whose name and basin stand in its loads
    assert "facility" in incremental["emission_load_daily"]["targets"]
    assert all("station" in b["targets"] and "lab_result" not in b["targets"] for b in incremental.values())
    assert {n for n, b in incremental.items() if b["open"]} == {"availability_daily", "int_station_silence"}


def test_the_hash_of_a_model_is_that_of_all_that_it_reads(manifest: Any) -> None:
    first = codes(manifest)
    assert codes(manifest) == first
    seed = manifest.nodes["seed.tnmt.vn_aqi_band"]
    kept, seed.checksum.checksum = seed.checksum.checksum, "another"
    try:
        changed = {name for name, code in codes(manifest).items() if code != first[name]}
    finally:
        seed.checksum.checksum = kept
    assert changed == {"vn_aqi_band"} | below(manifest, "seed.tnmt.vn_aqi_band")
    assert {"aqi_hourly", "aqi_daily"} <= changed and not {"reading_hourly", "reading_daily", "land_use_area"} & changed
    macro = manifest.macros["macro.tnmt.hourly_load_kg"]
    kept, macro.macro_sql = macro.macro_sql, macro.macro_sql + " "
    try:
        changed = {name for name, code in codes(manifest).items() if code != first[name]}
    finally:
        macro.macro_sql = kept
    assert changed == {"emission_load_daily"} | below(manifest, "model.tnmt.emission_load_daily")


def test_a_variable_counts_where_it_is_named(manifest: Any) -> None:
    built = {b["table"].partition(".")[2]: b for b in describe(manifest).values()}
    assert "completeness_share" in built["reading_daily"]["vars"]
    assert "forecast_hour_origins" not in built["reading_daily"]["vars"]
    assert not {"as_of", "affected_to", "engine"} & set(built["reading_daily"]["vars"])
    assert built["reading_hourly"]["timed"] and not built["dim_parameter"]["timed"]
