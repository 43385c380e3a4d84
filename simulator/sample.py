"""The whole sample: a function of (seed, end, size)."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from simulator import decisions, laboratory, land, procedures, scans, telemetry
from simulator.manifest import Manifest
from simulator.province import build, write_registers
from simulator.size import Size


def generate(out: Path, reference: Path, seed: int, end: date, size: Size) -> Manifest:
    """Writes what every sender would have handed over by the end of the day `end` below `out/<source>/`.

    `reference` is the folder of the reference tables. The manifest is returned, and written beside `out` as
    `sample-manifest.json`. A File Geodatabase holds the time of its making: only its rows are equal from run to run.
    """
    manifest = Manifest(seed, end.isoformat(), size.name)
    province = build(reference, seed, size)
    write_registers(out, province, end, size)
    telemetry.write(out, province, seed, end, size, manifest)
    decisions.write(out, province, end, size, manifest)
    laboratory.write(out, province, seed, end, manifest)
    certificates = land.write(out, province, seed, end, size, manifest)
    scans.write(out, certificates, seed, end, size, manifest)
    procedures.write(out, province, seed, end, size, manifest)
    procedures.write_programme(out, reference, seed, end, manifest)
    manifest.write(out.parent / "sample-manifest.json")
    return manifest
