"""Which lake this is, where its files lie, and which home may write into it: what is asked before anything is made, moved or deleted.

A lake is known by the UUID that DuckLake gave its first schema. A file beside the data says the same, so that a catalog
that was lost, restored or taken from elsewhere is never believed about data that it does not know.
"""

from __future__ import annotations

import json
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tnmt.settings import Settings

MARKER = "tnmt-lake.json"
"""Beside the data: {"lake": UUID, "catalog": path of an embedded one}. DuckLake's own clean-up looks at Parquet files only."""

LANDING = "landing.json"
"""In the landing folder: its number."""

META = "__ducklake_metadata_lake"


class LakeError(Exception):
    """The lake cannot be opened or made; the text says what to do."""


def quoted(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Found:
    """Parquet files that lie where the lake's data belong."""

    files: int
    example: str


def lake_id(con: duckdb.DuckDBPyConnection) -> str:
    """The UUID of the attached lake."""
    return str(con.execute(f"SELECT schema_uuid FROM {META}.ducklake_schema WHERE schema_id = 0 LIMIT 1").fetchall()[0][0])


def data_found(con: duckdb.DuckDBPyConnection, settings: Settings) -> Found:
    """What lies under the data path, whether or not a catalog knows it."""
    count, example = con.execute("SELECT count(*), min(file) FROM glob(?)", [settings.data_path + "**/*.parquet"]).fetchall()[0]
    return Found(int(count), str(example or ""))


def marked(con: duckdb.DuckDBPyConnection, settings: Settings) -> str | None:
    """The UUID that the marker beside the data names, or None where there is no marker. A marker that cannot be read names nothing: ''."""
    found = _marker(con, settings)
    return None if found is None else str(found.get("lake", ""))


def other_catalog(con: duckdb.DuckDBPyConnection, settings: Settings) -> Path | None:
    """Another embedded catalog of the same lake that is there too, where the data lie outside the home: a copy, whose files this one does not know."""
    if not settings.is_sqlite or settings.on_s3 or Path(settings.data_path).resolve().is_relative_to(settings.home):
        return None
    said = str((_marker(con, settings) or {}).get("catalog") or "")
    other = Path(said) if said else None
    return other if other and other.exists() and other.resolve() != _catalog_file(settings).resolve() else None


def _catalog_file(settings: Settings) -> Path:
    return settings.lake_dir / "catalog.sqlite"


def _marker(con: duckdb.DuckDBPyConnection, settings: Settings) -> dict[str, str] | None:
    path = settings.data_path + MARKER
    if not con.execute("SELECT 1 FROM glob(?)", [path]).fetchall():
        return None
    with suppress(ValueError, KeyError, TypeError, duckdb.Error):
        return dict(json.loads(con.execute("SELECT content FROM read_text(?)", [path]).fetchall()[0][0]))
    return {}


def mark(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Writes the marker of the attached lake beside its data."""
    catalog = quoted(str(_catalog_file(settings))) if settings.is_sqlite else "NULL"
    con.execute(f"COPY (SELECT {quoted(lake_id(con))} AS lake, {catalog} AS catalog) TO {quoted(settings.data_path + MARKER)} (FORMAT json)")


def files_known(con: duckdb.DuckDBPyConnection, settings: Settings) -> tuple[int, int, int]:
    """(files that the attached catalog names, those of them that lie under the data path, Parquet files that lie there and it does not name)."""
    named, present, strangers = con.execute(
        f"""
        WITH lying AS (SELECT parse_filename(file) AS name FROM glob(?)),
        named AS (
            SELECT parse_filename(path) AS name FROM {META}.ducklake_data_file
            UNION SELECT parse_filename(path) FROM {META}.ducklake_delete_file
            UNION SELECT parse_filename(path) FROM {META}.ducklake_files_scheduled_for_deletion
        )
        SELECT count(named.name), count(*) FILTER (named.name IS NOT NULL AND lying.name IS NOT NULL), count(*) FILTER (named.name IS NULL)
        FROM named FULL JOIN lying USING (name)""",
        [settings.data_path + "**/*.parquet"],
    ).fetchall()[0]
    return int(named), int(present), int(strangers)


def same_lake(con: duckdb.DuckDBPyConnection, settings: Settings) -> bool:
    """Whether the data under the data path are those of the attached catalog: by the marker, or by the files where none was written yet."""
    found = marked(con, settings)
    if found is not None:
        return found == lake_id(con)
    named, present, strangers = files_known(con, settings)
    return present > 0 and present >= 0.9 * named and strangers <= present


def lost(settings: Settings, found: Found) -> LakeError:
    """The words where data lie without their catalog."""
    catalog = f"{settings.lake_dir / 'catalog.sqlite'}" if settings.is_sqlite else "the lake's tables in the database that TNMT_CATALOG names"
    return LakeError(
        f"the catalog of the lake is gone (expected {catalog}), but {found.files} data files lie in {settings.data_path} (for instance {found.example}). "
        "Stop what writes, and put the catalog back from its backup of the same time (docs/production.md, Backup); "
        "do not make a new lake there: it would not know these files. For a new, empty lake take another TNMT_HOME (or TNMT_DATA)"
    )


def home_id(settings: Settings) -> str:
    """The number of this home; made once."""
    return _number(settings.home / "home.json", "home", "home")


def _number(path: Path, key: str, what: str) -> str:
    """The number that the file names under `key`, made where there is no such file; raises LakeError where the file says something else."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))[key])
    except FileNotFoundError:
        made = uuid.uuid4().hex
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({key: made}), encoding="utf-8")
        temporary.replace(path)
        return made
    except (ValueError, KeyError, TypeError):
        raise LakeError(f"{path} does not name this {what}, as it should; remove it and run `tnmt init`") from None


def check_home(con: duckdb.DuckDBPyConnection, settings: Settings, *, join: bool = False, moved: bool = False) -> None:
    """Whether this home may write into the attached lake (under the writer lock); raises LakeError with what to do where it may not.

    The first home enters itself. `join` enters a further one, which shares data path, token key and landing folder with it;
    `moved` says that the home whose number this one has lies here now.
    """
    rows = con.execute("SELECT home_id, host, path, data_path, key_fingerprint, landing FROM lake.ops.home").fetchall()
    if not rows and not settings.token_key_file.exists() and not con.execute("SELECT 1 FROM lake.ops.landed LIMIT 1").fetchall():
        settings.make_token_key()
    landing = _landing_number(con, settings, rows)
    own = (home_id(settings), socket.gethostname(), str(settings.home), settings.data_path, settings.key_fingerprint, landing)
    if own in rows:
        return
    if rows:
        _fits(settings, own, rows)
    here = [r for r in rows if r[0] == own[0]]
    others = [r for r in rows if r[0] != own[0]]
    if here and not moved and not settings.is_sqlite:
        raise _another(here[0], own)
    if others and not here and not join and not settings.is_sqlite:
        raise LakeError(
            f"this catalog belongs to the home at {others[0][1]}:{others[0][2]}; this one is {own[1]}:{own[2]}. Take a catalog of its own (TNMT_CATALOG), "
            "or, where both sites shall feed one lake, share data path, token key and landing folder and run `tnmt init --join` (docs/production.md, Two sites)"
        )
    con.execute("BEGIN")
    # an embedded catalog lies in its home: there is no other
    con.execute("DELETE FROM lake.ops.home" + ("" if settings.is_sqlite else " WHERE home_id = ?"), [] if settings.is_sqlite else [own[0]])
    con.execute("INSERT INTO lake.ops.home VALUES (?, ?, ?, ?, ?, ?)", list(own))
    con.execute("COMMIT")


def _fits(settings: Settings, own: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Refuses another key, and of a shared catalog another data path or landing folder."""
    if all(r[4] != own[4] for r in rows):
        raise LakeError(
            f"{settings.token_key_file} is not the key of this lake (fingerprint {own[4]}, expected {rows[0][4]}): persons would get other tokens than before. "
            "Put the lake's own key there, from its safe copy"
        )
    strangers = [r for r in rows if r[0] != own[0]]
    if not strangers or settings.is_sqlite:
        return
    if all(r[3] != own[3] for r in strangers):
        raise LakeError(
            f"this catalog belongs to the home at {strangers[0][1]}:{strangers[0][2]} and its data lie in {strangers[0][3]}, found {own[3]} here: "
            "set TNMT_DATA to the same place, which both must reach, or take a catalog of its own"
        )
    if all(r[5] != own[5] for r in strangers):
        raise LakeError(
            f"{settings.landing} is not the landing folder of this lake: what one home lands, the other must be able to gate. "
            f"Mount or link the folder {Path(strangers[0][2]) / 'landing'} of {strangers[0][1]} there"
        )


def _another(known: tuple[str, ...], own: tuple[str, ...]) -> LakeError:
    """The words where a home is not as the catalog knows it, by what differs: its place, or what belongs to it."""
    if known[1:3] != own[1:3]:
        return LakeError(
            f"this catalog knows home {own[0][:8]} at {known[1]}:{known[2]}, found it at {own[1]}:{own[2]}: two homes must not feed one lake as if they were one. "
            "If it was moved here for good, run `tnmt init --moved`; if it is a copy beside the first, remove its home.json and run `tnmt init --join`"
        )
    names = {3: "data path", 4: "token key", 5: "landing folder"}
    differing = "; ".join(f"{name}: expected {known[at] or 'none'}, found {own[at]}" for at, name in names.items() if known[at] != own[at])
    return LakeError(
        f"this home is not as the catalog knows it ({differing}). Mount or link what belongs to it; if it was exchanged for good, run `tnmt init --moved`"
    )


def _landing_number(con: duckdb.DuckDBPyConnection, settings: Settings, homes: list[tuple[str, ...]]) -> str:
    """The number of the landing folder, made where there is none; raises LakeError where the ledger keeps bytes in a folder that is not this one.

    A mount that failed leaves an empty folder: what is landed into it, and gated again without it, would be lost.
    """
    known = {h[5]: h for h in homes if h[5]}
    numbered = settings.landing / LANDING
    found = landing_id(settings) if numbered.exists() else None
    if known and found not in known and con.execute("SELECT 1 FROM lake.ops.landed WHERE stored = 'landing' LIMIT 1").fetchall():
        number, home = next(iter(known.items()))
        raise LakeError(
            f"{settings.landing} is not the landing folder of this lake: expected number {number} in {LANDING}, found {found or 'no such file'}, but the ledger "
            f"names deliveries whose bytes lie in it. Mount or link the folder of {home[1]}:{home[2]} there, or put it back from its backup. If its files are "
            f'lost for good, write {{"landing": "{number}"}} into {numbered}: these deliveries can never be gated again then'
        )
    return landing_id(settings)


def landing_id(settings: Settings) -> str:
    """The number of the landing folder; made once, so that two homes can tell whether they share it."""
    return _number(settings.landing / LANDING, "landing", "landing folder")
