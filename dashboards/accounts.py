"""Who may log in, and what each role sees."""

from __future__ import annotations

import json
import secrets
import string
from pathlib import Path
from typing import Any

from dashboards.compile import UUID_PREFIX, short_forms
from dashboards.metadata import SetupError, write_private


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


def sees(role: dict[str, Any], schema: str) -> bool:
    """Whether a role of access.yaml may ask the tables of a schema, `marts_<domain>`: those of its `domains`, a list or `all`."""
    domains = role.get("domains", [])
    return domains == "all" or schema.removeprefix("marts_") in domains


def apply_access(access: dict[str, Any]) -> None:
    """Roles: exactly the permissions of access.yaml, and the dashboards that name them."""
    from superset import db
    from superset import security_manager as sm
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.core import Database
    from superset.models.dashboard import Dashboard

    for name, wanted in access["roles"].items():
        role = sm.find_role(name) or sm.add_role(name)
        permissions = {p for base in wanted["base"] for p in sm.find_role(base).permissions}
        for permission, view in wanted.get("add", []):
            found = sm.find_permission_view_menu(permission, view)
            if found is None:
                raise SetupError(f"role {name}: Superset has no permission {permission} on {view}")
            permissions.add(found)
        tables = [d for d in db.session.query(SqlaTable) if str(d.uuid).startswith(UUID_PREFIX) and sees(wanted, str(d.schema))]
        permissions |= {sm.add_permission_view_menu("datasource_access", d.perm) for d in tables}
        if wanted.get("databases") == "all":
            whole = [d for d in db.session.query(Database) if str(d.uuid).startswith(UUID_PREFIX)]
            permissions |= {sm.add_permission_view_menu("database_access", d.perm) for d in whole}
        role.permissions = list(permissions)
    for short in short_forms("dashboards").values():
        db.session.query(Dashboard).filter_by(slug=short["slug"]).one().roles = [sm.find_role(name) for name in short["roles"]]
    db.session.commit()
