"""What Superset lacks around accounts: lock-out, a rate limit that works, passwords that expire, an audit log without secrets."""

import logging
import re
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from flask import current_app, g, jsonify, redirect, request, send_file
from flask_appbuilder.exceptions import PasswordComplexityValidationError
from flask_appbuilder.security.sqla.models import User
from superset.security import SupersetSecurityManager
from superset.utils.log import DBEventLogger

log = logging.getLogger("audit")

STATE_META = sa.MetaData()
STATE = sa.Table(
    "tnmt_account_state",
    STATE_META,
    sa.Column("user_id", sa.Integer, primary_key=True),
    sa.Column("locked_until", sa.DateTime),
    sa.Column("change_password_by", sa.DateTime),
)
# a user whose password has run out may still reach these
OPEN_PATHS = (
    "/static/",
    "/login",
    "/logout",
    "/user_info/",
    "/api/v1/me/",
    "/api/v1/security/",
    "/superset/log/",
    "/language_pack/",
    "/superset/language_pack/",
    "/health",
    "/lang/",
)
COLOURS = re.compile(r"/api/v1/dashboard/[^/]+/colors")


def complexity(password: str) -> None:
    """At least twelve characters of four kinds."""
    if len(password) < 12 or not all(re.search(kind, password) for kind in ("[A-Z]", "[a-z]", r"\d", r"[\W_]")):
        raise PasswordComplexityValidationError("Mật khẩu phải có ít nhất 12 ký tự, gồm chữ hoa, chữ thường, số và ký tự đặc biệt")


def _state(connection, user_id: int):
    return connection.execute(sa.select(STATE).where(STATE.c.user_id == user_id)).mappings().first()


def _note(connection, user_id: int, **values) -> None:
    if _state(connection, user_id):
        connection.execute(STATE.update().where(STATE.c.user_id == user_id).values(**values))
    else:
        connection.execute(STATE.insert().values(user_id=user_id, **values))


@sa.event.listens_for(User, "after_insert")
def _account_made(_mapper, connection, user) -> None:
    _note(connection, user.id, change_password_by=datetime.now() + timedelta(days=current_app.config["PASSWORD_DAYS_GIVEN"]))


@sa.event.listens_for(User, "after_update")
def _password_changed(_mapper, connection, user) -> None:
    if sa.inspect(user).attrs.password.history.has_changes():
        own = getattr(getattr(g, "user", None), "id", None) == user.id
        days = current_app.config["PASSWORD_DAYS_OWN" if own else "PASSWORD_DAYS_GIVEN"]
        _note(connection, user.id, change_password_by=datetime.now() + timedelta(days=days))


class EnvSecurityManager(SupersetSecurityManager):
    """Superset's security manager with lock-out and a rate limit on the addresses that take passwords."""

    def auth_user_db(self, username, password):
        """A locked account is refused whatever the password."""
        user = self.find_user(username=username)
        state = _state(self.session.connection(), user.id) if user is not None else None
        if state and state["locked_until"] and state["locked_until"] > datetime.now():
            log.warning("login refused: locked user=%s ip=%s", username, request.remote_addr)
            return None
        return super().auth_user_db(username, password)

    def on_user_login(self, user):
        """Notes who came in."""
        log.warning("login ok user=%s ip=%s", user.username, request.remote_addr)

    def on_user_login_failed(self, user):
        """Locks the account after too many failures in a row."""
        log.warning("login failed user=%s n=%s ip=%s", user.username, user.fail_login_count, request.remote_addr)
        if user.fail_login_count >= current_app.config["LOCKOUT_ATTEMPTS"]:
            until = datetime.now() + timedelta(minutes=current_app.config["LOCKOUT_MINUTES"])
            _note(self.session.connection(), user.id, locked_until=until)
            self.session.commit()
            user.fail_login_count = 0
            self.update_user(user)

    def register_views(self):
        """Superset 6.1 limits its own view, but the form posts to AuthDBView and the API log-in is not limited at all."""
        super().register_views()
        for view in self.appbuilder.baseviews:
            if type(view).__name__ in ("AuthDBView", "SecurityApi") and getattr(view, "blueprint", None) is not None:
                self.limiter.limit(current_app.config["AUTH_RATE_LIMIT"], methods=["POST"])(view.blueprint)


def _signed_in():
    """The account of a browser's session, None where there is none. (A token of the API is read after the request hooks.)"""
    user = getattr(g, "user", None)
    return None if user is None or getattr(user, "is_anonymous", True) or not getattr(user, "id", None) else user


def install(app, home_page: str, language_pack: Path, scripts: Path) -> None:
    """Request hooks and the table of account states. `scripts` holds those of Superset's that are served in place of its own."""
    ours = {f"/static/assets/{script.name}": script for script in scripts.glob("*.js")}

    @app.before_request
    def _pages():
        if request.path == "/" and request.method == "GET":
            return redirect(home_page)
        if request.path in ours:
            return send_file(ours[request.path], mimetype="text/javascript", max_age=86_400)
        if request.path.endswith("/language_pack/vi/"):  # Superset's own view only looks into its package
            return send_file(language_pack, mimetype="application/json", max_age=3600)
        return None

    @app.before_request
    def _password_ran_out():
        user = _signed_in()
        if user is None or request.path.startswith(OPEN_PATHS):
            return None
        from superset import db

        state = _state(db.session.connection(), user.id)
        if state and state["change_password_by"] and state["change_password_by"] < datetime.now():
            if request.path.startswith("/api/"):
                return jsonify(message="Cần đổi mật khẩu"), 403
            return redirect("/user_info/")
        return None

    @app.before_request
    def _colours_stay():
        """A page that is left stores its map of colours, whoever looks: 403 for readers, and a race of the others. Ours come from our files."""
        if request.method == "PUT" and COLOURS.fullmatch(request.path) and _signed_in() is not None:
            return jsonify(result=[])
        return None

    with app.app_context():
        from superset import db

        STATE_META.create_all(db.engine)


SECRETS = {
    "password",
    "conf_password",
    "new_password",
    "old_password",
    "sqlalchemy_uri",
    "encrypted_extra",
    "masked_encrypted_extra",
    "passwords",
    "guest_token",
}
NOISE = {
    "execute_sql",
    "_get_data_response",
    "ChartDataRestApi.json_dumps",
    "QueryObject.post_processing",
    "load_into_dataframe",
    "QueryContext.df_metrics_to_num",
    "csrf_token",
}


def scrub(value):
    """The same, with the values of secret keys replaced."""
    if isinstance(value, dict):
        return {k: "***" if str(k).lower() in SECRETS else scrub(v) for k, v in value.items()}
    return [scrub(v) for v in value] if isinstance(value, list) else value


class ScrubbedEventLogger(DBEventLogger):
    """Superset writes request bodies into its audit table, passwords included; this one does not."""

    def log(self, user_id, action, dashboard_id, duration_ms, slice_id, referrer, *args, **kwargs):
        """Writes the record without secrets, and no record of inner steps."""
        if action in NOISE:
            return
        kwargs["records"] = [scrub(r) for r in kwargs.get("records", [])]
        if kwargs.get("curated_payload"):
            kwargs["curated_payload"] = scrub(kwargs["curated_payload"])
        super().log(user_id, action, dashboard_id, duration_ms, slice_id, referrer, *args, **kwargs)
