"""Where Superset keeps what it knows: the state folder, its metadata database, what set-ups share."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class SetupError(Exception):
    """The files of this folder do not fit together, or Superset refused them."""


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
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with sqlite3.connect(source) as a, sqlite3.connect(temporary) as b:
        a.backup(b)
    b.close()
    temporary.replace(target)
