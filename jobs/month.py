"""The stages of a month between the lake's tables: each loads, transforms with a pure function, and saves.

They work on the revision that the month would become, and leave the rows of its published revisions as they are: what came later
is held until the month is restated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from factors.reading import FactorError
from factors.registry import Factor, check_volume_basis, factors_id, in_force
from jobs import counters, ledger, spark, sums
from jobs import meter as metering
from jobs.batches import AsOf
from jobs.delta_log import Where
from jobs.estimate import UNITS, of_one, parts
from jobs.holders import Assignments, lasting_into, require_one_holder
from jobs.intervals import OF_INTERVAL, Intervals, OfFiles, OfFrame, by_file, dropped_of
from jobs.lake import EmptyMonthError, Lake, LakeError, Part, Told, in_month, meeting, meets, versions
from jobs.land import read_deliveries
from jobs.legal_calendar import month_number, months_before
from jobs.pseudonyms import IDENTIFIER_KEY
from jobs.run import Refused
from jobs.workplace import Workplace
from schemas.source import CounterSource
from schemas.table import Table
from schemas.tables import (
    ACCEPTED,
    CARRIED,
    COUNTER_BALANCES,
    DELTAS,
    ESTIMATED,
    FACTORS,
    FILE_BALANCES,
    LANDED,
    METERED,
    READINGS,
    REJECTED,
    SUBSCRIBED,
    SUBSCRIPTIONS,
)

_NUMBER = "factor_number"


def meter_month(workplace: Workplace, usage_month: date) -> tuple[int, int]:
    """Fill ``subscribed`` and ``metered`` of a month's next revision from all that is accepted. Return how many rows each has.

    Raises:
        Refused: nobody was active or nothing was used in the month, an identifier has two holders at once, or a subscription is
            both fixed and mobile.
    """
    lake, month = workplace.lake, workplace.month(usage_month)
    counted, revision = AsOf.now(lake), ledger.next_revision(lake, usage_month)
    ranks = delivery_ranks(lake)
    assignments = assignments_of(counted, ranks, month, workplace.keys_from(usage_month))
    require_one_holder(_held(counted, ranks, month, workplace.keys_from(usage_month)))
    count_deltas(workplace, counted, usage_month, revision)
    # What a lost reading counted, the next one counts; a session whose last one is lost is flagged by its deltas.
    usage_sources = [name for name, source in workplace.sources.items() if source.kind == "usage"]
    rejected = counted.rows(REJECTED).where(F.col("source").isin(usage_sources))
    received = counted.rows(ACCEPTED, in_month(usage_month))
    lost = metering.lost_records(rejected, counted.rows(FILE_BALANCES), received, month)
    try:
        active = _save(lake, SUBSCRIBED, metering.subscribe(assignments, lost, month, counted.cutoff), usage_month, revision)
    except LakeError:
        if both := metering.networks_that_differ(assignments, month):
            raise Refused(f"{usage_month:%Y-%m}: {both} subscriptions are both fixed and mobile in the export") from None
        raise
    records = used_records(workplace, counted, ranks, usage_month, revision)
    usage = sums.by_identifier(records, assignments, month)
    attributed = metering.attribute(usage, assignments, lake.read(SUBSCRIBED, in_month(usage_month, revision=revision)))
    metered = metering.meter(attributed, workplace.networks, month, counted.cutoff)
    return active, _save(lake, METERED, metered, usage_month, revision)


def _save(lake: Lake, table: Table, frame: DataFrame, usage_month: date, revision: int) -> int:
    """Replace the rows of one revision of a month. Return how many they are now."""
    return lake.replace_month(table, frame.withColumn("revision", F.lit(revision)), usage_month, revision=revision)


def used_records(workplace: Workplace, counted: AsOf, ranks: DataFrame, usage_month: date, revision: int) -> Intervals:
    """Intervals of a month that a revision counts, by record or by counter: accepted rows, conflicts settled, and deltas."""
    lake, of_month, of_revision = workplace.lake, in_month(usage_month), in_month(usage_month, revision=revision)
    tables = [(ACCEPTED, of_month), *([(DELTAS, of_revision)] if lake.exists(DELTAS) else [])]
    dropped = _superseded(counted, ranks, ACCEPTED, of_month)
    if len(dropped) <= spark.FEW_ROWS:
        files = [(table, path) for table, where in tables for path in lake.paths(table, where)]
        return OfFiles(lake, files, counted.visible, by_file(dropped))
    records = settled(counted.rows(ACCEPTED, of_month), counted, ranks).select(*OF_INTERVAL)
    deltas = [lake.read(table, where).select(*OF_INTERVAL) for table, where in tables[1:]]
    return OfFrame(reduce(DataFrame.unionByName, deltas, records))


def _superseded(counted: AsOf, ranks: DataFrame, table: Table, where: Where) -> pa.Table:
    """File number and ordinal of rows of a table that a later delivery corrected; one more than FEW_ROWS at most.

    Looked for once while the tables are as they are: metering and the verdict ask for the same.
    """

    def find() -> pa.Table:
        rows = counted.rows(table, where)
        if rows.where("is_conflicting").isEmpty():
            return pa.table({name: pa.array([], pa.int64()) for name in ("file_number", "record_ordinal")})
        return metering.superseded(rows, _duplicates(counted), ranks).limit(spark.FEW_ROWS + 1).toArrow()

    state = (counted.cutoff, versions(counted.lake, (table, REJECTED, LANDED)))
    return counted.lake.kept(f"superseded {table.name} {where}", state, find)


def _duplicates(counted: AsOf) -> DataFrame:
    return counted.rows(REJECTED).where(F.col("reason") == metering.DUPLICATE)


def counter_limits(workplace: Workplace) -> dict[str, counters.Limits]:
    """What the lines and clocks of each source of counters allow."""
    found = workplace.sources.items()
    return {name: counters.Limits.of(source) for name, source in found if isinstance(source, CounterSource)}


def count_deltas(workplace: Workplace, counted: AsOf, usage_month: date, revision: int) -> None:
    """Fill ``deltas``, ``carried`` and ``counter_balances`` from ``readings`` and what the month before carried over.

    Besides the month's own readings it takes the first ones after it, by which intervals over its end are known; and the last
    ones before it only where that month was never metered.
    """
    limits = counter_limits(workplace)
    if not limits or not workplace.lake.exists(READINGS):
        return
    lake, month = workplace.lake, workplace.month(usage_month)
    before = _carried_before(counted, usage_month)
    silent = timedelta(seconds=max(limit.silent_after_s for limit in limits.values()))
    begin = month.begin if before is not None else month.begin - silent
    near = counted.rows(READINGS).where(F.col("usage_month").isin([months_before(usage_month, n) for n in (1, 0, -1)]))
    window = near.where(F.col("closed_at") >= F.lit(begin)).where(F.col("closed_at") < F.lit(month.end + silent))
    readings, before = _under_keys(workplace, window.where(F.col("status") != counters.RESET), before, usage_month)
    resets = window.where(F.col("status") == counters.RESET)
    found = counters.deltas(readings, resets, before, limits, month, counted.cutoff)
    deltas = _replace(lake, DELTAS, found.withColumn("revision", F.lit(revision)), usage_month, revision=revision)
    going_on = counters.carried_over(deltas, before, resets, month, counted.cutoff)
    carried = _replace(lake, CARRIED, going_on, usage_month, batch_cutoff=counted.cutoff)
    rows = [row.asDict() for row in counters.balances(deltas, carried, month, counted.cutoff).collect()]
    if any((row.usage_month, row.batch_cutoff) == (usage_month, counted.cutoff) for row in lake.small(COUNTER_BALANCES)):
        lake.erase(COUNTER_BALANCES, meets(in_month(usage_month, batch_cutoff=counted.cutoff)))
    if rows:
        lake.append_rows(COUNTER_BALANCES, [{name: row[name] for name in COUNTER_BALANCES.names} for row in rows])


def _replace(lake: Lake, table: Table, frame: DataFrame, usage_month: date, **within: int) -> DataFrame:
    """Replace a month's rows, also by none; give those that are there now."""
    try:
        lake.replace_month(table, frame, usage_month, **within)
    except EmptyMonthError:
        lake.erase(table, meets(in_month(usage_month, **within)))
    return lake.read(table, in_month(usage_month, **within))


def _carried_before(counted: AsOf, usage_month: date) -> DataFrame | None:
    """What the month before carried over; None if it carried nothing.

    A published month carried over what its publication that counts says, whatever was tried since; any other, what it did when it
    was last metered up to the cutoff.
    """
    lake, before = counted.lake, months_before(usage_month, 1)
    carried, published = lake.read(CARRIED, in_month(before)), ledger.current(lake, before)
    if published is not None:
        carried = carried.where(F.col("batch_cutoff") == published.batch_cutoff)
    last = carried.where(F.col("batch_cutoff") <= counted.cutoff).agg(F.max("batch_cutoff")).collect()[0][0]
    return None if last is None else carried.where(F.col("batch_cutoff") == last)


def is_left_behind(lake: Lake, usage_month: date) -> bool:
    """The month was published with counters that the month before carried over, which has been restated with others since."""
    published, before = ledger.current(lake, usage_month), months_before(usage_month, 1)
    if published is None or not lake.exists(CARRIED):
        return False
    of_before = [row for row in ledger.publications(lake) if row.usage_month == before]
    if not of_before or of_before[-1].publication_id < published.publication_id:
        return False
    carried = lake.read(CARRIED, in_month(before))
    known = [row.batch_cutoff for row in of_before if row.publication_id < published.publication_id]
    tried = carried.where(F.col("batch_cutoff") <= published.batch_cutoff).agg(F.max("batch_cutoff")).collect()[0][0]
    then, now = known[-1] if known else tried, of_before[-1].batch_cutoff
    counters_of = [carried.where(F.col("batch_cutoff") == cutoff).drop("batch_cutoff") for cutoff in (then, now)]
    return not counters_of[0].exceptAll(counters_of[1]).isEmpty() or not counters_of[1].exceptAll(counters_of[0]).isEmpty()


def _under_keys(
    workplace: Workplace, readings: DataFrame, carried: DataFrame | None, usage_month: date
) -> tuple[DataFrame, DataFrame | None]:
    """Readings and carried counters under the keys of the month, where keys change at its begin or its end."""
    first_months = workplace.keys[IDENTIFIER_KEY].first_months
    hidden = ("session_key", "identifier_key")
    if month_number(usage_month) + 1 in first_months:
        later = F.col("usage_month") > F.lit(usage_month)
        earlier = {name: F.when(later, F.coalesce(f"{name}_before", name)).otherwise(F.col(name)) for name in hidden}
        readings = readings.withColumns(earlier)
    if month_number(usage_month) in first_months:
        renamed = (
            readings.where("session_key_before IS NOT NULL")
            .groupBy("session_key_before")
            .agg(*[F.first(name).alias(f"{name}_now") for name in hidden])
        )

        def under_new(rows: DataFrame) -> DataFrame:
            joined = rows.join(renamed, F.col("session_key") == F.col("session_key_before"), "left")
            now = {name: F.coalesce(f"{name}_now", name) for name in hidden}
            return joined.withColumns(now).drop("session_key_before", *[f"{name}_now" for name in hidden])

        is_earlier = F.col("usage_month") < F.lit(usage_month)
        plain = readings.drop("session_key_before", "identifier_key_before")
        readings = under_new(plain.where(is_earlier)).unionByName(plain.where(~is_earlier))
        carried = None if carried is None else under_new(carried)
    return readings, carried


def assignments_of(counted: AsOf, ranks: DataFrame, month: metering.Month, keys_from: date) -> DataFrame:
    """Identifier assignments that touch the month or begin after it, under its keys, corrections settled."""
    of_keys = counted.rows(SUBSCRIPTIONS, {"keys_from": keys_from})
    return settled(of_keys, counted, ranks).where(lasts_into(month))


def _held(counted: AsOf, ranks: DataFrame, month: metering.Month, keys_from: date) -> Assignments:
    """The assignments of ``assignments_of`` whose identifier may have several."""
    of_keys = {"keys_from": keys_from}
    superseded = _superseded(counted, ranks, SUBSCRIPTIONS, of_keys)
    if len(superseded) > spark.FEW_ROWS:
        return Assignments.of_frame(assignments_of(counted, ranks, month, keys_from))
    visible, dropped = counted.visible, by_file(superseded)

    def counting(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        counts = visible.rows(rows) & meeting(rows, of_keys) & ~dropped_of(rows, dropped)
        return counts & lasting_into(rows, month.begin)

    return Assignments.of_files(counted.lake, counted.lake.paths(SUBSCRIPTIONS, of_keys), counting)


def lasts_into(month: metering.Month) -> Column:
    """An assignment, or its subscription, has not ended before the month."""
    ended = F.coalesce(F.col("assigned_to") <= F.lit(month.begin), F.lit(False))
    inactive = F.coalesce(F.col("active_to") <= F.lit(month.begin), F.lit(False))
    return ~(ended & inactive)


def settled(rows: DataFrame, counted: AsOf, ranks: DataFrame) -> DataFrame:
    """Rows of ``accepted`` or ``subscriptions`` without the versions that a later delivery corrected."""
    # Conflicts are rare, and looking for them first keeps every later plan small.
    if rows.where("is_conflicting").isEmpty():
        return rows
    return metering.settle_conflicts(rows, _duplicates(counted), ranks)


def delivery_ranks(lake: Lake) -> DataFrame:
    """Sequence and hash of every delivery, as far as they rank records; the same bytes rank as their latest delivery."""
    deliveries = read_deliveries(lake)
    latest: dict[str, int] = {}
    for delivery in deliveries:
        latest[delivery.file_hash] = max(latest.get(delivery.file_hash, -1), delivery.file_sequence or -1)
    rows = [{"file_number": d.file_number, "file_sequence": latest[d.file_hash], "file_hash": d.file_hash} for d in deliveries]
    return lake.spark.createDataFrame(pa.Table.from_pylist(rows, _RANKS))


_RANKS = pa.schema([("file_number", pa.int64()), ("file_sequence", pa.int64()), ("file_hash", pa.string())])


def estimate_month(workplace: Workplace, usage_month: date) -> int:
    """Fill ``estimated`` of a month's next revision from ``metered``, ``subscribed`` and the factors in force. Return its rows.

    Raises:
        Refused: a factor is missing or ambiguous, or counts volume otherwise than a source does.
    """
    lake, revision = workplace.lake, ledger.next_revision(workplace.lake, usage_month)
    subscribed = lake.read(SUBSCRIBED, in_month(usage_month, revision=revision))
    metered = lake.read(METERED, in_month(usage_month, revision=revision))
    known = subscribed.select("batch_cutoff", "brand").distinct().collect()
    of_usage = metered.agg(F.min("batch_cutoff"), F.max("batch_cutoff")).collect()[0]
    cutoffs = {row.batch_cutoff for row in known} | {*of_usage}
    if len(cutoffs) != 1:
        raise Refused(f"{usage_month:%Y-%m} is metered up to {len(cutoffs)} different batches: run meter first")
    found = factors_of(workplace, usage_month, {row.brand for row in known})
    applied, (cutoff,) = factors_id(found), cutoffs
    rows = [asdict(factor) | {_NUMBER: number} for number, factor in enumerate(found)]
    factors = lake.spark.createDataFrame(pa.Table.from_pylist(rows, FACTORS.arrow_schema.append(pa.field(_NUMBER, pa.int32()))))
    of_month = {"usage_month": usage_month, "revision": revision, "batch_cutoff": cutoff, "factors_id": applied}
    told = rows, [row.asDict() for row in of_one(factors).orderBy(_NUMBER).collect()]
    components = [
        Part(frame.withColumn("revision", F.lit(revision)), Told(_NUMBER, _of_factors(known, of_month)))
        for frame, known in zip(parts(metered, subscribed, factors, applied, _NUMBER), told, strict=True)
    ]
    return lake.replace_month(ESTIMATED, components, usage_month, revision=revision)


def _of_factors(factors: Sequence[Mapping[str, Any]], of_month: Mapping[str, Any]) -> pa.Table:
    """What a component's row has of its factor and its month, a row for each factor."""
    rows = [{**factor, "quantity_unit": UNITS[factor["component"]], **of_month} for factor in factors]
    return pa.Table.from_pylist(rows, pa.schema([field for field in ESTIMATED.arrow_schema if field.name in rows[0]]))


def factors_of(workplace: Workplace, usage_month: date, brands: Collection[str]) -> list[Factor]:
    """The factors in force for the brands that were subscribed to in a month. Raises Refused, naming file and value."""
    if not brands:
        raise Refused(f"{usage_month:%Y-%m} has no subscription: run meter first")
    try:
        found = in_force(workplace.settings.factors, usage_month, sorted(brands))
        check_volume_basis(found, workplace.sources)
    except FactorError as error:
        raise Refused(str(error)) from None
    return found
