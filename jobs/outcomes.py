"""What becomes of each record of a block: accepted intervals, a rejection with its reason, or out of scope by policy.

Runs on the workers, on Arrow batches, and is the last place where an identifier is in the clear: what leaves has only pseudonyms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import normalise
from jobs.legal_calendar import month_index, months, split
from jobs.normalise import Faults, Integers, Mask, text
from jobs.pseudonyms import PSEUDONYM, Key
from jobs.readers.block import Block
from schemas.source import IdentifierRules, IdentifierType, SubscriptionSource, UsageSource
from schemas.table import Table
from schemas.tables import ACCEPTED, REJECTED, SUBSCRIPTIONS

LONGEST_INTERVAL_S = 400 * 86_400
"""No session stays without a partial record for longer; a longer one is a broken clock."""
LARGEST_VOLUME_OCTETS = 10**14
"""An access line of 100 Gbit/s moves this in more than two hours; a larger interval is a broken counter."""
_KEY_SEPARATOR = "\x1f"
_IDENTIFIER_TYPES: tuple[IdentifierType, ...] = get_args(IdentifierType)


def _outcome_schema(table: Table) -> pa.Schema:
    """Columns of a table and of rejections, and the tally of a file, with the kind of the row."""
    decided_later = ("batch", "source", "content_hash", "is_conflicting", "duplicate_of_file_number")
    fields = {f.name: f for f in (*table.arrow_schema, *REJECTED.arrow_schema) if f.name not in decided_later}
    return pa.schema([("kind", pa.string()), *(f.with_nullable(True) for f in fields.values()), ("tally", pa.string())])


USAGE_OUTCOMES = _outcome_schema(ACCEPTED)
SUBSCRIPTION_OUTCOMES = _outcome_schema(SUBSCRIPTIONS)


@dataclass
class Counts:
    """What a worker counts of one file while it decides."""

    out_of_scope: Counter[str] = field(default_factory=Counter)
    volume_parsed_octets: int = 0
    volume_out_of_scope_octets: int = 0


def usage_outcomes(block: Block, source: UsageSource, legal: ZoneInfo, key: Key, counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield columns of accepted intervals and of rejections for a block of usage records.

    Out of scope is decided first, so that a damaged record that is not a subscriber's data flags nobody's volume.
    """
    records = normalise.column_arrays(block.records)
    faults = Faults.of(block.faults)
    outside = _out_of_scope(records, source, faults)
    who = _identifiers(records, source, key, faults)
    opened, closed, has_start, has_close = _interval(records, source, faults)
    up, down = (
        _octets(records, column, source.volume.octets_per_unit, faults) for column in (source.volume.up, source.volume.down)
    )
    technology = normalise.mapped(records, source.access_technology, faults, "access_technology")
    zone = normalise.mapped(records, source.roaming, faults, "roaming")
    estimated = normalise.mapped(records, source.estimated, faults, "estimated")
    keys = _record_keys(records, source, key, faults)

    is_outside = outside > 0
    for code, rule in enumerate(source.out_of_scope, start=1):
        counts.out_of_scope[rule.reason] += int((outside == code).sum())
    octets = up + down
    counts.volume_out_of_scope_octets += int(octets[is_outside].sum())
    counts.volume_parsed_octets += int(octets[is_outside | faults.sound].sum())

    common = {
        "record_ordinal": pa.array(block.ordinals),
        "byte_offset": pa.array(block.offsets),
        "record_key": keys,
        "identifier_type": who[0],
        "identifier_key": who[1],
    }
    accepted = np.flatnonzero(faults.sound & ~is_outside)
    if len(accepted):
        flags = {
            "access_technology": technology,
            "roaming_zone": zone,
            "is_estimated": pc.equal(pc.fill_null(estimated, ""), "true"),
        }
        yield _accepted({**common, **flags}, accepted, (opened, closed, has_start), (up, down), legal)
    rejected = np.flatnonzero(~faults.sound & ~is_outside)
    if len(rejected):
        yield _rejected(common, rejected, faults, closed, has_close, legal)


def _octets(records: Mapping[str, pa.Array], column: str, octets_per_unit: int, faults: Faults) -> Integers:
    """Octets of a volume column; what no access line could carry in an interval is marked."""
    written = normalise.integers(records[column], column, faults, "volume")
    most = LARGEST_VOLUME_OCTETS // octets_per_unit
    faults.mark(written > most, "volume_out_of_range", column)
    return np.minimum(written, most) * octets_per_unit


def _out_of_scope(records: Mapping[str, pa.Array], source: UsageSource, faults: Faults) -> Integers:
    """Number of the first rule of the policy that a record meets, from 1; 0 if it is in scope or its fields are not readable."""
    outside = np.zeros(len(faults.codes), np.int64)
    for code, rule in enumerate(source.out_of_scope, start=1):
        prefixes, others = rule.starts_with, rule.unless_starts_with

        def decide(
            values: pa.StringArray, equals: tuple[str, ...] = rule.equals, prefixes: Any = prefixes, others: Any = others
        ) -> pa.Array:
            found = [
                v in equals or v.startswith(prefixes) or bool(others and v and not v.startswith(others))
                for v in values.to_pylist()
            ]
            return pa.array(found, pa.bool_())

        meets = normalise.by_distinct(text(records[rule.column]), decide).to_numpy(zero_copy_only=False)
        outside[meets & (outside == 0) & faults.sound] = code
    return outside


def _identifiers(
    records: Mapping[str, pa.Array], source: UsageSource, key: Key, faults: Faults
) -> tuple[pa.StringArray, pa.Array]:
    """Type and pseudonym of the first identifier that a record has."""
    rows = len(faults.codes)
    kinds, pseudonyms = pa.nulls(rows, pa.string()), pa.nulls(rows, PSEUDONYM)
    present = np.zeros(rows, bool)
    for candidate in source.identifier:
        written = text(records[candidate.column])
        here = pc.not_equal(written, "").to_numpy(zero_copy_only=False) & ~present
        kind, rules = candidate.type, source.identifiers

        def hashes(values: pa.StringArray, kind: IdentifierType = kind, rules: IdentifierRules = rules) -> pa.Array:
            return key.pseudonyms(kind, normalise.identifiers(kind, values, rules))

        hashed = normalise.by_distinct(written, hashes)
        malformed = here & ~normalise.is_valid(hashed)
        faults.mark(malformed, "identifier_malformed", candidate.column)
        kinds = pc.if_else(pa.array(here & ~malformed), pa.scalar(kind), kinds)
        pseudonyms = pc.if_else(pa.array(here), hashed, pseudonyms)
        present |= here
    faults.mark(~present, "identifier_missing", source.identifier[-1].column)
    return kinds, pseudonyms


def _interval(records: Mapping[str, pa.Array], source: UsageSource, faults: Faults) -> tuple[Integers, Integers, Mask, Mask]:
    """Start and close in microseconds UTC, which records have a start, and which closes could be read.

    A record without a start is given its close as one, and so lies in the month of its close.
    """
    time = source.time
    offsets = records[time.utc_offset_column] if time.utc_offset_column else None

    def read(column: str) -> tuple[Integers, Mask]:
        return normalise.instants(records[column], column, time, offsets, faults)

    duration, has_duration = _duration(records, time.duration_s, faults)
    if time.start and time.end:
        closed, has_close = read(time.end)
        has_start = pc.not_equal(text(records[time.start]), "").to_numpy(zero_copy_only=False)
        own = Faults.none(len(faults.codes))
        opened, _ = normalise.instants(records[time.start], time.start, time, offsets, own)
        own.codes[~has_start] = 0
        faults.include(own)
        opened = np.where(has_start, opened, closed)
        faults.mark(opened > closed, "ends_before_it_starts", time.end)
        faults.mark(closed - opened > LONGEST_INTERVAL_S * 1_000_000, "duration_out_of_range", time.end)
        return opened, closed, has_start, has_close
    if time.start:
        opened, is_read = read(time.start)
        closed = opened + duration
        faults.mark(~normalise.is_in_calendar(closed), "time_out_of_range", time.start)
        return opened, closed, is_read, is_read & has_duration & normalise.is_in_calendar(closed)
    closed, has_close = read(time.end or "")
    faults.mark(~normalise.is_in_calendar(closed - duration), "time_out_of_range", time.end)
    return closed - duration, closed, np.full(len(closed), time.duration_s is not None), has_close


def _duration(records: Mapping[str, pa.Array], column: str | None, faults: Faults) -> tuple[Integers, Mask]:
    """Durations in microseconds, and which could be read; 0 without the column."""
    own = Faults.none(len(faults.codes))
    if column is None:
        return np.zeros(len(own.codes), np.int64), own.sound
    seconds = normalise.integers(records[column], column, own, "duration")
    own.mark(seconds > LONGEST_INTERVAL_S, "duration_out_of_range", column)
    faults.include(own)
    return np.minimum(seconds, LONGEST_INTERVAL_S) * 1_000_000, own.sound


def _record_keys(records: Mapping[str, pa.Array], source: UsageSource, key: Key, faults: Faults) -> pa.Array:
    """Keyed hashes of the key columns; a record without one of them is marked, as it would pass for a copy of any other."""
    rows = len(faults.codes)
    if source.key == "none":
        return pa.nulls(rows, PSEUDONYM)
    values = []
    for column in source.key:
        written = text(records[column])
        is_given = pc.not_equal(written, "")
        faults.mark(~is_given.to_numpy(zero_copy_only=False), "key_missing", column)
        values.append(pc.if_else(is_given, written, pa.scalar(None, pa.string())))
    joined = pc.binary_join_element_wise(pa.repeat(source.name, rows), *values, _KEY_SEPARATOR)
    return key.record_keys(joined)


def _accepted(
    columns: Mapping[str, pa.Array],
    rows: Integers,
    when: tuple[Integers, Integers, Mask],
    octets: tuple[Integers, Integers],
    legal: ZoneInfo,
) -> dict[str, Any]:
    """Columns of accepted intervals: a row a month, split at the ends of legal months."""
    opened, closed, has_start = when[0][rows], when[1][rows], when[2][rows]
    cut = _cut(opened, closed, (octets[0][rows], octets[1][rows]), legal)
    taken = pa.array(rows[cut.rows])
    return {
        "kind": pa.repeat("accepted", len(taken)),
        **{name: values.take(taken) for name, values in columns.items()},
        "usage_month": pa.array(months(cut.months)),
        "interval_index": pa.repeat(pa.scalar(0, pa.int32()), len(taken)),
        "month_part": pa.array(cut.parts.astype(np.int32)),
        "opened_at": _timestamps(pa.array(opened[cut.rows], mask=~has_start[cut.rows])),
        "closed_at": _timestamps(pa.array(closed[cut.rows])),
        "octets_up": pa.array(cut.up),
        "octets_down": pa.array(cut.down),
        "is_prorated": pa.array(cut.parts > 0),
        "is_without_start": pa.array(~has_start[cut.rows]),
    }


@dataclass(frozen=True)
class _Cut:
    """Rows of the month cut: which interval, month, part and octets."""

    rows: Integers
    months: Integers
    parts: Integers
    up: Integers
    down: Integers


def _cut(opened: Integers, closed: Integers, octets: tuple[Integers, Integers], legal: ZoneInfo) -> _Cut:
    # An interval that ends at midnight of the 1st used nothing of the new month.
    last = np.where(opened < closed, closed - 1, closed)
    first_month, last_month = month_index(opened, legal), month_index(last, legal)
    whole = np.flatnonzero(first_month == last_month)
    parts = [
        (row, month, part, *volume)
        for row in np.flatnonzero(first_month != last_month)
        for part, (month, volume) in enumerate(
            split(int(opened[row]), int(closed[row]), (int(octets[0][row]), int(octets[1][row])), legal), start=1
        )
    ]
    pieces = np.array(parts, dtype=np.int64).reshape(-1, 5)
    return _Cut(
        np.concatenate([whole, pieces[:, 0]]),
        np.concatenate([last_month[whole], pieces[:, 1]]),
        np.concatenate([np.zeros(len(whole), np.int64), pieces[:, 2]]),
        np.concatenate([octets[0][whole], pieces[:, 3]]),
        np.concatenate([octets[1][whole], pieces[:, 4]]),
    )


def _rejected(
    columns: Mapping[str, pa.Array], rows: Integers, faults: Faults, closed: Integers, has_close: Mask, legal: ZoneInfo
) -> dict[str, Any]:
    reasons, at_fault = faults.columns(rows)
    known = has_close[rows]
    month = months(month_index(np.where(known, closed[rows], 0), legal))
    return {
        "kind": pa.repeat("rejected", len(rows)),
        **{name: values.take(pa.array(rows)) for name, values in columns.items()},
        "reason": reasons,
        "detail": at_fault,
        "usage_month": pa.array(month, mask=~known),
        "closed_at": _timestamps(pa.array(closed[rows], mask=~known)),
    }


def _timestamps(microseconds: pa.Array) -> pa.Array:
    return microseconds.cast(pa.timestamp("us", "UTC"))


def subscription_outcomes(block: Block, source: SubscriptionSource, keys: tuple[Key, Key]) -> Iterator[dict[str, Any]]:
    """Yield columns of identifier assignments and of rejections for a block of the subscription export.

    ``keys`` are the identifier key and the serving key.
    """
    identifier_key, serving_key = keys
    arrays = normalise.column_arrays(block.records)
    records = {name: arrays[column] for name, column in source.columns.model_dump().items()}
    faults = Faults.of(block.faults)
    written = {name: text(values) for name, values in records.items()}
    for name in ("subscription_id", "access_technology", "segment", "brand"):
        faults.mark(pc.equal(written[name], "").to_numpy(zero_copy_only=False), f"{name}_missing", name)
    for name, known in (("network", ("fixed", "mobile")), ("identifier_type", _IDENTIFIER_TYPES)):
        faults.mark(~normalise.is_valid(_known(written[name], known)), f"{name}_unknown", name)
    times = {name: _assignment_time(records[name], name, source, faults) for name in _TIMES}
    for begin, end in (("assigned_from", "assigned_to"), ("active_from", "active_to")):
        backwards = pc.fill_null(pc.less(times[end], times[begin]), False)
        faults.mark(backwards.to_numpy(zero_copy_only=False), "ends_before_it_starts", end)
    pseudonyms = _assigned_identifiers(written, source, identifier_key, faults)
    record = pc.binary_join_element_wise(
        written["subscription_id"], written["identifier_type"], written["identifier"], written["assigned_from"], _KEY_SEPARATOR
    )
    columns = {
        "record_ordinal": pa.array(block.ordinals),
        "byte_offset": pa.array(block.offsets),
        "record_key": identifier_key.record_keys(record),
        # What is no type could be an identifier in the wrong column.
        "identifier_type": _known(written["identifier_type"], _IDENTIFIER_TYPES),
        "identifier_key": pseudonyms,
    }
    sound = np.flatnonzero(faults.sound)
    if len(sound):
        named = {name: written[name] for name in ("network", "access_technology", "segment", "brand")}
        named["subscription_key"] = serving_key.pseudonyms("subscription", written["subscription_id"])
        taken = {name: values.take(pa.array(sound)) for name, values in {**columns, **named, **times}.items()}
        yield {"kind": pa.repeat("accepted", len(sound)), **taken}
    rejected = np.flatnonzero(~faults.sound)
    if len(rejected):
        reasons, at_fault = faults.columns(rejected)
        taken = {name: values.take(pa.array(rejected)) for name, values in columns.items()}
        yield {"kind": pa.repeat("rejected", len(rejected)), **taken, "reason": reasons, "detail": at_fault}


def _known(values: pa.StringArray, known: tuple[str, ...]) -> pa.StringArray:
    return pc.if_else(pc.is_in(values, pa.array(known)), values, pa.scalar(None, pa.string()))


_TIMES = ("assigned_from", "assigned_to", "active_from", "active_to")


def _assignment_time(values: pa.Array, name: str, source: SubscriptionSource, faults: Faults) -> pa.Array:
    """A time of an assignment; an end may be empty, which means that it lasts."""
    if not name.endswith("_to"):
        numbers, read = normalise.instants(values, name, source.time, None, faults)
        return _timestamps(pa.array(numbers, mask=~read))
    given = pc.not_equal(text(values), "").to_numpy(zero_copy_only=False)
    found = Faults.none(len(given))
    numbers, read = normalise.instants(values, name, source.time, None, found)
    faults.mark(given & ~found.sound, "time_malformed", name)
    return _timestamps(pa.array(numbers, mask=~(read & given)))


def _assigned_identifiers(
    written: Mapping[str, pa.StringArray], source: SubscriptionSource, key: Key, faults: Faults
) -> pa.Array:
    pseudonyms = pa.nulls(len(faults.codes), PSEUDONYM)
    for kind in _IDENTIFIER_TYPES:
        here = pc.equal(written["identifier_type"], kind)
        if not pc.any(here).as_py():
            continue
        normalised = normalise.identifiers(kind, pc.if_else(here, written["identifier"], ""), source.identifiers)
        malformed = here.to_numpy(zero_copy_only=False) & ~normalise.is_valid(normalised)
        faults.mark(malformed, "identifier_malformed", "identifier")
        pseudonyms = pc.if_else(here, key.pseudonyms(kind, normalised), pseudonyms)
    return pseudonyms
