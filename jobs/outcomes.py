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
from jobs.legal_calendar import month_index, month_starts, months, split
from jobs.normalise import Faults, Integers, Mask, text
from jobs.pseudonyms import PSEUDONYM, Key, Keys
from jobs.readers.block import Block
from schemas.source import (
    FASTEST_OCTETS_PER_S,
    IdentifierRules,
    IdentifierType,
    NetworkSource,
    SubscriptionSource,
    UsageSource,
)

LONGEST_INTERVAL_S = 400 * 86_400
"""No session stays without a partial record for longer; a longer one is a broken clock."""
LARGEST_VOLUME_OCTETS = 10**14
"""An access line of 100 Gbit/s moves this in more than two hours; a larger interval is a broken counter."""
_BURST_S = 60
"""Octets of this long may be counted in an interval that seems shorter: clocks and counters are not read at one moment."""
KEY_SEPARATOR = "\x1f"
_LATEST_KEYS = np.iinfo(np.int64).max
_IDENTIFIER_TYPES: tuple[IdentifierType, ...] = get_args(IdentifierType)


@dataclass
class Counts:
    """What a worker counts of one file while it decides."""

    out_of_scope: Counter[str] = field(default_factory=Counter)
    volume_parsed_octets: int = 0
    volume_out_of_scope_octets: int = 0


@dataclass
class Policy:
    """What decides beside the source: whose months count, which keys serve them.

    ``month_at_hand`` is the first month read of the file: the key of a record whose own month cannot be read.
    """

    legal: ZoneInfo
    identifier_keys: Keys
    serving_keys: Keys
    month_at_hand: int | None = None


def usage_outcomes(block: Block, source: UsageSource, policy: Policy, counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield columns of accepted intervals and of rejections for a block of usage records.

    Out of scope is decided first, so that a damaged record that is not a subscriber's data flags nobody's volume.
    """
    records = normalise.column_arrays(block.records)
    faults = Faults.of(block.faults)
    outside = out_of_scope(records, source, faults)
    who = identifiers_of(records, source, faults)
    opened, closed, has_start, has_close = _interval(records, source, faults)
    up, down = (
        _octets(records, column, source.volume.octets_per_unit, faults) for column in (source.volume.up, source.volume.down)
    )
    seconds = (closed - opened) // 1_000_000 + _BURST_S
    faults.mark(
        has_start & ((up + down) // FASTEST_OCTETS_PER_S[source.network] > seconds), "volume_implausible", source.volume.down
    )
    technology = normalise.mapped(records, source.access_technology, faults, "access_technology", may_be_empty=True)
    zone = normalise.mapped(records, source.roaming, faults, "roaming")
    estimated = normalise.mapped(records, source.estimated, faults, "estimated")
    keys = _record_keys(records, source, faults)

    _share_faults(faults, block)
    is_outside, is_first = outside > 0, _is_first(block)
    for code, rule in enumerate(source.scope_rules, start=1):
        counts.out_of_scope[rule.reason] += int(((outside == code) & is_first).sum())
    octets = up + down
    counts.volume_out_of_scope_octets += int(octets[is_outside].sum())
    counts.volume_parsed_octets += int(octets[is_outside | faults.sound].sum())

    common = {
        "record_ordinal": pa.array(block.ordinals),
        "byte_offset": pa.array(block.offsets),
        "record_key": keys,
        "identifier_type": who[0],
        "identifier": who[1],
        "interval_index": pa.array(np.zeros(len(is_first)) if block.interval_index is None else block.interval_index, pa.int32()),
    }
    accepted = np.flatnonzero(faults.sound & ~is_outside)
    if len(accepted):
        flags = {
            "access_technology": technology,
            "roaming_zone": zone,
            "is_estimated": pc.equal(pc.fill_null(estimated, ""), "true"),
        }
        yield from _accepted({**common, **flags}, accepted, (opened, closed, has_start), (up, down), policy)
    rejected = np.flatnonzero(~faults.sound & ~is_outside & is_first)
    if len(rejected):
        yield from rejections(common, rejected, faults, closed, has_close, policy)


def pseudonymised(columns: Mapping[str, pa.Array], key: Key) -> dict[str, pa.Array]:
    """The columns with pseudonyms in place of identifiers and record keys."""
    kinds, values = columns["identifier_type"], columns["identifier"]
    pseudonyms = pa.nulls(len(values), PSEUDONYM)
    for kind in pc.unique(kinds.drop_null()).to_pylist():
        here = pc.fill_null(pc.equal(kinds, kind), False)
        if pc.all(here).as_py():  # nearly always: most sources name one type
            pseudonyms = key.pseudonyms(kind, values)
            break
        pseudonyms = pc.if_else(here, key.pseudonyms(kind, pc.if_else(here, values, pa.scalar(None, pa.string()))), pseudonyms)
    kept = {name: column for name, column in columns.items() if name != "identifier"}
    return {**kept, "identifier_key": pseudonyms, "record_key": key.record_keys(columns["record_key"])}


def _is_first(block: Block) -> Mask:
    """Which rows stand for their record: its first interval."""
    if block.interval_index is None:
        return np.ones(len(block.ordinals), bool)
    mask: Mask = block.interval_index == 0
    return mask


def _share_faults(faults: Faults, block: Block) -> None:
    """A fault of an interval is one of its record: a record is taken as a whole or not at all."""
    if block.interval_index is None or faults.sound.all():
        return
    first = np.flatnonzero(block.interval_index == 0)
    of_record = np.maximum.reduceat(faults.codes, first)
    faults.codes[:] = np.repeat(of_record, np.diff(np.r_[first, len(faults.codes)]))


def _octets(records: Mapping[str, pa.Array], column: str, octets_per_unit: int, faults: Faults) -> Integers:
    """Octets of a volume column; what no access line could carry in an interval is marked."""
    written = normalise.integers(records[column], column, faults, "volume")
    most = LARGEST_VOLUME_OCTETS // octets_per_unit
    faults.mark(written > most, "volume_out_of_range", column)
    return np.minimum(written, most) * octets_per_unit


def out_of_scope(records: Mapping[str, pa.Array], source: NetworkSource, faults: Faults) -> Integers:
    """Number of the first rule of the policy that a record meets, from 1; 0 if it is in scope or its fields are not readable."""
    outside = np.zeros(len(faults.codes), np.int64)
    for code, rule in enumerate(source.scope_rules, start=1):
        values, others = text(records[rule.column]), rule.unless_starts_with
        is_other = pc.and_not(pc.not_equal(values, ""), _starts_with(values, others)) if others else pa.scalar(False)
        is_named = pc.or_(pc.is_in(values, pa.array(rule.equals, pa.string())), _starts_with(values, rule.starts_with))
        meets = pc.or_(is_named, is_other).to_numpy(zero_copy_only=False)
        outside[meets & (outside == 0) & faults.sound] = code
    return outside


def _starts_with(values: pa.StringArray, prefixes: tuple[str, ...]) -> pa.BooleanArray:
    found = pa.repeat(False, len(values))
    for prefix in prefixes:
        found = pc.or_(found, pc.starts_with(values, prefix))
    return found


def identifiers_of(
    records: Mapping[str, pa.Array], source: NetworkSource, faults: Faults
) -> tuple[pa.StringArray, pa.StringArray]:
    """Type and normalised value of the first identifier that a record has; null if it is malformed."""
    rows = len(faults.codes)
    kinds, identifiers = pa.nulls(rows, pa.string()), pa.nulls(rows, pa.string())
    present = np.zeros(rows, bool)
    for candidate in source.identifier:
        written = text(records[candidate.column])
        here = pc.not_equal(written, "").to_numpy(zero_copy_only=False) & ~present
        kind, rules = candidate.type, source.identifiers

        def sound(values: pa.StringArray, kind: IdentifierType = kind, rules: IdentifierRules = rules) -> pa.Array:
            return normalise.identifiers(kind, values, rules)

        # An IMSI is looked at in less time than it takes to tell the different ones.
        found = sound(written) if kind == "imsi" else normalise.by_distinct(written, sound)
        malformed = here & ~normalise.is_valid(found)
        faults.mark(malformed, "identifier_malformed", candidate.column)
        kinds = pc.if_else(pa.array(here & ~malformed), pa.scalar(kind), kinds)
        identifiers = pc.if_else(pa.array(here), found, identifiers)
        present |= here
    faults.mark(~present, "identifier_missing", source.identifier[-1].column)
    return kinds, identifiers


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
        has_start = normalise.is_given(records[time.start])
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


def _record_keys(records: Mapping[str, pa.Array], source: UsageSource, faults: Faults) -> pa.StringArray:
    """The key columns as one text; a record without one of them is marked, as it would pass for a copy of any other."""
    rows = len(faults.codes)
    if source.key == "none":
        return pa.nulls(rows, pa.string())
    values = []
    for column in source.key:
        # An instant as its number: as text it takes longer than all the rest.
        is_instant = pa.types.is_timestamp(records[column].type)
        written = text(records[column].cast(pa.int64()) if is_instant else records[column])
        is_given = pc.not_equal(written, "")
        faults.mark(~is_given.to_numpy(zero_copy_only=False), "key_missing", column)
        values.append(pc.if_else(is_given, written, pa.scalar(None, pa.string())))
    return pc.binary_join_element_wise(pa.repeat(source.name, rows), *values, KEY_SEPARATOR)


def _accepted(
    columns: Mapping[str, pa.Array],
    rows: Integers,
    when: tuple[Integers, Integers, Mask],
    octets: tuple[Integers, Integers],
    policy: Policy,
) -> Iterator[dict[str, Any]]:
    """Columns of accepted intervals: a row a month, split at the ends of legal months, under the keys of the month."""
    opened, closed, has_start = when[0][rows], when[1][rows], when[2][rows]
    cut = _cut(opened, closed, (octets[0][rows], octets[1][rows]), policy.legal)
    if policy.month_at_hand is None:
        policy.month_at_hand = int(cut.months[0])
    for key, served in policy.identifier_keys.by_month(cut.months):
        source_rows = cut.rows[served]
        taken = pa.array(rows[source_rows])
        yield {
            "kind": pa.repeat("accepted", len(taken)),
            **pseudonymised({name: values.take(taken) for name, values in columns.items()}, key),
            "usage_month": pa.array(months(cut.months[served])),
            "month_part": pa.array(cut.parts[served].astype(np.int32)),
            "opened_at": timestamps(pa.array(opened[source_rows], mask=~has_start[source_rows])),
            "closed_at": timestamps(pa.array(closed[source_rows])),
            "octets_up": pa.array(cut.up[served]),
            "octets_down": pa.array(cut.down[served]),
            "is_prorated": pa.array(cut.parts[served] > 0),
            "is_without_start": pa.array(~has_start[source_rows]),
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


def rejections(
    columns: Mapping[str, pa.Array], rows: Integers, faults: Faults, closed: Integers, has_close: Mask, policy: Policy
) -> Iterator[dict[str, Any]]:
    """Columns of rejections; one whose month cannot be read has the keys of the first month read of its file."""
    reasons, at_fault = faults.columns(rows)
    known = has_close[rows]
    number = month_index(np.where(known, closed[rows], 0), policy.legal)
    at_hand = _LATEST_KEYS if policy.month_at_hand is None else policy.month_at_hand
    for key, served in policy.identifier_keys.by_month(np.where(known, number, at_hand)):
        taken, is_known = pa.array(rows[served]), known[served]
        yield {
            "kind": pa.repeat("rejected", len(taken)),
            **pseudonymised({name: values.take(taken) for name, values in columns.items()}, key),
            "reason": reasons.take(pa.array(served)),
            "detail": at_fault.take(pa.array(served)),
            "usage_month": pa.array(months(number[served]), mask=~is_known),
            "closed_at": timestamps(pa.array(closed[rows[served]], mask=~is_known)),
        }


def timestamps(microseconds: pa.Array) -> pa.Array:
    """Instants of microseconds since 1970, UTC."""
    return microseconds.cast(pa.timestamp("us", "UTC"))


def subscription_outcomes(block: Block, source: SubscriptionSource, policy: Policy) -> Iterator[dict[str, Any]]:
    """Yield columns of identifier assignments and of rejections for a block of the subscription export.

    An assignment has a row for each term of keys in which it, or the subscription, lasts.
    """
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
    identifiers = _assigned_identifiers(written, source, faults)
    record = pc.binary_join_element_wise(
        written["subscription_id"], written["identifier_type"], written["identifier"], written["assigned_from"], KEY_SEPARATOR
    )
    columns = {
        "record_ordinal": pa.array(block.ordinals),
        "byte_offset": pa.array(block.offsets),
        "record_key": record,
        # What is no type could be an identifier in the wrong column.
        "identifier_type": _known(written["identifier_type"], _IDENTIFIER_TYPES),
        "identifier": identifiers,
    }
    sound = np.flatnonzero(faults.sound)
    if len(sound):
        named = {name: written[name] for name in ("network", "access_technology", "segment", "brand")}
        taken = {name: values.take(pa.array(sound)) for name, values in {**columns, **named, **times}.items()}
        yield from _assigned(taken, written["subscription_id"].take(pa.array(sound)), policy)
    rejected = np.flatnonzero(~faults.sound)
    if len(rejected):
        reasons, at_fault = faults.columns(rejected)
        taken = {name: values.take(pa.array(rejected)) for name, values in columns.items()}
        hidden = pseudonymised(taken, policy.identifier_keys.of_month(_LATEST_KEYS))
        yield {"kind": pa.repeat("rejected", len(rejected)), **hidden, "reason": reasons, "detail": at_fault}


def _assigned(columns: Mapping[str, pa.Array], subscriptions: pa.StringArray, policy: Policy) -> Iterator[dict[str, Any]]:
    """Columns of assignments under each term of keys, the earliest first."""
    terms = np.union1d(policy.identifier_keys.first_months, policy.serving_keys.first_months)
    starts = month_starts(policy.legal)
    begin = np.minimum(*[_microseconds(columns[name], 0) for name in ("assigned_from", "active_from")])
    end = np.maximum(*[_microseconds(columns[name], int(starts[-1])) for name in ("assigned_to", "active_to")])
    end = np.maximum(end, begin + 1)  # one that ends as it begins is still a row
    parts = np.zeros(len(begin), np.int32)
    for term, next_term in zip(terms, [*terms[1:], len(starts) - 1], strict=True):
        rows = np.flatnonzero((begin < starts[next_term]) & (end > starts[term]))
        if not len(rows):
            continue
        taken = pa.array(rows)
        serving = policy.serving_keys.of_month(int(term))
        yield {
            "kind": pa.repeat("accepted", len(rows)),
            **pseudonymised(
                {name: values.take(taken) for name, values in columns.items()}, policy.identifier_keys.of_month(int(term))
            ),
            "subscription_key": serving.pseudonyms("subscription", subscriptions.take(taken)),
            "keys_from": pa.repeat(pa.scalar(months(np.array([term]))[0].astype(object), pa.date32()), len(rows)),
            "keys_part": pa.array(parts[rows]),
        }
        parts[rows] += 1


def _microseconds(instants: pa.Array, missing: int) -> Integers:
    return np.asarray(pc.fill_null(instants.cast(pa.int64()), missing).to_numpy(zero_copy_only=False), np.int64)


def _known(values: pa.StringArray, known: tuple[str, ...]) -> pa.StringArray:
    return pc.if_else(pc.is_in(values, pa.array(known)), values, pa.scalar(None, pa.string()))


_TIMES = ("assigned_from", "assigned_to", "active_from", "active_to")


def _assignment_time(values: pa.Array, name: str, source: SubscriptionSource, faults: Faults) -> pa.Array:
    """A time of an assignment; an end may be empty, which means that it lasts."""
    if not name.endswith("_to"):
        numbers, read = normalise.instants(values, name, source.time, None, faults)
        return timestamps(pa.array(numbers, mask=~read))
    given = pc.not_equal(text(values), "").to_numpy(zero_copy_only=False)
    found = Faults.none(len(given))
    numbers, read = normalise.instants(values, name, source.time, None, found)
    faults.mark(given & ~found.sound, "time_malformed", name)
    return timestamps(pa.array(numbers, mask=~(read & given)))


def _assigned_identifiers(written: Mapping[str, pa.StringArray], source: SubscriptionSource, faults: Faults) -> pa.StringArray:
    """Normalised identifiers of assignments; null if malformed."""
    identifiers = pa.nulls(len(faults.codes), pa.string())
    for kind in _IDENTIFIER_TYPES:
        here = pc.equal(written["identifier_type"], kind)
        if not pc.any(here).as_py():
            continue
        normalised = normalise.identifiers(kind, pc.if_else(here, written["identifier"], ""), source.identifiers)
        malformed = here.to_numpy(zero_copy_only=False) & ~normalise.is_valid(normalised)
        faults.mark(malformed, "identifier_malformed", "identifier")
        identifiers = pc.if_else(here, normalised, identifiers)
    return identifiers
