"""The ledger of publications: what is published, and as of which batch a month is counted."""

from __future__ import annotations

from datetime import date
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.batches import AsOf
from jobs.lake import Lake
from schemas.tables import ACCEPTED, ERASURES, PUBLICATIONS, READINGS, REVISIONS


def publications(lake: Lake) -> list[Row]:
    """Every publication by number."""
    return sorted(lake.small(PUBLICATIONS), key=lambda row: int(row.publication_id))


def current(lake: Lake, usage_month: date) -> Row | None:
    """The publication of a month that counts; None before the first."""
    of_month = [row for row in publications(lake) if row.usage_month == usage_month]
    return of_month[-1] if of_month else None


def current_by_month(lake: Lake) -> dict[date, Row]:
    """The publication that counts for each month."""
    return {row.usage_month: row for row in publications(lake)}


def next_publication_id(lake: Lake) -> int:
    """A number that neither the ledger nor rows of a publication that was cut short have."""
    orphan = lake.read(REVISIONS).agg(F.max("publication_id")).collect()[0][0]
    return max([orphan or 0, *(int(row.publication_id) for row in publications(lake))]) + 1


def counted(lake: Lake, usage_month: date) -> AsOf:
    """The lake as a month counts it: as its publication pinned it, else as it is now."""
    now, published = AsOf.now(lake), current(lake, usage_month)
    return now.at(published.batch_cutoff) if published else now


def held(lake: Lake) -> dict[date, dict[str, Any]]:
    """Records that came for a published month after it was published: held until it is restated, by month.

    Returns:
        ``records`` and ``octets`` by month; months without held records are absent.
    """
    now = AsOf.now(lake)
    found = {}
    for usage_month, published in current_by_month(lake).items():
        if published.batch_cutoff >= now.cutoff:
            continue
        of_month, is_late = F.col("usage_month") == F.lit(usage_month), F.col("batch") > published.batch_cutoff
        row = (
            now.rows(ACCEPTED)
            .where(of_month)
            .where(is_late)
            .agg(
                F.count_if((F.col("interval_index") == 0) & (F.col("month_part") <= 1)),
                F.sum(F.col("octets_up") + F.col("octets_down")),
            )
            .collect()[0]
        )
        # What a late reading of counters changes is known once the month's are put in order again.
        readings = now.rows(READINGS).where(of_month).where(is_late).count() if lake.exists(READINGS) else 0
        if row[0] or readings:
            found[usage_month] = {"records": row[0] + readings, "octets": row[1] or 0}
    return found


def months_with_erased_figures(lake: Lake) -> set[date]:
    """Months of which figures were erased, all or some: what is left adds up to less than their publications say."""
    return {row.usage_month for row in lake.small(ERASURES) if row.kind != "records"}
