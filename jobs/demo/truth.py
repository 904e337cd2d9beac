"""What is true of the demo: the octets of every subscription in the month, and how often each thing occurs."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.demo.deliveries import completed, text_file
from jobs.demo.export import brand, network
from jobs.demo.identifiers import subscription_ids, text
from jobs.demo.incidents import Fate
from jobs.demo.month import Integers
from jobs.demo.plan import Plan
from jobs.demo.sources import Source
from jobs.demo.subscribers import subscribers
from jobs.demo.turns import Turn
from jobs.demo.usage import Kind, Usage

HEADER = b"subscription_id,network,brand,octets_up,octets_down,active_days,is_unknowable\n"
COLUMNS = 3
"""Octets up, octets down, corrupt records."""


@dataclass(frozen=True)
class Ledger:
    """Octets and corrupt records of every subscription, kept in a file so that memory does not grow with them."""

    file: Any

    def open_page(self, count: int) -> None:
        """Append empty rows for so many subscriptions."""
        self.file.seek(0, os.SEEK_END)
        self.file.write(bytes(8 * COLUMNS * count))

    def of(self, first: int, count: int) -> Integers:
        """A row per subscription, from the first one on."""
        self.file.seek(8 * COLUMNS * first)
        return np.frombuffer(self.file.read(8 * COLUMNS * count), dtype=np.int64).reshape(-1, COLUMNS).copy()

    def add(self, index: Integers, entries: Integers) -> None:
        """Add a row each to subscriptions of one chunk; a subscription may come more than once."""
        if len(index):
            first, last = int(index.min()), int(index.max())
            rows = self.of(first, last - first + 1)
            np.add.at(rows, index - first, entries)
            self.file.seek(8 * COLUMNS * first)
            self.file.write(rows.tobytes())


def enter(ledger: Ledger, turn: Turn) -> None:
    """Enter the records of a turn: the octets of a corrupt one are lost, every other one counts once."""
    usage = turn.usage.where(turn.usage.is_attributed)
    is_lost = turn.fate[turn.usage.is_attributed] == Fate.CORRUPT
    inside = [turn.source.octets_inside(octets, usage) * ~is_lost for octets in (usage.up, usage.down)]
    ledger.add(turn.who.index[usage.holder], np.stack([*inside, is_lost & ~usage.is_empty], axis=1))


def write_truth(plan: Plan, ledger: Ledger) -> Path:
    """One line per subscription active in the month, also without usage."""
    path = plan.landing / f"truth_{plan.month.first:%Y-%m}.csv"
    with text_file(path, HEADER) as delivery:
        for chunk in range(plan.chunks):
            who = subscribers(plan, chunk)
            up, down, lost = ledger.of(int(who.index[0]), len(who)).T
            days = text(who.active_days(plan))
            is_unknowable = pc.if_else(pa.array(lost > 0), "true\n", "false\n")
            columns = (subscription_ids(who.index), network(who), brand(who), text(up), text(down), days, is_unknowable)
            delivery.write(pc.binary_join_element_wise(*columns, ","))
    return path


def write_counts(plan: Plan, counts: dict[str, Counter[str]]) -> Path:
    """How often each thing occurs, by source."""
    path = plan.landing / f"truth_{plan.month.first:%Y-%m}.json"
    asked = {"month": f"{plan.month.first:%Y-%m}", "subscriptions": plan.subscriptions, "seed": plan.seed}
    known = asked | {"records_per_day": plan.records_per_day, "sources": counts}
    with completed(path) as part:
        part.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def count(turn: Turn) -> Counter[str]:
    """What occurs in the records of a turn; corrupt ones are counted apart, every other one once."""
    month, usage, fate = turn.source.plan.month, turn.usage, turn.fate
    sound = fate != Fate.CORRUPT
    named = {
        "distinct_records": sound,
        "roaming_records": sound & (usage.zone > 0),
        "empty_records": sound & usage.is_empty,
        "late_records": fate == Fate.LATE,
        "duplicate_records": (fate == Fate.REPEATED) | (fate == Fate.REPEATED_LATE),
        "conflicting_records": fate == Fate.CONFLICTING,
        "records_across_month_start": sound & turn.source.crosses(month.start, usage),
        "records_across_month_end": sound & turn.source.crosses(month.end, usage),
        "records_outside_month": sound & turn.source.lies_outside(usage),
    }
    counts = Counter({name: int(np.count_nonzero(chosen)) for name, chosen in named.items()})
    for kind in Kind:
        counts.update(_octets(turn.source, usage.where(sound & (usage.kind == kind)), kind.name.lower()))
    lost = usage.where(~sound)
    counts.update(corrupt_octets_up=int(lost.up.sum()), corrupt_octets_down=int(lost.down.sum()))
    counts.update(turn.corrupt())
    return counts


def _octets(source: Source, usage: Usage, name: str) -> Counter[str]:
    return Counter(
        {
            f"{name}_records": len(usage),
            f"{name}_octets_up": int(usage.up.sum()),
            f"{name}_octets_down": int(usage.down.sum()),
            f"{name}_octets_up_in_month": int(source.octets_inside(usage.up, usage).sum()),
            f"{name}_octets_down_in_month": int(source.octets_inside(usage.down, usage).sum()),
        }
    )
