"""The dashboard's files fit together: dashboard -> chart -> dataset -> mart column that dbt declares. No server needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from dashboards.accounts import new_password, sees
from dashboards.compile import UUID_PREFIX, assets, expand_dashboard, short_forms

ROOT = Path(__file__).resolve().parents[2]
CHARTS, DATASETS, DASHBOARDS = assets("charts"), assets("datasets"), short_forms("dashboards")
DATABASE = yaml.safe_load((ROOT / "dashboards/serving.yaml").read_text("utf-8"))
BY_UUID = {d["uuid"]: d for d in DATASETS.values()}


@pytest.fixture(scope="module")
def marts() -> duckdb.DuckDBPyConnection:
    """Every mart that dbt declares, empty."""
    con = duckdb.connect()
    for file in sorted(p for layer in ("marts", "serve") for p in (ROOT / "dbt_project/models" / layer).glob("*/*.yml")):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS marts_{file.parent.name}")
        for model in yaml.safe_load(file.read_text("utf-8")).get("models", []):
            columns = ", ".join(f'"{c["name"]}" {c["data_type"]}' for c in model["columns"])
            con.execute(f"CREATE TABLE marts_{file.parent.name}.{model['name']} ({columns})")
    return con


@pytest.mark.parametrize("name", DATASETS)
def test_dataset_reads_what_dbt_declares(marts: duckdb.DuckDBPyConnection, name: str) -> None:
    """All columns, with a fitting type, and all metrics of a dataset run on the declared marts."""
    dataset = DATASETS[name]
    assert set(short_forms("datasets").get(name, {})) <= {"time", "metrics"}, "what a page needs beyond a mart is a model in dbt_project/models/serve"
    source = f"{dataset['schema']}.{name}"
    found = {c: str(t) for c, t, *_ in marts.execute(f"DESCRIBE SELECT * FROM {source} AS t").fetchall()}
    assert {c["column_name"] for c in dataset["columns"]} <= set(found)
    for column in dataset["columns"]:
        assert column["verbose_name"], column
        assert column["is_dttm"] == (found[column["column_name"]] in ("DATE", "TIMESTAMP")), column
    assert dataset["main_dttm_col"] is None or found[dataset["main_dttm_col"]] in ("DATE", "TIMESTAMP")
    for metric in dataset["metrics"]:
        assert metric["verbose_name"]
        marts.execute(f"SELECT {metric['expression']} FROM {source} AS t").fetchall()


def _references(params: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Columns and metrics that a chart's params name."""
    columns: set[str] = set()
    metrics: set[str] = set()
    for suffix in ("", "_b"):
        columns |= set(params.get(f"groupby{suffix}", [])) | {f["subject"] for f in params.get(f"adhoc_filters{suffix}", [])}
        metrics |= set(params.get(f"metrics{suffix}", []))
    columns |= {params[k] for k in ("x_axis", "dimension", "line_column") if k in params}
    columns |= set(params.get("all_columns", [])) | set(params.get("tooltip_contents", [])) | set(params.get("js_columns", []))
    columns |= {json.loads(o)[0] for o in params.get("order_by_cols", [])}
    if "spatial" in params:
        columns |= {params["spatial"]["lonCol"], params["spatial"]["latCol"]}
    metrics |= {params[k] for k in ("metric", "timeseries_limit_metric") if k in params}
    if params.get("point_radius_fixed", {}).get("type") == "metric":
        metrics.add(params["point_radius_fixed"]["value"])
    return columns, metrics


@pytest.mark.parametrize("name", CHARTS)
def test_chart_names_what_its_dataset_has(name: str) -> None:
    """A chart says which question it answers, and uses columns and metrics of its dataset only."""
    chart = CHARTS[name]
    params, dataset = chart["params"], BY_UUID[chart["dataset_uuid"]]
    assert chart["slice_name"].strip() and chart["description"].strip().endswith("?")
    assert chart["viz_type"] == params["viz_type"]
    has_columns, has_metrics = {c["column_name"] for c in dataset["columns"]}, {m["metric_name"] for m in dataset["metrics"]}
    columns, metrics = _references(params)
    assert columns <= has_columns
    assert metrics <= has_metrics
    shown = set(params.get("all_columns", [])) | set(params.get("groupby", [])) | metrics
    assert {c["column"] for c in params.get("conditional_formatting", [])} | set(params.get("column_config", {})) <= shown
    if chart["viz_type"].startswith("deck_"):
        assert params["mapbox_style"] == "none", "a base map would come from outside"


def test_titles_and_uuids_are_unique() -> None:
    """Nothing takes the place of something else on import."""
    titles = [c["slice_name"] for c in CHARTS.values()]
    assert len(titles) == len(set(titles)) >= 10
    uuids = [b["uuid"] for group in (CHARTS, DATASETS, assets("dashboards"), {"serving": DATABASE}) for b in group.values()]
    assert len(uuids) == len(set(uuids))
    assert all(u.startswith(UUID_PREFIX) for u in uuids)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_layout_shows_every_chart_once(name: str) -> None:
    """Rows are twelve wide, filters reach charts that have their column, and Superset's form has it all."""
    short = DASHBOARDS[name]
    rows = [row for section in short["sections"] for row in section["rows"]]
    assert all(sum((c.get("chart") or c["text"])[1] for c in row) == 12 for row in rows)
    mine = [c["chart"][0] for row in rows for c in row if "chart" in c]
    assert mine and len(mine) == len(set(mine))
    for f in short["filters"]:
        assert set(f["charts"]) <= set(mine)
        if "column" in f:
            assert f["column"] in {c["column_name"] for c in DATASETS[f["dataset"]]["columns"]}
            for chart in f["charts"]:
                assert f["column"] in {c["column_name"] for c in BY_UUID[CHARTS[chart]["dataset_uuid"]]["columns"]}, chart
        else:
            for chart in f["charts"]:
                assert any(a["operator"] == "TEMPORAL_RANGE" for a in CHARTS[chart]["params"]["adhoc_filters"]), chart
    full = expand_dashboard(short, short_forms("charts"))
    placed = [p["meta"]["uuid"] for p in full["position"].values() if isinstance(p, dict) and p["type"] == "CHART"]
    assert sorted(placed) == sorted(CHARTS[n]["uuid"] for n in mine)
    for key, part in full["position"].items():
        if isinstance(part, dict):
            assert part["id"] == key
            assert all(child in full["position"] for child in part.get("children", []))
    assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in full["metadata"]["label_colors"].values())


def test_every_chart_stands_on_one_dashboard() -> None:
    placed = [c["chart"][0] for d in DASHBOARDS.values() for s in d["sections"] for row in s["rows"] for c in row if "chart" in c]
    assert sorted(placed) == sorted(CHARTS)


def test_access_names_existing_roles_and_dashboards() -> None:
    """Accounts have declared roles, and every role sees a dashboard that exists."""
    access = yaml.safe_load((ROOT / "dashboards/access/access.yaml").read_text("utf-8"))
    assert {"leadership", "analyst", "engineer"} <= set(access["roles"])
    assert all(d["roles"] and set(d["roles"]) <= set(access["roles"]) for d in DASHBOARDS.values())
    assert {r for d in DASHBOARDS.values() for r in d["roles"]} == set(access["roles"])
    for user in access["users"]:
        assert set(user["roles"]) <= {*access["roles"], "Admin"}
        assert "password" not in user


def test_a_role_sees_the_tables_of_its_domains() -> None:
    """`domains` of access.yaml: all, a list, or none; and every domain that it names is one."""
    every, land, none = ({"domains": d} for d in ("all", ["land"], []))
    assert all(sees(every, s) for s in ("marts_land", "marts_core")) and sees(land, "marts_land")
    assert not sees(land, "marts_environment") and not sees(none, "marts_land") and not sees({}, "marts_land")
    domains = {d["schema"].removeprefix("marts_") for d in DATASETS.values()}
    for role in yaml.safe_load((ROOT / "dashboards/access/access.yaml").read_text("utf-8"))["roles"].values():
        assert role.get("domains") in (None, "all") or set(role["domains"]) <= domains


def test_generated_passwords_are_long_and_mixed() -> None:
    """What the set-up makes is accepted by the rule for passwords."""
    text = new_password()
    assert len(text) >= 24 and all(re.search(kind, text) for kind in ("[A-Z]", "[a-z]", r"\d", "-"))


def test_accounts_that_leave_the_list_are_disabled() -> None:
    from types import SimpleNamespace

    from dashboards.accounts import disable_leavers

    accounts = [SimpleNamespace(username=n, active=a) for n, a in (("admin", True), ("da_nghi", True), ("khoa_tay", False), ("lanhdao", True))]
    updated: list[str] = []
    sm = SimpleNamespace(get_all_users=lambda: accounts, update_user=lambda account: updated.append(account.username))
    access = {"users": [{"username": "admin"}, {"username": "lanhdao"}, {"username": "khoa_tay"}]}
    assert disable_leavers(access, sm) == updated == ["da_nghi"]
    assert {a.username: a.active for a in accounts} == {"admin": True, "da_nghi": False, "khoa_tay": False, "lanhdao": True}
    assert disable_leavers(access, sm) == []


def test_days_outside_a_limit_are_drawn_whichever_limit_it_is() -> None:
    """Oxygen below its lower limit stands first among the parameters of surface water; what the rule did not judge is not drawn."""
    con = duckdb.connect()
    con.execute("CREATE SCHEMA marts_environment")
    con.execute("""CREATE TABLE marts_environment.compliance_daily AS SELECT * FROM (VALUES
        ('Oxy hòa tan (DO)', 'exceeded', TRUE, 1.6), ('Oxy hòa tan (DO)', 'compliant', TRUE, 0.8), ('pH', 'compliant', TRUE, 0.9),
        ('Tổng nitơ', 'not_judged', TRUE, 3.95)) AS t(parameter_name_vi, status, is_limited, limit_share)""")
    dataset = DATASETS["compliance_daily"]
    metrics = {m["metric_name"]: m["expression"] for m in dataset["metrics"]}

    def drawn(chart: str, metric: str) -> list[tuple[Any, ...]]:
        params = CHARTS[chart]["params"]
        filters = {f["subject"]: f for f in params["adhoc_filters"]}
        assert filters["status"]["operator"] == "!=" and filters["status"]["comparator"] == "not_judged" and "is_limited" in filters
        return con.execute(f"""
            SELECT parameter_name_vi, round(({metrics[metric]})::DOUBLE, 3) AS drawn FROM marts_environment.compliance_daily
            WHERE is_limited AND status <> 'not_judged' GROUP BY ALL ORDER BY drawn DESC""").fetchall()

    assert drawn("outside_by_parameter_water", "exceeded_share") == [("Oxy hòa tan (DO)", 0.5), ("pH", 0.0)]
    assert drawn("limit_share_water", "limit_share_max") == [("Oxy hòa tan (DO)", 1.6), ("pH", 0.9)]
    params = CHARTS["outside_by_parameter_water"]["params"]
    assert params["x_axis_sort"] == "sum" and params["metrics"] == ["exceeded_share"]
    placed = {c["chart"][0] for s in DASHBOARDS["environment"]["sections"] for row in s["rows"] for c in row if "chart" in c}
    assert {"outside_by_parameter_water", "unregistered_channels"} <= placed


def test_how_far_a_limit_is_to_be_trusted_is_said_in_words() -> None:
    """One list of the dictionary says it: no chart shows the code."""
    assert any("limit_confidence_vi" in json.dumps(chart["params"]) for chart in CHARTS.values())
    for name, chart in CHARTS.items():
        assert not re.search(r"limit_confidence(?!_vi)", json.dumps(chart["params"])), name


def test_horizons_are_in_the_order_of_time() -> None:
    """As texts 13–24 giờ stands before 1–6 giờ."""
    for name, chart in CHARTS.items():
        order = [json.loads(o)[0] for o in chart["params"].get("order_by_cols", [])]
        assert "horizon_vi" not in order or "horizon_end_h" in order[: order.index("horizon_vi")], name
