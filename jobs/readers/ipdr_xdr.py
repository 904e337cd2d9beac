"""IPDR/XDR documents (TM Forum/IPDR.org, IPDR/XDR File Encoding Format), as CMTS collectors keep SAMIS: a row a record.

Big-endian, without the padding of XDR (RFC 4506): a header, then elements: descriptors of records, records, and the end of the
document with its count. Records are walked by ``ipdr_xdr_walk``; here their octets become text by the type of each attribute.

Libraries differ in two things that a document does not say: whether ``unsignedByte`` and ``unsignedShort`` take 1 and 2 octets or
4, and whether 0xFFFFFFFF stands before a record's values. The way that makes records line up is taken; if more than one does, the
document is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.readers import ipdr_xdr_walk as walk
from jobs.readers.block import Block, ReadFault, Tally
from jobs.readers.ipdr_names import Wanted, plain, wanted
from jobs.readers.recognise import recognised
from jobs.readers.window import Octets, Spans, guarded, more, octets_of

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Written = tuple[pa.StringArray, Mask, str]
"""Values as text, which of them are wrong, and what is wrong with those."""

WINDOW_OCTETS = 8 << 20
BLOCK_RECORDS = 1 << 15
LARGEST_HEADER_OCTETS = 1 << 16
LARGEST_DESCRIPTOR_OCTETS = 1 << 18
MOST_ATTRIBUTES, MOST_DESCRIPTORS = 1024, 256
LONGEST_NAME_OCTETS = 256
PROBED_RECORDS = 16
"""Of how many records one after the other the way they are written is told."""
_INDEFINITE = 0xFFFFFFFF
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z


def read_ipdr_xdr(stream: Any, columns: Sequence[str], tally: Tally, window_octets: int = WINDOW_OCTETS) -> Iterator[Block]:
    """Yield the records of an uncompressed IPDR/XDR document, a row a record.

    Columns are attributes of the descriptors by name, without namespace prefix and whatever their case, by any of the names that
    ``ipdr_names`` knows; null where a record's descriptor lacks them. All are text: integers decimal, booleans true and false,
    MAC addresses and hexBinary as lower-case hexadecimal digits without separators, IPv4 dotted, IPv6 as RFC 5952 (empty for no
    address), UUID with dashes, instants ISO 8601 in UTC with milliseconds (dateTimeUsec: microseconds), numbers with a fraction
    as short as they can be told apart. Units are those of the document, as for ``read_ipdr_xml``.

    A record whose value is none of its type has the other values, and a fault: ``not_utf_8``, ``time_out_of_range``,
    ``boolean_malformed``, ``mac_malformed``, ``address_malformed``, ``uuid_malformed``, or ``element_doubled`` where its
    descriptor names a column twice. Where a record cannot be delimited, all that follows is one row with a fault and is
    quarantined: ``truncated`` where the file ends inside it, ``element_unknown``, ``descriptor_unknown``, ``type_unknown``,
    ``marker_missing``, ``length_impossible``, ``descriptor_malformed``, ``descriptor_redefined``, ``not_a_record`` for octets
    behind the document's end. Header and descriptors and docEnd are header; there is no padding.

    docEnd's count goes to ``tally.records_declared``. Warnings: ``truncated`` for a document without docEnd,
    ``element_count_differs`` where the document says how many elements it has.

    Args:
        stream: the file, already decompressed.
        columns: the columns to keep.
        tally: is counted up while blocks are read.
        window_octets: how much is read at a time.

    Raises:
        ReadFault: the file is no IPDR/XDR document, or more than one way to read its records fits.
        ValueError: two columns are the same by other names.
    """
    document = _Document(wanted(columns), tally, _Source(stream, window_octets))
    document.read_header()
    yield from document.blocks()


class _Cut(Exception):
    """What is read goes on beyond the window."""


class _Malformed(Exception):
    """What is read is none."""


@dataclass
class _Source:
    """A window on a stream, and the place in it that has been read to."""

    stream: Any
    window_octets: int
    window: bytes = b""
    is_last: bool = False
    at: int = 0
    offset: int = 0

    def __post_init__(self) -> None:
        self.read_on()

    def read_on(self) -> None:
        """Drop what was read and read more."""
        self.offset += self.at
        self.window, self.is_last = more(self.stream, self.window[self.at :], self.window_octets)
        self.at = 0
        self.data = guarded(self.window)

    @property
    def left(self) -> int:
        return len(self.window) - self.at

    def whole(self, read: Callable[[_Cursor], Any], most_octets: int) -> Any:
        """Something that is read as a whole, and passed. Raises _Malformed, or _Cut if the file ends inside it."""
        while True:
            cursor = _Cursor(self.window, self.at, self.at + most_octets)
            try:
                found = read(cursor)
            except _Cut:
                if self.is_last:
                    raise
                self.read_on()
                continue
            self.at = cursor.at
            return found


@dataclass
class _Cursor:
    """A place in octets that moves as they are read."""

    octets: bytes
    at: int
    limit: int

    def take(self, octets: int) -> bytes:
        """So many octets."""
        if self.at + octets > self.limit:
            raise _Malformed
        if self.at + octets > len(self.octets):
            raise _Cut
        self.at += octets
        return self.octets[self.at - octets : self.at]

    def number(self, octets: int = 4) -> int:
        """An unsigned number."""
        return int.from_bytes(self.take(octets), "big")

    def text(self, longest: int = 4096) -> str:
        """A text with its length in front. One that is not UTF-8 delimits what follows all the same."""
        if (length := self.number()) > longest:
            raise _Malformed
        return self.take(length).decode("utf-8", "replace")


def _header(cursor: _Cursor) -> int:
    """The number of elements that a header declares."""
    if not 1 <= cursor.number() <= 16:
        raise _Malformed
    cursor.text()  # recorder
    cursor.number(8)  # startTime
    cursor.text()  # defaultNameSpaceURI
    for count in (2, 1):  # otherNameSpaces, serviceDefinitionURIs
        if (entries := cursor.number()) > 64:
            raise _Malformed
        for _ in range(entries * count):
            cursor.text()
    if (length := cursor.number()) > 64:
        raise _Malformed
    cursor.take(length)  # docId
    return cursor.number()


Attributes = tuple[tuple[str, int], ...]


def _descriptor(cursor: _Cursor) -> tuple[int, Attributes]:
    """Id, and names and types of a record descriptor."""
    cursor.number()
    number = cursor.number()
    cursor.text()
    if (attributes := cursor.number()) > MOST_ATTRIBUTES:
        raise _Malformed
    return number, tuple((cursor.text(LONGEST_NAME_OCTETS), cursor.number()) for _ in range(attributes))


@dataclass(frozen=True)
class _Way:
    """How a library writes records."""

    is_wide: bool
    has_marker: bool


@dataclass(frozen=True)
class _Probe:
    """How records look when read in one way: how many can be delimited, how many of those are followed by another element."""

    delimited: int
    lined_up: int
    why: int


@dataclass
class _Document:
    """A document that is being read."""

    wanted: Wanted
    tally: Tally
    source: _Source
    elements: int = 0
    elements_declared: int = _INDEFINITE
    descriptors: dict[int, Attributes] = field(default_factory=dict)
    ways: list[_Way] = field(default_factory=lambda: [_Way(*each) for each in product((False, True), (True, False))])
    """Those that fit so far and, for the descriptors so far, are one."""
    is_told: bool = False

    def __post_init__(self) -> None:
        self.starts, self.ends, self.which = (np.empty(BLOCK_RECORDS, np.int64) for _ in range(3))
        self.spans = np.empty((BLOCK_RECORDS, self.wanted.width, 2), np.int32)

    def read_header(self) -> None:
        """Read the header. Raises ReadFault for a file that is something else."""
        source = self.source
        first = source.window[:512]
        if not first:
            raise ReadFault("the file is empty")
        try:
            self.elements_declared = source.whole(_header, LARGEST_HEADER_OCTETS)
        except (_Malformed, _Cut) as error:
            other = recognised(source.window)
            is_cut = "the file ends within its header: " if isinstance(error, _Cut) and other is None else ""
            reason = f"this is {other}, not an IPDR/XDR document" if other else "this is not an IPDR/XDR document"
            raise ReadFault(is_cut + reason) from None
        self.tally.octets_header += source.offset + source.at

    def blocks(self) -> Iterator[Block]:
        """Records to the end of the document or of what can be read, then the rest."""
        source = self.source
        fault: str | None = None
        while fault is None:
            kind = int.from_bytes(source.window[source.at : source.at + 4], "big") if source.left >= 4 else None
            if kind is None:
                if not source.is_last:
                    source.read_on()
                    continue
                fault = "truncated"
            elif kind == walk.DESCRIPTOR:
                fault = self._take_descriptor()
            elif kind == walk.DOCUMENT_END:
                fault = self._take_end()
            elif kind == walk.RECORD:
                fault = self._tell_way()
                if fault is None:
                    block, fault = self._take_records()
                    if block is not None:
                        yield block
            else:
                fault = "element_unknown"
        self.tally.warn("truncated", int(fault == "truncated"))
        if self.elements_declared != _INDEFINITE:
            self.tally.warn("element_count_differs", int(self.elements != self.elements_declared))
        yield from self._rest(fault)

    def _take_descriptor(self) -> str | None:
        source = self.source
        before = source.offset + source.at
        try:
            number, attributes = source.whole(_descriptor, LARGEST_DESCRIPTOR_OCTETS)
        except _Cut:
            return "truncated"
        except _Malformed:
            return "descriptor_malformed"
        if self.descriptors.get(number, attributes) != attributes or len(self.descriptors) >= MOST_DESCRIPTORS:
            source.at -= source.offset + source.at - before
            return "descriptor_redefined" if number in self.descriptors else "descriptor_malformed"
        if number not in self.descriptors:
            self.is_told = False
        self.descriptors[number] = attributes
        self.tally.octets_header += source.offset + source.at - before
        self.elements += 1
        return None

    def _take_end(self) -> str | None:
        before = self.source.offset + self.source.at
        try:
            count = self.source.whole(lambda cursor: (cursor.number(), cursor.number(), cursor.number(8))[1], 16)
        except _Cut:
            return "truncated"
        self.tally.octets_header += self.source.offset + self.source.at - before
        self.tally.records_declared = count
        self.elements += 1
        return "not_a_record"

    # How records are written

    def _tables(self, is_wide: bool) -> tuple[Integers, Integers, Integers, Integers]:
        """Ids, counts, sizes and places of the descriptors' attributes, for the walk."""
        longest = max((len(attributes) for attributes in self.descriptors.values()), default=0)
        counts = np.full(len(self.descriptors), -1, np.int64)
        sizes, places = (np.full((len(counts), longest), -1, np.int64) for _ in range(2))
        for which, attributes in enumerate(self.descriptors.values()):
            if all(kind in _SIZES for _, kind in attributes):
                counts[which] = len(attributes)
                sizes[which, : len(attributes)] = [_size(kind, is_wide) for _, kind in attributes]
                places[which, : len(attributes)] = [self.wanted.places.get(plain(name), -1) for name, _ in attributes]
        return np.array(list(self.descriptors), np.int64), counts, sizes, places

    def _tell_way(self) -> str | None:
        """Settle on the way records are written, at the first one behind a new descriptor; a fault if none can be read.

        Raises:
            ReadFault: more than one way fits.
        """
        if self.is_told:
            return None
        while None in (probed := {way: self._probe(way) for way in self.ways}).values():
            self.source.read_on()
        found = {way: probe for way, probe in probed.items() if probe is not None}
        possible = [way for way in self.ways if found[way].delimited or found[way].why == walk.CUT]
        if not any(probe.delimited for probe in found.values()):
            return walk.FAULTS[walk.CUT if possible else min(probe.why for probe in found.values())]
        if len({self._shape(way) for way in possible}) > 1:
            most = max(found[way].lined_up for way in possible)
            possible = [way for way in possible if found[way].lined_up == most > 0]
        if len({self._shape(way) for way in possible}) != 1:
            raise ReadFault(_UNDECIDABLE)
        self.ways, self.is_told = possible, True
        self.tables = self._tables(possible[0].is_wide)
        return None

    def _shape(self, way: _Way) -> tuple[bool, bytes]:
        """What a way comes to with the descriptors so far."""
        return way.has_marker, self._tables(way.is_wide)[2].tobytes()

    def _probe(self, way: _Way) -> _Probe | None:
        """How the first records look when read in a way; null if more of the file must be there to tell."""
        source = self.source
        rows, stop, why = walk.walk_records(
            source.data, source.at, len(source.window), way.has_marker, *self._tables(way.is_wide),
            self.starts[:PROBED_RECORDS], self.ends, self.which, self.spans,
        )  # fmt: skip
        if why == walk.CUT:
            # Behind a record, the kind and the id of another have been seen.
            return _Probe(rows, rows - (len(source.window) - stop < 8), why) if source.is_last else None
        is_followed: bool | None = why == walk.TYPE_UNKNOWN
        if why == walk.OTHER_ELEMENT:
            is_followed = self._is_element(stop, rows)
        return None if is_followed is None else _Probe(rows, rows - (why != walk.FULL and not is_followed), why)

    def _is_element(self, at: int, rows: int) -> bool | None:
        """A descriptor, or the end of the document, stands at a place of the window; null if that cannot be told yet."""
        source = self.source
        cursor = _Cursor(source.window, at, at + LARGEST_DESCRIPTOR_OCTETS)
        try:
            if cursor.number() == walk.DESCRIPTOR:
                cursor.at = at
                return bool(_descriptor(cursor))
            count = cursor.number()
            cursor.number(8)
        except _Cut:
            return False if source.is_last else None
        except _Malformed:
            return False
        if cursor.at == len(source.window) and not source.is_last:
            return None
        return cursor.at == len(source.window) or count == self.tally.records + rows

    # Records

    def _take_records(self) -> tuple[Block | None, str | None]:
        """The records up to another element or the end of the window, and the fault that ends what can be read."""
        source = self.source
        rows, stop, why = walk.walk_records(
            source.data, source.at, len(source.window), self.ways[0].has_marker, *self.tables,
            self.starts, self.ends, self.which, self.spans,
        )  # fmt: skip
        block = self._block(rows) if rows else None
        source.at = stop
        self.elements += rows
        if why == walk.CUT and not source.is_last:
            source.read_on()
            return block, None
        return block, walk.FAULTS[why]

    def _block(self, rows: int) -> Block:
        starts, ends, which = self.starts[:rows], self.ends[:rows], self.which[:rows]
        made: list[list[pa.Array]] = [[] for _ in range(self.wanted.width)]
        faults: list[pa.Array] = []
        order: list[Integers] = []
        for each, attributes in enumerate(self.descriptors.values()):
            here = np.flatnonzero(which == each)
            if not len(here):
                continue
            order.append(here)
            columns, wrong = self._columns(attributes, self.spans[here] if len(here) < rows else self.spans[:rows])
            faults.append(wrong)
            for place, column in enumerate(columns):
                made[place].append(column)
        back = pa.array(np.argsort(np.concatenate(order), kind="stable")) if len(order) > 1 else None
        arrays = [column[0] if back is None else pa.concat_arrays(column).take(back) for column in (*made, faults)]
        lengths, is_bad = ends - starts, arrays[-1].is_valid().to_numpy(zero_copy_only=False)
        self.tally.octets_quarantined += int(lengths[is_bad].sum())
        self.tally.octets_records += int(lengths[~is_bad].sum())
        ordinals = self.tally.records + 1 + np.arange(rows, dtype=np.int64)
        self.tally.records += rows
        return Block(self.wanted.batch(arrays[:-1]), ordinals, self.source.offset + starts, arrays[-1])

    def _columns(self, attributes: Attributes, spans: npt.NDArray[np.int32]) -> tuple[list[pa.Array], pa.StringArray]:
        """Texts of the records of one descriptor by place, and what is wrong with each record."""
        rows = len(spans)
        made = [pa.nulls(rows, pa.string()) for _ in range(self.wanted.width)]
        faults = pa.nulls(rows, pa.string())
        met: set[int] = set()
        for name, kind in attributes:
            place = self.wanted.places.get(plain(name))
            if place is None:
                continue
            wrong, fault = np.ones(rows, bool), "element_doubled"
            if place not in met:
                made[place], wrong, fault = _WRITTEN[kind](self.source.data, np.ascontiguousarray(spans[:, place]))
            else:
                made[place] = pa.nulls(rows, pa.string())
            met.add(place)
            if wrong.any():
                made[place] = pc.if_else(pa.array(wrong), pa.scalar(None, pa.string()), made[place])
                faults = pc.coalesce(faults, pc.if_else(pa.array(wrong), pa.scalar(fault), pa.scalar(None, pa.string())))
        return made, faults

    def _rest(self, fault: str) -> Iterator[Block]:
        """All that cannot be read, as one row; the whole stream is passed, so that its octets are counted."""
        source = self.source
        begin, octets = source.offset + source.at, source.left
        while not source.is_last:
            source.at = len(source.window)
            source.read_on()
            octets += source.left
        self.tally.octets = begin + octets
        if octets:
            self.tally.octets_quarantined += octets
            self.tally.spans_quarantined += 1
            self.tally.records += 1
            nothing = [pa.nulls(1, pa.string()) for _ in range(self.wanted.width)]
            ordinal, offset = (np.array([each], np.int64) for each in (self.tally.records, begin))
            yield Block(self.wanted.batch(nothing), ordinal, offset, pa.array([fault], pa.string()))


_UNDECIDABLE = (
    "it cannot be told how its records are written: unsignedByte and unsignedShort in 4 octets or fewer, "
    "with 0xFFFFFFFF before the values or without"
)


# From octets to text


def _numbers(data: Octets, spans: Spans, kind: str) -> npt.NDArray[Any]:
    """Numbers of a fixed size, big-endian."""
    octets = data[spans[:, :1].astype(np.int64) + np.arange(np.dtype(kind).itemsize)]
    return np.ascontiguousarray(octets).view(kind)[:, 0].astype(np.dtype(kind).newbyteorder("="))


def _none(spans: Spans) -> Mask:
    return np.zeros(len(spans), bool)


def _number(kind: str) -> Callable[[Octets, Spans], Written]:
    return lambda data, spans: (pa.array(_numbers(data, spans, kind)).cast(pa.string()), _none(spans), "")


def _narrow_or_wide(kind: str) -> Callable[[Octets, Spans], Written]:
    def written(data: Octets, spans: Spans) -> Written:
        return _number(">u4" if len(spans) and spans[0, 1] == 4 else kind)(data, spans)

    return written


def _boolean(data: Octets, spans: Spans) -> Written:
    numbers = _numbers(data, spans, ">u1")
    texts = pa.array(["false", "true"]).take(pa.array(np.minimum(numbers, 1)))
    return texts, numbers > 1, "boolean_malformed"


def _text(data: Octets, spans: Spans) -> Written:
    octets = octets_of(data, spans)
    values = np.frombuffer(octets.buffers()[2] or b"", np.uint8)
    if not len(values) or (values.max() < 0x80 and values.min() > 0):
        return octets.view(pa.string()), _none(spans), ""
    distinct = octets.dictionary_encode()
    texts = pa.array([_decoded(value) for value in distinct.dictionary.to_pylist()], pa.string()).take(distinct.indices)
    return texts, texts.is_null().to_numpy(zero_copy_only=False), "not_utf_8"


def _decoded(octets: bytes) -> str | None:
    try:
        return None if b"\0" in octets else octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _hexadecimal(data: Octets, spans: Spans) -> pa.StringArray:
    offsets = np.empty(len(spans) + 1, np.int32)
    out = np.empty(2 * int(spans[:, 1].sum()), np.uint8)
    walk.hexadecimal(data, spans, offsets, out)
    return pa.Array.from_buffers(pa.string(), len(spans), [None, pa.py_buffer(offsets), pa.py_buffer(out)])


def _hex_binary(data: Octets, spans: Spans) -> Written:
    return _hexadecimal(data, spans), _none(spans), ""


def _mac(data: Octets, spans: Spans) -> Written:
    """Six octets behind two that are zero."""
    wrong = _numbers(data, spans, ">u2") != 0
    return _hexadecimal(data, spans + np.array([2, -2], np.int32)), wrong, "mac_malformed"


def _uuid(data: Octets, spans: Spans) -> Written:
    digits = _hexadecimal(data, spans)
    bounds = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    parts = [pc.utf8_slice_codeunits(digits, begin, end) for begin, end in bounds]
    return pc.binary_join_element_wise(*parts, "-"), spans[:, 1] != 16, "uuid_malformed"


_OF_AN_OCTET = pa.array([str(number) for number in range(256)], pa.string())


def _ipv4(data: Octets, spans: Spans) -> Written:
    begins = spans[:, 0].astype(np.int64)
    parts = [_OF_AN_OCTET.take(pa.array(data[begins + nth])) for nth in range(4)]
    return pc.binary_join_element_wise(*parts, "."), _none(spans), ""


def _address(*lengths: int) -> Callable[[Octets, Spans], Written]:
    """Addresses with their length in front; none has no octets."""

    def written(data: Octets, spans: Spans) -> Written:
        distinct = octets_of(data, spans).dictionary_encode()
        texts = pa.array([_address_text(octets) for octets in distinct.dictionary.to_pylist()], pa.string())
        return texts.take(distinct.indices), ~np.isin(spans[:, 1], (0, *lengths)), "address_malformed"

    return written


def _address_text(octets: bytes) -> str | None:
    if len(octets) == 16:
        return socket.inet_ntop(socket.AF_INET6, octets)
    return socket.inet_ntop(socket.AF_INET, octets) if len(octets) == 4 else "" if not octets else None


def _instant(kind: str, unit: str, per_second: int) -> Callable[[Octets, Spans], Written]:
    def written(data: Octets, spans: Spans) -> Written:
        numbers = _numbers(data, spans, kind).astype(np.uint64)
        wrong = numbers > np.uint64((_LAST_SECOND + 1) * per_second - 1)
        numbers = np.where(wrong, np.uint64(0), numbers).astype(np.int64)
        stamps = pa.array(numbers * 1000 if unit == "s" else numbers).cast(pa.timestamp("ms" if unit == "s" else unit))
        texts = pc.replace_substring(stamps.cast(pa.string()), " ", "T")
        return pc.binary_join_element_wise(texts, pa.scalar("Z"), ""), wrong, "time_out_of_range"

    return written


_TYPES: dict[int, tuple[int, Callable[[Octets, Spans], Written]]] = {
    0x21: (4, _number(">i4")),
    0x22: (4, _number(">u4")),
    0x23: (8, _number(">i8")),
    0x24: (8, _number(">u8")),
    0x25: (4, _number(">f4")),
    0x26: (8, _number(">f8")),
    0x27: (walk.VARIABLE, _hex_binary),
    0x28: (walk.VARIABLE, _text),
    0x29: (1, _boolean),
    0x2A: (1, _number(">i1")),
    0x2B: (1, _narrow_or_wide(">u1")),
    0x2C: (2, _number(">i2")),
    0x2D: (2, _narrow_or_wide(">u2")),
    0x122: (4, _instant(">u4", "s", 1)),
    0x224: (8, _instant(">u8", "ms", 1000)),
    0x322: (4, _ipv4),
    0x427: (walk.VARIABLE, _address(16)),
    0x527: (walk.VARIABLE, _uuid),
    0x623: (8, _instant(">u8", "us", 1_000_000)),
    0x723: (8, _mac),
    0x827: (walk.VARIABLE, _address(4, 16)),
}
"""Types by their id: octets of a value, or VARIABLE, and how they become text."""
_SIZES = {kind: size for kind, (size, _) in _TYPES.items()}
_WRITTEN = {kind: written for kind, (_, written) in _TYPES.items()}
_WIDENED = (0x2B, 0x2D)


def _size(kind: int, is_wide: bool) -> int:
    return 4 if is_wide and kind in _WIDENED else _SIZES[kind]
