"""The whole pipeline in one call: take in, build marts, serve. What `tnmt run` does; Dagster does the same in steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingestion.ingest import Ingested, ingest
from ingestion.model import Arrival, Moment
from lake.serving import Served
from marts.build import Built, build, serve_marts
from tnmt.clock import now, sample_moment
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
    now: Moment | Arrival,
    as_of: Moment,
    run_id: str,
    only: Iterable[str] | None = None,
    marts: bool = True,
    full: bool = False,
    step: Callable[[str, str], None] | None = None,
) -> Ran:
    """Takes in the inboxes, builds what changed and serves it. `now` is the arrival time of what is new; `as_of` the "now" of the marts.

    A clock as `as_of` is asked after the inboxes, so that what has just arrived counts.

    Nothing new, nothing done: a second run on the same inboxes and as-of time builds and serves nothing.
    """
    say = step or (lambda what, stage: None)
    ingested = ingest(settings, now=now, run_id=run_id, only=only, step=step)
    if not marts:
        return Ran(ingested, None, None)
    say("marts", "dbt build")
    moment = as_of_after(ingested.at, as_of)
    built = build(
        settings,
        moment,
        run_id,
        Arrival.of(now).at,
        full=full,
        say=lambda line: say("marts", line) if " OK " in line or " of " in line else None,
    )
    say("serving", "publish")
    return Ran(ingested, built, serve_marts(settings, moment))


def arrival_on(settings: Settings) -> Moment | Arrival:
    """When what lies in the inboxes of a platform arrives: now; on that of a sample at the sample's moment, whenever it is taken in."""
    sample = sample_moment(settings)
    return now if sample is None else Arrival(sample, stands=True)


SET_BACK = timedelta(hours=1)
"""How far arrivals may lie ahead of the clock and still say what time it is: further, the clock of then was wrong."""


def as_of_after(newest: datetime | None, as_of: Moment) -> datetime:
    """The "now" of the marts after a take-in whose newest delivery arrived then: the moment that was given, or of a clock one at which all has arrived."""
    if not callable(as_of):
        return as_of
    moment = as_of()
    return newest if newest is not None and moment < newest <= moment + SET_BACK else moment
