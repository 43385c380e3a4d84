"""Sets up and serves Superset for a platform folder. Run by the python of the Superset environment.

    python -m dashboards.manage setup --home HOME        metadata, accounts, roles, dashboards; seconds when nothing changed
    python -m dashboards.manage serve --home HOME --port 8088

Everything that Superset keeps is in HOME/superset (mode 0700). The files of this folder are the source: what is edited
in the browser under a name of ours is put back by the next set-up.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from dashboards.accounts import apply_access, apply_users
from dashboards.compile import UUID_PREFIX, bundle, compile_translations, quiet_pages
from dashboards.metadata import HERE, SetupError, digest, environment, make_metadata, quiet, state_of, write_private


def apply_assets() -> None:
    """Imports the files of the domains and removes what is no longer there. (`superset import-directory` exits 0 on bad files, so not that.)"""
    from superset import db, security_manager
    from superset.commands.exceptions import CommandInvalidError
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.dashboard import Dashboard
    from superset.models.slice import Slice
    from superset.utils.core import override_user

    contents = bundle()
    _adopt(contents, {"datasets/": (SqlaTable, "table_name"), "charts/": (Slice, "slice_name"), "dashboards/": (Dashboard, "slug")})
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


def _adopt(contents: Mapping[str, str], kinds: Mapping[str, tuple[Any, str]]) -> None:
    """Gives what an earlier version made under the same name the UUID of now, so that it is found again and addresses of pages stay."""
    from superset import db

    for path, text in contents.items():
        for folder, (model, name) in kinds.items():
            if path.startswith(folder):
                body = yaml.safe_load(text)
                for row in db.session.query(model).filter_by(**{name: body[name]}):
                    if str(row.uuid).startswith(UUID_PREFIX):
                        row.uuid = UUID(body["uuid"])
    db.session.commit()


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
