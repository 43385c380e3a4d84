"""The files of this folder in the forms that Superset takes: dashboards, texts, scripts. Needs no server."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dashboards.metadata import HERE, SetupError

TRACKER = b".scarf.sh"
UUID_PREFIX = "7a5e0000-0000-4000-8000-"
"""Of everything in the folders of the domains: what has it and is no longer there is removed."""
DATABASE: dict[str, Any] = yaml.safe_load((HERE / "serving.yaml").read_text("utf-8"))


def compile_translations(state: Path) -> None:
    """messages.po to what the server (.mo) and the browser (.json) read."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with (HERE / "config/translations/vi/LC_MESSAGES/messages.po").open("rb") as f:
        catalog = read_po(f, locale="vi")
    folder = state / "translations/vi/LC_MESSAGES"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "messages.mo").open("wb") as f:
        write_mo(f, catalog)
    texts: dict[str, Any] = {"": {"domain": "superset", "plural_forms": "nplurals=1; plural=0;", "lang": "vi"}}
    for message in catalog:
        if message.id and message.string:
            key = message.id[0] if isinstance(message.id, tuple) else message.id
            texts[key] = list(message.string) if isinstance(message.string, tuple) else [message.string]
    (folder / "messages.json").write_text(json.dumps({"domain": "superset", "locale_data": {"superset": texts}}, ensure_ascii=False), "utf-8")


def quiet_pages(state: Path) -> None:
    """Superset's scripts that would fetch a tracking pixel, with the address taken out: its own switch works at build time only."""
    found = importlib.util.find_spec("superset")
    assert found and found.origin
    folder = state / "static"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for script in (Path(found.origin).parent / "static/assets").glob("*.js"):
        text = script.read_bytes()
        if TRACKER in text:
            (folder / script.name).write_bytes(re.sub(rb"https://[a-z.]*" + re.escape(TRACKER), b"data:,", text))


@cache
def short_forms(kind: str) -> dict[str, dict[str, Any]]:
    """`charts` or `datasets` of all domains by file name, `dashboards` by domain, as written. Raises SetupError where two have one name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(HERE.glob("*/dashboard.yaml" if kind == "dashboards" else f"*/{kind}/*.yaml")):
        name = path.parent.name if kind == "dashboards" else path.stem
        if name in found:
            raise SetupError(f"{path}: there is another file of this name in {kind}/ of another domain: rename one")
        found[name] = yaml.safe_load(path.read_text("utf-8"))
    return found


def uuid_of(kind: str, name: str) -> str:
    """The same for the same kind and name on every machine, so that an import finds again what an earlier one made."""
    return UUID_PREFIX + hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()[:12]


def assets(kind: str) -> dict[str, dict[str, Any]]:
    """`charts`, `datasets` or `dashboards` in Superset's own form: charts and datasets by name, dashboards by domain. Raises SetupError.

    A dataset is made of every table that a chart or a filter names, or that has a file: its columns are those of the table (columns.yaml, derived
    from the marts), the file says the column of time and the metrics. Analysts may ask these tables and no others.
    """
    charts = short_forms("charts")
    if kind == "charts":
        return {name: expand_chart(name, short) for name, short in charts.items()}
    dashboards = short_forms("dashboards")
    datasets = _datasets(charts, dashboards)
    if kind == "datasets":
        return datasets
    return {name: expand_dashboard(short, charts) for name, short in dashboards.items()}


def expand_chart(name: str, short: dict[str, Any]) -> dict[str, Any]:
    """A chart file (title, question, dataset, type, params) in Superset's own form."""
    return {
        "slice_name": short["title"],
        "description": short["question"],
        "viz_type": short["type"],
        "params": {"viz_type": short["type"], **short["params"]},
        "query_context": None,
        "cache_timeout": None,
        "uuid": uuid_of("chart", name),
        "version": "1.0.0",
        "dataset_uuid": uuid_of("dataset", short["dataset"]),
    }


def _datasets(charts: dict[str, dict[str, Any]], dashboards: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    tables = yaml.safe_load((HERE / "columns.yaml").read_text("utf-8"))
    written = short_forms("datasets")
    filters = [f for d in dashboards.values() for f in d["filters"] if "dataset" in f]
    wanted = {*written, *(c["dataset"] for c in charts.values()), *(f["dataset"] for f in filters)}
    if unknown := wanted - set(tables):
        raise SetupError(f"dataset {', '.join(sorted(unknown))}: no mart or served model of this name; expected one of {', '.join(tables)}")
    return {name: expand_dataset(name, written.get(name, {}), tables[name]) for name in sorted(wanted)}


def expand_dataset(name: str, short: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """A table with what its dataset file says, in Superset's own form."""
    return {
        "table_name": name,
        "description": table["description"],
        "schema": table["schema"],
        "catalog": None,
        "main_dttm_col": short.get("time"),
        "sql": None,
        "cache_timeout": None,
        "filter_select_enabled": True,
        "normalize_columns": False,
        "always_filter_main_dttm": False,
        "uuid": uuid_of("dataset", name),
        "version": "1.0.0",
        "database_uuid": DATABASE["uuid"],
        "metrics": [
            {"metric_name": metric, "verbose_name": of["label"], "expression": of["sql"], "d3format": of.get("format")}
            for metric, of in short.get("metrics", {}).items()
        ],
        "columns": [
            {
                "column_name": column,
                "verbose_name": of["label"],
                "type": of["type"],
                "is_dttm": of["type"] in ("DATE", "TIMESTAMP"),
                "is_active": True,
                "groupby": True,
                "filterable": True,
            }
            for column, of in table["columns"].items()
        ],
    }


def colours(short: dict[str, Any]) -> dict[str, str]:
    """Colour by name: of the code lists that a dashboard shows (colours.yaml, derived from the dictionary), and its own. Raises SetupError."""
    lists = yaml.safe_load((HERE / "colours.yaml").read_text("utf-8"))
    if unknown := set(short["lists"]) - set(lists):
        raise SetupError(f"colors: no code list with colours of the name {', '.join(sorted(unknown))}; expected one of {', '.join(lists)}")
    return {name: colour for named in short["lists"] for name, colour in lists[named].items()} | short["own"]


def expand_dashboard(short: dict[str, Any], charts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A dashboard file in our short form (sections of rows of [chart, width, height], each on the page or in a tab) to Superset's own form."""
    numbers = {name: i for i, name in enumerate(sorted(charts), 1)}
    position: dict[str, Any] = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": short["title"]}},
        "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": [], "parents": ["ROOT_ID"]},
    }

    def put(kind: str, key: str, meta: dict[str, Any], parent: str = "GRID_ID") -> None:
        position[key] = {"type": kind, "id": key, "children": [], "parents": [*position[parent]["parents"], parent], "meta": meta}
        position[parent]["children"].append(key)

    def place(tab: str | None) -> str:
        """Key of what holds a section: the page, or its tab (all tabs stand in one row)."""
        if tab is None:
            return "GRID_ID"
        if "TABS" not in position:
            put("TABS", "TABS", {})
        key = f"TAB-{tab}"
        if key not in position:
            put("TAB", key, {"text": tab}, "TABS")
        return key

    for s, section in enumerate(short["sections"]):
        parent = place(section.get("tab"))
        if section.get("header"):
            put("HEADER", f"HEADER-{s}", {"text": section["header"], "headerSize": "MEDIUM_HEADER", "background": "BACKGROUND_TRANSPARENT"}, parent)
        for r, cells in enumerate(section["rows"]):
            row = f"ROW-{s}-{r}"
            put("ROW", row, {"background": "BACKGROUND_TRANSPARENT"}, parent)
            for c, cell in enumerate(cells):
                name, width, height = cell["chart"] if "chart" in cell else cell["text"]
                size = {"width": width, "height": height}
                if "chart" in cell:
                    known = {"uuid": uuid_of("chart", name), "chartId": numbers[name], "sliceName": charts[name]["title"]}
                    put("CHART", f"CHART-{name}", {**size, **known}, row)
                else:
                    put("MARKDOWN", f"MARKDOWN-{s}-{r}-{c}", {**size, "code": name}, row)
    filters = []
    for i, f in enumerate(short["filters"]):
        target = {"column": {"name": f["column"]}, "datasetUuid": uuid_of("dataset", f["dataset"])} if "column" in f else {}
        filters.append(
            {
                "id": f"NATIVE_FILTER-{i}",
                "name": f["name"],
                "description": f.get("description", ""),
                "filterType": f["type"],
                "type": "NATIVE_FILTER",
                "targets": [target],
                "cascadeParentIds": [],
                "defaultDataMask": {"extraFormData": {}, "filterState": {}, "ownState": {}},
                "scope": {"rootPath": ["ROOT_ID"], "excluded": [n for name, n in numbers.items() if name not in f["charts"]]},
                "controlValues": {
                    "multiSelect": True,
                    "enableEmptyFilter": False,
                    "inverseSelection": False,
                    "searchAllOptions": False,
                    "defaultToFirstItem": False,
                    "creatable": False,
                },
            }
        )
    return {
        "dashboard_title": short["title"],
        "description": short["description"],
        "css": short.get("css", ""),
        "slug": short["slug"],
        "published": True,
        "uuid": uuid_of("dashboard", short["slug"]),
        "version": "1.0.0",
        "position": position,
        "metadata": {
            "color_scheme": "supersetColors",
            "label_colors": colours(short["colors"]),
            "cross_filters_enabled": False,
            "refresh_frequency": short.get("refresh_seconds", 0),
            "expanded_slices": {},
            "timed_refresh_immune_slices": [],
            "default_filters": "{}",
            "filter_bar_orientation": "HORIZONTAL",
            "native_filter_configuration": filters,
        },
    }


def bundle() -> dict[str, str]:
    """All of them as Superset's importer takes them."""
    out = {
        "metadata.yaml": {"version": "1.0.0", "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"},
        "databases/serving.yaml": DATABASE,
    }
    for kind, folder in (("datasets", "datasets/serving"), ("charts", "charts"), ("dashboards", "dashboards")):
        out |= {f"{folder}/{name}.yaml": body for name, body in assets(kind).items()}
    return {path: yaml.safe_dump(body, allow_unicode=True, sort_keys=False) for path, body in out.items()}
