"""Counters to deltas: what was used between two readings of counters that only grow, and what they say at the month's end.

RADIUS accounting (RFC 2866, RFC 2869) and DOCSIS SAMIS write running totals of a session or service flow. Readings come repeated,
out of order and late; 32-bit counters wrap; sessions end without a stop and last for months. Nothing here depends on the order in
which readings came, on how often they came, or on how they were cut into files.

A session is told by its key *and* its derived start: network elements use ids again. It counts from 0 at its start, or from what
the month before carried over. What cannot be known exactly is flagged with the reason and bounded; it is never invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from jobs.legal_calendar import Month
from schemas.source import CounterSource

START_TOLERANCE_S = 300
"""Derived starts of one session differ by clocks and delays; a start further off is another session."""
BURST_S = 60
"""Octets of this long may be counted in an interval that seems shorter: clocks and counters are not read at one moment."""
RESET = "reset"
"""Status of a record by which a network element says that it began anew."""
STOP_IS_MISSING = "stop_is_missing"
_WRAP = 1 << 32
_SESSION = ("source", "session_key", "session")
_DIRECTIONS = ("up", "down")
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What a source's lines and clocks allow.

    Args:
        fastest_octets_per_s: what a line carries at most in a second, both directions together.
        largest_packet_octets: the largest packet it carries: so packet counters bound octets.
        silent_after_s: without a reading for so long, a session has ended.
    """

    fastest_octets_per_s: int
    largest_packet_octets: int
    silent_after_s: int

    @classmethod
    def of(cls, source: CounterSource) -> Limits:
        """As the source says."""
        return cls(source.fastest_octets_per_s, source.counters.largest_packet_octets, source.counters.silent_after_s)


def deltas(
    readings: DataFrame, resets: DataFrame, carried: DataFrame | None, limits: Mapping[str, Limits], month: Month, cutoff: int
) -> DataFrame:
    """The intervals between counter readings that touch a month, with the octets of the month.

    Args:
        readings: rows of ``readings`` without resets: those of the month and the first ones after it, by which an interval that
            straddles its end is known; where nothing was carried over, the last ones before it too. Keys are those of the month.
        resets: rows of ``readings`` with status reset.
        carried: rows of ``carried`` of the month before; None if it was never metered.
        limits: by source.
        month: the month.
        cutoff: last batch that counts.

    Returns:
        Rows of ``deltas``, of which revision the caller says: one per reading of a session that closes an interval with a part in
        the month.
    """
    points = _points(readings)
    if carried is not None:
        points = points.unionByName(_carried_points(carried), allowMissingColumns=True)
    grown = _grown(_counted(_ordered(_sessions(points), limits)))
    inside = grown.where(~F.col("is_carried")).where(_touches(month))
    heard = readings.groupBy("source").agg(F.max("closed_at").alias("heard_until"))
    return _judged(_split(inside, month), resets, heard, month).select(
        F.lit(month.usage_month).alias("usage_month"),
        F.lit(cutoff).cast("bigint").alias("batch_cutoff"),
        *_DELTA_COLUMNS,
    )


def carried_over(found: DataFrame, before: DataFrame | None, resets: DataFrame, month: Month, cutoff: int) -> DataFrame:
    """Counters at the month's end of sessions that go on.

    Args:
        found: rows of ``deltas`` of the month.
        before: rows of ``carried`` of the month before; a session that was silent all month stays carried.
        resets: rows of ``readings`` with status reset.
        month: the month.
        cutoff: last batch that counts.

    Returns:
        Rows of ``carried``.
    """
    end = F.lit(month.end)
    last = found.where("NOT is_ended").where(F.col("is_last") | (F.col("closed_at") >= end))
    going_on = last.withColumn("closed_at", F.least("closed_at", end))
    columns = [name for name in _CARRIED_COLUMNS if name not in ("usage_month", "batch_cutoff")]
    rows = going_on.select(*columns)
    if before is not None:
        same = ["source", "session_key", "started_at"]
        silent = _with_resets(before, resets).where(F.col("reset_at").isNull() | (F.col("reset_at") >= end))
        rows = rows.unionByName(silent.join(found.select(*same).distinct(), on=same, how="left_anti").select(*columns))
    return rows.select(
        F.lit(month.usage_month).alias("usage_month"), F.lit(cutoff).cast("bigint").alias("batch_cutoff"), *columns
    )


def balances(found: DataFrame, carried: DataFrame, month: Month, cutoff: int) -> DataFrame:
    """First and last counters of every session against the sum of its deltas, by source.

    Args:
        found: rows of ``deltas`` of the month.
        carried: rows of ``carried`` of the month.
        month: the month.
        cutoff: last batch that counts.

    Returns:
        Rows of ``counter_balances``.
    """
    is_final = F.col("is_last") | (F.col("closed_at") >= F.lit(month.end))
    reasons = found.where("is_estimated").groupBy("source", "reason").count().groupBy("source")
    entries = F.array_sort(F.collect_list(F.struct("reason", "count")))
    by_reason = reasons.agg(F.to_json(F.map_from_entries(entries)).alias("reasons"))
    last = F.when(is_final, F.col("counter_octets_up") + F.col("counter_octets_down")).otherwise(0)
    octets = {
        "octets_unknown_at_most": F.col("octets_unknown_at_most"),
        "octets_first": F.col("base_octets"),
        "octets_last": last,
        "octets_wrapped": F.col("wraps") * _WRAP,
        "octets_refused": F.col("octets_refused"),
        "octets_fallen": F.col("octets_fallen"),
        "octets_before": F.col("octets_before"),
        "octets_of_month": F.col("octets_up") + F.col("octets_down"),
    }
    sums = found.groupBy("source").agg(
        F.count_if(is_final).alias("sessions"),
        F.count_if(F.col("reason") == STOP_IS_MISSING).alias("sessions_lost"),
        F.count("*").alias("intervals"),
        F.count_if("is_estimated").alias("intervals_estimated"),
        F.sum("wraps").alias("wraps"),
        *[F.sum(value.cast("decimal(38,0)")).cast("decimal(38,0)").alias(name) for name, value in octets.items()],
    )
    going_on = carried.groupBy("source").agg(F.count("*").alias("carried"))
    return (
        sums.join(by_reason, on="source", how="left")
        .join(going_on, on="source", how="left")
        .select(
            F.lit(month.usage_month).alias("usage_month"),
            F.lit(cutoff).cast("bigint").alias("batch_cutoff"),
            *sums.columns,
            F.coalesce("reasons", F.lit("{}")).alias("estimated_reasons"),
            F.coalesce("carried", F.lit(0)).alias("sessions_carried"),
        )
    )


_CARRIED_COLUMNS = (
    *("source", "node", "session_key", "started_at", "identifier_type", "identifier_key", "closed_at", "counter_bits"),
    *("counter_octets_up", "counter_octets_down", "counter_packets_up", "counter_packets_down"),
    *("access_technology", "roaming_zone"),
)
_DELTA_COLUMNS = (
    *("source", "node", "session_key", "started_at", "identifier_type", "identifier_key", "opened_at", "closed_at"),
    *("file_number", "record_ordinal", "octets_up", "octets_down", "octets_before", "octets_after", "access_technology"),
    *("roaming_zone", "month_part", "is_prorated", "is_estimated", "reason", "octets_unknown_at_most", "wraps"),
    *("octets_fallen", "octets_refused", "status", "is_last", "counter_bits", "base_octets"),
    *("counter_octets_up", "counter_octets_down", "counter_packets_up", "counter_packets_down", "is_ended"),
)
_COUNTERS = tuple(f"counter_{unit}_{way}" for unit in ("octets", "packets") for way in _DIRECTIONS)


def _points(readings: DataFrame) -> DataFrame:
    """Readings as points of their session. A start without counters says 0."""
    begins = F.col("status") == "start"
    counters = {
        name: F.when(begins, F.coalesce(name, F.lit(0))).otherwise(F.col(name))
        for name in _COUNTERS
        if name.startswith("counter_octets")
    }
    return readings.withColumns(counters).select(
        *("source", "node", "session_key", "started_at", "identifier_type", "identifier_key", "closed_at", "elapsed_s"),
        *("status", "counter_bits", *_COUNTERS, "access_technology", "roaming_zone", "file_number", "record_ordinal"),
        F.lit(False).alias("is_carried"),
    )


def _carried_points(carried: DataFrame) -> DataFrame:
    return carried.select(*_CARRIED_COLUMNS).withColumns({"is_carried": F.lit(True), "status": F.lit("carried")})


def _sessions(points: DataFrame) -> DataFrame:
    """Number the sessions that one key names: another begins where the derived start is further off than clocks differ."""
    by_start = Window.partitionBy("source", "session_key").orderBy("started_at", "closed_at", "file_number", "record_ordinal")
    start = F.unix_micros("started_at")
    is_another = (start - F.lag(start).over(by_start)) > START_TOLERANCE_S * _MICROSECONDS
    numbered = points.withColumn("is_another", F.coalesce(is_another, F.lit(False)).cast("int"))
    return numbered.withColumn(
        "session", F.sum("is_another").over(by_start.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    )


def _ordered(points: DataFrame, limits: Mapping[str, Limits]) -> DataFrame:
    """Points with their place in the session, without those after its stop; with the limits of their source.

    Session time orders readings, not their arrival; of two at one time the greater counters come last.
    """
    session = Window.partitionBy(*_SESSION)
    stopped = F.max(F.when(F.col("status") == "stop", F.col("elapsed_s"))).over(session)
    known = points.withColumns({"stopped_s": stopped, "counter_bits": F.max("counter_bits").over(session)})
    is_after_stop = (F.col("status") != "stop") & ~F.col("is_carried") & (F.col("elapsed_s") > F.col("stopped_s"))
    kept = known.where(~F.coalesce(is_after_stop, F.lit(False)))
    return kept.withColumns(
        {
            "fastest_octets_per_s": _by_source({name: limit.fastest_octets_per_s for name, limit in limits.items()}),
            "largest_packet_octets": _by_source({name: limit.largest_packet_octets for name, limit in limits.items()}),
            "silent_after_s": _by_source({name: limit.silent_after_s for name, limit in limits.items()}),
        }
    )


def _in_order() -> WindowSpec:
    counters = F.coalesce(F.col("counter_octets_up") + F.col("counter_octets_down"), F.lit(-1))
    position = ("closed_at", "file_number", "record_ordinal")
    return Window.partitionBy(*_SESSION).orderBy(F.col("is_carried").desc(), "elapsed_s", counters, *position)


def _so_far() -> WindowSpec:
    return _in_order().rowsBetween(Window.unboundedPreceding, Window.currentRow)


def _counted(points: DataFrame) -> DataFrame:
    """Points with their times in order, and with counters that no line could have reached left out.

    A single absurd counter is left out, so that the next one counts for it; one that stays is refused by ``_grown``.
    """
    to = F.max("closed_at").over(_so_far())
    said = {f"said_{way}": F.last(f"counter_octets_{way}", ignorenulls=True).over(_so_far()) for way in _DIRECTIONS}
    timed = points.withColumns({"to": to, "first_started_at": F.first("started_at").over(_so_far()), **said})
    # The counters begin at 0 with the session.
    begin = F.coalesce(F.lag("to").over(_in_order()), F.least("first_started_at", "to"))
    before = {f"before_{way}": F.coalesce(F.lag(f"said_{way}").over(_in_order()), F.lit(0)) for way in _DIRECTIONS}
    known = timed.withColumns({"from": begin, **before})
    growth = reduce(Column.__add__, [F.coalesce(f"said_{way}", F.lit(0)) - F.col(f"before_{way}") for way in _DIRECTIONS])
    is_absurd = ~F.col("is_carried") & (growth > _most_octets("from", "to"))
    return known.withColumns(
        {"is_absurd": is_absurd, "has_octets": F.col("counter_octets_up").isNotNull() | F.col("counter_octets_down").isNotNull()}
    ).drop(*said, *before)


def _grown(points: DataFrame) -> DataFrame:
    """How much each counter grew since the point before: in octets that count, wraps, falls and growth that is refused."""
    usable = {
        f"said_{way}": F.coalesce(
            F.last(F.when(~F.col("is_absurd"), F.col(f"counter_octets_{way}")), ignorenulls=True).over(_so_far()), F.lit(0)
        )
        for way in _DIRECTIONS
    }
    said = points.withColumns(usable)
    highest = {
        f"stands_{way}": F.when(F.col("counter_bits") == 64, F.max(f"said_{way}").over(_so_far())).otherwise(F.col(f"said_{way}"))
        for way in _DIRECTIONS
    }
    packets = {f"packets_{way}": F.last(f"counter_packets_{way}", ignorenulls=True).over(_so_far()) for way in _DIRECTIONS}
    stands = said.withColumns({**highest, **packets})
    earlier = {
        **{f"before_{way}": F.coalesce(F.lag(f"stands_{way}").over(_in_order()), F.lit(0)) for way in _DIRECTIONS},
        **{f"packets_before_{way}": F.lag(f"packets_{way}").over(_in_order()) for way in _DIRECTIONS},
        "is_first": F.lag("to").over(_in_order()).isNull(),
        "is_last": F.lead("to").over(_in_order()).isNull(),
    }
    found = stands.withColumns(earlier)
    found = found.withColumns({f"packets_before_{way}": _packets_before(way) for way in _DIRECTIONS})
    for way in _DIRECTIONS:
        found = _of_direction(found, way)
    growth = F.col("grown_up") + F.col("grown_down")
    is_refused = growth > _most_octets("from", "to")
    refused = {"octets_refused": F.when(is_refused, growth).otherwise(F.lit(0).cast("bigint"))}
    counts = {f"grown_{way}": F.when(is_refused, F.lit(0).cast("bigint")).otherwise(F.col(f"grown_{way}")) for way in _DIRECTIONS}
    return found.withColumns({**refused, **counts})


def _packets_before(way: str) -> Column:
    """Packets at the point before; a session begins with none."""
    return F.when(F.col("is_first"), F.lit(0).cast("bigint")).otherwise(F.col(f"packets_before_{way}"))


def _of_direction(points: DataFrame, way: str) -> DataFrame:
    """Growth of one direction's counter; of a 32-bit counter, wraps seen and how many more there may have been."""
    rise = F.col(f"stands_{way}") - F.col(f"before_{way}")
    packets = F.col(f"packets_{way}") - F.col(f"packets_before_{way}")
    packets = F.when(packets < 0, packets + _WRAP).otherwise(packets)
    by_packets = packets * F.col("largest_packet_octets")
    most = F.least(_most_octets("from", "to"), F.when(packets.isNotNull(), by_packets))
    is_narrow = F.col("counter_bits") == 32
    wraps = F.when(is_narrow & (rise < 0) & (rise + _WRAP <= most), 1).otherwise(0)
    grown = F.when(wraps == 1, rise + _WRAP).otherwise(F.greatest(rise, F.lit(0)))
    more = F.greatest(F.floor((most - F.col(f"grown_{way}")) / _WRAP), F.lit(0)) * _WRAP
    nothing = F.lit(0).cast("bigint")
    # A 64-bit counter stands at its highest, so its fall is seen in what it says.
    fell = F.when(is_narrow, (rise < 0) & (F.col(f"wraps_{way}") == 0)).otherwise(F.col(f"said_{way}") < F.col(f"before_{way}"))
    return points.withColumns({f"wraps_{way}": wraps, f"grown_{way}": grown}).withColumns(
        {
            f"fell_{way}": fell,
            f"fallen_{way}": F.when(is_narrow & fell, -rise).otherwise(nothing),
            f"more_{way}": F.when(is_narrow, more.cast("bigint")).otherwise(nothing),
        }
    )


def _touches(month: Month) -> Column:
    """The interval has a part in the month; one without length lies where it ends."""
    begin, end = F.lit(month.begin), F.lit(month.end)
    is_instant = (F.col("from") == F.col("to")) & (F.col("to") >= begin) & (F.col("to") < end)
    return is_instant | ((F.col("to") > begin) & (F.col("from") < end) & (F.col("from") < F.col("to")))


def _split(points: DataFrame, month: Month) -> DataFrame:
    """Octets before, in and after the month, by elapsed time: the first part floored, the rest goes on (DESIGN §2)."""
    begin, end = _micros(F.lit(month.begin)), _micros(F.lit(month.end))
    opened, closed = _micros(F.col("from")), _micros(F.col("to"))
    inside = F.greatest(opened, begin)
    cut = points
    for way in _DIRECTIONS:
        grown = F.col(f"grown_{way}")
        before = F.when(opened < begin, _share(grown, begin - opened, closed - opened)).otherwise(F.lit(0).cast("bigint"))
        cut = cut.withColumn(f"octets_before_{way}", before)
        rest = grown - F.col(f"octets_before_{way}")
        of_month = F.when(closed > end, _share(rest, end - inside, closed - inside)).otherwise(rest)
        cut = cut.withColumn(f"octets_{way}", of_month)
        after = grown - F.col(f"octets_before_{way}") - F.col(f"octets_{way}")
        at_end = F.col(f"stands_{way}") - after
        # Cut before the counter wrapped: it stands where it was about to.
        is_unwrapped = at_end < 0
        cut = cut.withColumns(
            {
                f"octets_after_{way}": after,
                f"counter_octets_{way}": F.when(is_unwrapped, at_end + _WRAP).otherwise(at_end),
                f"wraps_{way}": F.col(f"wraps_{way}") - is_unwrapped.cast("int"),
                f"counter_packets_{way}": F.when(closed > end, F.col(f"packets_before_{way}")).otherwise(F.col(f"packets_{way}")),
            }
        )
    goes_on, came_before = F.col("to") > F.lit(month.end), F.col("from") < F.lit(month.begin)
    by_month = Window.partitionBy(*_SESSION).orderBy(*[F.col(name) for name in ("from", "to", "file_number", "record_ordinal")])
    first = F.row_number().over(by_month) == 1
    return cut.withColumns(
        {
            "month_part": F.when(came_before, 2).when(goes_on, 1).otherwise(0),
            "is_prorated": goes_on | came_before,
            "octets_before": F.col("octets_before_up") + F.col("octets_before_down"),
            "octets_after": F.col("octets_after_up") + F.col("octets_after_down"),
            "wraps": F.col("wraps_up") + F.col("wraps_down"),
            "octets_fallen": F.col("fallen_up") + F.col("fallen_down"),
            "base_octets": F.when(first, F.col("before_up") + F.col("before_down")).otherwise(F.lit(0).cast("bigint")),
        }
    )


def _judged(points: DataFrame, resets: DataFrame, heard: DataFrame, month: Month) -> DataFrame:
    """What is not known exactly, why, and how much it is at most.

    A session is silent by the end of the month, or by the last reading of its source that is known: one that fell silent shortly
    before the end is told from one that goes on by what came from others since.
    """
    end = F.lit(month.end)
    known = points.withColumn("closed_at", F.col("to")).join(F.broadcast(heard), on="source", how="left")
    found = _with_resets(known, resets)
    silent_from = F.timestamp_micros(_micros(F.col("to")) + F.col("silent_after_s") * _MICROSECONDS)
    is_open = F.col("is_last") & (F.col("status") != "stop")
    is_reset = is_open & F.coalesce(F.col("reset_at") <= end, F.lit(False))
    is_lost = is_reset | (is_open & (silent_from <= F.greatest(end, F.col("heard_until"))))
    last_moment = F.least(F.coalesce(F.when(is_reset, F.col("reset_at")), end), silent_from)
    coarse = F.col("is_prorated") & (_seconds("from", "to") > F.col("silent_after_s"))
    most = _most_octets("from", "to")
    whole = F.col("octets_before") + F.col("octets_up") + F.col("octets_down") + F.col("octets_after")
    may_have_wrapped = (F.col("more_up") + F.col("more_down")) > 0
    reasons = (
        ("counter_grew_too_fast", F.col("octets_refused") > 0, F.least(F.col("octets_refused"), most)),
        ("counter_fell", F.col("fell_up") | F.col("fell_down"), most),
        ("may_have_wrapped", may_have_wrapped, F.col("more_up") + F.col("more_down")),
        ("stop_without_octets", (F.col("status") == "stop") & ~F.col("has_octets"), most),
        (STOP_IS_MISSING, is_lost, _most_octets("to", last_moment)),
        ("long_over_month_end", coarse, whole),
    )
    reason = F.coalesce(*[F.when(holds, F.lit(name)) for name, holds, _ in reasons])
    unknown = reduce(Column.__add__, [F.when(holds, most).otherwise(F.lit(0)) for _, holds, most in reasons])
    return found.withColumns(
        {
            "reason": reason,
            "octets_unknown_at_most": unknown.cast("bigint"),
            "is_ended": F.col("is_last") & ((F.col("status") == "stop") | is_reset) & (F.col("to") <= end),
        }
    ).withColumns(
        {"is_estimated": F.col("reason").isNotNull(), "started_at": F.col("first_started_at"), "opened_at": F.col("from")}
    )


def _with_resets(rows: DataFrame, resets: DataFrame) -> DataFrame:
    """Rows with ``reset_at``: when their network element next began anew after ``closed_at``; null if it did not."""
    by_node = resets.groupBy("source", "node").agg(F.sort_array(F.collect_set("closed_at")).alias("resets"))
    joined = rows.join(F.broadcast(by_node), on=["source", "node"], how="left")
    later = F.array_min(F.filter("resets", lambda reset: reset >= F.col("closed_at")))
    return joined.withColumn("reset_at", later).drop("resets")


def _by_source(values: Mapping[str, int]) -> Column:
    pairs = [F.lit(part) for name, value in sorted(values.items()) for part in (name, value)]
    return F.create_map(*pairs)[F.col("source")].cast("bigint")


def _most_octets(begin: str, end: str | Column) -> Column:
    """What the line can have carried between two instants, and in a burst around them."""
    return (_seconds(begin, end) + BURST_S) * F.col("fastest_octets_per_s")


def _seconds(begin: str, end: str | Column) -> Column:
    until = F.col(end) if isinstance(end, str) else end
    lasted = _micros(until) - _micros(F.col(begin))
    return F.call_function("div", lasted + (_MICROSECONDS - 1), F.lit(_MICROSECONDS))


def _micros(instant: Column) -> Column:
    return F.unix_micros(instant)


def _share(octets: Column, part: Column, whole: Column) -> Column:
    """floor(octets · part / whole), in integers: a product of microseconds and octets does not fit into 64 bits."""
    product = octets.cast("decimal(19,0)") * part.cast("decimal(18,0)")
    return F.call_function("div", product, whole.cast("decimal(18,0)"))
