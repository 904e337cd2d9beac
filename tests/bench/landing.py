"""What is measured on: a landing folder with the records of one source, made once for each format and size."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jobs.demo import generate

MONTH = "2026-10"


@dataclass(frozen=True)
class Layout:
    """How the demo makes records of a format: its own name for it, the source, whose records they are, and how many it makes."""

    demo_format: str
    source: str
    brand: str
    records_per_subscription: float
    """Of all subscriptions, at one record a day: those of the other brand and the fixed lines are made too, and left out."""


LAYOUTS = {
    "delimited": Layout("delimited", "pgw_pipe", "Alpha", 14.24),
    "ts32297": Layout("ts32297", "pgw_ts32297", "Alpha", 14.24),
    "chf": Layout("chf", "chf_ts32297", "Alpha", 14.24),
    "parquet": Layout("delimited", "pgw_flattened", "Beta", 4.23),
}


@dataclass(frozen=True)
class Landing:
    """A folder with a source's files and the export of who is measured, how many records it has, and the month's true octets."""

    folder: Path
    source: str
    records: int
    octets: int


def landing_of(bench: Path, name: str, records: int) -> Landing:
    """About so many records of a format, made unless they are there."""
    layout, folder = LAYOUTS[name], bench / f"{name}_{records}"
    known = folder / "landing.json"
    if not known.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        known.write_text(json.dumps(_made(layout, folder, records)), encoding="utf-8")
    return Landing(folder, layout.source, **json.loads(known.read_text(encoding="utf-8")))


def _made(layout: Layout, folder: Path, records: int) -> dict[str, int]:
    subscriptions = max(20, round(records / layout.records_per_subscription))
    made = generate(folder, date.fromisoformat(f"{MONTH}-01"), subscriptions, 1, 1, [layout.demo_format])
    for place in folder.iterdir():
        if place.is_dir() and place.name not in (layout.source, "subscriptions"):
            shutil.rmtree(place)
    for export in (folder / "subscriptions").iterdir():
        _keep_who_is_measured(export, layout.brand)
    with made.truth.open(encoding="utf-8", newline="") as truth:
        whose = (row for row in csv.DictReader(truth) if (row["network"], row["brand"]) == ("mobile", layout.brand))
        octets = sum(int(row["octets_up"]) + int(row["octets_down"]) for row in whose)
    return {"records": made.records[layout.source], "octets": octets}


def _keep_who_is_measured(export: Path, brand: str) -> None:
    """The mobile subscriptions whose records are there; a month of lines without usage is not plausible."""
    kept = export.with_suffix(".kept")
    with export.open(encoding="utf-8") as lines, kept.open("w", encoding="utf-8") as chosen:
        chosen.write(next(lines))
        chosen.writelines(line for line in lines if ",mobile," in line and line.endswith(f",{brand}\n"))
    kept.replace(export)
