"""Sets up and serves Superset for a platform folder. Run by the python of the Superset environment.

    python dashboards/manage.py setup --home HOME        metadata, accounts, roles, dashboards; seconds when nothing changed
    python dashboards/manage.py serve --home HOME --port 8088

Everything that Superset keeps is in HOME/superset (mode 0700). The files of this folder are the source: what is edited
in the browser under a name from assets/ is put back by the next set-up.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import re
import secrets
import sqlite3
import string
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ASSETS = HERE / "assets"
TRACKER = b".scarf.sh"
UUID_PREFIX = "7a5e0000-0000-4000-8000-"  # of everything in assets/: what has it and is no longer there is removed


class SetupError(Exception):
    """The files of this folder do not fit together, or Superset refused them."""


# ---- state folder


def state_of(home: Path) -> Path:
    """HOME/superset, readable by its owner only."""
    state = home.resolve() / "superset"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    state.chmod(0o700)
    return state


def environment(state: Path, **more: str) -> None:
    """What config/superset_config.py reads."""
    os.environ.update(
        {
            "SUPERSET_CONFIG_PATH": str(HERE / "config/superset_config.py"),
            "SUPERSET_HOME": str(state),
            "TNMT_SUPERSET_HOME": str(state),
            "SCARF_ANALYTICS": "false",
            "FLASK_APP": "superset.app:create_app()",
            **more,
        }
    )


def write_private(path: Path, text: str) -> None:
    """Writes for the owner only, whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
    new.replace(path)


def digest(*folders: Path) -> str:
    """Of the files in `folders` and of the Superset that reads them."""
    h = hashlib.sha256(f"{version('apache-superset')} {sys.version_info[:2]}".encode())
    for path in sorted(p for folder in folders for p in ([folder] if folder.is_file() else folder.rglob("*")) if p.suffix in (".py", ".yaml", ".po")):
        h.update(f"{path.relative_to(HERE)}\0".encode() + path.read_bytes())
    return h.hexdigest()


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


# ---- dashboards as files


def load_assets() -> dict[str, dict[str, Any]]:
    """Every file of assets/ by its path there."""
    return {str(p.relative_to(ASSETS)): yaml.safe_load(p.read_text("utf-8")) for p in sorted(ASSETS.rglob("*.yaml"))}


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
    """assets/ as Superset's importer takes it."""
    assets = load_assets()
    by_stem = {kind: {Path(p).stem: body for p, body in assets.items() if p.startswith(f"{kind}/")} for kind in ("charts", "datasets")}
    out = {"metadata.yaml": {"version": "1.0.0", "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"}}
    for path, body in assets.items():
        if path.startswith("dashboards/"):
            out[path] = expand_dashboard(body, by_stem["charts"], by_stem["datasets"])
        elif path.startswith("datasets/"):
            out[f"datasets/serving/{Path(path).name}"] = body
        else:
            out[path] = body
    return {path: yaml.safe_dump(body, allow_unicode=True, sort_keys=False) for path, body in out.items()}


def apply_assets() -> None:
    """Imports assets/ and removes what is no longer there. (`superset import-directory` exits 0 on bad files, so not that.)"""
    from superset import db, security_manager
    from superset.commands.exceptions import CommandInvalidError
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.dashboard import Dashboard
    from superset.models.slice import Slice
    from superset.utils.core import override_user

    contents = bundle()
    with override_user(security_manager.find_user("admin")):
        try:
            ImportAssetsCommand(contents).run()
        except CommandInvalidError as error:
            raise SetupError(json.dumps(error.normalized_messages(), indent=1, ensure_ascii=False)) from error
        wanted = {yaml.safe_load(text).get("uuid") for text in contents.values()}
        for model in (Dashboard, Slice, SqlaTable):
            for row in db.session.query(model):
                if str(row.uuid).startswith(UUID_PREFIX) and str(row.uuid) not in wanted:
                    db.session.delete(row)
        db.session.commit()


# ---- accounts


def new_password() -> str:
    """Long, and of all the kinds that config/env_security.py asks for."""
    alphabet = string.ascii_letters + string.digits
    while True:
        text = "-".join("".join(secrets.choice(alphabet) for _ in range(6)) for _ in range(4))
        if any(c.isupper() for c in text) and any(c.islower() for c in text) and any(c.isdigit() for c in text):
            return text


def apply_users(access: dict[str, Any], state: Path) -> None:
    """Makes the accounts that are missing, each with a new password in passwords.json."""
    from superset import security_manager as sm

    file = state / "passwords.json"
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    for user in access["users"]:
        name, roles = user["username"], [sm.find_role(r) for r in user["roles"]]
        account = sm.find_user(username=name)
        if account is None:
            known[name] = new_password()
            write_private(file, json.dumps(known, indent=1) + "\n")  # before the account: a password that nobody knows is worse than one too many
            if not sm.add_user(name, user["first"], user["last"], user["email"], roles, password=known[name]):
                raise SetupError(f"account {name} could not be made")
        elif {r.name for r in account.roles} != set(user["roles"]):
            account.roles = roles
            sm.update_user(account)
    disable_leavers(access, sm)
    if "admin" in known:
        write_private(state / "admin-password", known["admin"] + "\n")


def disable_leavers(access: dict[str, Any], sm: Any) -> list[str]:
    """Disables accounts that access.yaml names no more, and returns their names; open sessions of theirs end with the next click.

    Nothing enables an account: one that returns, or that somebody disabled by hand, is enabled by hand in the list of users.
    """
    named = {user["username"] for user in access["users"]}
    left = [a for a in sm.get_all_users() if a.active and a.username not in named]
    for account in left:
        account.active = False
        sm.update_user(account)
    return [a.username for a in left]


def apply_access(access: dict[str, Any]) -> None:
    """Roles: exactly the permissions of access.yaml."""
    from superset import db
    from superset import security_manager as sm
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.core import Database
    from superset.models.dashboard import Dashboard

    dashboard_roles: dict[str, list[Any]] = {}
    for name, wanted in access["roles"].items():
        role = sm.find_role(name) or sm.add_role(name)
        permissions = {p for base in wanted["base"] for p in sm.find_role(base).permissions}
        for permission, view in wanted.get("add", []):
            found = sm.find_permission_view_menu(permission, view)
            if found is None:
                raise SetupError(f"role {name}: Superset has no permission {permission} on {view}")
            permissions.add(found)
        for key, model, permission in (("datasets", SqlaTable, "datasource_access"), ("databases", Database, "database_access")):
            if wanted.get(key) == "all":
                rows = [r for r in db.session.query(model) if str(r.uuid).startswith(UUID_PREFIX)]
                permissions |= {sm.add_permission_view_menu(permission, r.perm) for r in rows}
        role.permissions = list(permissions)
        for slug in wanted.get("dashboards", []):
            dashboard_roles.setdefault(slug, []).append(role)
    for slug, roles in dashboard_roles.items():
        db.session.query(Dashboard).filter_by(slug=slug).one().roles = roles
    db.session.commit()


# ---- commands


def make_metadata(state: Path) -> Any:
    """The application on an up-to-date metadata database.

    Superset's own migrations take most of a first set-up, so their result (no accounts, no secrets) is kept beside the
    environment for the next platform folder of this machine.
    """
    file, external = state / "superset.db", "SUPERSET_META_URI" in os.environ
    blank = Path(sys.prefix) / "share/tnmt" / f"metadata-{digest(HERE / 'config')[:16]}.db"
    if not external and not file.exists() and blank.exists():
        copy_database(blank, file)
        fresh = False
    else:
        fresh = True
    from superset.app import create_app

    logging.disable(logging.WARNING)
    app = create_app()
    logging.disable(logging.WARNING)
    if fresh:
        with app.app_context():
            import superset
            from flask_migrate import upgrade

            upgrade(directory=str(Path(superset.__file__).parent / "migrations"))
            logging.disable(logging.WARNING)
            superset.appbuilder.add_permissions(update_perms=True)
            superset.security_manager.sync_role_definitions()
            superset.db.session.commit()
            superset.db.session.remove()
            accounts = superset.security_manager.count_users()
            superset.db.session.remove()
        if not external and not accounts:
            try:
                blank.parent.mkdir(parents=True, exist_ok=True)
                for old in blank.parent.glob("metadata-*.db"):
                    old.unlink(missing_ok=True)
                copy_database(file, blank)
            except OSError:
                pass  # an environment that is not ours to write to: the next folder makes its own
    return app


def apply_all(state: Path) -> None:
    """Metadata, accounts, dashboards and rights, in this process."""
    app = make_metadata(state)
    access = yaml.safe_load((HERE / "access/access.yaml").read_text("utf-8"))
    with app.app_context():
        from superset import security_manager as sm

        for name in access["roles"]:
            sm.find_role(name) or sm.add_role(name)
        apply_users(access, state)
        apply_assets()
        apply_access(access)


@contextmanager
def quiet(file: Path) -> Iterator[None]:
    """What Superset's migrations print goes to `file`."""
    sys.stdout.flush()
    kept = os.dup(1)
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(target, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(target)
        os.close(kept)


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of an SQLite file."""
    half = target.with_name(f".{target.name}.{os.getpid()}")
    with sqlite3.connect(source) as a, sqlite3.connect(half) as b:
        a.backup(b)
    b.close()
    half.replace(target)


def setup(home: Path) -> None:
    """Brings HOME/superset to what the files of this folder say."""
    os.umask(0o077)
    warnings.filterwarnings("ignore")
    state = state_of(home)
    with (state / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        want, note, passwords = digest(HERE), state / "applied", state / "passwords.json"
        metadata = os.environ.get("SUPERSET_META_URI") or (state / "superset.db").exists()
        if metadata and passwords.exists() and note.exists() and note.read_text() == want:
            print(f"Superset is set up; password of admin: {state / 'admin-password'}; of all accounts: {passwords}")
            return
        for name in ("secret_key", "guest_secret"):
            if not (state / name).exists():
                write_private(state / name, secrets.token_urlsafe(48) + "\n")
        compile_translations(state)
        quiet_pages(state)
        environment(state, TNMT_SUPERSET_SETUP="1")
        with quiet(state / "setup.log"):
            apply_all(state)
        write_private(note, want)
        print(f"Superset is set up; password of admin: {state / 'admin-password'}; of all accounts: {passwords}")


def serve(home: Path, port: int) -> None:
    """Becomes the web server, on this machine only."""
    os.umask(0o077)
    state = state_of(home)
    if not (state / "applied").exists():
        raise SetupError(f"{state} is not set up: run setup first")
    environment(state, TNMT_SUPERSET_PORT=str(port))
    os.environ.pop("TNMT_SUPERSET_SETUP", None)
    os.chdir(state)
    config = str(HERE / "config/gunicorn.conf.py")
    os.execv(sys.executable, [sys.executable, "-W", "ignore", "-m", "gunicorn", "-c", config, "superset.app:create_app()"])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("setup", "serve"):
        sub = commands.add_parser(name)
        sub.add_argument("--home", type=Path, required=True, help="platform folder (TNMT_HOME)")
        if name == "serve":
            sub.add_argument("--port", type=int, default=8088)
    args = parser.parse_args()
    try:
        if args.command == "setup":
            setup(args.home)
        else:
            serve(args.home, args.port)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
