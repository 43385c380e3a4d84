"""The whole pipeline in one call: take in, build marts, serve. What `tnmt run` and the Dagster job do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from ingestion.ingest import Ingested, Moment, ingest
from lake.serving import Served
from orchestration.marts import Built, build, serve_marts
from tnmt.settings import Settings


@dataclass(frozen=True)
class Ran:
    """Outcome of one run; `built` and `served` are None where only sources were taken in."""

    ingested: Ingested
    built: Built | None
    served: Served | None


def run(
    settings: Settings,
    *,
    now: Moment,
    as_of: datetime,
    run_id: str,
    only: Iterable[str] | None = None,
    marts: bool = True,
    full: bool = False,
    step: Callable[[str, str], None] | None = None,
) -> Ran:
    """Takes in the inboxes, builds what changed and serves it. `now` is the arrival time of what is new; `as_of` the "now" of the marts.

    Nothing new, nothing done: a second run on the same inboxes and as-of time builds and serves nothing.
    """
    say = step or (lambda what, stage: None)
    ingested = ingest(settings, now=now, run_id=run_id, only=only, step=step)
    if not marts:
        return Ran(ingested, None, None)
    say("marts", "dbt build")
    built = build(
        settings,
        as_of,
        run_id,
        now() if callable(now) else now,
        full=full,
        say=lambda line: say("marts", line) if " OK " in line or " of " in line else None,
    )
    say("serving", "publish")
    return Ran(ingested, built, serve_marts(settings, as_of))
