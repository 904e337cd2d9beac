"""The stages of a month between the lake's tables: each loads, transforms with a pure function, and saves.

A published month is left as it is: its figures are pinned, and what came later is held until the month is restated.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from factors.reading import FactorError
from factors.registry import Factor, check_volume_basis, factors_id, in_force
from jobs import ledger
from jobs import meter as metering
from jobs.batches import AsOf
from jobs.estimate import estimate
from jobs.lake import Lake
from jobs.land import read_deliveries
from jobs.run import Refused
from jobs.workplace import Workplace
from schemas.tables import ACCEPTED, ESTIMATED, FACTORS, FILE_BALANCES, METERED, REJECTED, SUBSCRIBED, SUBSCRIPTIONS


def meter_month(workplace: Workplace, usage_month: date) -> tuple[int, int]:
    """Fill ``subscribed`` and ``metered`` of a month from ``accepted`` up to the month's cutoff. Return how many rows each has.

    Raises:
        Refused: nobody was active or nothing was used in the month, an identifier has two holders at once, or a subscription is
            both fixed and mobile.
    """
    lake, month = workplace.lake, workplace.month(usage_month)
    counted = ledger.counted(lake, usage_month)
    ranks = delivery_ranks(lake)
    assignments = assignments_of(counted, ranks, month, workplace.keys_from(usage_month))
    metering.require_one_holder(assignments)
    both = metering.networks_that_differ(assignments, month)
    if both:
        raise Refused(f"{usage_month:%Y-%m}: {both} subscriptions are both fixed and mobile in the export")
    rejected = counted.rows(REJECTED).where(F.col("source").isin(list(workplace.networks)))
    received = of_month(counted.rows(ACCEPTED), usage_month)
    lost = metering.lost_records(rejected, counted.rows(FILE_BALANCES), received, month)
    active = lake.replace_month(SUBSCRIBED, metering.subscribe(assignments, lost, month, counted.cutoff), usage_month)
    records = settled_records(counted, ranks, usage_month)
    usage = metering.by_identifier(records, assignments, month)
    attributed = metering.attribute(usage, assignments, of_month(lake.read(SUBSCRIBED), usage_month))
    rows = lake.replace_month(METERED, metering.meter(attributed, workplace.networks, month, counted.cutoff), usage_month)
    return active, rows


def settled_records(counted: AsOf, ranks: DataFrame, usage_month: date) -> DataFrame:
    """Accepted rows of a month that count, conflicts settled."""
    return settled(of_month(counted.rows(ACCEPTED), usage_month), counted, ranks)


def assignments_of(counted: AsOf, ranks: DataFrame, month: metering.Month, keys_from: date) -> DataFrame:
    """Identifier assignments that touch the month or begin after it, under its keys, corrections settled."""
    of_keys = counted.rows(SUBSCRIPTIONS).where(F.col("keys_from") == F.lit(keys_from))
    return settled(of_keys, counted, ranks).where(lasts_into(month))


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
    duplicates = counted.rows(REJECTED).where(F.col("reason") == metering.DUPLICATE)
    return metering.settle_conflicts(rows, duplicates, ranks)


def delivery_ranks(lake: Lake) -> DataFrame:
    """Sequence and hash of every delivery, as far as they rank records; the same bytes rank as their latest delivery."""
    deliveries = read_deliveries(lake)
    latest: dict[str, int] = {}
    for delivery in deliveries:
        latest[delivery.file_hash] = max(latest.get(delivery.file_hash, -1), delivery.file_sequence or -1)
    rows = [(d.file_number, latest[d.file_hash], d.file_hash) for d in deliveries]
    return lake.spark.createDataFrame(rows, "file_number BIGINT, file_sequence BIGINT, file_hash STRING")


def estimate_month(workplace: Workplace, usage_month: date) -> int:
    """Fill ``estimated`` of a month from ``metered``, ``subscribed`` and the factors in force. Return how many rows it has.

    Raises:
        Refused: a factor is missing or ambiguous, or counts volume otherwise than a source does.
    """
    lake = workplace.lake
    subscribed = of_month(lake.read(SUBSCRIBED), usage_month)
    metered = of_month(lake.read(METERED), usage_month)
    cutoffs = metered.select("batch_cutoff").union(subscribed.select("batch_cutoff")).distinct().collect()
    if len(cutoffs) != 1:
        raise Refused(f"{usage_month:%Y-%m} is metered up to {len(cutoffs)} different batches: run meter first")
    found = factors_of(workplace, usage_month, subscribed)
    factors = lake.rows(FACTORS, [asdict(factor) for factor in found])
    estimated = estimate(metered, subscribed, factors, factors_id(found))
    return lake.replace_month(ESTIMATED, estimated, usage_month)


def factors_of(workplace: Workplace, usage_month: date, subscribed: DataFrame) -> list[Factor]:
    """The factors in force for the brands that were subscribed to in a month. Raises Refused, naming file and value."""
    brands = sorted(row.brand for row in subscribed.select("brand").distinct().collect())
    if not brands:
        raise Refused(f"{usage_month:%Y-%m} has no subscription: run meter first")
    try:
        found = in_force(workplace.settings.factors, usage_month, brands)
        check_volume_basis(found, workplace.sources)
    except FactorError as error:
        raise Refused(str(error)) from None
    return found


def of_month(frame: DataFrame, usage_month: date) -> DataFrame:
    """Rows of one month."""
    return frame.where(F.col("usage_month") == F.lit(usage_month))
