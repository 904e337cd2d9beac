"""The ledger of publications: what is published, and as of which batch a month is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.batches import AsOf, withdrawn_between
from jobs.lake import Lake, in_month
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
    return max([0, lake.last_number(REVISIONS), *(int(row.publication_id) for row in publications(lake))]) + 1


def next_revision(lake: Lake, usage_month: date) -> int:
    """The revision that the month would become if it were published now."""
    published = current(lake, usage_month)
    return int(published.revision) + 1 if published else 1


@dataclass(frozen=True)
class Held:
    """What came for a published month after it was published, and waits for its restatement."""

    records: int
    """Records that came late; of counters, readings: what these change is known once the month's are put in order again."""
    octets: int
    withdrawn_records: int
    """Records that the publication counts and that were withdrawn since."""
    withdrawn_octets: int
    octets_by_source: Mapping[str, int]
    """Late octets less withdrawn ones."""


def held(lake: Lake) -> dict[date, Held]:
    """What is held, by month; months without are absent."""
    now = AsOf.now(lake)
    found = {}
    for usage_month, published in current_by_month(lake).items():
        if published.batch_cutoff >= now.cutoff:
            continue
        late = _sums(now.rows(ACCEPTED, in_month(usage_month)).where(F.col("batch") > published.batch_cutoff))
        gone = withdrawn_between(now.batches, published.batch_cutoff, now.cutoff)
        then = now.at(published.batch_cutoff)
        withdrawn = _sums(then.rows(ACCEPTED, in_month(usage_month)).where(F.col("file_number").isin(gone))) if gone else {}
        readings, fewer = 0, 0
        if lake.exists(READINGS):
            readings = now.rows(READINGS, in_month(usage_month)).where(F.col("batch") > published.batch_cutoff).count()
            fewer = then.rows(READINGS, in_month(usage_month)).where(F.col("file_number").isin(gone)).count() if gone else 0
        of_month = Held(
            sum(records for records, _ in late.values()) + readings,
            sum(octets for _, octets in late.values()),
            sum(records for records, _ in withdrawn.values()) + fewer,
            sum(octets for _, octets in withdrawn.values()),
            {s: late.get(s, (0, 0))[1] - withdrawn.get(s, (0, 0))[1] for s in sorted({*late, *withdrawn})},
        )
        if of_month.records or of_month.withdrawn_records:
            found[usage_month] = of_month
    return found


def _sums(accepted: DataFrame) -> dict[str, tuple[int, int]]:
    """Records and octets of accepted rows, by source."""
    is_first = (F.col("interval_index") == 0) & (F.col("month_part") <= 1)
    octets = F.sum(F.col("octets_up") + F.col("octets_down"))
    rows = accepted.groupBy("source").agg(F.count_if(is_first).alias("records"), octets.alias("octets")).collect()
    return {row.source: (row.records, row.octets) for row in rows}


def records_erased(lake: Lake, usage_month: date) -> Row | None:
    """The first erasure of a month's records; None if they are there. What was metered of them stays."""
    return _first_erasure(lake, usage_month, are_records=True)


def figures_erased(lake: Lake, usage_month: date) -> Row | None:
    """The first erasure of figures of a month, all or those of a subscription; None if they are whole."""
    return _first_erasure(lake, usage_month, are_records=False)


def _first_erasure(lake: Lake, usage_month: date, are_records: bool) -> Row | None:
    rows = [row for row in lake.small(ERASURES) if (row.usage_month, row.kind == "records") == (usage_month, are_records)]
    return min(rows, key=lambda row: str(row.erased_at), default=None)


def months_with_erased_figures(lake: Lake) -> set[date]:
    """Months of which figures were erased, all or some: what is left adds up to less than their publications say."""
    return {row.usage_month for row in lake.small(ERASURES) if row.kind != "records"}
