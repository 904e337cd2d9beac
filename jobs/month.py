"""The stages of a month between the lake's tables: each loads, transforms with a pure function, and saves.

They work on the revision that the month would become, and leave the rows of its published revisions as they are: what came later
is held until the month is restated.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial, reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from factors.reading import FactorError
from factors.registry import Factor, check_volume_basis, factors_id, in_force
from jobs import counters, ledger, spark
from jobs.batches import AsOf
from jobs.conflicts import settled, some_superseded
from jobs.counts import write_judged
from jobs.data_files import FOUND
from jobs.estimate import UNITS, of_one, parts
from jobs.grouped import distinct
from jobs.holders import Assignments, lasting_into, require_one_holder
from jobs.lake import EmptyMonthError, Lake, Part, Told, in_month, judged_files, meets, redacted, require_rows
from jobs.legal_calendar import Month, month_number, months_before
from jobs.lost_records import lost_records
from jobs.meter import OF_ASSIGNMENT, Metered, Metering, added_up
from jobs.pseudonyms import IDENTIFIER_KEY
from jobs.run import Refused
from jobs.sums import OF_INTERVAL
from jobs.table_rows import POSITION, OfFiles, OfFrame, TableRows, but_for, files_of, files_where
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
    METERED,
    READINGS,
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
    keys_from = workplace.keys_from(usage_month)
    assignments = assignments_of(counted, month, keys_from)
    require_one_holder(Assignments.of(lake, assignments))
    count_deltas(workplace, counted, usage_month, revision)
    # What a lost reading counted, the next one counts; a session whose last one is lost is flagged by its deltas.
    usage_sources = [name for name, source in workplace.sources.items() if source.kind == "usage"]
    lost = lost_records(counted, month, usage_sources)
    intervals = used_records(workplace, counted, usage_month, revision)
    return _save_metered(lake, Metering(intervals, assignments, lost, workplace.networks, month), counted.cutoff, revision)


def _save_metered(lake: Lake, metering: Metering, cutoff: int, revision: int) -> tuple[int, int]:
    """Replace ``subscribed`` and ``metered`` of a month's revision. Return how many rows each has."""
    usage_month = metering.month.usage_month
    of_month = {"usage_month": usage_month, "revision": revision, "batch_cutoff": cutoff}
    subscribed, metered = (partial(write_judged, table, lake.path(table), of_month) for table in (SUBSCRIBED, METERED))

    def write(found: Metered) -> Iterator[pa.RecordBatch]:
        both = found.subscribed["network"].null_count
        files = {} if both else {"subscribed": subscribed(found.subscribed), "metered": metered(found.held)}
        said = {"both": both, "unheld": found.unheld.to_pylist(), **files}
        yield pa.RecordBatch.from_pylist([{"found": json.dumps(said)}], FOUND)

    with redacted(METERED):
        found = [json.loads(of) for of in metering.by_subscription(lake.spark, write, FOUND).rows()["found"].to_pylist()]
        unheld = added_up([row for of in found for row in of["unheld"]])
    if both := sum(of["both"] for of in found):
        raise Refused(f"{usage_month:%Y-%m}: {both} subscriptions are both fixed and mobile in the export")
    files = {
        SUBSCRIBED.name: judged_files(SUBSCRIBED, [of["subscribed"] for of in found]),
        METERED.name: judged_files(METERED, [*(of["metered"] for of in found), metered(unheld)]),
    }
    for table in (SUBSCRIBED, METERED):
        require_rows(table, files[table.name], usage_month)
    active, used = (
        lake.replace_files(table, files[table.name], usage_month, revision=revision) for table in (SUBSCRIBED, METERED)
    )
    return active, used


def used_records(workplace: Workplace, counted: AsOf, usage_month: date, revision: int) -> TableRows:
    """Intervals of a month that a revision counts, by record or by counter: accepted rows, conflicts settled, and deltas."""
    lake, of_month, of_revision = workplace.lake, in_month(usage_month), in_month(usage_month, revision=revision)
    deltas = [files_of(counted, DELTAS, of_revision)] if lake.exists(DELTAS) else []
    found = some_superseded(counted, ACCEPTED, of_month)
    if len(found) <= spark.FEW_ROWS:
        return OfFiles(lake, [files_of(counted, ACCEPTED, of_month, POSITION, but_for(found)), *deltas], OF_INTERVAL)
    frames = [settled(counted, ACCEPTED, of_month), *([lake.read(DELTAS, of_revision)] if deltas else [])]
    rows = reduce(DataFrame.unionByName, [frame.select(*OF_INTERVAL) for frame in frames])
    most = sum(lake.paths(ACCEPTED, of_month).values()) + sum(count for of in deltas for count in of.rows_of.values())
    return OfFrame(rows, OF_INTERVAL, most)


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


def assignments_of(counted: AsOf, month: Month, keys_from: date) -> OfFiles | OfFrame:
    """Identifier assignments that touch the month or begin after it, under its keys, corrections settled."""
    of_keys = {"keys_from": keys_from}
    found = some_superseded(counted, SUBSCRIPTIONS, of_keys)
    if len(found) > spark.FEW_ROWS:
        rows = settled(counted, SUBSCRIPTIONS, of_keys).where(lasts_into(month))
        return OfFrame(rows, OF_ASSIGNMENT, sum(counted.lake.paths(SUBSCRIPTIONS, of_keys).values()))
    is_kept = but_for(found)

    def is_so(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return is_kept(rows) & lasting_into(rows, month.begin)

    judged_by = (*POSITION, "assigned_to", "active_to")
    return OfFiles(counted.lake, [files_of(counted, SUBSCRIPTIONS, of_keys, judged_by, is_so)], OF_ASSIGNMENT)


def lasts_into(month: Month) -> Column:
    """An assignment, or its subscription, has not ended before the month."""
    ended = F.coalesce(F.col("assigned_to") <= F.lit(month.begin), F.lit(False))
    inactive = F.coalesce(F.col("active_to") <= F.lit(month.begin), F.lit(False))
    return ~(ended & inactive)


def estimate_month(workplace: Workplace, usage_month: date) -> int:
    """Fill ``estimated`` of a month's next revision from ``metered``, ``subscribed`` and the factors in force. Return its rows.

    Raises:
        Refused: a factor is missing or ambiguous, or counts volume otherwise than a source does.
    """
    lake, revision = workplace.lake, ledger.next_revision(workplace.lake, usage_month)
    of_revision = in_month(usage_month, revision=revision)
    subscribed, metered = (lake.read(table, of_revision) for table in (SUBSCRIBED, METERED))
    known, of_usage = (
        distinct(OfFiles(lake, [files_where(lake, table, of_revision)], columns), columns)
        for table, columns in ((SUBSCRIBED, ("batch_cutoff", "brand")), (METERED, ("batch_cutoff",)))
    )
    cutoffs = {row["batch_cutoff"] for row in (*known, *of_usage)}
    if len(cutoffs) != 1 or not of_usage:
        raise Refused(f"{usage_month:%Y-%m} is metered up to {len(cutoffs)} different batches: run meter first")
    found = factors_of(workplace, usage_month, {row["brand"] for row in known})
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
