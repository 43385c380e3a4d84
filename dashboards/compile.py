"""The files of this folder in the forms that Superset takes: dashboards, texts, scripts. Needs no server."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import yaml

from dashboards.metadata import HERE, SetupError

TRACKER = b".scarf.sh"
UUID_PREFIX = "7a5e0000-0000-4000-8000-"
"""Of everything in the folders of the domains: what has it and is no longer there is removed."""


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


def assets(kind: str) -> dict[str, dict[str, Any]]:
    """`charts` or `datasets` of all domains by file name, `dashboards` by domain. Raises SetupError where two have one name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(HERE.glob("*/dashboard.yaml" if kind == "dashboards" else f"*/{kind}/*.yaml")):
        name = path.parent.name if kind == "dashboards" else path.stem
        if name in found:
            raise SetupError(f"{path}: there is another file of this name in {kind}/ of another domain: rename one")
        found[name] = yaml.safe_load(path.read_text("utf-8"))
    return found


def expand_dashboard(short: dict[str, Any], charts: dict[str, dict[str, Any]], datasets: dict[str, dict[str, Any]]) -> dict[str, Any]:
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
                    known = {"uuid": charts[name]["uuid"], "chartId": numbers[name], "sliceName": charts[name]["slice_name"]}
                    put("CHART", f"CHART-{name}", {**size, **known}, row)
                else:
                    put("MARKDOWN", f"MARKDOWN-{s}-{r}-{c}", {**size, "code": name}, row)
    filters = []
    for i, f in enumerate(short["filters"]):
        target = {"column": {"name": f["column"]}, "datasetUuid": datasets[f["dataset"]]["uuid"]} if "column" in f else {}
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
        "uuid": short["uuid"],
        "version": "1.0.0",
        "position": position,
        "metadata": {
            "color_scheme": "supersetColors",
            "label_colors": short["colors"],
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
    charts, datasets = assets("charts"), assets("datasets")
    out = {
        "metadata.yaml": {"version": "1.0.0", "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"},
        "databases/serving.yaml": yaml.safe_load((HERE / "serving.yaml").read_text("utf-8")),
    }
    out |= {f"datasets/serving/{name}.yaml": body for name, body in datasets.items()}
    out |= {f"charts/{name}.yaml": body for name, body in charts.items()}
    out |= {f"dashboards/{name}.yaml": expand_dashboard(body, charts, datasets) for name, body in assets("dashboards").items()}
    return {path: yaml.safe_dump(body, allow_unicode=True, sort_keys=False) for path, body in out.items()}
