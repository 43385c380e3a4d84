"""What a sample holds and what must become of it: tests compare the platform's outcome with this, to the row."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Manifest:
    """Counts by source; traps with their place; and by source the rows that must be quarantined, by reason."""

    seed: int
    end: str
    size: str
    files: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    quarantined: dict[str, Counter[str]] = field(default_factory=dict)
    duplicates: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[str] = field(default_factory=Counter)
    blocked: Counter[str] = field(default_factory=Counter)
    traps: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source: str, files: int, rows: int) -> None:
        """Counts files and rows of a source."""
        self.files[source] += files
        self.rows[source] += rows

    def trap(self, source: str, name: str, where: str, *, rows: int = 0, reason: str | None = None) -> None:
        """A deliberate defect; with `reason`, `rows` rows of it must be quarantined for that."""
        self.traps.append({"source": source, "trap": name, "where": where, "rows": rows, "reason": reason})
        if reason:
            self.quarantined.setdefault(source, Counter())[reason] += rows

    def write(self, path: Path) -> None:
        """As JSON beside the sample, outside the inbox."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.__dict__, ensure_ascii=False, indent=1, default=dict), encoding="utf-8")
