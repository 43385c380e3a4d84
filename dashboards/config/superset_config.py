"""Superset of the platform: reads one DuckDB file, talks to nobody, speaks Vietnamese.

State (metadata, caches, secrets) lives in TNMT_SUPERSET_HOME, which `dashboards/manage.py` sets. One process with SQLite
is the default; SUPERSET_META_URI and SUPERSET_REDIS_URL move the same configuration to PostgreSQL, Redis and more workers.
"""

import json
import os
import sqlite3
import sys
from pathlib import Path

CONFIG_DIR = Path(__file__).resolve().parent
HOME = Path(os.environ["TNMT_SUPERSET_HOME"])
sys.path.insert(0, str(CONFIG_DIR))

import duck_connect  # noqa: E402
import env_security  # noqa: E402
import superset.translations.utils as translation_packs  # noqa: E402
import superset_hooks  # noqa: E402
from sqlalchemy import event  # noqa: E402
from sqlalchemy.engine import Engine  # noqa: E402

duck_connect.bound_process()

# ---- core
SECRET_KEY = (HOME / "secret_key").read_text().strip()
GUEST_TOKEN_JWT_SECRET = (HOME / "guest_secret").read_text().strip()
SQLALCHEMY_DATABASE_URI = os.environ.get("SUPERSET_META_URI", f"sqlite:///{HOME}/superset.db?check_same_thread=false")
REDIS = os.environ.get("SUPERSET_REDIS_URL")
HTTPS = os.environ.get("SUPERSET_HTTPS") == "1"
ENABLE_PROXY_FIX = HTTPS
FAB_UPDATE_PERMS = os.environ.get("TNMT_SUPERSET_SETUP") == "1"  # permissions are written by the set-up, not by every start
SUPERSET_WEBSERVER_TIMEOUT = 120
ROW_LIMIT, SQL_MAX_ROW, DISPLAY_MAX_ROW = 20_000, duck_connect.MAX_ROWS, 10_000
SQLLAB_TIMEOUT = duck_connect.SQLLAB_SECONDS  # enforced by the watchdog of duck_connect: signals do not reach gunicorn threads


@event.listens_for(Engine, "connect")
def _sqlite_metadata(connection, _record):
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA busy_timeout=15000")
        connection.execute(f"PRAGMA synchronous={'OFF' if FAB_UPDATE_PERMS else 'NORMAL'}")


# ---- caches: charts are cached per version of the serving file (duck_connect), so an hour is never an old hour
def _cache(name: str, seconds: int, redis_db: int) -> dict:
    base = {"CACHE_KEY_PREFIX": f"{name}_", "CACHE_DEFAULT_TIMEOUT": seconds}
    if REDIS:
        return {**base, "CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": f"{REDIS}/{redis_db}"}
    return {**base, "CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(HOME / "cache" / name), "CACHE_THRESHOLD": 5000}


CACHE_CONFIG = _cache("meta", 86_400, 1)
DATA_CACHE_CONFIG = _cache("data", 3_600, 2)
FILTER_STATE_CACHE_CONFIG = {**_cache("filter", 7_776_000, 3), "REFRESH_TIMEOUT_ON_RETRIEVAL": True}
EXPLORE_FORM_DATA_CACHE_CONFIG = {**_cache("explore", 604_800, 4), "REFRESH_TIMEOUT_ON_RETRIEVAL": True}

FEATURE_FLAGS = {
    "DASHBOARD_RBAC": True,
    "RLS_IN_SQLLAB": True,
    "ALERT_REPORTS": False,
    "EMBEDDED_SUPERSET": False,
    "ENABLE_TEMPLATE_PROCESSING": False,
    "ENABLE_JAVASCRIPT_CONTROLS": False,
    "ALLOW_ADHOC_SUBQUERY": False,
    "ESCAPE_MARKDOWN_HTML": True,
}

# ---- DuckDB
duck_connect.install_dialect()
DB_CONNECTION_MUTATOR = duck_connect.mutator
SQL_QUERY_MUTATOR = superset_hooks.mutator

# ---- accounts
CUSTOM_SECURITY_MANAGER = env_security.EnvSecurityManager
EVENT_LOGGER = env_security.ScrubbedEventLogger()
FAB_PASSWORD_COMPLEXITY_ENABLED = True
FAB_PASSWORD_COMPLEXITY_VALIDATOR = env_security.complexity
LOCKOUT_ATTEMPTS, LOCKOUT_MINUTES = 5, 15
PASSWORD_DAYS_OWN, PASSWORD_DAYS_GIVEN = 90, 7
RATELIMIT_ENABLED = True
RATELIMIT_STORAGE_URI = f"{REDIS}/5" if REDIS else "memory://"
RATELIMIT_APPLICATION = "100 per second"
AUTH_RATE_LIMITED, AUTH_RATE_LIMIT = True, "10 per minute"
AUTH_ROLE_PUBLIC, PUBLIC_ROLE_LIKE = "Public", None  # nothing without log-in
PERMANENT_SESSION_LIFETIME = 8 * 3600
SESSION_COOKIE_HTTPONLY, SESSION_COOKIE_SAMESITE, SESSION_COOKIE_SECURE = True, "Lax", HTTPS
WTF_CSRF_ENABLED = True
FAB_API_SWAGGER_UI = False
CORS_OPTIONS = {"origins": []}

# ---- headers: the browser may talk to this server only
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'", "data:"],
        "script-src": ["'self'", "'strict-dynamic'"],
        "frame-ancestors": ["'self'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": HTTPS,
    "strict_transport_security": HTTPS,
}

# ---- Vietnamese: Superset ships no `vi`; manage.py compiles config/translations into the state folder
TRANSLATIONS = HOME / "translations"
LANGUAGES = {"vi": {"flag": "vn", "name": "Tiếng Việt"}, "en": {"flag": "us", "name": "English"}}
BABEL_DEFAULT_LOCALE = "vi"
BABEL_TRANSLATION_DIRECTORIES = str(TRANSLATIONS)
translation_packs.ALL_LANGUAGE_PACKS["vi"] = json.loads((TRANSLATIONS / "vi/LC_MESSAGES/messages.json").read_text("utf-8"))
D3_FORMAT = {"decimal": ",", "thousands": ".", "grouping": [3], "currency": ["", " ₫"]}
D3_TIME_FORMAT = {
    "dateTime": "%A, %e %B %Y, %X",
    "date": "%d/%m/%Y",
    "time": "%H:%M:%S",
    "periods": ["SA", "CH"],
    "days": ["Chủ nhật", "Thứ hai", "Thứ ba", "Thứ tư", "Thứ năm", "Thứ sáu", "Thứ bảy"],
    "shortDays": ["CN", "T2", "T3", "T4", "T5", "T6", "T7"],
    "months": [f"Tháng {i}" for i in range(1, 13)],
    "shortMonths": [f"Th{i}" for i in range(1, 13)],
}


def FLASK_APP_MUTATOR(app) -> None:
    """Hooks that need the finished application."""
    env_security.install(
        app, home_page="/superset/dashboard/toan-canh/", language_pack=TRANSLATIONS / "vi/LC_MESSAGES/messages.json", scripts=HOME / "static"
    )
    duck_connect.install_cache_key()
    superset_hooks.install(app)


# ---- looks
APP_NAME = "Toàn cảnh tài nguyên và môi trường"
_LOGO = (
    "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 190 24' width='190' height='24'>"
    "<circle cx='12' cy='12' r='10' fill='%231b7f3b'/><path d='M7 15c0-6 4-8 10-8 0 6-4 10-8 9' fill='white'/>"
    "<text x='30' y='17' font-family='Inter,Noto Sans,sans-serif' font-size='14' "
    "font-weight='600' fill='%231b7f3b'>Kho dữ liệu TN&amp;MT</text></svg>"
)
THEME_DEFAULT = {
    "algorithm": "default",
    "token": {
        "brandAppName": APP_NAME,
        "brandLogoAlt": "Kho dữ liệu TN&MT",
        "brandLogoUrl": _LOGO,
        "brandLogoHref": "/",
        "brandLogoHeight": "24px",
        "colorPrimary": "#1b7f3b",
        "colorLink": "#1b7f3b",
        "colorError": "#c62828",
        "colorWarning": "#f9a825",
        "colorSuccess": "#2e7d32",
        "colorInfo": "#0277bd",
        "fontFamily": "Inter, 'Noto Sans', Helvetica, Arial, sans-serif",
        "fontUrls": [],
    },
}
THEME_DARK = None
ENABLE_UI_THEME_ADMINISTRATION = False
