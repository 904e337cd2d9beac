"""meter: add up a month's usage per subscription, and list every subscription that was active in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.legal_calendar import days_of
from jobs.spark import few

DUPLICATE = "duplicate"
UNSPECIFIED = "unspecified"
_IDENTIFIER = ("identifier_type", "identifier_key")
_POSITION = ("file_number", "record_ordinal")
_OF_REFUSED = ("file_number", "usage_month", "record_key", "closed_at", *_IDENTIFIER)


@dataclass(frozen=True)
class Month:
    """A legal month: its first day, its bounds in UTC, and its time zone."""

    usage_month: date
    begin: datetime
    end: datetime
    timezone: str

    @property
    def days(self) -> int:
        """Legal days of the month."""
        return len(days_of(self.usage_month))


def settle_conflicts(records: DataFrame, duplicates: DataFrame, deliveries: DataFrame) -> DataFrame:
    """Rows of ``records`` without those that ``superseded`` names, whose arguments these are."""
    at = [F.col(name).alias(f"at_{name}") for name in _POSITION]
    dropped = few(superseded(records, duplicates, deliveries).select(*at, F.xxhash64(*_POSITION).alias("place_hash")))
    is_dropped = F.xxhash64(*_POSITION) == F.col("place_hash")
    for name in _POSITION:
        is_dropped &= _equal(name, f"at_{name}")
    return records.join(dropped, is_dropped, "left_anti")


def superseded(records: DataFrame, duplicates: DataFrame, deliveries: DataFrame) -> DataFrame:
    """Of records with one key and different content, all but the one whose content was delivered last.

    Last is the greatest (file sequence, file hash, ordinal) over every delivery of the content, duplicates too, so that the order
    of arrival does not matter. A record is kept or dropped with all its rows of the month.

    Args:
        records: accepted rows with ``record_key``, ``is_conflicting`` and position.
        duplicates: rejected rows of reason duplicate, with key, position and the position of the accepted copy.
        deliveries: ``file_number, file_sequence, file_hash`` of every delivery.

    Returns:
        ``file_number, record_ordinal`` of the records that do not count.
    """
    keys = few(
        records.where("is_conflicting").select(F.col("record_key").alias("key"), F.xxhash64("record_key").alias("key_hash"))
    )
    accepted = F.struct(*_POSITION).alias("accepted")
    is_contending = (F.xxhash64("record_key") == F.col("key_hash")) & _equal("record_key", "key")
    contending = few(records.select("record_key", *_POSITION).join(keys, is_contending, "left_semi").distinct())
    copies = contending.select("record_key", accepted, *_POSITION).unionByName(_copies(contending, duplicates))
    # The accepted position ends the order, so that it is total.
    order = F.struct(F.coalesce("file_sequence", F.lit(-1)), "file_hash", "record_ordinal", "accepted")
    ranked = copies.join(F.broadcast(deliveries), on="file_number", how="inner").groupBy("record_key", "accepted")
    last = ranked.agg(F.max(order).alias("last")).withColumn("latest", F.max("last").over(Window.partitionBy("record_key")))
    return last.where(F.col("last") != F.col("latest")).select(*[f"accepted.{name}" for name in _POSITION])


def _equal(one: str, other: str) -> Column:
    """Equality that a join does not take for its key: it looks up a number, such as a hash, several times faster."""
    return (F.col(one) <= F.col(other)) & (F.col(one) >= F.col(other))


def _copies(contending: DataFrame, duplicates: DataFrame) -> DataFrame:
    """Duplicates of contending records: ``record_key``, the position where it was ``accepted``, and that of the duplicate."""
    held = contending.select(
        "record_key",
        F.struct(*_POSITION).alias("accepted"),
        *[F.col(name).alias(f"duplicate_of_{name}") for name in _POSITION],
    )
    copies = duplicates.join(held, on=["record_key", *[f"duplicate_of_{name}" for name in _POSITION]], how="inner")
    return copies.select("record_key", "accepted", *_POSITION)


def attribute(usage: DataFrame, assignments: DataFrame, subscribed: DataFrame) -> DataFrame:
    """Give usage to the subscription that held its identifier at ``held_at``.

    Adds ``attribution`` (``holder``, ``unknown_identifier`` where nobody in the export held it, ``inactive_holder`` where the
    holder was not active on any day of the month), ``subscription_key`` (null unless ``holder``), ``network`` and
    ``subscribed_technology``.
    """
    active = subscribed.select("subscription_key", F.lit(True).alias("is_active"))
    holders = assignments.join(active, on="subscription_key", how="left").select(
        *_IDENTIFIER, "assigned_from", "assigned_to", "subscription_key", "network", "is_active",
        F.col("access_technology").alias("subscribed_technology"),
    )  # fmt: skip
    holds = _same_identifier("record", "holder") & _lasts_at(F.col("record.held_at"), "holder")
    joined = usage.alias("record").join(holders.alias("holder"), on=holds, how="left")
    is_held, is_active = F.col("holder.subscription_key").isNotNull(), F.col("holder.is_active").isNotNull()
    return joined.select(
        "record.*",
        F.when(is_active, "holder").when(is_held, "inactive_holder").otherwise("unknown_identifier").alias("attribution"),
        F.when(is_active, F.col("holder.subscription_key")).alias("subscription_key"),
        "holder.network",
        "holder.subscribed_technology",
    )


def meter(attributed: DataFrame, networks: Mapping[str, str], month: Month, cutoff: int) -> DataFrame:
    """Add up attributed usage per subscription, access technology and roaming zone.

    Args:
        attributed: rows of ``attribute``.
        networks: network of each source, for usage of unknown identifiers.
        month: the month.
        cutoff: last batch that counts.

    Returns:
        Rows of ``metered``, of which revision the caller says.
    """
    network_of_source = F.create_map(*[F.lit(text) for pair in sorted(networks.items()) for text in pair])
    keys = {
        "network": F.coalesce("network", network_of_source[F.col("source")]),
        "access_technology": F.coalesce("access_technology", "subscribed_technology", F.lit(UNSPECIFIED)),
    }
    usage = attributed.withColumns(keys).groupBy("subscription_key", "attribution", *keys, "roaming_zone")
    return usage.agg(
        F.sum("octets_up").alias("octets_up"),
        F.sum("octets_down").alias("octets_down"),
        F.sum("intervals").alias("intervals"),
        F.bool_or("is_estimated").alias("is_estimated"),
    ).withColumns({"usage_month": F.lit(month.usage_month), "batch_cutoff": F.lit(cutoff).cast("bigint")})


def lost_records(rejected: DataFrame, balances: DataFrame, records: DataFrame, month: Month) -> DataFrame:
    """Records of the month that are known to be lost: rejected, but it is known whose they were, and never delivered soundly.

    A record whose time cannot be read counts for every month that its file has records of.

    Returns:
        ``identifier_type, identifier_key, closed_at`` (null if it cannot be read).
    """
    is_of_month = F.col("usage_month") == F.lit(month.usage_month)
    known = rejected.where(F.col("reason") != DUPLICATE).where("identifier_key IS NOT NULL")
    refused = few(known.where(is_of_month | F.col("usage_month").isNull()).select(*_OF_REFUSED))
    span = balances.where(F.col("first_closed_at") < F.lit(month.end)).where(F.col("last_closed_at") >= F.lit(month.begin))
    of_month = refused.where(is_of_month)
    files = span.select("file_number").union(of_month.select("file_number"))
    lost = of_month.unionByName(refused.where("usage_month IS NULL").join(files, "file_number", "left_semi"))
    keys = refused.where("record_key IS NOT NULL").select(F.xxhash64("record_key").alias("key_hash")).alias("refused")
    # By hash, which Spark looks up several times faster; a key of the same hash that was not refused does no harm here.
    is_refused = F.xxhash64("record_key") == F.col("refused.key_hash")
    delivered = few(records.join(keys, is_refused, "left_semi").select("record_key").distinct())
    return lost.join(delivered, "record_key", "left_anti").select(*_IDENTIFIER, "closed_at")


def subscribe(assignments: DataFrame, lost: DataFrame, month: Month, cutoff: int) -> DataFrame:
    """List every subscription that was active on a legal day of the month, with or without usage.

    Active days are the days of the union of its activity intervals; a day counts when any moment of it is active. Brand and
    segment are those of the latest assignment that began before the month ended.

    Returns:
        Rows of ``subscribed``, of which revision the caller says. A subscription that is both fixed and mobile has no network,
        which the table refuses; ``networks_that_differ`` counts them.
    """
    # One bit a legal day: a union of intervals is an OR, its days a count of bits.
    days = assignments.withColumn("days", _active_days(month)).where("days <> 0")
    has_begun = F.col("assigned_from") < F.lit(month.end)
    latest = F.struct(has_begun.alias("has_begun"), "assigned_from", "brand", "segment", "network")
    subscriptions = days.groupBy("subscription_key").agg(
        F.max(latest).alias("latest"),
        F.bit_count(F.bit_or("days")).cast("int").alias("active_days"),
        _is_both().alias("is_both"),
    )
    flagged = _holders_of(lost, assignments, month)
    return subscriptions.join(flagged, on="subscription_key", how="left").select(
        F.lit(month.usage_month).alias("usage_month"),
        F.lit(cutoff).cast("bigint").alias("batch_cutoff"),
        "subscription_key",
        F.when(~F.col("is_both"), F.col("latest.network")).alias("network"),
        *[F.col(f"latest.{name}").alias(name) for name in ("segment", "brand")],
        "active_days",
        F.coalesce("has_lost_records", F.lit(False)).alias("is_estimated"),
    )


def networks_that_differ(assignments: DataFrame, month: Month) -> int:
    """Subscriptions of the month that are both fixed and mobile in the export."""
    active = assignments.where(_active_days(month) != 0)
    return active.groupBy("subscription_key").agg(_is_both().alias("is_both")).where("is_both").count()


def _is_both() -> Column:
    is_fixed = F.col("network") == "fixed"
    return F.bool_or(is_fixed) & F.bool_or(~is_fixed)


def _holders_of(lost: DataFrame, assignments: DataFrame, month: Month) -> DataFrame:
    at_close = _lasts_at(F.col("record.closed_at"), "holder")
    in_month = (F.col("holder.assigned_from") < F.lit(month.end)) & (F.lit(month.begin) < _open_ended("holder.assigned_to"))
    holds = _same_identifier("record", "holder") & F.when(F.col("record.closed_at").isNull(), in_month).otherwise(at_close)
    held = assignments.alias("holder").join(lost.alias("record"), on=holds, how="left_semi")
    return held.select("subscription_key").distinct().withColumn("has_lost_records", F.lit(True))


def _active_days(month: Month) -> Column:
    """Bits of the legal days of the month that lie in the activity of an assignment row; 0 if none."""
    first = F.lit(month.usage_month)
    begin = F.greatest("active_from", F.lit(month.begin))
    end = F.least(_open_ended("active_to"), F.lit(month.end))
    # The last moment is inside the interval, its end is not.
    last_moment = F.timestamp_micros(F.unix_micros(end) - 1)
    first_bit = F.date_diff(F.to_date(F.from_utc_timestamp(begin, month.timezone)), first)
    last_bit = F.date_diff(F.to_date(F.from_utc_timestamp(last_moment, month.timezone)), first)
    one = F.lit(1).cast("bigint")
    bits = F.call_function("shiftleft", one, last_bit + 1) - F.call_function("shiftleft", one, first_bit)
    return F.when(begin < end, bits).otherwise(F.lit(0).cast("bigint"))


def _same_identifier(left: str, right: str) -> Column:
    same_type = F.col(f"{left}.identifier_type") == F.col(f"{right}.identifier_type")
    return same_type & (F.col(f"{left}.identifier_key") == F.col(f"{right}.identifier_key"))


def _lasts_at(instant: Column, holder: str) -> Column:
    return (F.col(f"{holder}.assigned_from") <= instant) & (instant < _open_ended(f"{holder}.assigned_to"))


def _open_ended(column: str) -> Column:
    return F.coalesce(F.col(column), F.lit(datetime(9999, 1, 1)))  # noqa: DTZ001 - the session's zone is UTC
