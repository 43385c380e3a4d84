"""Walks through the graph of assets."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import dagster as dg


def downstream(graph: Any, start: Iterable[dg.AssetKey], with_step: Callable[[dg.AssetKey], Collection[dg.AssetKey]]) -> set[dg.AssetKey]:
    """`start` and what is made of it, and of that; `with_step` names all that is made in the step of a key (nothing: not to be followed)."""
    found = {*start}
    waiting = [*found]
    while waiting:
        new = {key for child in graph.get(waiting.pop()).child_keys for key in with_step(child)} - found
        found |= new
        waiting += new
    return found
