"""What verify sees of a month, and keeps beside its measurements: files received, days of each source, factors applied.

No value of a subscriber is in it. It is kept for each verdict, so what a publication rests on is known as it was judged, also
when the records are erased.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from statistics import median
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.batches import AsOf
from jobs.completeness import gaps, numbered_in_month
from jobs.lake import Lake
from jobs.meter import Month
from schemas.tables import EVIDENCE_DAYS, EVIDENCE_FACTORS, EVIDENCE_RECEIVED, FILE_BALANCES

_QUARTER_US = 15 * 60 * 1_000_000
_COUNTS = ("records_received", "records_accepted", "records_duplicate", "records_rejected", "records_out_of_scope")
_OCTETS = (
    *("octets_received", "octets_quarantined", "volume_parsed_octets", "volume_accepted_octets"),
    *("volume_duplicate_octets", "volume_out_of_scope_octets"),
)


class Used(NamedTuple):
    """What came of a source on a day."""

    octets: int
    intervals: int


Daily = Mapping[tuple[str, date], Used]
"""By source and legal day of the close."""


@dataclass(frozen=True)
class Seen:
    """What is known of a month apart from its subscriptions: sums of files by source, days, and numbered records."""

    received: Sequence[Row]
    daily: Daily
    numbered: Sequence[Row]

    @property
    def octets(self) -> int:
        """Octets of all days."""
        return sum(used.octets for used in self.daily.values())


def see(counted: AsOf, month: Month, daily: Daily) -> Seen:
    """What counts as of a batch."""
    return Seen(_received(counted, month), daily, numbered_in_month(counted, month))


def files_that_touch(counted: AsOf, month: Month) -> DataFrame:
    """Balances of the files with a record in the month, and of those in which no time was read."""
    outside = (F.col("last_closed_at") < F.lit(month.begin)) | (F.col("first_closed_at") >= F.lit(month.end))
    return counted.rows(FILE_BALANCES).where(~F.coalesce(outside, F.lit(False)))


def _received(counted: AsOf, month: Month) -> list[Row]:
    """Sums of the files that touch a month by source, apart those without a time and those that close in another month."""
    wrong = F.expr(" OR ".join(f"NOT ({rule})" for rule in FILE_BALANCES.checks.values()))
    is_without_time = F.col("last_closed_at").isNull().alias("is_without_time")
    is_of_month = (F.coalesce(F.col("last_closed_at"), F.lit(month.begin)) < F.lit(month.end)).alias("is_of_month")
    touching = files_that_touch(counted, month).groupBy("source", is_without_time, is_of_month)
    return touching.agg(
        F.count("*").alias("files"),
        F.count_if(wrong).alias("wrong"),
        *[F.sum(name).alias(name) for name in _COUNTS],
        *[F.sum(F.col(name).cast("decimal(20,0)")).cast("decimal(38,0)").alias(name) for name in _OCTETS],
        F.sum(F.greatest(F.col("records_declared") - F.col("records_received"), F.lit(0))).alias("records_missing"),
        F.sum("records_lost").alias("records_lost"),
    ).collect()


def daily_usage(records: DataFrame, legal_timezone: str) -> Daily:
    """Octets and intervals of records, by source and legal day of the close."""
    # Days are told of quarters of an hour, on which those of every zone begin: of each record it would take most of the time.
    quarter = F.expr(f"unix_micros(closed_at) div {_QUARTER_US}").alias("quarter")
    octets = F.sum(F.col("octets_up") + F.col("octets_down")).alias("octets")
    quarters = records.groupBy("source", quarter).agg(octets, F.count("*").alias("intervals"))
    begin = F.timestamp_micros(F.col("quarter") * _QUARTER_US)
    day = F.to_date(F.from_utc_timestamp(begin, legal_timezone)).alias("day")
    days = quarters.groupBy("source", day).agg(F.sum("octets").alias("octets"), F.sum("intervals").alias("intervals"))
    return {(row.source, row.day): Used(row.octets, row.intervals) for row in days.collect()}


def daily_as_judged(lake: Lake, verdict_id: int) -> Daily:
    """The same as an earlier verdict saw it, when the records were there."""
    rows = [row for row in lake.small(EVIDENCE_DAYS) if row.verdict_id == verdict_id and row.intervals]
    return {(row.source, row.day): Used(row.octets, row.intervals) for row in rows}


def keep(lake: Lake, seen: Seen, estimated: DataFrame, of: tuple[date, int]) -> None:
    """Keep what was seen, and what factors were applied, for a month and the number of its verdict."""
    usage_month, verdict_id = of
    shared = {"usage_month": usage_month, "verdict_id": verdict_id}
    received = [
        {name: row[name] for name in ("source", "is_without_time", "files", *_COUNTS, *_OCTETS)}
        for row in seen.received
        if row.is_of_month
    ]
    for table, rows in (
        (EVIDENCE_RECEIVED, received),
        (EVIDENCE_DAYS, _days(seen, usage_month)),
        (EVIDENCE_FACTORS, factors_applied(estimated)),
    ):
        if found := [shared | dict(row) for row in rows]:
            lake.append_rows(table, found)


def days_of(usage_month: date) -> list[date]:
    """Every day of a month."""
    following = (usage_month + timedelta(days=31)).replace(day=1)
    return [usage_month + timedelta(days=n) for n in range((following - usage_month).days)]


def median_octets(daily: Daily, source: str, usage_month: date) -> float:
    """Octets of the median day of a source; a day on which nothing came counts too."""
    return median(daily.get((source, day), Used(0, 0)).octets for day in days_of(usage_month))


def _days(seen: Seen, usage_month: date) -> Iterator[Mapping[str, Any]]:
    """A row for each source and day: every day of the month of a source that something came of, and others with anything."""
    inside = days_of(usage_month)
    missing: dict[tuple[str, date], int] = {}
    for gap in gaps(seen.numbered):
        missing[gap.source, gap.day] = missing.get((gap.source, gap.day), 0) + gap.missing
    sources = {source for source, _ in seen.daily}
    medians = {source: Decimal(median_octets(seen.daily, source, usage_month)) for source in sources}
    numbered_on: dict[tuple[str, date], list[Row]] = {}
    for row in seen.numbered:
        numbered_on.setdefault((row.source, row.day), []).append(row)
    for source, day in sorted({*seen.daily, *numbered_on, *((source, day) for source in sources for day in inside)}):
        used = seen.daily.get((source, day), Used(0, 0))
        middle = medians.get(source) if day in inside else None
        share = (used.octets / middle).quantize(Decimal("1e-6"), ROUND_HALF_UP) if middle else None
        numbered = numbered_on.get((source, day), [])
        yield {
            "source": source,
            "day": day,
            "intervals": used.intervals,
            "octets": used.octets,
            "octets_share_of_median": share,
            "nodes": len({row.node for row in numbered}),
            "records_numbered": sum(row.records for row in numbered),
            "records_missing": missing.get((source, day), 0),
        }


def factors_applied(estimated: DataFrame) -> list[dict[str, Any]]:
    """Each factor of rows of ``estimated`` with what it was applied to and what came of it."""
    keys = ("network", "component", "factor_id", "gco2e_per_unit", "is_national_default", "quantity_unit")
    sums = estimated.groupBy(*keys).agg(
        F.count_distinct("subscription_key").alias("subscriptions"),
        F.sum("quantity").cast("decimal(38,9)").alias("quantity"),
        F.sum("gco2e").cast("decimal(38,12)").alias("gco2e"),
    )
    return [row.asDict() for row in sums.collect()]
