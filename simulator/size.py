"""How large a sample is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Counts of one sample. Telemetry: `hourly_days` as exports of the old receiver, then `file_days` as station files."""

    name: str
    wastewater: int
    emission: int
    surface_water: int
    ambient_air: int
    hourly_days: int
    file_days: int
    parcels: int
    scans: int
    dossiers: int

    @property
    def stations(self) -> int:
        """Stations of the four matrices."""
        return self.wastewater + self.emission + self.surface_water + self.ambient_air


SIZES = {
    size.name: size
    for size in (
        Size("XS", 3, 1, 1, 1, 1, 1, 300, 20, 60),
        Size("S", 12, 4, 2, 2, 0, 7, 5_000, 200, 500),
        # seed 000, IV.3: 150 wastewater and 50 emission stations expected, 5 + 1 surface water, 3 + 4 air
        Size("sample", 150, 50, 6, 7, 58, 2, 50_000, 1_000, 5_000),
    )
}
