"""What follows from contracts, marts, dashboards and words, written into the files of dbt, Superset and the docs: `python -m dictionary.derive`.

A fact that stands here was written by hand in one other place; `--check` (and the tests) compare, and say which file is behind.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from dictionary.words import Dictionary, DictionaryError, Word, code_lists, dictionary
from ingestion.contract import Contract, by_target, domains
from ingestion.merge import LINEAGE_TYPES, has_conflict
from ingestion.targets import GEOMETRY_COLUMNS, REPAIRED_COLUMN, clean_columns
from tnmt.settings import ROOT

BY_HAND = frozenset({"reading", "lab_result", "adjustment", "approval", "station_qc_threshold"})
"""Targets whose view of staging does more than name the columns: past versions (known_versions), or a value that the gate once wrote otherwise."""

HEADER = "# Derived by `python -m dictionary.derive`: change what it is derived from, not this file.\n"
CODES_HEADER = (
    "{#- Derived by `python -m dictionary.derive` from dictionary/codes.yaml: names of codes. A code that its list lacks stands for itself. -#}\n"
)
SQL_HEADER = "-- Derived by `python -m dictionary.derive` from {source}: change it there.\n"
CADASTRE_RELATIONS = {
    "parcel": "int_cadastre_parcel",
    "overlap": "int_cadastre_overlap",
    "gap": "int_cadastre_gap",
    "certificate": "int_cadastre_certificate",
}
"""The model whose rows a rule of the cadastre judges, by the rule's `judges`."""
CADASTRE_COLUMNS = (
    "object_id",
    "parcel_uid",
    "parcel_id",
    "commune_code",
    "old_commune_code",
    "valid_from",
    "valid_to",
    "source_delivery_id",
    "source_line",
)
"""What each of these models says of its rows, whatever else it has for the rules."""
DAGGER = "†"
"""Stands in the dictionary page behind what tells about a person."""


class House:
    """The project at `root` as its files say it is."""

    def __init__(self, root: Path = ROOT) -> None:
        """Reads the contracts and the words; raises DictionaryError."""
        self.root = root
        self.words: Dictionary = dictionary([root / "ingestion/contracts"], root / "dictionary/columns.yaml")
        self.contracts = self.words.contracts
        self.codes = code_lists(root / "dictionary/codes.yaml")
        self.domains = domains([root / "ingestion/contracts"])
        self.cadastre_rules: dict[str, dict[str, str]] = yaml.safe_load((root / "dictionary/cadastre_rules.yaml").read_text(encoding="utf-8"))

    @cached_property
    def targets(self) -> dict[str, list[Contract]]:
        """The contracts by the clean table that they fill."""
        return by_target(sorted(self.contracts.values(), key=lambda c: c.source))

    @cached_property
    def models(self) -> dict[str, dict[str, Any]]:
        """The marts and what is served beside them, by name, as their yml declares them; `schema` added."""
        found = {}
        for layer in ("marts", "serve"):
            for path in sorted((self.root / "dbt_project/models" / layer).glob("*/*.yml")):
                for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models") or []:
                    found[model["name"]] = {**model, "schema": f"marts_{path.parent.name}"}
        return dict(sorted(found.items()))

    def domain(self, target: str) -> str:
        """The domain of a clean table: the folder of its contract."""
        return self.domains[self.targets[target][0].source]

    def columns(self, target: str) -> dict[str, str]:
        """Columns of a clean table with their types: those of all its contracts, what the house adds last. Raises DictionaryError where types differ."""
        contracts = sorted(self.targets[target], key=lambda c: -len(c.columns))
        widest, derived = contracts[0], [*GEOMETRY_COLUMNS, *REPAIRED_COLUMN]
        made: dict[str, str] = {}
        for contract in contracts:
            for name, kind in clean_columns(contract).items():
                if made.setdefault(name, kind) != kind:
                    raise DictionaryError(
                        f"contract {contract.source}: column {name} of target {target} is {kind} here and {made[name]} in another contract"
                    )
        names = [*(n for n in made if n not in derived), *(n for n in derived if n in made)]
        conflict = {"conflict": "BOOLEAN"} if has_conflict(widest) else {}
        return {n: t.lower().replace(" ", "") for n, t in ({n: made[n] for n in names} | conflict | LINEAGE_TYPES).items()}

    def files(self) -> dict[Path, str]:
        """All derived files with what should stand in them."""
        made = {
            "dbt_project/models/staging/sources.yml": self._sources(),
            "dbt_project/models/exposures.yml": self._exposures(),
            "dashboards/columns.yaml": self._dashboard_columns(),
            "dashboards/colours.yaml": self._colours(),
            "dbt_project/macros/codes.sql": self._codes(),
            "docs/dictionary.vi.md": self._page(),
            "dbt_project/seeds/reference/cadastre_rule.csv": self._cadastre_rules(),
            "dbt_project/models/intermediate/land/int_cadastre_finding.sql": self._cadastre_findings(),
        }
        for target in self.targets.keys() - BY_HAND:
            made[f"dbt_project/models/staging/{self.domain(target)}/stg_{target}.sql"] = self._staging(target)
        return {self.root / path: text for path, text in sorted(made.items())}

    def _sources(self) -> str:
        lines = [HEADER, "version: 2\n\nsources:\n", "  - name: clean\n    database: lake\n    schema: clean\n"]
        lines.append(f"    description: {_quoted('Dữ liệu đã qua cổng kiểm tra; một bảng cho mỗi đối tượng')}\n    tables:\n")
        for target in self.targets:
            lines.append(f"      - name: {target}\n        description: {_quoted(self._grain(target))}\n        columns: &{target}\n")
            lines += [f"          - {_column(n, t)}\n" for n, t in self.columns(target).items()]
        lines.append("\nmodels:\n")
        for target in self.targets:
            lines.append(f"  - name: stg_{target}\n    description: {_quoted(self._grain(target))}\n    columns: *{target}\n")
        return "".join(lines)

    def _grain(self, target: str) -> str:
        """What a clean table holds, with its grain."""
        said = next((c.table for c in self.targets[target] if c.table), None)
        if said:
            return said
        contract = self.targets[target][0]
        key = ", ".join(self._word(target, k).label.lower() for k in contract.key)
        return f"{contract.title}. Một dòng là một {key}."

    def _word(self, table: str, column: str) -> Word:
        return self.words.word(table, column) or Word(column, column, None)

    def _staging(self, target: str) -> str:
        names = list(self.columns(target))
        lines = [
            f"    {n}" for n in names if n not in GEOMETRY_COLUMNS and n not in LINEAGE_TYPES and n not in ("geometry", "conflict", *REPAIRED_COLUMN)
        ]
        if "geometry" in names:
            lines.append("    {{ geometry_columns() }}")
        lines += [f"    {n}" for n in (*REPAIRED_COLUMN, "conflict") if n in names]
        lines.append("    {{ lineage_columns() }}")
        return "select\n" + ",\n".join(lines) + f"\nfrom {{{{ source('clean', '{target}') }}}}\n"

    def _dashboards(self) -> Iterator[tuple[dict[str, Any], set[str]]]:
        """File and the models that the charts of each dashboard show."""
        charts = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in self.root.glob("dashboards/*/charts/*.yaml")}
        for path in sorted(self.root.glob("dashboards/*/dashboard.yaml")):
            short = yaml.safe_load(path.read_text(encoding="utf-8"))
            placed = [c["chart"][0] for s in short["sections"] for row in s["rows"] for c in row if "chart" in c]
            yield short, {charts[name]["dataset"] for name in placed}

    def _exposures(self) -> str:
        lines = [HEADER, "version: 2\n\nexposures:\n"]
        for short, models in self._dashboards():
            lines += [
                f"  - name: {short['slug'].replace('-', '_')}\n    label: {_quoted(short['title'])}\n    type: dashboard\n    maturity: high\n",
                f"    description: {_quoted(short['description'])}\n",
                f"    owner:\n      name: {_quoted(short['owner']['name'])}\n      email: {short['owner']['email']}\n    depends_on:\n",
                *(f"      - ref('{m}')\n" for m in sorted(models)),
            ]
        return "".join(lines)

    def _dashboard_columns(self) -> str:
        """What Superset is told of the tables that it may see: schema, description, and of each column type and heading."""
        lines = [HEADER]
        for name, model in self.models.items():
            what = str(model["description"]).partition(" Một dòng là")[0].removesuffix(".")
            lines.append(f"{name}:\n  schema: {model['schema']}\n  description: {_quoted(what)}\n  columns:\n")
            labels = {c["name"]: self._word(name, c["name"]).label for c in model["columns"]}
            for c in model["columns"]:
                label = labels[c["name"]]
                if label == labels.get(f"{c['name']}_vi"):  # a code beside its name
                    label = f"{label} (mã)"
                lines.append(f"    {c['name']}: {{type: {_scalar(_superset(c['data_type']))}, label: {_quoted(label)}}}\n")
        return "".join(lines)

    def _codes(self) -> str:
        """A macro for each list, that gives a code its name: a word that changes makes anew what shows it, and nothing else."""
        macros = [CODES_HEADER]
        for name, codes in self.codes.items():
            named = "".join(f"\n        when {_literal(code)} then {_literal(of.name)}" for code, of in codes.items())
            macros.append(
                f"\n{{% macro {name}_vi(code) -%}}\n    case {{{{ code }}}}{named}\n        else {{{{ code }}}}\n    end\n{{%- endmacro %}}\n"
            )
        return "".join(macros)

    def _colours(self) -> str:
        """Colours of the names of each list, for the charts."""
        with (self.root / "dbt_project/seeds/reference/vn_aqi_band.csv").open(encoding="utf-8", newline="") as file:
            bands = {row["level_vi"]: row["hex"].lower() for row in csv.DictReader(file)}
        lines = [HEADER, "vn_aqi_level:\n", *(f"  {_quoted(name)}: {_quoted(colour)}\n" for name, colour in bands.items())]
        for name, codes in self.codes.items():
            if any(of.colour for of in codes.values()):
                lines += [f"{name}:\n", *(f"  {_quoted(of.name)}: {_quoted(of.colour)}\n" for of in codes.values() if of.colour)]
        return "".join(lines)

    def _cadastre_rules(self) -> str:
        """The rules of the cadastre as reference data: all but the SQL."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["rule_id", "object_kind", "sentence_vi", "severity", "rule_source", "office_vi"])
        writer.writerows([key, r["judges"], r["sentence"], r["severity"], r["source"], r["office"]] for key, r in self.cadastre_rules.items())
        return out.getvalue()

    def _cadastre_findings(self) -> str:
        """What breaks a rule, a SELECT a rule."""
        selects = []
        for key, rule in self.cadastre_rules.items():
            relation = CADASTRE_RELATIONS[rule["judges"]]
            told = rule.get("detail", "cast(null as varchar)")
            selects.append(
                f"select\n    {_literal(key)} as rule_id,\n    {told} as detail_vi,\n"
                + "".join(f"    {column},\n" for column in CADASTRE_COLUMNS[:-1])
                + f"    {CADASTRE_COLUMNS[-1]}\nfrom {{{{ ref('{relation}') }}}}\nwhere {rule['fails']}\n"
            )
        return SQL_HEADER.format(source="dictionary/cadastre_rules.yaml") + "union all\n".join(selects)

    def _page(self) -> str:
        lines = [
            "# Từ điển dữ liệu\n\n",
            "Lập bằng `python -m dictionary.derive` từ hợp đồng của các nguồn, các bảng phân tích và `dictionary/columns.yaml`; không sửa ở đây.\n",
            f"Cột có dấu {DAGGER} nói về một người: không vào tệp phục vụ, không rời kho.\n\n## Dữ liệu nhận vào\n",
        ]
        for target, contracts in self.targets.items():
            lines.append(f"\n### `clean.{target}`\n\n{self._grain(target)} Nguồn: {', '.join(f'{c.title} (`{c.source}`)' for c in contracts)}.\n\n")
            lines.append("| Cột | Kiểu | Đơn vị | Ý nghĩa | Tên trong tệp gửi |\n|---|---|---|---|---|\n")
            headers = self._headers(contracts)
            for name, kind in self.columns(target).items():
                lines.append(self._row(target, name, kind, [", ".join(headers.get(name.removesuffix("_token"), []))]))
        lines.append("\n## Danh mục mã\n")
        for name, codes in self.codes.items():
            lines.append(f"\n### `{name}`\n\n| Mã | Tên |\n|---|---|\n" + "".join(f"| `{c}` | {of.name} |\n" for c, of in codes.items()))
        lines.append("\n## Bảng phân tích\n")
        for name, model in self.models.items():
            lines.append(f"\n### `{model['schema']}.{name}`\n\n{model['description']}\n\n| Cột | Kiểu | Đơn vị | Ý nghĩa |\n|---|---|---|---|\n")
            lines += [self._row(name, c["name"], c["data_type"], []) for c in model["columns"]]
        lines.append("\n## Sổ vận hành và danh mục tham chiếu\n")
        for name, (what, columns) in self._others():
            lines.append(f"\n### `{name}`\n\n{what}\n\n| Cột | Kiểu | Đơn vị | Ý nghĩa |\n|---|---|---|---|\n")
            lines += [self._row(name.removeprefix("reference."), c, kind, []) for c, kind in columns.items()]
        return "".join(lines)

    def _others(self) -> Iterator[tuple[str, tuple[str, dict[str, str]]]]:
        """Tables of the ledger and reference data: name, description and columns."""
        ledger = yaml.safe_load((self.root / "dbt_project/models/staging/ledger.yml").read_text(encoding="utf-8"))
        for source in ledger["sources"]:
            for table in source["tables"]:
                if table.get("columns"):
                    yield f"{source['name']}.{table['name']}", (table["description"], {c["name"]: c["data_type"] for c in table["columns"]})
        for path in sorted((self.root / "dbt_project/seeds").rglob("*.yml")):
            for seed in yaml.safe_load(path.read_text(encoding="utf-8")).get("seeds") or []:
                yield f"reference.{seed['name']}", (seed["description"], seed["config"]["column_types"])

    def _row(self, table: str, name: str, kind: str, more: list[str]) -> str:
        word = self._word(table, name)
        mark = f" {DAGGER}" if self.words.is_personal(name) else ""
        return f"| {' | '.join([f'`{name}`{mark}', kind, word.unit or '', word.description, *more])} |\n".replace("|  |", "| |")

    def _headers(self, contracts: list[Contract]) -> dict[str, list[str]]:
        """Every spelling of a column's header in the files of its senders."""
        found: dict[str, list[str]] = {}
        for contract in contracts:
            for name, column in contract.columns.items():
                for header in column.header or column.join:
                    if header not in found.setdefault(name, []):
                        found[name].append(header)
        return found


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _scalar(text: str) -> str:
    return _quoted(text) if re.search(r"[,\[\]{}]", text) else text


def _column(name: str, kind: str) -> str:
    return f"{{name: {name}, data_type: {_scalar(kind)}}}"


def _superset(kind: str) -> str:
    """Name of a DuckDB type as Superset's metadata have it."""
    return "DOUBLE" if kind.startswith("decimal") else kind.upper()


def behind(files: Mapping[Path, str]) -> list[Path]:
    """Those of the files that are not as they should be."""
    return [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main() -> None:
    """Writes what is derived, or with `--check` only names the files that are behind (exit code 1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 where a file is behind")
    only_check = parser.parse_args().check
    files = House().files()
    late = behind(files)
    for path in late:
        if not only_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        sys.stdout.write(f"{'behind' if only_check else 'written'}: {path.relative_to(ROOT)}\n")
    if only_check and late:
        sys.exit("run `python -m dictionary.derive`")


if __name__ == "__main__":
    main()
