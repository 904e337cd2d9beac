"""Completeness: which records of a month never came, as far as network elements number them (TS 32.298 §5.1.2.2.26)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import pyarrow.compute as pc
from pyspark.sql import Row

from jobs.batches import AsOf
from jobs.legal_calendar import Month
from schemas.tables import FILE_BALANCES, SEQUENCES

RESET_GAP = 1_000_000
"""A gap of more numbers than this is a counter that began anew, or went round, not records that were lost."""


class Numbered(Protocol):
    """A row of ``sequences``."""

    source: str
    node: str
    day: date
    records: int
    first_sequence: int
    last_sequence: int


@dataclass(frozen=True)
class Gap:
    """Records of a node that are missing before or on a day."""

    source: str
    node: str
    day: date
    missing: int


def gaps(rows: Iterable[Numbered]) -> list[Gap]:
    """Sequence numbers of each node that no file of its source holds, with the day on which they are missed.

    Files may share a range: what lies between the least and the greatest number of ranges that overlap is looked at together.
    A record that was delivered twice hides a gap.
    """
    by_node: dict[tuple[str, str], list[Numbered]] = {}
    for row in rows:
        by_node.setdefault((row.source, row.node), []).append(row)
    found: list[Gap] = []
    for (source, node), numbered in sorted(by_node.items()):
        last: int | None = None
        for cluster in _clusters(sorted(numbered, key=lambda row: (row.first_sequence, row.last_sequence))):
            first, end = cluster[0].first_sequence, max(row.last_sequence for row in cluster)
            before = first - last - 1 if last is not None else 0
            within = end - first + 1 - sum(row.records for row in cluster)
            missing = sum(gap for gap in (before, within) if 0 < gap <= RESET_GAP)
            if missing:
                found.append(Gap(source, node, min(row.day for row in cluster), missing))
            last = end
    return found


def numbered_in_month(counted: AsOf, month: Month) -> list[Row]:
    """Rows of ``sequences`` of the files that count, of days that lie in a month or touch it."""
    inside = (pc.field("day") >= month.begin.date()) & (pc.field("day") <= month.end.date())
    return counted.few(SEQUENCES, inside)


def gaps_of_month(counted: AsOf, month: Month) -> list[Gap]:
    """Gaps of the files that count, of days that lie in a month or touch it."""
    return gaps(numbered_in_month(counted, month))


def files_of_month(counted: AsOf, month: Month) -> list[Row]:
    """Balances of the files that count and hold records of a month, or of no time that is known."""
    outside = (pc.field("last_closed_at") < month.begin) | (pc.field("first_closed_at") >= month.end)
    return counted.few(FILE_BALANCES, outside.is_null() | ~outside)


def _clusters(rows: Sequence[Numbered]) -> Iterable[list[Numbered]]:
    """Rows whose ranges overlap, together."""
    cluster: list[Numbered] = []
    end = -1
    for row in rows:
        if cluster and row.first_sequence > end:
            yield cluster
            cluster, end = [], -1
        cluster.append(row)
        end = max(end, row.last_sequence)
    if cluster:
        yield cluster
