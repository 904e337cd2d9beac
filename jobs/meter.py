"""meter: add up a month's usage per subscription, and list every subscription that was active in it.

In two steps after the sums per identifier: all of an identifier come together, usage with those who held it; then all of a
subscription. Each asks DuckDB one question for each table that it makes, which says in SQL what is so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs import sums
from jobs.legal_calendar import Month, day_starts, microseconds
from jobs.pieces import ENCODED, PIECES, handed_on, in_pieces, of_pieces, of_schema, pieces_for
from jobs.pseudonyms import PSEUDONYM
from jobs.steps import Steps, are_few, asked, side_by_side
from jobs.table_rows import TableRows

OF_ASSIGNMENT = (
    *("identifier_type", "identifier_key", "assigned_from", "assigned_to", "active_from", "active_to"),
    *("subscription_key", "network", "access_technology", "brand", "segment"),
)
"""What is read of an assignment."""
UNSPECIFIED = "unspecified"
_IDENTIFIER = [("identifier_type", ENCODED), ("identifier_key", PSEUDONYM)]
_SUBSCRIPTION = [("subscription_key", PSEUDONYM), *((name, ENCODED) for name in ("network", "brand", "segment"))]
_ASSIGNED = pa.schema(
    [
        *_IDENTIFIER,
        *_SUBSCRIPTION,
        ("access_technology", ENCODED),
        ("assigned_from", sums.INSTANT),
        ("assigned_to", sums.INSTANT),
        *((name, pa.bool_()) for name in ("has_begun", "is_of_month")),
        ("days", pa.int64()),
    ]
)
"""An assignment: whether it begins before the month ends, lasts in it, and a bit for each of its days with activity."""
LOST = pa.schema([*_IDENTIFIER, ("closed_at", sums.INSTANT)])
"""Records that are known to be lost: whose, and when they closed, if that is known."""
_USED = pa.schema(
    [
        ("subscription_key", PSEUDONYM),
        *((name, ENCODED) for name in ("network", "access_technology", "roaming_zone")),
        *sums.AMOUNTS,
    ]
)
"""Usage of one who held its identifier; of nobody, without a key."""
_SUBSCRIBING = pa.schema(
    [*_SUBSCRIPTION, ("assigned_from", sums.INSTANT), ("has_begun", pa.bool_()), ("days", pa.int64()), ("has_lost", pa.bool_())]
)
HELD = pa.schema(
    [
        ("subscription_key", pa.binary()),
        *((name, pa.string()) for name in ("attribution", "network", "access_technology", "roaming_zone")),
        *sums.AMOUNTS,
    ]
)
"""Rows of METERED, but for what all of a revision have."""
_BY_IDENTIFIER = {"usage": sums.SUMS, "assignments": _ASSIGNED, "lost": LOST}
_BY_SUBSCRIPTION = {"usage": _USED, "assignments": _SUBSCRIBING}
_NETWORKS = pa.schema([("source", pa.string()), ("network", pa.string())])
_FOREVER = "'infinity'::TIMESTAMPTZ"

# Usage goes to the holder of its identifier when the intervals closed.
_ATTRIBUTED = f"""
    SELECT subscription_key, coalesce(holder.network, networks.network) AS network,
        coalesce(usage.access_technology, holder.access_technology, '{UNSPECIFIED}') AS access_technology, roaming_zone,
        {sums.ADDED}
    FROM usage LEFT JOIN networks USING (source) LEFT JOIN assignments AS holder
        ON usage.identifier_key = holder.identifier_key AND usage.identifier_type = holder.identifier_type
        AND holder.assigned_from <= usage.held_at AND usage.held_at < coalesce(holder.assigned_to, {_FOREVER})
    GROUP BY ALL
"""
# A lost record without a time is whoever's held its identifier in the month. Its holders are rows of their own, without a day.
_SUBSCRIBING_OF = f"""
    SELECT subscription_key, network, brand, segment, assigned_from, has_begun, days, false AS has_lost FROM assignments
    UNION ALL BY NAME
    SELECT DISTINCT subscription_key, CAST(0 AS BIGINT) AS days, true AS has_lost FROM assignments AS holder JOIN lost
        ON lost.identifier_key = holder.identifier_key AND lost.identifier_type = holder.identifier_type
    WHERE CASE
        WHEN lost.closed_at IS NULL THEN holder.is_of_month
        ELSE holder.assigned_from <= lost.closed_at AND lost.closed_at < coalesce(holder.assigned_to, {_FOREVER})
    END
"""
# Of assignments that began before the month ended the latest says brand and segment; the rest of the order makes it total.
_SUBSCRIBED = """
    SELECT subscription_key, CASE WHEN NOT is_both THEN latest.network END AS network, latest.segment AS segment,
        latest.brand AS brand, active_days, is_estimated
    FROM (
        SELECT subscription_key, CAST(bit_count(bit_or(days)) AS INTEGER) AS active_days, bool_or(has_lost) AS is_estimated,
            min(network) FILTER (days <> 0) <> max(network) FILTER (days <> 0) AS is_both,
            max({'has_begun': has_begun, 'assigned_from': assigned_from, 'brand': brand, 'segment': segment, 'network': network})
                FILTER (days <> 0) AS latest
        FROM assignments GROUP BY subscription_key HAVING bit_or(days) <> 0
    )
"""
_METERED = f"""
    SELECT subscribed.subscription_key, CASE
            WHEN subscribed.subscription_key IS NOT NULL THEN 'holder'
            WHEN usage.subscription_key IS NOT NULL THEN 'inactive_holder'
            ELSE 'unknown_identifier'
        END AS attribution, usage.network, access_technology, roaming_zone, {sums.ADDED}
    FROM usage LEFT JOIN subscribed ON usage.subscription_key = subscribed.subscription_key
    GROUP BY ALL
"""


@dataclass(frozen=True)
class Metered:
    """What is known of some subscriptions of a month, all of each.

    Args:
        subscribed: those that were active, with columns of SUBSCRIBED; without network if they are both fixed and mobile.
        held: their usage, with columns of METERED.
        unheld: usage that nobody active held, among it that of no subscription.
    """

    subscribed: pa.Table
    held: pa.Table
    unheld: pa.Table

    def rows_held(self) -> Iterator[pa.RecordBatch]:
        """The usage of subscriptions, as rows of HELD."""
        yield from self.held.cast(HELD).to_batches()


@dataclass(frozen=True)
class Metering:
    """What is known of a month's usage before anyone is said to have used it.

    Args:
        intervals: those that count, columns ``sums.OF_INTERVAL``; none closed before the month began.
        assignments: those that touch the month or begin after it, columns OF_ASSIGNMENT; no identifier has two holders at once.
        lost: records that are known to be lost, columns of LOST.
        networks: network of each source, for usage of unknown identifiers.
        month: the month.
    """

    intervals: TableRows
    assignments: TableRows
    lost: TableRows
    networks: Mapping[str, str]
    month: Month

    def by_subscription(
        self, spark: SparkSession, told: Callable[[Metered], Iterable[pa.RecordBatch]], schema: pa.Schema
    ) -> Steps:
        """What is told of subscriptions, some at a time, as rows of a schema.

        A sum that does not fit into 64 bits ends the query that asks for it (OverflowError in the task).
        """
        assigned, month = sum(self.assignments.counts), self.month
        networks = pa.table({"source": [*self.networks], "network": [*self.networks.values()]}, _NETWORKS)
        counts = [*self.intervals.counts, *self.assignments.counts, *self.lost.counts]
        is_little, processors = are_few(counts), int(spark.sparkContext.defaultParallelism)
        identifiers, subscriptions = (pieces_for(rows, processors) for rows in (sum(counts), 2 * assigned))
        changes = sums.Changes.of(month.begin, month.end, self.assignments, is_little)

        def by_holder(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            if of := of_pieces(batches, _BY_IDENTIFIER):
                found = {"usage": asked(_ATTRIBUTED, **of, networks=networks), "assignments": asked(_SUBSCRIBING_OF, **of)}
                for kind, rows in found.items():
                    yield from in_pieces(kind, of_schema(rows, _BY_SUBSCRIPTION[kind]), "subscription_key", subscriptions)

        def of_subscriptions(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            if of := of_pieces(batches, _BY_SUBSCRIPTION):
                yield from told(_metered(of))

        usage = sums.by_identifier(self.intervals, changes, identifiers, is_little, processors)
        assigned_of = handed_on("assignments", _ASSIGNED, "identifier_key", identifiers, lambda rows: _assigned(rows, month))
        assignments = self.assignments.mapped(assigned_of, PIECES, is_little)
        lost = self.lost.mapped(handed_on("lost", LOST, "identifier_key", identifiers), PIECES, is_little)
        pieces = side_by_side(spark, usage, assignments, lost)
        return pieces.then("piece", identifiers, by_holder, PIECES).then("piece", subscriptions, of_subscriptions, schema)


def added_up(usage: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of ``Metered.unheld`` of all subscriptions, those that are alike as one."""
    rows = pa.Table.from_pylist(usage, HELD)
    return asked(
        f"SELECT * EXCLUDE ({', '.join(name for name, _ in sums.AMOUNTS)}), {sums.ADDED} FROM rows GROUP BY ALL", rows=rows
    )


def _metered(of: Mapping[str, pa.Table]) -> Metered:
    subscribed = asked(_SUBSCRIBED, assignments=of["assignments"])
    metered = asked(_METERED, usage=of["usage"], subscribed=subscribed.select(["subscription_key"]))
    is_held = pc.is_valid(metered["subscription_key"])
    return Metered(subscribed, metered.filter(is_held), metered.filter(pc.invert(is_held)))


def _assigned(rows: pa.RecordBatch, month: Month) -> Mapping[str, pa.Array]:
    """Assignments as they are joined with usage, from columns OF_ASSIGNMENT."""
    begin, end = pa.scalar(month.begin, sums.INSTANT), pa.scalar(month.end, sums.INSTANT)
    has_begun = pc.less(rows["assigned_from"], end)
    is_of_month = pc.and_(has_begun, pc.fill_null(pc.greater(rows["assigned_to"], begin), True))
    worked_out = {"has_begun": has_begun, "is_of_month": is_of_month, "days": pa.array(active_days(rows, month))}
    return {name: rows[name] for name in OF_ASSIGNMENT} | worked_out


def active_days(rows: pa.RecordBatch, month: Month) -> npt.NDArray[np.int64]:
    """A bit for each legal day of the month that activity of an assignment touches; 0 if none is.

    A day counts when any moment of it is active: the last moment is inside the interval, its end is not.
    """
    starts = day_starts(month.usage_month, ZoneInfo(month.timezone))
    begin, end = microseconds(month.begin), microseconds(month.end)
    active_from, active_to = (rows[name].cast(pa.int64()) for name in ("active_from", "active_to"))
    first = np.maximum(active_from.to_numpy(), begin)
    last = np.minimum(pc.fill_null(active_to, end).to_numpy(), end) - 1
    begun, ended = (np.searchsorted(starts, instants, side="right").astype(np.int64) for instants in (first, last))
    one = np.int64(1)
    return np.where(first <= last, (one << ended) - (one << np.maximum(begun - 1, 0)), 0)
