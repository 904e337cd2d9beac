"""3GPP charging records (TS 32.298, BER) in TS 32.297 files, one after the other, or in padded blocks: a row an interval.

The octets are walked by ``charging_walk``; here its numbers become columns by their names in TS 32.298, and the containers that
count become intervals (TS 32.298 §5.1.2.2.24/25: the octets of a container are those of its interval, not a running total).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.readers import charging_walk as walk
from jobs.readers.block import WHOLE, Block, NodeDay, Part, ReadFault, Tally, parts_between
from jobs.readers.cdr_file import LARGEST_HEADER_OCTETS, file_header
from jobs.readers.charging_tags import CONTAINER, FORMS, INTEGERS, SERVICE_DATA, SPANS, TRAFFIC_VOLUME, UNIT_USAGE
from jobs.readers.recognise import recognised
from jobs.readers.window import gather, guarded, more
from schemas.source import Charging

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

WINDOW_OCTETS = 8 << 20
BLOCK_RECORDS = 1 << 15
_NUMBER = {name: place for place, name in enumerate(INTEGERS)}
_SPAN = {name: place for place, name in enumerate(SPANS)}
_OF_CONTAINER = {name: place for place, name in enumerate(CONTAINER)}
_IMSI_SUBSCRIBER, _E164_SUBSCRIBER = 1, 0
_CHF = next(place for place, form in enumerate(FORMS, start=1) if form.name == "chf")
_LONGEST_DURATION_S = (1 << 32) - 1
_DAY_US, _DAYS = 86_400 * 1_000_000, 1 << 20


def read_charging(
    stream: Any,
    layout: Charging,
    is_framed: bool,
    columns: Sequence[str],
    tally: Tally,
    part: Part = WHOLE,
    window_octets: int = WINDOW_OCTETS,
) -> Iterator[Block]:
    """Yield the intervals of an uncompressed stream of charging records, the rows of a record one after the other.

    Args:
        stream: the file, already decompressed.
        layout: what the operator's records count, from the source.
        is_framed: a TS 32.297 file, else records without a container.
        columns: the columns to keep, among COLUMNS.
        tally: is counted up while blocks are read.
        part: the part to read, one of ``parts``; such a stream can go on to an octet (``seek``).
        window_octets: how much is read at a time.

    Raises:
        ReadFault: the file is something else, or is cut short.
    """
    room = _Room()
    for data, found, offset in _looked_through(stream, is_framed, tally, part, window_octets, room):
        yield from _blocks(data, found, offset, layout, columns, tally, part.first_ordinal, room)
    if part == WHOLE and tally.records and tally.octets_quarantined and not tally.octets_records:
        raise ReadFault("no charging record was found in it")


def parts(stream: Any, is_framed: bool, part_octets: int) -> list[Part]:
    """Parts of a file of about so many octets, from record boundary to record boundary. Raises ReadFault as ``read_charging``."""
    begins, records, window_octets = [(0, 1)], 0, min(WINDOW_OCTETS, part_octets)
    for _, found, offset in _looked_through(stream, is_framed, Tally(), WHOLE, window_octets, _Room()):
        records += len(found.starts)
        if not found.is_open and offset + found.stop - begins[-1][0] >= part_octets:
            begins.append((offset + found.stop, records + 1))
    return parts_between(begins)


def _looked_through(
    stream: Any, is_framed: bool, tally: Tally, part: Part, window_octets: int, room: _Room
) -> Iterator[tuple[walk.Octets, _Found, int]]:
    """Windows of a stream, the records found in each, and where in the file it begins. All octets but records' are tallied."""
    left = None if part.end_octet is None else part.end_octet - part.begin_octet
    if part.begin_octet:
        stream.seek(part.begin_octet)
    window, is_last = more(stream, b"", window_octets, left)
    at, header = 0, None
    if not part.begin_octet:
        _require_charging(window, is_framed)
        if is_framed:
            header = file_header(window)
            at = header.length_octets
            tally.octets_header += at
            tally.records_declared, tally.records_lost = header.cdrs, header.lost_cdrs
    offset, is_open, declared = 0, False, header.file_length_octets if header else None
    while True:
        tally.octets = offset + len(window)
        data = guarded(window)
        for found in _framed(data, at, len(window), is_last, is_framed, is_open, room):
            at = found.stop
            tally.octets_padding += found.padding
            tally.octets_header += found.headers
            tally.octets_quarantined += found.more_quarantined
            is_open = found.is_open
            yield data, found, part.begin_octet + offset
        if is_last:
            if part == WHOLE and declared is not None:
                tally.warn("file_length_differs", int(declared != tally.octets))
            return
        offset += at
        window, is_last = more(stream, window[at:], window_octets, None if left is None else left - tally.octets)
        at = 0


def _require_charging(window: bytes, is_framed: bool) -> None:
    """Refuse a file that is something else, by name, before anything of it is read."""
    if not window:
        raise ReadFault("the file is empty")
    data = guarded(window)
    first = len(window) - len(window.lstrip(b"\x00\xff"))
    if is_framed:
        length = int.from_bytes(window[4:8], "big")
        is_header = 8 <= length <= min(len(window), LARGEST_HEADER_OCTETS)
        declared = int.from_bytes(window[0:4], "big")
        if is_header and (declared >= length) and recognised(window) is None:
            return
    elif walk.record_end(data, first, len(window), walk.FORM_OF_TAG, False) != -1:
        return
    other = recognised(window)
    if other is None and is_framed and walk.record_end(data, first, len(window), walk.FORM_OF_TAG, False) >= 0:
        other = "charging records without a TS 32.297 header (format ber)"
    if other is None and not is_framed and walk.framed_end(data, _header_end(window), len(window), walk.FORM_OF_TAG)[1] >= 0:
        other = "a TS 32.297 file (format ts32297)"
    expected = "a TS 32.297 file" if is_framed else "3GPP charging records"
    raise ReadFault(f"this is {other}, not {expected}" if other else f"this is not {expected}")


def _header_end(window: bytes) -> int:
    return min(int.from_bytes(window[4:8], "big"), len(window))


class _Room:
    """Arrays that walks are written into, used again for every block."""

    def __init__(self) -> None:
        self.starts, self.ends, self.kinds = (np.empty(BLOCK_RECORDS, np.int64) for _ in range(3))
        self.numbers = np.empty((BLOCK_RECORDS, len(INTEGERS)), np.int64)
        self.spans = np.empty((BLOCK_RECORDS, len(SPANS), 2), np.int32)
        self.notes = np.empty((BLOCK_RECORDS, len(walk.NOTES)), np.int64)
        # The shortest container takes two octets; a record of the greatest length must find room.
        self.containers = np.empty((walk.LONGEST_RECORD_OCTETS, len(CONTAINER)), np.int64)
        self.container_of = np.empty(len(self.containers), np.int64)


@dataclass(frozen=True)
class _Found:
    """Records between two boundaries of a window."""

    starts: Integers
    ends: Integers
    is_quarantined: Mask
    stop: int
    padding: int
    headers: int
    more_quarantined: int
    """Octets that are no record, from the window before on."""
    is_open: bool
    """They go on in the window that follows."""


def _framed(data: walk.Octets, at: int, end: int, is_last: bool, is_framed: bool, is_open: bool, room: _Room) -> Iterator[_Found]:
    """Records of a window, as many as there is room for at a time, up to where it cuts one off."""
    while True:
        count, stop, padding, headers, is_open = walk.frame_records(
            data, at, end, is_last, is_framed, is_open,
            walk.FORM_OF_TAG, walk.FORM_READ_OF_TAG, room.starts, room.ends, room.kinds,
        )  # fmt: skip
        starts, ends, kinds = room.starts[:count], room.ends[:count], room.kinds[:count]
        begins = kinds != walk.MORE_OF_NO_RECORD
        more = int((ends - starts)[~begins].sum())
        yield _Found(starts[begins], ends[begins], kinds[begins] == walk.NO_RECORD, stop, padding, headers, more, bool(is_open))
        if count < len(room.starts):
            return
        at = stop


def _blocks(
    data: walk.Octets,
    found: _Found,
    offset: int,
    layout: Charging,
    columns: Sequence[str],
    tally: Tally,
    first_ordinal: int,
    room: _Room,
) -> Iterator[Block]:
    done = 0
    while done < len(found.starts):
        starts, ends = found.starts[done:], found.ends[done:]
        # Octets that are no record are not walked: they say nothing.
        walked_to = np.where(found.is_quarantined[done:], starts, ends)
        rows, filled = walk.walk_records(
            data, starts, walked_to, walk.ACTIONS, walk.FORM_OF_TAG, walk.CONTEXT_OF_FORM,
            room.numbers, room.spans, room.notes, room.containers, room.container_of,
        )  # fmt: skip
        walked = _Walked(
            data, starts[:rows], ends[:rows], found.is_quarantined[done : done + rows],
            room.numbers[:rows], room.spans[:rows], room.notes[:rows], room.containers[:filled], room.container_of[:filled],
        )  # fmt: skip
        yield _block(walked, offset, layout, columns, tally, first_ordinal)
        done += rows


@dataclass(frozen=True)
class _Walked:
    """Records that were walked, in rows, and their containers."""

    data: walk.Octets
    starts: Integers
    ends: Integers
    is_quarantined: Mask
    numbers: Integers
    spans: npt.NDArray[np.int32]
    notes: Integers
    containers: Integers
    container_of: Integers

    def number(self, name: str) -> Integers:
        return self.numbers[:, _NUMBER[name]]

    def of_container(self, name: str) -> Integers:
        return self.containers[:, _OF_CONTAINER[name]]

    def span(self, name: str) -> npt.NDArray[np.int32]:
        return np.ascontiguousarray(self.spans[:, _SPAN[name]])

    def text(self, name: str) -> pa.StringArray:
        """ASCII or UTF-8 texts of a span; empty where the record has none."""
        span = self.span(name)
        return _strings(span, lambda offsets, out: gather(self.data, span, offsets, out), 1)

    def digits(self, name: str, skipped: int) -> pa.StringArray:
        """TBCD digits of a span."""
        span = self.span(name)
        return _strings(span, lambda offsets, out: walk.digits(self.data, span, skipped, offsets, out), 2)

    @property
    def form(self) -> Integers:
        return self.notes[:, walk.FORM]


def _strings(span: npt.NDArray[np.int32], fill: Callable[[Any, Any], None], factor: int) -> pa.StringArray:
    offsets = np.empty(len(span) + 1, np.int32)
    out = np.empty(int(np.maximum(span[:, 1], 0).sum()) * factor, np.uint8)
    fill(offsets, out)
    found = pa.Array.from_buffers(pa.string(), len(span), [None, pa.py_buffer(offsets), pa.py_buffer(out)])
    try:
        found.validate(full=True)
    except pa.ArrowInvalid:  # a text that is no UTF-8
        octets = pa.Array.from_buffers(pa.binary(), len(span), [None, pa.py_buffer(offsets), pa.py_buffer(out)])
        return pa.array([value.decode("utf-8", "replace") for value in octets.to_pylist()], pa.string())
    return found


def _block(walked: _Walked, offset: int, layout: Charging, columns: Sequence[str], tally: Tally, first_ordinal: int) -> Block:
    records = len(walked.starts)
    codes = walked.notes[:, walk.FAULT].copy()
    lengths = walked.ends - walked.starts
    is_lost = walked.is_quarantined | (codes == walk.MALFORMED)
    tally.octets_quarantined += int(lengths[is_lost].sum())
    tally.octets_records += int(lengths[~is_lost].sum())
    tally.spans_quarantined += int(walked.is_quarantined.sum())
    tally.warn("volume_sign_restored", int((~is_lost & (walked.notes[:, walk.SIGN_RESTORED] > 0)).sum()))
    codes[(codes == walk.SOUND) & (walked.number("duration") > _LONGEST_DURATION_S)] = walk.INTEGER_OVERFLOW

    intervals = _intervals(walked, layout, tally)
    _count_sequences(walked, is_lost, intervals.closed[intervals.index == 0], tally)
    record = intervals.record
    texts = [None if code == 0 else walk.FAULTS[code] for code in range(len(walk.FAULTS))]
    faults = pa.array(texts, pa.string()).take(pa.array(codes))
    faults = pc.if_else(pa.array(walked.is_quarantined), pa.scalar("not_a_record"), faults)
    unclear = ~is_lost & (walked.notes[:, walk.NO_OFFSET] > 0) & (layout.short_timestamp_zone is None)
    faults = pc.if_else(pa.array(unclear), pa.scalar("time_without_offset"), faults)
    faults = pc.if_else(pa.array(~is_lost & intervals.is_inconsistent), pa.scalar("volume_inconsistent"), faults)

    made: dict[str, pa.Array] = {}
    for name in columns:
        of_interval = _INTERVAL_COLUMNS.get(name)
        made[name] = of_interval(intervals) if of_interval else _RECORD_COLUMNS[name](walked, layout).take(pa.array(record))
    ordinals = first_ordinal + tally.records + np.arange(records, dtype=np.int64)
    tally.records += records
    return Block(
        pa.RecordBatch.from_arrays(list(made.values()), names=list(made)),
        ordinals[record],
        offset + walked.starts[record],
        faults.take(pa.array(record)),
        intervals.index,
    )


def _count_sequences(walked: _Walked, is_lost: Mask, closed: Integers, tally: Tally) -> None:
    """Local sequence numbers by node and day: their gaps are records that never came (§5.1.2.2.26).

    A record whose opening time is damaged came all the same: on the day its first interval closed.
    """
    sequences, opening = walked.number("localSequenceNumber"), walked.number("recordOpeningTime")
    opening = np.where(opening >= 0, opening, closed)
    rows = np.flatnonzero(~is_lost & (sequences >= 0) & (opening >= 0))
    if not len(rows):
        return
    nodes = pc.dictionary_encode(walked.text("nodeID").take(pa.array(rows)))
    days = opening[rows] // _DAY_US
    place = nodes.indices.to_numpy().astype(np.int64) * _DAYS + days
    order = np.argsort(place, kind="stable")
    groups = np.flatnonzero(np.r_[True, np.diff(place[order]) != 0])
    ordered = sequences[rows][order]
    counts = np.diff(np.r_[groups, len(order)])
    least, most = np.minimum.reduceat(ordered, groups), np.maximum.reduceat(ordered, groups)
    for at, count, low, high in zip(place[order][groups].tolist(), counts.tolist(), least.tolist(), most.tolist(), strict=True):
        node, day = nodes.dictionary[at // _DAYS].as_py(), str(np.datetime64(at % _DAYS, "D"))
        tally.count_sequence(node, day, NodeDay(count, low, high))


@dataclass(frozen=True)
class _Intervals:
    """Intervals that count, a row each: of which record, which one of it, when, and how many octets."""

    record: Integers
    index: Integers
    opened: Integers
    closed: Integers
    up: Integers
    down: Integers
    rating_group: Integers
    access: Integers
    is_inconsistent: Mask
    """By record: what its containers say does not add up, or cannot be told apart into up and down."""
    has_offset: Mask
    zone: str | None


def _intervals(walked: _Walked, layout: Charging, tally: Tally) -> _Intervals:
    """Containers that count, and one empty interval for each record without any."""
    records = len(walked.starts)
    opening, duration, stop = (walked.number(name) for name in ("recordOpeningTime", "duration", "stopTime"))
    has_duration = (opening >= 0) & (duration >= 0) & (duration <= _LONGEST_DURATION_S)
    after = opening + np.where(has_duration, duration, 0) * 1_000_000
    record_closed = np.where(has_duration, after, np.where(stop >= 0, stop, opening))
    kept = _that_count(walked, layout, tally)
    of, kind = walked.container_of[kept], walked.of_container("kind")[kept]
    up, down, total = (walked.of_container(name)[kept] for name in ("up", "down", "total"))
    first, last, reported = (walked.of_container(name)[kept] for name in ("first", "last", "reported"))

    has_direction = (up >= 0) | (down >= 0)
    wrong = (total >= 0) & has_direction & (total != np.maximum(up, 0) + np.maximum(down, 0))
    only_total = (total >= 0) & ~has_direction
    if layout.total_without_directions == "down":
        down = np.where(only_total, total, down)
    else:
        wrong = wrong | (only_total & (total > 0))
    is_inconsistent = np.zeros(records, bool)
    is_inconsistent[of[wrong]] = True

    closed = np.where(reported >= 0, reported, np.where(last >= 0, last, record_closed[of]))
    # A traffic volume begins where the one before it in the record ended (§5.1.2.2.25).
    follows = np.zeros(len(of), bool)
    follows[1:] = (of[1:] == of[:-1]) & (kind[1:] == TRAFFIC_VOLUME)
    before = np.where(follows, np.roll(closed, 1), opening[of])
    opened = np.where(first >= 0, first, before)

    empty = np.flatnonzero(np.bincount(of, minlength=records) == 0)
    record = np.concatenate([of, empty])
    order = np.argsort(record, kind="stable")
    record = record[order]

    def together(values: Integers, of_empty: Integers) -> Integers:
        return np.concatenate([values, of_empty])[order]

    nothing = np.zeros(len(empty), np.int64)
    rat = walked.of_container("rATType")[kept]
    begins = np.concatenate([[True], record[1:] != record[:-1]]) if len(record) else np.zeros(0, bool)
    index = np.arange(len(record)) - np.maximum.accumulate(np.where(begins, np.arange(len(record)), 0))
    return _Intervals(
        record,
        index,
        together(opened, opening[empty]),
        together(closed, record_closed[empty]),
        together(np.maximum(up, 0), nothing),
        together(np.maximum(down, 0), nothing),
        together(walked.of_container("ratingGroup")[kept], nothing - 1),
        np.where((access := together(rat, nothing - 1)) >= 0, access, walked.number("rATType")[record]),
        is_inconsistent,
        walked.notes[record, walk.NO_OFFSET] == 0,
        layout.short_timestamp_zone,
    )


def _that_count(walked: _Walked, layout: Charging, tally: Tally) -> Integers:
    """Containers that count: service data else traffic volumes, and one reporting level of them."""
    kind, of = walked.of_container("kind"), walked.container_of
    if layout.volumes == "traffic_volumes":
        counts = (kind == TRAFFIC_VOLUME) | (kind == UNIT_USAGE)
    else:
        has_service_data = np.zeros(len(walked.starts), bool)
        has_service_data[of[kind == SERVICE_DATA]] = True
        counts = (kind != TRAFFIC_VOLUME) | ~has_service_data[of]
    of_service = walked.of_container("serviceIdentifier") >= 0
    if layout.reporting_level == "rating_group":
        tally.warn("containers_of_a_service_left_out", int((counts & of_service).sum()))
        counts &= ~of_service
    elif layout.reporting_level == "service":
        left = counts & ~of_service & (kind == SERVICE_DATA)
        tally.warn("containers_of_a_rating_group_left_out", int(left.sum()))
        counts &= ~left
    return np.flatnonzero(counts)


def _plain(name: str) -> Callable[[_Walked, Charging], pa.Array]:
    return lambda walked, _: _nullable(walked.number(name))


def _nullable(numbers: Integers) -> pa.Array:
    return pa.array(numbers, mask=numbers < 0)


def _text(name: str) -> Callable[[_Walked, Charging], pa.Array]:
    return lambda walked, _: walked.text(name)


def _served_imsi(walked: _Walked, _: Charging) -> pa.Array:
    return _of_subscriber(walked, walked.digits("servedIMSI", 0), _IMSI_SUBSCRIBER, "imsi-")


def _served_msisdn(walked: _Walked, _: Charging) -> pa.Array:
    # The first octet says what kind of number follows (AddressString, TS 29.002).
    numbers = walked.digits("servedMSISDN", 1)
    if (walked.form == _CHF).any():
        numbers = pc.if_else(pc.equal(numbers, ""), walked.text("userMSISDN"), numbers)
    return _of_subscriber(walked, numbers, _E164_SUBSCRIBER, "msisdn-")


def _of_subscriber(walked: _Walked, numbers: pa.StringArray, kind: int, prefix: str) -> pa.StringArray:
    """The subscriberIdentifier of a CHF record where it is of that kind, with or without the prefix of a SUPI or GPSI."""
    here = (walked.form == _CHF) & (walked.number("subscriberType") == kind)
    if not here.any():
        return numbers
    written = pc.replace_substring_regex(walked.text("subscriberData"), f"^{prefix}", "")
    return pc.if_else(pa.array(here), written, numbers)


def _record_type(walked: _Walked, _: Charging) -> pa.Array:
    return pa.array(["other", *(form.name for form in FORMS)]).take(pa.array(walked.form))


def _gateway_address(walked: _Walked, _: Charging) -> pa.Array:
    """The address as hexadecimal digits: it tells gateways apart, whatever its family."""
    span = walked.span("gatewayAddress")
    return pa.array([bytes(walked.data[s : s + n]).hex() if n > 0 else "" for s, n in span.tolist()], pa.string())


def _plmn(walked: _Walked, _: Charging) -> pa.Array:
    """MCC and MNC as digits (TS 24.008 §10.5.1.3: MNC of two digits has F in front)."""
    span = walked.span("servingNodePLMNIdentifier")
    is_given = span[:, 1] == 3
    octets = walked.data[np.where(is_given, span[:, 0], 0)[:, None] + np.arange(3)].astype(np.int64)
    numbers = (octets << np.array([16, 8, 0])).sum(axis=1)
    distinct, place = np.unique(np.where(is_given, numbers, -1), return_inverse=True)
    return pa.array([_plmn_text(int(number)) for number in distinct], pa.string()).take(pa.array(place))


def _plmn_text(number: int) -> str:
    if number < 0:
        return ""
    one, two, three = number >> 16, number >> 8 & 0xFF, number & 0xFF
    nibbles = [one & 15, one >> 4, two & 15, three & 15, three >> 4, two >> 4]
    digits = nibbles if nibbles[5] != 15 else nibbles[:5]
    return "".join(map(str, digits)) if max(digits) < 10 else "?"


def _instants(numbers: Integers, has_offset: Mask, zone: str | None) -> pa.Array:
    """Instants with their zone; those without an offset are read in the zone of the source."""
    if zone is not None and not has_offset.all():
        naive = pa.array(numbers).cast(pa.timestamp("us"))
        local = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="earliest").cast(pa.int64())
        numbers = np.where(has_offset, numbers, local.to_numpy(zero_copy_only=False))
    return _nullable(numbers).cast(pa.timestamp("us", "UTC"))


def _opening(walked: _Walked, layout: Charging) -> pa.Array:
    return _instants(walked.number("recordOpeningTime"), walked.notes[:, walk.NO_OFFSET] == 0, layout.short_timestamp_zone)


_RECORD_COLUMNS: dict[str, Callable[[_Walked, Charging], pa.Array]] = {
    "recordType": _record_type,
    "servedIMSI": _served_imsi,
    "servedMSISDN": _served_msisdn,
    "accessPointNameNI": _text("accessPointNameNI"),
    "nodeID": _text("nodeID"),
    "gatewayAddress": _gateway_address,
    "servingNodePLMNIdentifier": _plmn,
    "chargingID": _plain("chargingID"),
    "chargingSessionIdentifier": _text("chargingSessionIdentifier"),
    "recordSequenceNumber": lambda walked, _: pa.array(np.maximum(walked.number("recordSequenceNumber"), 0)),
    "localSequenceNumber": _plain("localSequenceNumber"),
    "recordOpeningTime": _opening,
    "duration": _plain("duration"),
    "causeForRecClosing": _plain("causeForRecClosing"),
    "userRoamerInOut": _plain("userRoamerInOut"),
}
_INTERVAL_COLUMNS: dict[str, Callable[[_Intervals], pa.Array]] = {
    "intervalOpened": lambda found: _instants(found.opened, found.has_offset, found.zone),
    "intervalClosed": lambda found: _instants(found.closed, found.has_offset, found.zone),
    "uplinkOctets": lambda found: pa.array(found.up),
    "downlinkOctets": lambda found: pa.array(found.down),
    "ratingGroup": lambda found: _nullable(found.rating_group),
    "rATType": lambda found: _nullable(found.access),
}
