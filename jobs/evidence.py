"""What verify sees of a month, and keeps beside its measurements: files received, days of each source, factors applied.

No value of a subscriber is in it. It is kept for each verdict, so what a publication rests on is known as it was judged, also
when the records are erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Row, SparkSession

from jobs.batches import AsOf
from jobs.completeness import files_of_month, gaps, numbered_in_month
from jobs.grouped import Amounts, together
from jobs.lake import Lake
from jobs.legal_calendar import Month, days_of
from jobs.pieces import PIECES, in_one, travelling
from jobs.steps import are_few, asked
from jobs.table_rows import TableRows, meet
from schemas.tables import (
    ESTIMATED,
    EVIDENCE_DAYS,
    EVIDENCE_FACTORS,
    EVIDENCE_RECEIVED,
    FILE_BALANCES,
    METERED,
    SUBSCRIBED,
)

_QUARTER_S = 15 * 60
_OF_FACTOR = ("network", "component", "factor_id", "gco2e_per_unit", "is_national_default", "quantity_unit")
_OF_COMPONENT = ("network", "component", "subscription_key", "access_technology", "roaming_zone")
OF_COMPONENT = tuple(dict.fromkeys((*_OF_FACTOR, *_OF_COMPONENT, "quantity", "gco2e")))
"""What is read of a component."""
OF_USAGE = ("subscription_key", "octets_up", "octets_down")
OF_SUBSCRIPTION = ("subscription_key", "brand", "network")
_AMOUNTS: Mapping[str, tuple[Sequence[str], Amounts]] = {
    "factors": (_OF_FACTOR, {name: ("sum", name) for name in ("quantity", "gco2e", "components", "inexact", "subscriptions")}),
    "repeated": (("network",), {"repeated": ("sum", "repeated")}),
    "octets": (("brand", "network"), {name: ("sum", name) for name in ("octets_up", "octets_down")}),
}
# All of a subscription are here. The product is without estimate's rounding: it must lie within half a unit of the last place.
_QUERIES = {
    "factors": f"""
        SELECT {", ".join(_OF_FACTOR)}, sum(quantity) AS quantity, sum(gco2e) AS gco2e, count(*) AS components,
            count_if(abs(quantity * gco2e_per_unit - gco2e) > 0.0000000000005) AS inexact,
            count(DISTINCT subscription_key) AS subscriptions
        FROM components GROUP BY ALL
    """,
    "repeated": f"""
        SELECT network, sum(times - 1) AS repeated
        FROM (SELECT network, count(*) AS times FROM components GROUP BY {", ".join(_OF_COMPONENT)}) GROUP BY network
    """,
    "octets": """
        SELECT brand, network, sum(octets_up) AS octets_up, sum(octets_down) AS octets_down
        FROM usage JOIN subscribed USING (subscription_key) GROUP BY ALL
    """,
}
_SUMMED = tuple(name for name in EVIDENCE_RECEIVED.names if name in FILE_BALANCES.names and name != "source")


class Used(NamedTuple):
    """What came of a source on a day."""

    octets: int
    intervals: int


_NOTHING = Used(0, 0)
Daily = Mapping[tuple[str, date], Used]
"""By source and legal day of the close."""


@dataclass(frozen=True)
class Seen:
    """What is known of a month apart from its subscriptions: balances of its files, days of each source, numbered records."""

    files: Sequence[Row]
    daily: Daily
    numbered: Sequence[Row]

    @property
    def octets(self) -> int:
        """Octets of all days."""
        return sum(used.octets for used in self.daily.values())


@dataclass(frozen=True)
class Applied:
    """What a month's rows of ``estimated`` are made of.

    Args:
        factors: each factor with what it was applied to and what came of it, as in EVIDENCE_FACTORS, and with the number of its
            ``components`` and of those that are not the product (``inexact``).
        repeated: by network, rows of a subscription's component that is there already.
        octets: up and down that subscriptions hold, by brand and network.
    """

    factors: Sequence[Mapping[str, Any]]
    repeated: Mapping[str, int]
    octets: Mapping[tuple[str, str], tuple[int, int]]


def see(counted: AsOf, month: Month, daily: Daily) -> Seen:
    """What counts as of a batch."""
    return Seen(files_of_month(counted, month), daily, numbered_in_month(counted, month))


def received(files: Iterable[Row], month: Month) -> list[dict[str, Any]]:
    """Sums of the files that close in a month by source, apart from those without a time."""
    sums: dict[tuple[str, bool], dict[str, int]] = {}
    for row in files:
        if row.last_closed_at is None or row.last_closed_at < month.end:
            of_source = sums.setdefault((row.source, row.last_closed_at is None), dict.fromkeys(("files", *_SUMMED), 0))
            of_source["files"] += 1
            for name in _SUMMED:
                of_source[name] += row[name]
    return [{"source": source, "is_without_time": flag, **of_source} for (source, flag), of_source in sorted(sums.items())]


def daily_usage(intervals: TableRows, legal_timezone: str) -> Daily:
    """Octets and intervals, by source and legal day of the close."""
    legal = ZoneInfo(legal_timezone)

    # Days are told of quarters of an hour, on which those of every zone begin: of each record it would take most of the time.
    def of_days(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found: dict[tuple[str, date], list[int]] = {}
        for rows in batches:
            octets = _summable(pc.add_checked(rows["octets_up"], rows["octets_down"]))
            quarter = pc.divide(rows["closed_at"].cast(pa.int64()), _QUARTER_S * 1_000_000)
            table = pa.table({"source": rows["source"].cast(pa.string()), "quarter": quarter, "octets": octets})
            for of in table.group_by(["source", "quarter"]).aggregate([("octets", "sum"), ("octets", "count")]).to_pylist():
                day = datetime.fromtimestamp(of["quarter"] * _QUARTER_S, legal).date()
                used = found.setdefault((of["source"], day), [0, 0])
                used[0] += int(of["octets_sum"])
                used[1] += of["octets_count"]
        rows = [dict(zip(_DAYS.names, (*of, *used), strict=True)) for of, used in found.items()]
        yield pa.RecordBatch.from_pylist(rows, _DAYS)

    daily: dict[tuple[str, date], Used] = {}
    for of in intervals.mapped(of_days, _DAYS, are_few(intervals.counts)).rows().to_pylist():
        before = daily.get((of["source"], of["day"]), _NOTHING)
        daily[of["source"], of["day"]] = Used(before.octets + int(of["octets"]), before.intervals + of["intervals"])
    return daily


def _summable(amounts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Amounts that are not negative, as decimals where their sum might not fit into 64 bits: Arrow's sums of integers wrap."""
    most = (pc.max(amounts).as_py() or 0) * len(amounts)
    return amounts if most < 1 << 63 else amounts.cast(pa.decimal128(38))


_DAYS = pa.schema([("source", pa.string()), ("day", pa.date32()), ("octets", pa.decimal128(38)), ("intervals", pa.int64())])


def daily_as_judged(lake: Lake, verdict_id: int) -> Daily:
    """The same as an earlier verdict saw it, when the records were there."""
    rows = [row for row in lake.small(EVIDENCE_DAYS) if row.verdict_id == verdict_id and row.intervals]
    return {(row.source, row.day): Used(row.octets, row.intervals) for row in rows}


def keep(lake: Lake, seen: Seen, use: Applied, month: Month, verdict_id: int) -> None:
    """Keep what was seen, and what factors were applied, for a month and the number of its verdict."""
    shared = {"usage_month": month.usage_month, "verdict_id": verdict_id}
    for table, rows in (
        (EVIDENCE_RECEIVED, received(seen.files, month)),
        (EVIDENCE_DAYS, _days(seen, month.usage_month)),
        (EVIDENCE_FACTORS, use.factors),
    ):
        if found := [shared | dict(row) for row in rows]:
            lake.append_rows(table, [{name: row[name] for name in table.names} for row in found])


def octets_by_day(daily: Daily, source: str, usage_month: date) -> list[int]:
    """Octets of a source on every day of a month; a day on which nothing came counts too."""
    return [daily.get((source, day), _NOTHING).octets for day in days_of(usage_month)]


def _days(seen: Seen, usage_month: date) -> Iterator[Mapping[str, Any]]:
    """A row for each source and day: every day of the month of a source that something came of, and others with anything."""
    inside = days_of(usage_month)
    missing: dict[tuple[str, date], int] = {}
    for gap in gaps(seen.numbered):
        missing[gap.source, gap.day] = missing.get((gap.source, gap.day), 0) + gap.missing
    sources = {source for source, _ in seen.daily}
    medians = {source: Decimal(median(octets_by_day(seen.daily, source, usage_month))) for source in sources}
    numbered_on: dict[tuple[str, date], list[Row]] = {}
    for row in seen.numbered:
        numbered_on.setdefault((row.source, row.day), []).append(row)
    for source, day in sorted({*seen.daily, *numbered_on, *((source, day) for source in sources for day in inside)}):
        used = seen.daily.get((source, day), _NOTHING)
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


def applied(spark: SparkSession, estimated: TableRows, metered: TableRows, subscribed: TableRows) -> Applied:
    """What the rows of ``estimated`` of a month are made of, and the usage that subscriptions hold.

    Args:
        spark: the session.
        estimated: rows of ``estimated``, columns OF_COMPONENT.
        metered: rows of ``metered``, columns OF_USAGE.
        subscribed: rows of ``subscribed``, columns OF_SUBSCRIPTION.
    """
    tables = {
        "components": (estimated, travelling(ESTIMATED, OF_COMPONENT)),
        "usage": (metered, travelling(METERED, OF_USAGE)),
        "subscribed": (subscribed, travelling(SUBSCRIBED, OF_SUBSCRIPTION)),
    }

    def told(**of: pa.Table) -> Iterator[pa.RecordBatch]:
        for kind, query in _QUERIES.items():
            yield from in_one(kind, asked(query, **of))

    found = meet(spark, "subscription_key", tables, told, PIECES).rows()
    factors, repeated, octets = (together(found, by, amounts, kind) for kind, (by, amounts) in _AMOUNTS.items())
    return Applied(
        factors,
        {row["network"]: row["repeated"] for row in repeated},
        {(row["brand"], row["network"]): (row["octets_up"], row["octets_down"]) for row in octets},
    )
