"""restate: publish the next revision of a published month, with what changed and why.

The month is metered, estimated, verified and published anew from all that is accepted now and with the factors in force now. Once
its records are erased, it is estimated anew from what was metered of them: factors, hypotheses and code may change, and nothing
else can; the ledger says so.
The revisions before it stay as they were published. Cut short anywhere, it is run again: until the ledger has the new revision
nothing of it counts, and from then on only the projections are brought up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs import ledger
from jobs.batches import AsOf, withdrawn_between
from jobs.conflicts import settled
from jobs.data_files import rows_of
from jobs.difference import Moved, split
from jobs.estimate import estimate
from jobs.lake import in_month, redacted
from jobs.meter import HELD, LOST, Metered, Metering
from jobs.month import assignments_of, estimate_month, meter_month
from jobs.publish import Cause, commit, composed_of, project
from jobs.row_hashes import DIGESTS, digests, hashed_up
from jobs.run import Refused
from jobs.sums import OF_INTERVAL
from jobs.table_rows import OfFiles, OfFrame
from jobs.verify import verify_month
from jobs.workplace import Workplace
from schemas.tables import ACCEPTED, DELTAS, ESTIMATED, FACTORS, METERED, PUBLISHED, SUBSCRIBED

_CONTENT = tuple(name for name in OF_INTERVAL if name not in ("month_part", "is_estimated"))
"""What an interval says, wherever it was read: the same record delivered anew is the same."""
_WHOSE = {"figures": "its", "subscription": "a subscription's"}
_OF_FACTOR = ("brand", "network", "component")


@dataclass(frozen=True)
class Revision:
    """A revision of a month, and the lake as it counts it."""

    number: int
    counted: AsOf


def restate_month(workplace: Workplace, usage_month: date, reason: str, approver: str | None = None) -> Row:
    """Publish the next revision of a month from what is accepted and in force now.

    Returns:
        The publication that counts now. If the records are erased, its reason says so, and its batch cutoff is that of before.

    Raises:
        Refused: the month is not published, figures of it are erased, it is not fit to publish, or nothing would change.
    """
    previous, erased = _restatable(workplace, usage_month), ledger.records_erased(workplace.lake, usage_month)
    if erased is not None:
        reason += f" (from the volumes metered before: the records were erased on {erased.erased_at:%Y-%m-%d})"
    finished = usage_month in project(workplace)
    if finished and (previous.reason, previous.approver) == (reason, approver):
        return previous  # this restatement was cut short after it was committed
    if erased is None:
        meter_month(workplace, usage_month)
    else:
        _meter_as_before(workplace, previous)
    estimate_month(workplace, usage_month)
    if _is_as_published(workplace, previous):
        raise Refused(f"{usage_month:%Y-%m} would be as revision {previous.revision} is: nothing changes, nothing is published")
    verify_month(workplace, usage_month)
    found = differences(workplace, previous)
    commit(workplace, usage_month, Cause(reason, approver, previous, found))
    project(workplace)
    current = ledger.current(workplace.lake, usage_month)
    assert current is not None
    return current


def _meter_as_before(workplace: Workplace, previous: Row) -> None:
    """Fill ``subscribed`` and ``metered`` of the next revision with what the one published counted, up to the same batch."""
    for table in (SUBSCRIBED, METERED):
        rows = workplace.lake.read(table, in_month(previous.usage_month, revision=previous.revision))
        following = rows.withColumn("revision", F.lit(previous.revision + 1))
        workplace.lake.replace_month(table, following, previous.usage_month, revision=previous.revision + 1)


def differences(workplace: Workplace, previous: Row) -> list[dict[str, Any]]:
    """What the revision that is estimated now changes of the one published, by network and cause."""
    lake, usage_month, now = workplace.lake, previous.usage_month, AsOf.now(workplace.lake)
    old = Revision(previous.revision, now.at(previous.batch_cutoff))
    new = Revision(previous.revision + 1, now)
    is_counted_anew = ledger.records_erased(lake, usage_month) is None
    published, estimated = (lake.read(ESTIMATED, in_month(usage_month, revision=of.number)) for of in (old, new))
    factors = factors_applied(published)
    bases = _without(factors_applied(estimated), factors).unionByName(factors)

    def usage_of(metered: DataFrame, of: Revision, applied: DataFrame) -> DataFrame:
        subscribed = lake.read(SUBSCRIBED, in_month(usage_month, revision=of.number))
        return estimate(metered, subscribed, applied, "")

    late = withdrawn = published.where(F.lit(False))
    if is_counted_anew:
        late, withdrawn = (
            _volumes(usage_of(_attributed(workplace, usage_month, records, of), of, bases))
            for records, of in zip(changed_records(workplace, usage_month, old, new), (new, old), strict=True)
        )
    moved = Moved(
        late,
        withdrawn,
        _counted_otherwise(estimated, usage_of(lake.read(METERED, in_month(usage_month, revision=new.number)), new, bases)),
    )
    recomputed = usage_of(lake.read(METERED, in_month(usage_month, revision=old.number)), old, factors)
    return split(published, recomputed, estimated, moved)


def factors_applied(estimated: DataFrame) -> DataFrame:
    """The factors that a revision was estimated with, in the columns of ``factors``, without intervals: they add nothing here."""
    kept = [name for name in FACTORS.names if name not in ("gco2e_per_unit_low", "gco2e_per_unit_high")]
    bounds = {name: F.lit(None).cast("decimal(18,14)") for name in ("gco2e_per_unit_low", "gco2e_per_unit_high")}
    return estimated.select(*kept).distinct().withColumns(bounds).select(*FACTORS.names)


def changed_records(workplace: Workplace, usage_month: date, old: Revision, new: Revision) -> tuple[DataFrame, DataFrame]:
    """Intervals that the new revision counts and the old one did not, and the reverse; the same record read anew is neither."""
    lake = workplace.lake
    rows = [of.counted.rows(ACCEPTED, in_month(usage_month)) for of in (old, new)]
    gone = withdrawn_between(new.counted.batches, old.counted.cutoff, new.counted.cutoff)
    # Whatever else differs is of a record that has several contents, of which another was delivered last.
    contended = rows[0].unionByName(rows[1]).where("is_conflicting").select("record_key").distinct()
    keys = [row.record_key for row in contended.limit(_FEW + 1).collect()]
    if len(keys) <= _FEW:
        may_differ = (F.col("batch") > old.counted.cutoff) | F.col("file_number").isin(gone) | _is_among(keys)
    else:
        may_differ = F.lit(True)
    before, now = (settled(of.counted, ACCEPTED, in_month(usage_month)).where(may_differ).select(*_CONTENT) for of in (old, new))
    if lake.exists(DELTAS):
        before, now = (
            intervals.unionByName(lake.read(DELTAS, in_month(usage_month, revision=of.number)).select(*_CONTENT))
            for intervals, of in ((before, old), (now, new))
        )
    return now.exceptAll(before), before.exceptAll(now)


_FEW = 1000
"""Keys that are named in a condition; of more records with several contents, every record of the month is compared."""


def _is_among(keys: list[Any]) -> Column:
    return F.coalesce(F.col("record_key").isin([bytes(key) for key in keys]), F.lit(False))


def _attributed(workplace: Workplace, usage_month: date, intervals: DataFrame, of: Revision) -> DataFrame:
    """Usage per subscription, as that revision attributes it; rows of ``metered`` that a subscription holds."""
    month, spark = workplace.month(usage_month), workplace.lake.spark
    assignments = assignments_of(of.counted, month, workplace.keys_from(usage_month))
    records = OfFrame(intervals.withColumns({"month_part": F.lit(0), "is_estimated": F.lit(False)}), OF_INTERVAL)
    nothing = OfFiles(workplace.lake, [], LOST.names)
    metering = Metering(records, assignments, nothing, workplace.networks, month)
    held = metering.by_subscription(spark, Metered.rows_held, HELD).in_frame(spark)
    of_month = {"usage_month": F.lit(usage_month), "batch_cutoff": F.lit(of.counted.cutoff).cast("bigint")}
    return held.withColumns({**of_month, "revision": F.lit(of.number)}).select(*METERED.names)


def _volumes(components: DataFrame) -> DataFrame:
    return components.where("component = 'volume'")


def _without(factors: DataFrame, others: DataFrame) -> DataFrame:
    """Factors of brands, networks and components that the others lack."""
    return factors.join(others.select(*_OF_FACTOR), on=list(_OF_FACTOR), how="left_anti").select(*FACTORS.names)


def _counted_otherwise(estimated: DataFrame, under_old: DataFrame) -> DataFrame | None:
    """Usage by the octets that the factors count now, less that by those they counted before; None if these are the same."""
    bases = [rows.select(*_OF_FACTOR, "volume_basis").distinct() for rows in (estimated, under_old)]
    if bases[0].exceptAll(bases[1]).isEmpty():
        return None
    less = _volumes(under_old).withColumn("quantity", (-F.col("quantity")).cast("decimal(17,9)"))
    columns = ["subscription_key", "access_technology", "roaming_zone", *_OF_FACTOR, "quantity"]
    return _volumes(estimated).select(*columns).unionByName(less.select(*columns))


def _restatable(workplace: Workplace, usage_month: date) -> Row:
    previous, erased = ledger.current(workplace.lake, usage_month), ledger.figures_erased(workplace.lake, usage_month)
    if previous is None:
        raise Refused(f"{usage_month:%Y-%m} is not published, so there is nothing to restate: run it")
    if erased is not None:
        raise Refused(
            f"{usage_month:%Y-%m} cannot be restated: {_WHOSE[erased.kind]} figures are erased since {erased.erased_at:%Y-%m-%d}"
        )
    return previous


def _is_as_published(workplace: Workplace, previous: Row) -> bool:
    """The next revision has the rows of the one published."""
    of_all = {"usage_month": previous.usage_month, "revision": previous.revision, "publication_id": previous.publication_id}

    def told(rows: pa.Table) -> Iterator[pa.RecordBatch]:
        columns = {name: rows[name].combine_chunks() for name in rows.column_names}
        return digests([rows_of(PUBLISHED, columns | of_all)])

    with redacted(ESTIMATED):
        steps = composed_of(workplace.lake, previous.usage_month, previous.revision + 1, told, DIGESTS)
        return hashed_up(steps)["rows_hash"] == str(previous.rows_hash)
