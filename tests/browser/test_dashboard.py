"""The dashboard as its readers see it: every chart in a real browser, and what each role may and may not do."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import duckdb
import pytest
import requests
import yaml
from PIL import Image
from python_calamine import CalamineWorkbook

from dashboards.compile import assets, short_forms
from tests.hostile_sql import WORD, Grammar
from tests.support import need

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".superset/bin/python"
MANAGE = [PYTHON, "-m", "dashboards.manage"]
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
SHOTS = Path(os.environ.get("TNMT_SHOTS", "/tmp/tnmt-shots"))
SHOTS.mkdir(parents=True, exist_ok=True)
DASHBOARD = "/superset/dashboard/toan-canh/"
PAGES = {d["slug"]: d for d in short_forms("dashboards").values()}
CHARTS = assets("charts")
DATASETS = list(assets("datasets").values())
SHOWN = {f"{d['schema']}.{d['table_name']}" for d in DATASETS}  # every other table holds WORD only
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

# Each would show or change something that an analyst must not see or change.
HOSTILE = [
    "select * from read_csv('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_text('/proc/self/environ')",
    "copy (select 1) to '/tmp/evil.csv'",
    "attach '/tmp/other.db' as s (type sqlite)",
    "install httpfs",
    "load sqlite_scanner",
    "set enable_external_access=true",
    "call query('select * from marts_core.dim_facility')",
    "pivot marts_core.dim_facility on sector_vi using count(*)",
    "unpivot marts_core.dim_facility on lon, lat into name n value v",
    "select * from (pivot marts_core.dim_facility on sector_vi using count(*))",
    "summarize marts_core.dim_facility",
    "select * from (summarize marts_core.dim_facility)",
    "select * from (describe marts_core.dim_facility)",
    "select unnest((select list(p) from marts_core.dim_facility p))",
    "set variable x=(select list(p) from marts_core.dim_facility p)",
    "select getvariable('x')",
    "explain analyze select * from marts_core.dim_facility",
    "select * from query('from marts_core.dim_facility')",
    "select * from query_table('marts_core.dim_facility')",
    "select * from marts_core.dim_facility",
    "with f as (from marts_core.dim_facility) select * from f",
    "select * from duckdb_databases()",
    "select * from duckdb_settings()",
    "select * from sqlite_scan('superset.db', 'ab_user')",
    "pragma database_list",
    "pragma storage_info('marts_core.dim_facility')",
    "show all tables",
    "prepare p as select 1",
    "vacuum",
]


def stand_in(path: Path) -> None:
    """A serving file with a few made-up rows in every mart, columns as dbt declares them."""
    values: dict[str, list[Any]] = {
        "status": ["online", "late", "offline"],
        "status_vi": ["Đang truyền", "Chậm số liệu", "Mất kết nối"],
        "dossier.status": ["open"] * 3,
        "basis": ["computed"] * 3,
        "change": ["changed"] * 3,
        "matrix": ["ambient_air", "surface_water", "wastewater"],
        "matrix_vi": ["Không khí xung quanh", "Nước thải", "Khí thải"],
        "parameter": ["PM2.5", "PM2.5", "VN_AQI"],
        "kind": ["hour", "day", "hour"],
        "horizon": ["all", "1-6", "7-12"],
        "method": ["shown"] * 3,
        "state": ["fresh", "late", "never"],
        "state_vi": ["Đúng hạn", "Quá hạn", "Chưa nhận lần nào"],
        "lon": [106.6, 106.9, 107.1],
        "lat": [11.5, 11.8, 12.0],
        "is_latest": [True] * 3,
        "is_limited": [True] * 3,
        "radius_m": [2500.0] * 3,
        "day": ["2026-11-01", "2026-11-02", "2026-11-03"],
        "as_of": ["2026-11-04 08:00:00"] * 3,
        "commune_name": ["Xã A", "Xã B", "Phường C"],
        "commune_code": ["1", "2", "3"],
        "part": [1, 1, 1],
        "statistic": ["24h"] * 3,
        "confidence": ["verified"] * 3,
        "land_use_group_vi": ["Nhóm đất nông nghiệp"] * 3,
        "valid_from": ["2020-01-01"] * 3,
        "valid_to": [None] * 3,
        "ring_json": [json.dumps([[x, 11.5], [x + 0.2, 11.5], [x + 0.2, 11.8], [x, 11.8], [x, 11.5]]) for x in (106.5, 106.8, 107.0)],
    }
    kinds: dict[str, list[Any]] = {
        "varchar": ["a", "b", "c"],
        "date": ["2026-09-01", "2026-10-01", "2026-11-01"],
        "timestamp": ["2026-11-04 07:00:00"] * 3,
        "boolean": [True, False, True],
        "double": [0.5, 0.9, 0.75],
    }
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE serving_info AS SELECT TIMESTAMP '2026-11-04 08:00:00' AS as_of, 1::BIGINT AS snapshot_id")
        con.execute("CREATE TABLE served_table (name VARCHAR PRIMARY KEY, snapshot_id BIGINT)")
        for file in sorted(p for layer in ("marts", "serve") for p in (ROOT / "dbt_project/models" / layer).glob("*/*.yml")):
            for model in yaml.safe_load(file.read_text()).get("models", []):
                table = f"marts_{file.parent.name}.{model['name']}"
                columns = [(c["name"], c["data_type"]) for c in model["columns"]]
                con.execute(f"CREATE SCHEMA IF NOT EXISTS marts_{file.parent.name}")
                declared = ", ".join(f'"{n}" {t}' for n, t in columns)
                con.execute(f"CREATE TABLE {table} ({declared})")
                con.execute("INSERT INTO served_table VALUES (?, 1)", [table])
                for i in range(3):
                    row = [values.get(f"{model['name']}.{n}", values.get(n, kinds.get(t, [3, 2, 1])))[i] for n, t in columns]
                    if table not in SHOWN:
                        row = [WORD if t == "varchar" else v for v, (_, t) in zip(row, columns)]
                    con.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


@dataclass
class Superset:
    """A running server and how to get in."""

    base: str
    home: Path
    passwords: dict[str, str]

    def api(self, user: str) -> Api:
        """Logged in through the API."""
        return Api(self.base, user, self.passwords[user])


class Api:
    """A session of one user."""

    def __init__(self, base: str, user: str, password: str) -> None:
        self.base, self.s = base, requests.Session()
        answer = self.s.post(f"{base}/api/v1/security/login", json={"username": user, "password": password, "provider": "db"}, timeout=60)
        answer.raise_for_status()
        self.s.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        self.s.headers["X-CSRFToken"] = self.get("security/csrf_token/").json()["result"]
        self.s.headers["Referer"] = base

    def get(self, path: str) -> requests.Response:
        """GET /api/v1/..."""
        return self.s.get(f"{self.base}/api/v1/{path}", timeout=60)

    def sql(self, text: str, database: int = 1) -> requests.Response:
        """SQL Lab."""
        body = {"database_id": database, "sql": text, "schema": "marts_environment", "runAsync": False, "queryLimit": 50}
        return self.s.post(f"{self.base}/api/v1/sqllab/execute/", json=body, timeout=90)

    def datasets(self) -> dict[str, int]:
        """Ids by table name."""
        return {d["table_name"]: d["id"] for d in self.get("dataset/?q=(page_size:100)").json()["result"]}

    def data(self, dataset: int, columns: list[str], metrics: list[Any], force: bool = False) -> requests.Response:
        """A query of a chart."""
        return self.query(dataset, columns, force, metrics=metrics)

    def query(
        self, dataset: int, columns: list[Any], force: bool = False, result_format: str = "json", result_type: str = "full", **more: Any
    ) -> requests.Response:
        """A query of a chart with whatever else it may hold."""
        query = {"columns": columns, "filters": [], "row_limit": 50, **more}
        body = {
            "datasource": {"id": dataset, "type": "table"},
            "force": force,
            "queries": [query],
            "result_format": result_format,
            "result_type": "full",
        }
        return self.s.post(f"{self.base}/api/v1/chart/data", json=body, timeout=90)


@pytest.fixture(scope="session")
def superset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Superset]:
    """Superset over a stand-in for the serving file; nothing is taken from a platform beside the tests."""
    need("superset", PYTHON.exists(), "make superset builds the environment")
    home = tmp_path_factory.mktemp("superset")
    (home / "serving").mkdir()
    file = home / "serving/serving-1.duckdb"
    stand_in(file)
    for link in ("serving.duckdb", "serving-sqllab.duckdb"):
        (home / "serving" / link).symlink_to(file.name)
    subprocess.run([*MANAGE, "setup", "--home", home], cwd=ROOT, check=True, timeout=300)
    before = os.times()
    again = subprocess.run([*MANAGE, "setup", "--home", home], cwd=ROOT, check=True, timeout=60, capture_output=True, text=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 5, "a second set-up takes seconds"  # of the processor: other tests run beside
    passwords = json.loads((home / "superset/passwords.json").read_text())
    assert "passwords.json" in again.stdout and not any(p in again.stdout for p in passwords.values())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*MANAGE, "serve", "--home", home, "--port", str(port)],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TNMT_SQLLAB_SECONDS": "4", "TNMT_CANARY": WORD},
        )
        try:
            base = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 120
            while True:
                try:
                    if requests.get(f"{base}/health", timeout=5).ok:
                        break
                except requests.RequestException:
                    pass
                assert server.poll() is None and time.monotonic() < end, (home / "server.log").read_text()[-3000:]
                time.sleep(0.3)
            yield Superset(base, home, passwords)
        finally:
            server.terminate()
            server.wait(30)


LOOK = """() => [...document.querySelectorAll('.dashboard-chart')].filter(e => e.offsetParent).map(e => {
  const cell = e.closest('[data-test-viz-type], .dashboard-component-chart-holder') || e
  return {title: (cell.querySelector('[data-test=editable-title], .header-title') || {}).innerText || '',
          error: !!cell.querySelector('.ant-alert-error, [data-test=error-alert], .ant-alert-warning'),
          empty: !!cell.querySelector('.ant-empty, [data-test=empty-state]') || /Không có dữ liệu|No data|No results/i.test(cell.innerText),
          drawn: !!cell.querySelector('canvas, svg.chart, table, .header-line, .deckgl-wrapper, #deckgl-wrapper')}})"""


def _inked(png: bytes) -> int:
    """Coloured pixels of a map, its legend (top right) and title (grey) left out: an empty map has a canvas too."""
    picture = Image.open(BytesIO(png)).convert("HSV")
    width, height = picture.size
    return sum(picture.crop((0, 0, int(width * 0.65), height)).getchannel("S").histogram()[20:])


def _tabs(slug: str) -> list[str | None]:
    """The tabs of a page in order; of a page without tabs just the page."""
    return list(dict.fromkeys(s["tab"] for s in PAGES[slug]["sections"] if "tab" in s)) or [None]


def _draw_all(page: Any) -> None:
    """Scrolls through the page until nothing loads any more, and makes the window as high as the page."""
    page.set_viewport_size({"width": 1600, "height": 1000})
    for _ in range(2):
        for y in range(0, page.evaluate("document.documentElement.scrollHeight"), 500):
            page.evaluate(f"window.scrollTo(0, {y})")
            page.wait_for_timeout(150)
        end, still = time.monotonic() + 90, 0
        while still < 4 and time.monotonic() < end:
            page.wait_for_timeout(300)
            loading = page.locator(".loading, [data-test=loading-indicator], .ant-spin-spinning").locator("visible=true").count()
            still = 0 if loading else still + 1
    page.evaluate("window.scrollTo(0, 0)")
    page.set_viewport_size({"width": 1600, "height": min(page.evaluate("document.documentElement.scrollHeight") + 50, 8000)})
    page.wait_for_timeout(2000)


@contextmanager
def _window(width: int, height: int) -> Iterator[Any]:
    """A page of a browser of its own."""
    need("browser", CHROMIUM.exists(), "Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=ARGS)
        page = browser.new_page(viewport={"width": width, "height": height}, locale="vi-VN")
        page.set_default_navigation_timeout(120_000)  # the first page of a server that has just come up, beside other tests
        yield page
        browser.close()


def _log_in(page: Any, superset: Superset, user: str) -> None:
    """By the form, as people do."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    for last in (False, True):
        # the session is a cookie: an answer to a request of before the log-in that comes after it would put back the one of nobody
        page.goto(f"{superset.base}/login/", wait_until="networkidle")
        page.fill("input#username", user)
        page.fill("input#password", superset.passwords[user])
        page.keyboard.press("Enter")
        try:
            page.wait_for_url(lambda u: "/login" not in u, timeout=20_000)
            page.wait_for_load_state("networkidle")
            return
        except PlaywrightTimeout:
            if last:
                raise


@pytest.mark.parametrize("slug", PAGES)
def test_every_chart_shows_to_the_leader(superset: Superset, slug: str) -> None:
    """Each chart of a dashboard draws data, the browser asks nobody else, and nothing is refused."""
    names = {c["chart"][0] for s in PAGES[slug]["sections"] for row in s["rows"] for c in row if "chart" in c}
    mine = [c for name, c in CHARTS.items() if name in names]
    bad: set[tuple[int, str]] = set()
    foreign: set[str] = set()
    with _window(1600, 1000) as page:
        page.on("response", lambda r: bad.add((r.status, urlparse(r.url).path)) if r.status >= 400 else None)
        own = ("data:", "blob:", superset.base)
        page.on(
            "request", lambda r: None if r.url.startswith(own) else foreign.add(urlparse(r.url).netloc)
        )  # tried, also where the browser forbids it
        _log_in(page, superset, "lanhdao")
        page.goto(f"{superset.base}/superset/dashboard/{slug}/")
        page.wait_for_selector(".dashboard-chart", timeout=120_000)
        page.screenshot(path=SHOTS / f"{slug}-top.png")
        charts: dict[str, dict[str, Any]] = {}
        text = ""
        maps: dict[str, int] = {}
        for number, tab in enumerate(_tabs(slug)):
            if tab:
                page.locator(".ant-tabs-tab").get_by_text(tab, exact=True).click()
            _draw_all(page)
            page.screenshot(path=SHOTS / f"{slug}-{number}.png", full_page=True)
            charts |= {c["title"]: c for c in page.evaluate(LOOK)}
            text += page.inner_text("body")
            for title in (c["slice_name"] for c in mine if c["viz_type"].startswith("deck_")):
                maps[title] = _inked(page.locator(".dashboard-component-chart-holder", has_text=title).screenshot())
    assert set(charts) == {c["slice_name"] for c in mine}
    assert not [c for c in charts.values() if c["error"] or c["empty"] or not c["drawn"]]
    assert len(maps) == (2 if slug == "toan-canh" else 0) and min(maps.values(), default=501) > 500, maps
    assert not bad
    assert not foreign
    assert not [word for word in ("Invalid Date", "NaN", "undefined") if word in text]


def test_every_dataset_answers(superset: Superset) -> None:
    """All columns and all metrics of every dataset run."""
    api = superset.api("admin")
    ids = api.datasets()
    assert len(ids) == len(DATASETS)
    for name, number in ids.items():
        known = api.get(f"dataset/{number}").json()["result"]
        for columns, metrics in (([c["column_name"] for c in known["columns"]], []), ([], [m["metric_name"] for m in known["metrics"]])):
            answer = api.data(number, columns, metrics)
            assert answer.status_code == 200, (name, columns, metrics, answer.text[:300])
            assert answer.json()["result"][0]["data"], name


def test_a_new_serving_file_shows_at_once(superset: Superset) -> None:
    """The cache of the old file does not answer for a table that is another one in the new file, and does for one that is the same."""
    api = superset.api("admin")
    number = api.datasets()["station_status"]
    table, other = "marts_environment.station_status", "marts_land.land_use_area"

    def stations() -> tuple[int, bool]:
        result = api.data(number, [], ["stations"]).json()["result"][0]
        return result["data"][0]["stations"], bool(result["is_cached"])

    def publish(name: str, changed: str | None, snapshot: int) -> None:
        """Another version, in which one table is of another snapshot."""
        if changed:
            shutil.copy(old, serving / name)
            with duckdb.connect(str(serving / name)) as con:
                con.execute(f"INSERT INTO {changed} SELECT * FROM {changed} LIMIT 1")
                con.execute("UPDATE served_table SET snapshot_id = ? WHERE name = ?", [snapshot, changed])
        (serving / "new.link").symlink_to(name)
        (serving / "new.link").replace(serving / "serving.duckdb")

    before, _ = stations()
    assert stations() == (before, True)
    serving = superset.home / "serving"
    old = (serving / "serving.duckdb").resolve()
    try:
        publish("serving-2.duckdb", other, 2)
        assert stations() == (before, True)
        publish("serving-3.duckdb", table, 3)
        assert stations() == (before + 1, False)
    finally:
        publish(old.name, None, 1)
    assert stations() == (before, True)
    for name in ("serving-2.duckdb", "serving-3.duckdb"):
        (serving / name).unlink()


def test_leadership_only_looks(superset: Superset) -> None:
    """No SQL, no charts of one's own, no export, no accounts."""
    api = superset.api("lanhdao")
    assert api.sql("select 1").status_code in (401, 403, 404)
    body = {"slice_name": "x", "datasource_id": 1, "datasource_type": "table", "viz_type": "table"}
    assert api.s.post(f"{superset.base}/api/v1/chart/", json=body, timeout=30).status_code == 403
    assert api.data(1, [], ["stations"]).status_code == 403
    for path in ("database/", "security/users/", "security/roles/", "log/", "assets/export/"):
        assert api.get(path).status_code in (401, 403, 404), path
    anonymous = requests.get(superset.base + DASHBOARD, allow_redirects=False, timeout=30)
    assert anonymous.status_code == 302 and "/login" in anonymous.headers["Location"]
    assert requests.post(f"{superset.base}/api/v1/chart/data", json={}, timeout=30).status_code in (400, 401, 403)
    assert requests.get(f"{superset.base}/swagger/v1", timeout=30, allow_redirects=False).status_code != 200


@pytest.mark.parametrize("user", ["lanhdao", "chuyenvien", "admin"])
def test_a_page_that_is_left_stores_no_colours(superset: Superset, user: str) -> None:
    """Superset sends the colours of a page when it is left: taken from every reader without an error, and kept of none."""
    api = superset.api("admin")

    def stored() -> tuple[int, str, str]:
        page = api.get("dashboard/toan-canh").json()["result"]
        return page["id"], page["json_metadata"], page["changed_on"]

    before = stored()
    with _window(1600, 1000) as page:
        _log_in(page, superset, user)
        page.goto(superset.base + DASHBOARD)
        page.wait_for_selector(".dashboard-chart canvas", timeout=120_000)
        with page.expect_response(re.compile(r"/colors\?")) as sent:
            page.evaluate("window.dispatchEvent(new Event('beforeunload'))")
        assert sent.value.status == 200 and sent.value.request.method == "PUT"
        assert sent.value.request.post_data_json["color_scheme_domain"]  # not in our files: always something to store
    assert stored() == before
    put = requests.put(f"{superset.base}/api/v1/dashboard/{before[0]}/colors", json={"label_colors": {}}, timeout=30)
    assert put.status_code in (400, 401, 403)


@pytest.fixture(scope="module")
def analyst(superset: Superset) -> Api:
    """The analyst's session."""
    return superset.api("chuyenvien")


@pytest.mark.parametrize("statement", HOSTILE)
def test_hostile_sql_is_refused(analyst: Api, statement: str) -> None:
    """What gets around Superset's checks of tables does not get through."""
    answer = analyst.sql(statement)
    assert answer.status_code != 200, answer.text[:300]
    assert WORD not in answer.text


SPELT_HERE = {"commune": "commune_map", "reading": "station_status", "facility": "dim_facility", "secret": "aqi_quarterly"}
"""The grammar's tables by the names of tables that hold WORD here where the analyst has no grant, and do not where it has."""


def _spelt_here(text: str) -> str:
    columns = {"code": "commune_code", "name": "commune_name"}
    return re.sub(r"(?i)\b(commune|reading|facility|secret|code|name)\b", lambda m: (SPELT_HERE | columns)[m[0].lower()], text)


def test_hostile_grammar_through_sql_lab_and_charts(superset: Superset, analyst: Api) -> None:
    """A sample of the statements of tests/hostile_sql.py by the ways that an analyst has: nothing outside the grant, nothing past a limit."""
    beside = superset.home / "serving/beside.duckdb"
    number, answered = analyst.datasets()["station_status"], 0
    for seed in range(60):
        text = _spelt_here(Grammar(seed, beside).statement())
        started = time.monotonic()
        answer = analyst.sql(text)
        assert WORD not in answer.text and str(superset.home) not in answer.text, (seed, text[:500], answer.text[:500])
        assert answer.status_code != 200 or len(answer.json()["data"]) <= 50, (seed, text[:500])
        assert time.monotonic() - started < 60, (seed, text[:500])
        answered += answer.status_code == 200
    for seed in range(40):
        text = _spelt_here(Grammar(seed, beside).expression(1))
        metric = {"expressionType": "SQL", "sqlExpression": text, "label": "x"}
        form = {
            "datasource": f"{number}__table",
            "viz_type": "deck_scatter",
            "metrics": [metric],
            "row_limit": 50,
            "spatial": {"type": "latlong", "lonCol": "lon", "latCol": "lat"},
        }
        for answer in (
            analyst.query(number, [], force=True, metrics=[metric]),
            analyst.query(number, [], force=True, metrics=["stations"], extras={"where": text}),
            analyst.query(number, [], force=True, result_type="drill_detail", extras={"where": f"{text} IS NOT NULL"}),
            analyst.s.post(f"{superset.base}/superset/explore_json/?force=true", data={"form_data": json.dumps(form)}, timeout=90),
        ):
            assert WORD not in answer.text and str(superset.home) not in answer.text, (seed, text[:500], answer.text[:500])
            answered += answer.status_code == 200
    assert answered >= 20


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("select * from marts_environment.station_status limit 2", 2),
        ("select station_id from marts_environment.station_status order by 1 limit 1 offset 1", 1),
        ("select 1 union all select 2 union all select 3 limit 2", 2),
        ("with s as (select * from marts_environment.station_status) select * from s limit 1", 1),
        ("select * from marts_environment.station_status limit 34%", 1),
        (
            "select a.station_id from marts_environment.station_status a, marts_environment.station_status b, marts_environment.station_status c, marts_environment.station_status d",
            50,
        ),
        (
            "select a.station_id from marts_environment.station_status a, marts_environment.station_status b, marts_environment.station_status c, marts_environment.station_status d limit 60",
            50,
        ),
    ],
)
def test_the_smaller_limit_is_in_force(analyst: Api, statement: str, rows: int) -> None:
    """The LIMIT that an analyst wrote, or the one of the page (50 here)."""
    answer = analyst.sql(statement)
    assert answer.status_code == 200, answer.text[:300]
    assert len(answer.json()["data"]) == rows


def test_a_statement_too_large_to_read_is_refused_at_once(analyst: Api) -> None:
    """Superset's parser took a minute and more for these."""
    for text in ("select 1" + ",1" * 60_000, "select 1 where 1 in (" + "1," * 100_000 + "1)", " union all ".join(["select 1"] * 5_000)):
        started = time.monotonic()
        answer = analyst.sql(text)
        assert answer.status_code == 403 and "tối đa" in answer.json()["errors"][0]["message"], answer.text[:300]
        assert time.monotonic() - started < 20


def test_templates_are_text(analyst: Api) -> None:
    """Nothing in a statement is run as a template before it is judged."""
    answer = analyst.sql("select '{{ 1 + 1 }}' as x")
    assert answer.json()["data"] == [{"x": "{{ 1 + 1 }}"}]


def test_sql_lab_shows_its_schemas_and_tables(superset: Superset, analyst: Api) -> None:
    """By names without the version of the file; an analyst sees the tables of its datasets only."""
    with duckdb.connect(str((superset.home / "serving/serving.duckdb").resolve()), read_only=True) as con:
        served = set(con.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall())
    schemas = analyst.get("database/1/schemas/").json()["result"]
    assert set(schemas) == {d["schema"] for d in DATASETS}
    for schema in schemas:
        listed = {t["value"] for t in analyst.get(f"database/1/tables/?q=(schema_name:{schema})").json()["result"]}
        assert listed == {d["table_name"] for d in DATASETS if d["schema"] == schema and (schema, d["table_name"]) in served}
    columns = analyst.get("database/1/table_metadata/?name=station_status&schema=marts_environment").json()["columns"]
    assert {"station_id", "status_vi"} <= {c["name"] for c in columns}
    assert analyst.get("database/1/table_metadata/?name=dim_facility&schema=marts_core").status_code in (403, 404)


def test_no_export_holds_a_formula(superset: Superset, analyst: Api) -> None:
    """CSV and stream of SQL Lab, CSV and XLSX of a chart: what a spreadsheet would run has an apostrophe before it, in cells and headers."""
    cells = ["=1+1", "+1+1", "-cmd", "@SUM(1)", "\t=1", "\r=1", "-1.5"]
    values = ", ".join(f"('{c}')" for c in cells)
    client = "exportabcde"
    body = {"database_id": 1, "sql": f'select c as "=x" from (values {values}) v(c)', "runAsync": False, "queryLimit": 50, "client_id": client}
    ran = analyst.s.post(f"{superset.base}/api/v1/sqllab/execute/", json=body, timeout=90)
    assert ran.status_code == 200, ran.text[:300]
    csv_file = analyst.s.get(f"{superset.base}/api/v1/sqllab/export/{client}/", timeout=60)
    stream = analyst.s.post(f"{superset.base}/api/v1/sqllab/export_streaming/", data={"client_id": client}, timeout=60)
    expected = ["'=x", *(f"'{c}".replace("\r", "\n") for c in cells[:-1]), "-1.5"]  # a carriage return would begin another line
    for answer in (csv_file, stream):
        assert answer.status_code == 200, answer.text[:300]
        assert answer.content.startswith(b"\xef\xbb\xbf"), answer.content[:50]
        assert [row[0] for row in csv.reader(StringIO(answer.content.decode("utf-8-sig"), newline=""))] == expected
    number = analyst.datasets()["station_status"]
    column = {"expressionType": "SQL", "sqlExpression": "'=' || station_id", "label": "@x"}
    for kind in ("csv", "xlsx"):
        answer = analyst.query(number, [column], result_format=kind, force=True, metrics=[])
        assert answer.status_code == 200, answer.text[:300]
        if kind == "csv":
            rows = [row[0] for row in csv.reader(StringIO(answer.content.decode("utf-8-sig")))]
        else:
            rows = [row[-1] for row in CalamineWorkbook.from_filelike(BytesIO(answer.content)).get_sheet_by_index(0).to_python()]
        assert rows[0] == "'@x" and len(rows) == 4 and all(r.startswith("'=") for r in rows[1:]), rows


@pytest.mark.parametrize(
    "statement",
    [
        "select matrix_vi, count(*) from marts_environment.station_status group by all",
        "with s as (select * from marts_environment.station_status) select count(*) from s join marts_environment.reading_daily using (station_id)",
        "from marts_core.commune_map select commune_name qualify row_number() over (partition by commune_code order by part) = 1",
    ],
)
def test_plain_sql_is_answered(analyst: Api, statement: str) -> None:
    """The analyst's own work is not in the way of the guard."""
    answer = analyst.sql(statement)
    assert answer.status_code == 200, answer.text[:300]


@pytest.mark.parametrize(
    "expression", ["count(*) from marts_core.dim_facility --", "max((select count(*) from marts_core.dim_facility))", "getvariable('x')"]
)
def test_hostile_chart_is_refused_with_a_reason(analyst: Api, expression: str) -> None:
    """A chart's own SQL gets no further than SQL Lab's, and says why in JSON."""
    metric = {"expressionType": "SQL", "sqlExpression": expression, "label": "x"}
    answer = analyst.data(analyst.datasets()["station_status"], [], [metric], force=True)
    assert answer.status_code in (400, 403), answer.text[:300]
    assert answer.headers["Content-Type"].startswith("application/json")


def test_sql_lab_reads_its_own_file(superset: Superset, analyst: Api) -> None:
    """What is not in the smaller file is out of reach of SQL Lab, and charts do not notice."""
    link, small = superset.home / "serving/serving-sqllab.duckdb", superset.home / "serving/small.duckdb"
    with duckdb.connect(str(small)) as con:
        con.execute("CREATE SCHEMA marts_core; CREATE TABLE marts_core.commune_map AS SELECT 'smaller' AS note")
    made = link.readlink()
    link.unlink()
    link.symlink_to(small.name)
    try:
        assert analyst.sql("select * from marts_core.commune_map").json()["data"] == [{"note": "smaller"}]
        assert analyst.sql("select * from marts_environment.station_status").status_code != 200
        assert analyst.data(analyst.datasets()["station_status"], [], ["stations"], force=True).status_code == 200
    finally:
        link.unlink()
        link.symlink_to(made)
        small.unlink()


def test_long_sql_is_interrupted(analyst: Api) -> None:
    """A query that never ends takes neither the thread nor the machine."""
    started = time.monotonic()
    tables = ", ".join(f"marts_core.commune_map as t{i}, marts_environment.reading_daily as r{i}" for i in range(20))
    # every row of the product is needed: a condition may be answered from the statistics of its columns alone
    answer = analyst.sql(f"select sum(t0.parcels + r0.expected + t19.parcels + r19.expected) from {tables}")
    assert answer.status_code != 200 and "nterrupt" in answer.text, answer.text[:300]
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("user", ["lanhdao", "chuyenvien", "kysu"])
def test_a_password_that_ran_out_is_changed_in_the_browser(superset: Superset, user: str) -> None:
    """After day 7 every page leads to the one where the password is changed; every role may open it, and then goes on."""
    with sqlite3.connect(superset.home / "superset/superset.db") as con:
        account = "(SELECT id FROM ab_user WHERE username = ?)"
        changed = con.execute(f"UPDATE tnmt_account_state SET change_password_by = '2020-01-01 00:00:00.000000' WHERE user_id = {account}", [user])
        assert changed.rowcount == 1
    fresh = f"Doi-Mat-Khau-2026-{user}"
    bad: set[tuple[int, str]] = set()
    with _window(1440, 900) as page:
        _log_in(page, superset, user)
        page.goto(superset.base + DASHBOARD)
        assert urlparse(page.url).path == "/user_info/"
        page.locator("[data-test=reset-password-button]").click(timeout=60_000)
        page.screenshot(path=SHOTS / f"password-{user}.png")
        for field in page.locator(".ant-modal input[type=password]").all():
            field.fill(fresh)
        with page.expect_response(lambda r: r.url.endswith("/api/v1/me/") and r.request.method == "PUT") as put:
            page.locator(".ant-modal-footer button.ant-btn-primary, .ant-modal button[type=submit]").first.click()
        assert put.value.status == 200
        superset.passwords[user] = fresh
        page.on("response", lambda r: bad.add((r.status, urlparse(r.url).path)) if r.status >= 400 else None)
        page.goto(superset.base + DASHBOARD)
        page.wait_for_selector(".dashboard-chart", timeout=120_000)
        assert urlparse(page.url).path == DASHBOARD
    assert not bad


def test_audit_holds_no_password(superset: Superset, analyst: Api) -> None:
    """Changing one's password leaves a record, but not the password."""
    fresh = "Moi-Truong-2026-xyz"
    assert analyst.s.put(f"{superset.base}/api/v1/me/", json={"password": "short"}, timeout=30).status_code == 400
    assert analyst.s.put(f"{superset.base}/api/v1/me/", json={"password": fresh}, timeout=30).status_code == 200
    superset.passwords["chuyenvien"] = fresh
    with sqlite3.connect(superset.home / "superset/superset.db") as con:
        records = [r[0] or "" for r in con.execute("SELECT json FROM logs")]
    assert any('"***"' in r for r in records)
    assert not any(fresh in r for r in records)


def test_secrets_are_private(superset: Superset) -> None:
    """Nobody but the owner reads the state folder."""
    state = superset.home / "superset"
    assert state.stat().st_mode & 0o077 == 0
    for name in ("secret_key", "guest_secret", "passwords.json", "admin-password", "superset.db"):
        assert (state / name).stat().st_mode & 0o077 == 0, name
    log = (superset.home / "server.log").read_text()
    assert not any(p in log for p in superset.passwords.values())


def test_lock_out_and_rate_limit(superset: Superset) -> None:
    """Five failures lock the account, whatever comes next; more attempts than ten a minute are refused."""

    def attempt(user: str, password: str) -> int:
        body = {"username": user, "password": password, "provider": "db"}
        return requests.post(f"{superset.base}/api/v1/security/login", json=body, timeout=60).status_code

    assert [attempt("kysu", "wrong") for _ in range(5)] == [401] * 5
    assert attempt("kysu", superset.passwords["kysu"]) == 401
    assert 429 in [attempt("nobody", "x") for _ in range(12)]
