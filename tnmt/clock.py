"""The one place where the clock is read. Everything else is told what time it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from tnmt.settings import Settings


def now() -> datetime:
    """The present moment, GMT+7 without zone, to the second."""
    return (datetime.now(UTC) + timedelta(hours=7)).replace(tzinfo=None, microsecond=0)


def as_local(moment: datetime) -> datetime:
    """A moment that names its offset as GMT+7 without zone; one without is that already."""
    return moment if moment.tzinfo is None else (moment.astimezone(UTC) + timedelta(hours=7)).replace(tzinfo=None)


def sample_moment(settings: Settings) -> datetime | None:
    """The moment at which the sample of this platform ends; None where it holds none."""
    path = settings.home / "sample.json"
    return datetime.fromisoformat(json.loads(path.read_text())["as_of"]) if path.exists() else None


def default_as_of(settings: Settings) -> datetime:
    """The as-of time of a run that names none: the end of the sample where the platform holds one, else now."""
    return sample_moment(settings) or now()
