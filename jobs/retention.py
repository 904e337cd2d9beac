"""Retention: what may no longer be kept, by the settings, the law and what is published.

Records, and the files they came in, are kept for ``records_kept_days`` after their month ended and was published, and a year
at the longest (CPCE R10-14); figures for ``figures_kept_months`` full months: as long as they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pyarrow import fs
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import ledger
from jobs.accept import due as to_read
from jobs.batches import AsOf, read_batches
from jobs.conflicts import settled
from jobs.lake import collected
from jobs.land import Delivery, place_of, read_deliveries
from jobs.legal_calendar import months_before
from jobs.month import lasts_into
from jobs.places import filesystem
from jobs.pseudonyms import IDENTIFIER_KEY, SERVING_KEY
from jobs.run import LONGEST_RECORDS_DAYS
from jobs.workplace import Workplace
from schemas.table import Table
from schemas.tables import (
    ACCEPTED,
    BATCHES,
    CARRIED,
    CORRECTIONS,
    DELTAS,
    ESTIMATED,
    FILE_BALANCES,
    METERED,
    PUBLISHED,
    READINGS,
    REVISIONS,
    SUBSCRIBED,
    SUBSCRIPTIONS,
)

FIGURES = (METERED, SUBSCRIBED, ESTIMATED, REVISIONS, PUBLISHED, CORRECTIONS)
"""Tables with rows of a subscription and month."""
RECORDS = (ACCEPTED, READINGS, DELTAS, CARRIED)
"""Tables with what network elements measured, and what follows from it record by record."""
_LONGEST_MONTH_DAYS = 31


@dataclass(frozen=True)
class Due:
    """What is to be erased now."""

    record_months: Sequence[date]
    """Months whose records go."""
    unpublished: Sequence[date]
    """Months whose records would go if they were published."""
    first_month: date
    """First month whose records stay; assignments and files that ended before it go."""
    old_batch: int
    """Last batch that is as old as the records of a published month may get; what is of no month goes with it."""
    oldest_batch: int
    """Last batch that is as old as any record may get."""
    files: Sequence[Delivery]
    """Files that go."""
    first_figures: date
    """First month whose figures stay."""
    figure_months: Sequence[date]
    """Months whose figures go."""


def due(workplace: Workplace) -> Due:
    """What is to be erased now."""
    kept_days, now = workplace.settings.records_kept_days, workplace.now()
    published = set(ledger.current_by_month(workplace.lake))
    held = {month for table in RECORDS for month in months_of(workplace, table)}
    expired = {month for month in held if records_end(workplace, month, month in published) <= now}
    # Assignments and files of the month that is the first to be kept anyway, though it may have no record yet.
    first_month = min([_month_of(workplace, now - timedelta(days=kept_days)), *(held - expired)])
    old, oldest = (now - timedelta(days=days) for days in (kept_days + _LONGEST_MONTH_DAYS, LONGEST_RECORDS_DAYS))
    first_figures = months_before(_month_of(workplace, now), workplace.settings.figures_kept_months)
    return Due(
        sorted(expired),
        sorted(month for month in held - expired if records_end(workplace, month, True) <= now),
        first_month,
        _last_batch(workplace, old),
        _last_batch(workplace, oldest),
        _expired_files(workplace, first_month, old),
        first_figures,
        sorted({month for table in FIGURES for month in months_of(workplace, table) if month < first_figures}),
    )


def records_end(workplace: Workplace, usage_month: date, is_published: bool) -> datetime:
    """When the records of a month must go."""
    month = workplace.month(usage_month)
    longest = month.begin + timedelta(days=LONGEST_RECORDS_DAYS)
    return min(longest, month.end + timedelta(days=workplace.settings.records_kept_days)) if is_published else longest


def months_of(workplace: Workplace, table: Table) -> list[date]:
    """Months that a table has rows of."""
    return [row.usage_month for row in workplace.lake.read(table).select("usage_month").distinct().collect()]


def ended_assignments(workplace: Workplace, found: Due) -> DataFrame:
    """Keys of assignments that no kept month needs: ended in their last version, or withdrawn long ago.

    All versions of an assignment go together; were the last one to go alone, an earlier one would have it last again.

    Returns:
        ``record_key``.
    """
    now = AsOf.now(workplace.lake)
    every = workplace.lake.read(SUBSCRIPTIONS).where(F.col("batch") <= now.cutoff)
    counting = settled(now, SUBSCRIPTIONS)
    of_kept_keys = F.col("keys_from") >= F.lit(workplace.keys_from(found.first_month))
    lasting = counting.where(lasts_into(workplace.month(found.first_month)) & of_kept_keys).select("record_key")
    ended = counting.select("record_key").join(lasting, "record_key", "left_anti")
    withdrawn = every.join(counting.select("record_key"), "record_key", "left_anti").groupBy("record_key")
    long_ago = withdrawn.agg(F.max("batch").alias("batch")).where(F.col("batch") <= found.old_batch).select("record_key")
    return ended.union(long_ago).distinct()


def idle_keys(workplace: Workplace, found: Due) -> list[str]:
    """Files of keys that serve no month that is kept."""
    first = {IDENTIFIER_KEY: found.first_month, SERVING_KEY: min(found.first_month, found.first_figures)}
    idle = []
    for name, keys in workplace.keys.items():
        for term, successor in zip(keys.terms, keys.terms[1:], strict=False):
            if successor.serves_from <= first[name] and (keys.folder / term.file_name).exists():
                idle.append(str(keys.folder / term.file_name))
    return idle


def _month_of(workplace: Workplace, instant: datetime) -> date:
    return instant.astimezone(workplace.settings.legal_timezone).date().replace(day=1)


def _last_batch(workplace: Workplace, until: datetime) -> int:
    rows = workplace.lake.small(BATCHES)
    return max((int(row.batch) for row in rows if row.state == "committed" and row.written_at <= until), default=0)


def _expired_files(workplace: Workplace, first_month: date, old: datetime) -> list[Delivery]:
    """Files that are still there though all they hold closed before the first month; without times, by when they came.

    A file that is still to be read stays: its records would be lost.
    """
    lake, begin = workplace.lake, workplace.month(first_month).begin
    deliveries = read_deliveries(lake)
    by_file = lake.read(FILE_BALANCES).groupBy("file_number").agg(F.max("last_closed_at").alias("last"))
    last_closed = {row.file_number: row.last for row in collected(by_file) if row.last is not None}
    last: dict[Any, datetime] = {}
    for delivery in deliveries:
        if delivery.file_number in last_closed:
            last[delivery.content] = last_closed[delivery.file_number]
    pending = {delivery.content for delivery in to_read(read_batches(lake), deliveries)[0]}
    expired = []
    for delivery in deliveries:
        closed = last.get(delivery.content)
        is_over = closed < begin if closed is not None else delivery.landed_at <= old
        if is_over and delivery.content not in pending and _is_there(workplace, delivery):
            expired.append(delivery)
    return expired


def _is_there(workplace: Workplace, delivery: Delivery) -> bool:
    """The file is there and still the one that was registered, as far as its size tells."""
    files, path = filesystem(place_of(workplace.settings.landing, delivery))
    found = files.get_file_info(path)
    return bool(found.type == fs.FileType.File and found.size == delivery.size_octets)
