"""What becomes of a record of counters: a reading, a rejection with its reason, or out of scope by policy.

RADIUS accounting (RFC 2866, RFC 2869; FreeRADIUS's ``detail`` files and its table ``radacct``) and DOCSIS SAMIS (IPDR) say the
same thing in other words: whose counters, since when they count, when they were read, and what they said. As ``outcomes``, this
runs on the workers and is the last place where an identifier is in the clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs import normalise
from jobs.counters import RESET
from jobs.legal_calendar import month_index, months
from jobs.normalise import Faults, Integers, Mask, text
from jobs.outcomes import (
    KEY_SEPARATOR,
    LONGEST_INTERVAL_S,
    Counts,
    Policy,
    identifiers_of,
    out_of_scope,
    pseudonymised,
    rejections,
    timestamps,
)
from jobs.pseudonyms import Key, Keys
from jobs.readers.block import Block
from jobs.run import CallError
from schemas.source import CounterSource

_SECOND = 1_000_000
_GIGAWORD = 1 << 32
_MOST_OCTETS = 1 << 62
_OTHER_STATUS = "other_status"
_RADIUS_STATUS = {
    **dict.fromkeys(("Start", "1"), "start"),
    **dict.fromkeys(("Stop", "2"), "stop"),
    **dict.fromkeys(("Interim-Update", "Alive", "3"), "interim"),
    **dict.fromkeys(("Accounting-On", "7", "Accounting-Off", "8"), RESET),
    **dict.fromkeys(("Failed", "15", *[f"Tunnel-{w}" for w in ("Start", "Stop", "Reject")]), _OTHER_STATUS),
    **dict.fromkeys((*[f"Tunnel-Link-{w}" for w in ("Start", "Stop", "Reject")], *map(str, range(9, 15))), _OTHER_STATUS),
}
"""Acct-Status-Type by name and number (RFC 2866 §5.1, RFC 2867 §3, RFC 2869); what counts no octets of a line is out of scope."""
_SAMIS_STATUS = {
    **dict.fromkeys(("1", "interim"), "interim"),
    **dict.fromkeys(("2", "stop"), "stop"),
    **dict.fromkeys(("3", "start"), "start"),
    **dict.fromkeys(("4", "event"), "interim"),
}
"""RecType of SAMIS (SFType in DOCSIS 1.1): an event has the counters of its moment."""
_DIRECTIONS = {
    **dict.fromkeys(("1", "downstream", "ds"), 1),
    **dict.fromkeys(("2", "upstream", "us"), 2),
}
"""ServiceDirection; what 1 is, writers disagree on, so the source says it. A name says itself."""
_UPTIME_TICKS_PER_S = 100


@dataclass
class _Readings:
    """Counters in one form, whatever the format. Where a record has none, texts are empty, ``octets`` and ``packets`` null."""

    status: pa.StringArray
    node: pa.StringArray
    session: pa.StringArray
    port: pa.StringArray
    closed: Integers
    has_close: Mask
    elapsed_s: Integers
    octets: tuple[pa.Array, pa.Array]
    packets: tuple[pa.Array, pa.Array]
    is_wide: Mask


def reading_outcomes(block: Block, source: CounterSource, policy: Policy, counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield columns of ``readings`` and of rejections for a block of counter records.

    A reset (Accounting-On, Accounting-Off) names a network element and nobody's line.
    """
    records = normalise.column_arrays(block.records)
    faults = Faults.of(block.faults)
    readable = faults.sound
    outside = out_of_scope(records, source, faults)
    read = _READ[source.format](records, source, faults)
    is_reset = _is(read.status, RESET)
    who = _identifiers(records, source, faults, is_reset)
    technology = normalise.mapped(records, source.access_technology, faults, "access_technology", may_be_empty=True)
    zone = normalise.mapped(records, source.roaming, faults, "roaming")
    faults.mark(_is(read.node, ""), "node_missing", None)
    faults.mark(_is(read.session, "") & ~is_reset, "session_missing", None)

    # What counts no octets of a line need not have what is asked of a reading.
    is_other = _is(read.status, _OTHER_STATUS) & readable
    faults.codes[is_other] = 0
    for code, rule in enumerate(source.scope_rules, start=1):
        counts.out_of_scope[rule.reason] += int((outside == code).sum())
    counts.out_of_scope[_OTHER_STATUS] += int((is_other & (outside == 0)).sum())
    is_outside = (outside > 0) | is_other
    started = read.closed - read.elapsed_s * _SECOND
    session = pc.binary_join_element_wise(source.name, read.node, who[1], read.session, read.port, KEY_SEPARATOR)
    said = [pc.fill_null(values.cast(pa.string()), "") for values in (*read.octets, *read.packets)]
    when = [pa.array(values).cast(pa.string()) for values in (read.closed, read.elapsed_s)]
    record = pc.binary_join_element_wise(pc.fill_null(session, read.node), read.status, *when, *said, KEY_SEPARATOR)
    columns = {
        "record_ordinal": pa.array(block.ordinals),
        "byte_offset": pa.array(block.offsets),
        "record_key": record,
        "identifier_type": who[0],
        "identifier": who[1],
        "session": session,
        "status": read.status,
        "node": read.node,
        "started_at": timestamps(pa.array(started, mask=is_reset)),
        "closed_at": timestamps(pa.array(read.closed)),
        "elapsed_s": pa.array(read.elapsed_s, mask=is_reset),
        "counter_bits": pa.array(np.where(read.is_wide, 64, 32).astype(np.int32)),
        **{f"counter_octets_{way}": values for way, values in zip(("up", "down"), read.octets, strict=True)},
        **{f"counter_packets_{way}": values for way, values in zip(("up", "down"), read.packets, strict=True)},
        "access_technology": technology,
        "roaming_zone": zone,
    }
    accepted = np.flatnonzero(faults.sound & ~is_outside)
    if len(accepted):
        yield from _accepted(columns, accepted, read.closed, policy)
    rejected = np.flatnonzero(~faults.sound & ~is_outside)
    if len(rejected):
        kept = ("record_ordinal", "byte_offset", "record_key", "identifier_type", "identifier")
        yield from rejections({name: columns[name] for name in kept}, rejected, faults, read.closed, read.has_close, policy)


def _accepted(columns: Mapping[str, pa.Array], rows: Integers, closed: Integers, policy: Policy) -> Iterator[dict[str, Any]]:
    """Columns of readings under the keys of their month, and in the first month of other keys under those before, too."""
    numbers = month_index(closed[rows], policy.legal)
    if policy.month_at_hand is None:
        policy.month_at_hand = int(numbers[0])
    keys = policy.identifier_keys
    for key, served in keys.by_month(numbers):
        taken = {name: values.take(pa.array(rows[served])) for name, values in columns.items()}
        before = _keys_before(taken, keys, numbers[served])
        sessions = taken.pop("session")
        yield {
            "kind": pa.repeat("accepted", len(served)),
            **pseudonymised(taken, key),
            "session_key": key.record_keys(sessions),
            **before,
            "usage_month": pa.array(months(numbers[served])),
        }


def _keys_before(columns: Mapping[str, pa.Array], keys: Keys, numbers: Integers) -> dict[str, pa.Array]:
    """Pseudonyms under the keys of the month before, in a month that begins with others: sessions go on."""
    begins = np.isin(numbers, keys.first_months[1:])
    earlier = _earlier_key(keys, int(numbers[begins][0])) if begins.any() else None
    if earlier is None:
        return {}
    nobody = pa.scalar(None, pa.string())
    chosen = {name: pc.if_else(pa.array(begins), columns[name], nobody) for name in ("identifier", "session")}
    hidden = pseudonymised({"identifier_type": columns["identifier_type"], "record_key": chosen["session"], **chosen}, earlier)
    return {"identifier_key_before": hidden["identifier_key"], "session_key_before": hidden["record_key"]}


def _earlier_key(keys: Keys, number: int) -> Key | None:
    """The key of the month before; None if it was destroyed."""
    try:
        return keys.of_month(number - 1)
    except CallError:
        return None


def _identifiers(
    records: Mapping[str, pa.Array], source: CounterSource, faults: Faults, is_reset: Mask
) -> tuple[pa.StringArray, pa.StringArray]:
    """Type and value of the identifier; a reset has none, which is no fault."""
    own = Faults.none(len(faults.codes))
    who = identifiers_of(records, source, own)
    own.codes[is_reset] = 0
    faults.include(own)
    nobody = pa.scalar(None, pa.string())
    kind, value = (pc.if_else(pa.array(is_reset), nobody, values) for values in who)
    return kind, value


def _radius(records: Mapping[str, pa.Array], source: CounterSource, faults: Faults) -> _Readings:
    """Attributes of accounting packets: octets64 = Gigawords · 2^32 + octets; an interim's counters are totals (RFC 2869)."""
    zone = source.counters.zone
    status = _status(records["Acct-Status-Type"], _RADIUS_STATUS, "Acct-Status-Type", faults)
    is_begin = _is(status, "start") | _is(status, RESET)
    closed, has_close = _radius_times(records, zone, faults)
    own = Faults.none(len(faults.codes))
    elapsed = normalise.integers(records["Acct-Session-Time"], "Acct-Session-Time", own, "session_time")
    own.mark(elapsed > LONGEST_INTERVAL_S, "session_time_out_of_range", "Acct-Session-Time")
    # A start need not say that nothing has passed.
    own.codes[is_begin & ~normalise.is_given(records["Acct-Session-Time"])] = 0
    faults.include(own)
    words = {way: records[f"Acct-{way}-Gigawords"] for way in ("Input", "Output")}
    octets = {way: _whole(records[f"Acct-{way}-Octets"], words[way], f"Acct-{way}-Octets", faults) for way in words}
    packets = {way: _counter(records[f"Acct-{way}-Packets"], f"Acct-{way}-Packets", faults) for way in words}
    is_wide = np.logical_or(*[normalise.is_given(values) for values in words.values()])
    return _Readings(
        status,
        _first_given(records, ("NAS-Identifier", "NAS-IP-Address", "NAS-IPv6-Address")),
        text(records["Acct-Session-Id"]),
        _first_given(records, ("NAS-Port-Id", "NAS-Port")),
        closed,
        has_close,
        np.minimum(elapsed, LONGEST_INTERVAL_S),
        _by_direction(source, octets["Input"], octets["Output"]),
        _by_direction(source, packets["Input"], packets["Output"]),
        is_wide,
    )


def _radius_times(records: Mapping[str, pa.Array], zone: str, faults: Faults) -> tuple[Integers, Mask]:
    """When the counters were read: Event-Timestamp, else the arrival (Timestamp, or the packet's header) less Acct-Delay-Time."""
    closed, found = normalise.written_instants(records["Event-Timestamp"], "Event-Timestamp", zone, 1, faults)
    given = normalise.is_given(records["Event-Timestamp"])
    own = Faults.none(len(faults.codes))
    has_delay = normalise.is_given(records["Acct-Delay-Time"])
    delay = normalise.integers(records["Acct-Delay-Time"], "Acct-Delay-Time", own, "delay")
    own.codes[~has_delay | given] = 0
    faults.include(own)
    for column in ("Timestamp", "Packet-Header-Time"):
        if given.all():
            break
        own = Faults.none(len(faults.codes))
        arrived, is_read = normalise.written_instants(records[column], column, zone, 1, own)
        own.codes[given] = 0
        faults.include(own)
        here = ~given & normalise.is_given(records[column])
        closed = np.where(here, arrived - delay * _SECOND, closed)
        found |= here & is_read
        given |= here
    faults.mark(~given, "time_missing", "Event-Timestamp")
    return closed, found


def _radacct(records: Mapping[str, pa.Array], source: CounterSource, faults: Faults) -> _Readings:
    """Rows of FreeRADIUS's table ``radacct``: one a session, its latest totals. Its octets are whole, Gigawords included."""
    zone = source.counters.zone
    times = {
        name: normalise.written_instants(records[name], name, zone, 1, faults)
        for name in ("acctstarttime", "acctupdatetime", "acctstoptime")
    }
    has_stop, has_update, has_start = (
        normalise.is_given(records[name]) for name in ("acctstoptime", "acctupdatetime", "acctstarttime")
    )
    own = Faults.none(len(faults.codes))
    session_time = normalise.integers(records["acctsessiontime"], "acctsessiontime", own, "session_time")
    own.mark(session_time > LONGEST_INTERVAL_S, "session_time_out_of_range", "acctsessiontime")
    own.codes[~normalise.is_given(records["acctsessiontime"]) & has_start] = 0
    faults.include(own)
    closed = np.select([has_stop, has_update], [times["acctstoptime"][0], times["acctupdatetime"][0]], times["acctstarttime"][0])
    found = np.select([has_stop, has_update], [times["acctstoptime"][1], times["acctupdatetime"][1]], times["acctstarttime"][1])
    faults.mark(~(has_stop | has_update | has_start), "time_missing", "acctstarttime")
    elapsed = np.where(has_start, (closed - times["acctstarttime"][0]) // _SECOND, session_time)
    faults.mark(elapsed < 0, "ends_before_it_starts", "acctstarttime")
    names = np.select([has_stop, has_update], ["stop", "interim"], "start")
    columns = ("acctinputoctets", "acctoutputoctets")
    octets = [_counter(records[name], name, faults) for name in columns]
    unknown = pa.nulls(len(closed), pa.int64())
    return _Readings(
        pa.array(names.tolist()),
        text(records["nasipaddress"]),
        text(records["acctsessionid"]),
        text(records["nasportid"]),
        closed,
        found,
        np.clip(elapsed, 0, LONGEST_INTERVAL_S),
        _by_direction(source, *octets),
        (unknown, unknown),
        np.full(len(closed), True),
    )


def _samis(records: Mapping[str, pa.Array], source: CounterSource, faults: Faults) -> _Readings:
    """SAMIS records: 64-bit counters of one direction of a service flow, since it was created (DOCSIS OSSI, SAMIS-TYPE-1)."""
    status = _status(pc.utf8_lower(text(records["RecType"])), _SAMIS_STATUS, "RecType", faults)
    closed, found = normalise.written_instants(records["RecCreationTime"], "RecCreationTime", source.counters.zone, 1000, faults)
    faults.mark(~normalise.is_given(records["RecCreationTime"]), "time_missing", "RecCreationTime")
    written = pc.utf8_lower(text(records["ServiceDirection"]))
    direction = normalise.by_distinct(
        written, lambda d: pa.array([_DIRECTIONS.get(value) for value in d.to_pylist()], pa.int64())
    )
    faults.mark(~normalise.is_valid(direction), "direction_unknown", "ServiceDirection")
    is_number = pc.match_substring_regex(written, r"^\d+$").to_numpy(zero_copy_only=False)
    is_first = pc.fill_null(pc.equal(direction, 1), False).to_numpy(zero_copy_only=False)
    first_is_down = source.counters.service_direction_1 == "down"
    is_down = np.where(is_number & (not first_is_down), ~is_first, is_first)
    octets = _counter(records["ServiceOctetsPassed"], "ServiceOctetsPassed", faults)
    # A stop that lost its counter still says that the flow ended.
    faults.mark(~normalise.is_valid(octets) & ~_is(status, "stop"), "volume_missing", "ServiceOctetsPassed")
    packets = _counter(records["ServicePktsPassed"], "ServicePktsPassed", faults)
    flow = pc.binary_join_element_wise(text(records["ServiceIdentifier"]), written, KEY_SEPARATOR)
    return _Readings(
        status,
        text(records["CmtsHostName"]),
        flow,
        pa.repeat("", len(closed)),
        closed,
        found,
        _active_seconds(records, faults),
        (_unless(is_down, octets), _unless(~is_down, octets)),
        (_unless(is_down, packets), _unless(~is_down, packets)),
        np.full(len(closed), True),
    )


def _active_seconds(records: Mapping[str, pa.Array], faults: Faults) -> Integers:
    """Seconds since the flow was created: by the CMTS's uptime then and now, which wraps in 497 days, else as the record says."""
    ticks = [_counter(records[name], name, faults) for name in ("CmtsSysUpTime", "ServiceTimeCreated")]
    own = Faults.none(len(faults.codes))
    active = normalise.integers(records["ServiceTimeActive"], "ServiceTimeActive", own, "active_time")
    now, created = (pc.fill_null(values, 0).to_numpy(zero_copy_only=False) for values in ticks)
    has_both = np.logical_and(*[normalise.is_valid(values) for values in ticks]) & (created > 0)
    own.codes[has_both] = 0
    faults.include(own)
    seconds = np.where(has_both, ((now - created) % _GIGAWORD) // _UPTIME_TICKS_PER_S, active)
    faults.mark(seconds > LONGEST_INTERVAL_S, "active_time_out_of_range", "ServiceTimeActive")
    return np.minimum(seconds, LONGEST_INTERVAL_S)


_READ: dict[str, Callable[[Mapping[str, pa.Array], CounterSource, Faults], _Readings]] = {
    "radius-detail": _radius,
    "radacct": _radacct,
    "samis-xml": _samis,
    "ipdr-xdr": _samis,
}


def _unless(is_other: Mask, values: pa.Array) -> pa.Array:
    """A counter, 0 where the record is of the other direction; null where it has none."""
    return pc.if_else(pa.array(is_other & normalise.is_valid(values)), pa.scalar(0, pa.int64()), values)


def _is(values: pa.StringArray, value: str) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = pc.fill_null(pc.equal(values, value), False).to_numpy(zero_copy_only=False)
    return mask


def _status(values: pa.Array, known: Mapping[str, str], column: str, faults: Faults) -> pa.StringArray:
    found = normalise.by_distinct(text(values), lambda d: pa.array([known.get(v) for v in d.to_pylist()], pa.string()))
    faults.mark(~normalise.is_valid(found), "status_unknown", column)
    return pc.fill_null(found, "")


def _first_given(records: Mapping[str, pa.Array], columns: tuple[str, ...]) -> pa.StringArray:
    values = [text(records[name]) for name in columns]
    return pc.coalesce(*[pc.if_else(pc.not_equal(v, ""), v, pa.scalar(None, pa.string())) for v in values], pa.scalar(""))


def _counter(values: pa.Array, column: str, faults: Faults) -> pa.Array:
    """A counter, null where the record has none."""
    given = normalise.is_given(values)
    own = Faults.none(len(faults.codes))
    numbers = normalise.integers(values, column, own, "volume")
    own.codes[~given] = 0
    own.mark(numbers > _MOST_OCTETS, "volume_out_of_range", column)
    faults.include(own)
    return pa.array(numbers, mask=~given)


def _whole(octets: pa.Array, gigawords: pa.Array, column: str, faults: Faults) -> pa.Array:
    """octets64 = Gigawords · 2^32 + octets (RFC 2869 §5.1, §5.2)."""
    low, high = _counter(octets, column, faults), _counter(gigawords, column.replace("Octets", "Gigawords"), faults)
    numbers = pc.fill_null(low, 0).to_numpy(zero_copy_only=False)
    faults.mark(numbers >= _GIGAWORD, "volume_out_of_range", column)
    words = pc.fill_null(high, 0).to_numpy(zero_copy_only=False)
    faults.mark(words >= _MOST_OCTETS // _GIGAWORD, "volume_out_of_range", column)
    return pa.array(numbers + np.minimum(words, _GIGAWORD // 4) * _GIGAWORD, mask=~normalise.is_valid(low))


def _by_direction(source: CounterSource, received: pa.Array, sent: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Up and down of what a port received and sent."""
    return (received, sent) if source.counters.input_octets == "up" else (sent, received)
