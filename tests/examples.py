"""How many examples a property is tried on: `FUZZ=n` tries n times as many, drawn anew at each run.

Without it the examples are the same on every machine, so that a change is judged by what it changed; `make fuzz` looks for new ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FUZZ = int(os.environ.get("FUZZ", "0"))


def examples(number: int, **given: object) -> settings:
    """Settings of a property test."""
    return settings(
        max_examples=number * max(FUZZ, 1),
        derandomize=not FUZZ,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
