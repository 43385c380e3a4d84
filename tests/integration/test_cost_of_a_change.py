"""How many files each thing costs, done in a scratch copy of the project by the steps of docs/engineers/adding.md, and run there.

Holds: a column from a sender to a chart 4 files, a chart 2, a mart 3, a source of readings 1, a source of another kind 2, a dashboard 1 and its
charts; all else follows by `python -m dictionary.derive`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from simulator.files import write_xlsx
from tnmt.settings import ROOT

AS_OF = "2026-03-25 00:10:00"
READINGS = """\
title: Số liệu PM2.5 của máy đo lưu động
owner: {unit: "Trung tâm Quan trắc"}
terms: "Nội bộ"
target: reading
load: upsert
key: [station_id, parameter, measured_at]
files: {small: true}
tolerated_bad_share: 1
format: {reader: csv, delimiter: ";", decimal: ","}
time: {zone: "+07:00", stamp: end, span_minutes: 15}
columns:
  station_id: {header: "Mã trạm", required: true}
  parameter: {header: "Thông số"}
  unit: {header: "Đơn vị"}
  measured_at: {header: "Lúc", type: timestamp, format: "%d/%m/%Y %H:%M"}
  value: {header: "Kết quả", type: "decimal(18,6)", unreadable: "null"}
  status: {header: "Tình trạng"}
suite: reading
"""
WELLS = """\
title: Giếng khoan
owner: {unit: "Phòng Tài nguyên nước"}
terms: "Nội bộ"
target: well
load: snapshot
key: [well_id]
format: {reader: csv}
tolerated_bad_share: 0.5
columns:
  well_id: {header: "Mã giếng", required: true, description: Mã giếng}
  depth_m: {header: "Độ sâu", type: "decimal(6,1)", label: Độ sâu (m), unit: m, description: Độ sâu của giếng}
suite: well
"""
WELL_SUITE = {
    "name": "well",
    "expectations": [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "depth_m", "min_value": 0},
            "meta": {"reason": "result_negative", "action": "quarantine", "message_vi": "độ sâu không được âm"},
        }
    ],
}
MART = """\
select reported_by, count(*) as indicators_reported
from {{ ref('stg_programme_indicator') }}
where actual is not null
group by reported_by
"""
MART_YML = """\
  - name: indicator_reporter
    description: "Ai báo cáo bao nhiêu chỉ tiêu. Một dòng là một đơn vị báo cáo."
    data_tests:
      - unique_combination: {name: indicator_reporter_grain, arguments: {columns: [reported_by], nullable: true}}
    columns:
      - {name: reported_by, data_type: varchar}
      - {name: indicators_reported, data_type: bigint}
"""
CHART = """\
title: {title}
question: Đơn vị nào báo cáo bao nhiêu chỉ tiêu?
dataset: indicator_reporter
type: table
params:
  adhoc_filters: []
  query_mode: raw
  all_columns: [reported_by, indicators_reported]
  groupby: []
  metrics: []
"""
DASHBOARD = """\
title: Chương trình
slug: chuong-trinh
description: Ai báo cáo gì của chương trình
owner: {name: Văn phòng Sở, email: vanphong@example.invalid}
roles: [leadership]
colors: {lists: [], own: {}}
filters: []
sections:
- rows:
  - - chart: [reporters, 12, 40]
"""


SHOWN = """\
import json
from dashboards.compile import assets, short_forms
charts = {name: short["dataset"] for name, short in short_forms("charts").items()}
assets("charts")
pages = sorted(d["slug"] for d in assets("dashboards").values())
print(json.dumps({"datasets": assets("datasets"), "charts": charts, "dashboards": pages}))
"""


class Project:
    """A copy of the project in which files are made and changed, and counted."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in listed.splitlines():
            if not name.startswith(("tests/", "docs/images")) and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        self.home = folder / "home"
        self.touched: set[str] = set()

    def write(self, name: str, text: str) -> None:
        """A new file."""
        assert not (self.root / name).exists(), name
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")
        self.touched.add(name)

    def edit(self, name: str, old: str, new: str) -> None:
        """A file of the project with one place changed."""
        text = (self.root / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old)
        (self.root / name).write_text(text.replace(old, new), encoding="utf-8")
        self.touched.add(name)

    def append(self, name: str, text: str) -> None:
        """A file of the project with more at its end."""
        with (self.root / name).open("a", encoding="utf-8") as file:
            file.write(text)
        self.touched.add(name)

    def cost(self) -> int:
        """Files touched since it was asked last."""
        touched, self.touched = self.touched, set()
        return len(touched)

    def python(self, *arguments: str) -> str:
        """Runs the copy's modules, whatever is installed: `-m MODULE …` or `-c CODE`."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "TNMT_HOME": str(self.home)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tnmt(self, *arguments: str) -> str:
        """The command line of the copy."""
        return self.python("-c", "from cli.main import main; main()", *arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("places"))


def test_each_thing_costs_as_many_files_as_we_say_and_runs(project: Project) -> None:
    costs = {}
    # a column that a sender already has in the file, to a chart
    contract = "ingestion/contracts/programme/programme_indicator.yaml"
    project.edit(
        contract,
        '  note: {header: "Ghi chú"',
        '  budget_vnd: {header: "Kinh phí", type: "decimal(18,0)", label: Kinh phí (đồng), unit: đồng, description: Kinh phí đã chi}\n  note: {header: "Ghi chú"',
    )
    models = "dbt_project/models/marts/programme"
    project.edit(f"{models}/indicator_progress.sql", "    indicator.actual,\n", "    indicator.actual,\n    indicator.budget_vnd,\n")
    project.edit(
        f"{models}/programme.yml",
        '      - {name: actual, data_type: "decimal(12,2)"}\n',
        '      - {name: actual, data_type: "decimal(12,2)"}\n      - {name: budget_vnd, data_type: "decimal(18,0)"}\n',
    )
    project.edit("dashboards/programme/charts/indicators.yaml", "target, actual,", "target, actual, budget_vnd,")
    costs["column"] = project.cost()
    # a mart
    project.write(f"{models}/indicator_reporter.sql", MART)
    project.append(f"{models}/programme.yml", MART_YML)
    project.edit(
        "dictionary/columns.yaml",
        "interval_coverage_share:",
        "indicators_reported: {unit: chỉ tiêu, description: Số chỉ tiêu đã báo cáo}\ninterval_coverage_share:",
    )
    costs["mart"] = project.cost()
    # a chart
    project.write("dashboards/programme/charts/reporters_short.yaml", CHART.format(title="Đơn vị báo cáo"))
    project.edit("dashboards/core/dashboard.yaml", "chart: [as_of, 2, 19]\n", "chart: [as_of, 1, 19]\n    - chart: [reporters_short, 1, 19]\n")
    costs["chart"] = project.cost()
    # a dashboard and its chart
    project.write("dashboards/programme/charts/reporters.yaml", CHART.format(title="Đơn vị báo cáo, cả bảng"))
    project.write("dashboards/programme/dashboard.yaml", DASHBOARD)
    costs["dashboard with one chart"] = project.cost()
    # a source of readings, and one of another kind
    project.write("ingestion/contracts/environment/pm25_portable.yaml", READINGS)
    costs["source of readings"] = project.cost()
    project.write("ingestion/contracts/environment/well.yaml", WELLS)
    project.write("quality/suites/environment/well.json", json.dumps(WELL_SUITE, ensure_ascii=False, indent=2))
    costs["source of another kind"] = project.cost()
    assert costs == {
        "column": 4,
        "mart": 3,
        "chart": 2,
        "dashboard with one chart": 2,
        "source of readings": 1,
        "source of another kind": 2,
    }
    derived = set(re.findall(r"written: (.+)", project.python("-m", "dictionary.derive")))
    assert derived == {
        "dashboards/columns.yaml",
        "dbt_project/models/exposures.yml",
        "dbt_project/models/staging/sources.yml",
        "dbt_project/models/staging/environment/stg_well.sql",
        "dbt_project/models/staging/programme/stg_programme_indicator.sql",
        "docs/dictionary.vi.md",
    }
    assert project.python("-m", "dictionary.derive", "--check") == ""
    # what senders hand in then
    project.tnmt("init")
    inbox = project.home / "inbox"
    header = ["Mã chỉ tiêu", "Tên chỉ tiêu", "Đơn vị tính", "Kỳ", "Ngày cuối kỳ", "Mục tiêu", "Thực hiện", "Kinh phí", "Đơn vị báo cáo", "Ghi chú"]
    row = ["R001", "Số hóa hồ sơ", "%", "2025-Q4", "2025-12-31", "50", "25", "1200000", "VP", ""]
    (inbox / "programme_indicator").mkdir(parents=True, exist_ok=True)
    write_xlsx(inbox / "programme_indicator/chi_tieu_20260324.xlsx", "Chỉ tiêu", header, [row])
    (inbox / "well").mkdir(exist_ok=True)
    (inbox / "well/gieng.csv").write_text("Mã giếng,Độ sâu\nG1,35.5\nG2,-1\n", encoding="utf-8")
    (inbox / "pm25_portable").mkdir(exist_ok=True)
    (inbox / "pm25_portable/do.csv").write_text(
        "Mã trạm;Thông số;Đơn vị;Lúc;Kết quả;Tình trạng\nT1;PM2.5;µg/m3;24/03/2026 08:15;21,4;00\n", encoding="utf-8"
    )
    project.tnmt("run", "--as-of", AS_OF)
    told = project.tnmt("sql", "SELECT source, rows_accepted, rows_quarantined FROM ops.delivery ORDER BY 1", "--format", "csv")
    # the portable instrument stands at a station that nobody registered
    assert told.splitlines()[1:] == ["pm25_portable,0,1", "programme_indicator,1,0", "well,1,1"]
    assert project.tnmt("sql", "SELECT well_id, depth_m FROM staging.stg_well", "--format", "csv").splitlines()[1:] == ["G1,35.5"]
    # what Superset is told, asked on the serving file
    shown = json.loads(project.python("-c", SHOWN))
    with duckdb.connect(str(project.home / "serving/serving.duckdb"), read_only=True) as con:
        for chart in ("indicators", "reporters", "reporters_short"):
            dataset = shown["datasets"][shown["charts"][chart]]
            columns = [c["column_name"] for c in dataset["columns"]]
            assert con.execute(f"SELECT {', '.join(columns)} FROM {dataset['schema']}.{dataset['table_name']}").fetchall()
        assert con.execute("SELECT budget_vnd FROM marts_programme.indicator_progress").fetchall() == [(1200000,)]
        assert con.execute("SELECT * FROM marts_programme.indicator_reporter").fetchall() == [("VP", 1)]
    labels = {c["column_name"]: c["verbose_name"] for c in shown["datasets"]["indicator_progress"]["columns"]}
    assert labels["budget_vnd"] == "Kinh phí (đồng)"
    assert shown["dashboards"] == ["chuong-trinh", "dat-dai", "moi-truong", "toan-canh"]
