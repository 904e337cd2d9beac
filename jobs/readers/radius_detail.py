"""FreeRADIUS detail files (rlm_detail): RADIUS accounting as text, a row a packet.

A packet is a header line with the time it arrived at, as ctime writes it, then a line ``Attribute = value`` for each attribute,
indented by a tab, then an empty line; lines end with LF or CR LF. What the attributes mean is in RFC 2866 §5 and RFC 2869 §5: the
octets of an Interim-Update or a Stop are those since the session began, not of an interval, and ``Acct-Input-Octets`` counts on
from 0 each time ``Acct-Input-Gigawords`` goes up by one, so a counter that a packet lacks is null here and never 0.

The octets are walked by ``radius_walk``; here what it finds becomes Arrow columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.readers import radius_walk as walk
from jobs.readers.block import WHOLE, Block, Part, ReadFault, Tally, no_faults, parts_between
from jobs.readers.recognise import recognised
from jobs.readers.window import more

HEADER_TIME = "Packet-Header-Time"
"""The column of the packet's header line: when the server wrote it, in its own zone, as ctime does."""
WINDOW_OCTETS = 1 << 20
BLOCK_PACKETS = 1 << 12
HEAD_OCTETS = 1 << 16
"""A file without a header line in its first octets is no detail file."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FAULTS = pa.array(walk.FAULTS, pa.string())
_GUARD = np.zeros(16, np.uint8)


def read_radius_detail(
    stream: Any, columns: Sequence[str], tally: Tally, part: Part = WHOLE, window_octets: int = WINDOW_OCTETS
) -> Iterator[Block]:
    """Yield the packets of an uncompressed detail file, attributes as text, null where a packet lacks one.

    Values are as FreeRADIUS wrote them, without quotes and escapes; ``=``, ``:=`` and ``+=`` are the same. Octet counters are in
    octets modulo 2^32, Gigawords in 2^32 octets, times in seconds, ``Timestamp`` in seconds since 1970, UTC. An attribute that
    occurs again with the same value counts once.

    A packet in which something is wrong has a fault, no attributes, and is quarantined:

    - ``truncated``: it is cut off by the end of the file, or by a header line, also by one in place of a value;
    - ``header_missing``: lines without a header line before them, which may be of a packet or none;
    - ``no_attributes``: nothing is between header line and empty line;
    - ``packet_too_long``, ``line_too_long``: more than 1 MiB, more than 64 KiB;
    - ``not_utf_8``: octets that are no UTF-8, or NUL, anywhere in it;
    - ``line_end_broken``: a carriage return within a line;
    - ``line_not_indented``, ``attribute_malformed``: a line that is no attribute, or not ``name = value``;
    - ``quoting_broken``: a value that begins with a quote and does not end with it, or holds one without a backslash;
    - and of the attributes asked for: ``attribute_repeated`` with another value, ``escape_malformed``, ``value_not_utf_8`` once
      its escapes are undone.

    A last packet whose last line is complete is taken without an empty line behind it, which the warning
    ``last_packet_without_empty_line`` counts.

    Args:
        stream: the file, already decompressed.
        columns: names of attributes as FreeRADIUS writes them, or HEADER_TIME, each once.
        tally: is counted up while blocks are read; its records are header lines, and runs of lines without one.
        part: the part to read, one of ``parts``; such a stream can go on to an octet (``seek``).
        window_octets: how much is read at a time.

    Raises:
        ReadFault: the file is something else, or cannot be decompressed.
    """
    asked = _Asked.of(columns)
    for data, found, offset in _looked_through(stream, tally, part, window_octets):
        if len(found.starts):
            yield _block(data, found, offset, asked, tally, part.first_ordinal)


def parts(stream: Any, part_octets: int) -> list[Part]:
    """Parts of a file of about so many octets, each from a header line behind an empty line. Raises ReadFault as the reader."""
    begins, packets, is_behind_empty_line = [(0, 1)], 0, False
    for _, found, offset in _looked_through(stream, Tally(), WHOLE, min(WINDOW_OCTETS, max(1, part_octets))):
        if not len(found.starts):
            continue
        is_boundary = np.r_[is_behind_empty_line, found.kinds[:-1] == walk.BY_EMPTY_LINE]
        for row in np.flatnonzero(is_boundary).tolist():
            if (begin := offset + int(found.starts[row])) - begins[-1][0] >= part_octets:
                begins.append((begin, packets + row + 1))
        packets += len(found.starts)
        is_behind_empty_line = bool(found.kinds[-1] == walk.BY_EMPTY_LINE)
    return parts_between(begins)


@dataclass(frozen=True)
class _Asked:
    """The attributes asked for, as the walk takes them."""

    columns: tuple[str, ...]
    names: walk.Octets
    bounds: walk.Integers
    table: walk.Integers
    header_column: int

    @classmethod
    def of(cls, columns: Sequence[str]) -> _Asked:
        """Names one after the other, and a hash table of them with more places than names."""
        if len(set(columns)) != len(columns):
            raise ValueError("a column is asked for twice")
        texts = [name.encode() for name in columns]
        names = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
        bounds = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        table = np.full(1 << (4 * len(columns) + 1).bit_length(), walk.MISSING, np.int64)
        for column, name in enumerate(columns):
            if name == HEADER_TIME:
                continue
            place = walk.name_hash(names, bounds[column], bounds[column + 1]) & (len(table) - 1)
            while table[place] != walk.MISSING:
                place = (place + 1) & (len(table) - 1)
            table[place] = column
        header_column = columns.index(HEADER_TIME) if HEADER_TIME in columns else walk.MISSING
        return cls(tuple(columns), names, bounds, table, header_column)


@dataclass(frozen=True)
class _Found:
    """Packets of a window."""

    starts: walk.Integers
    ends: walk.Integers
    stops: walk.Integers
    kinds: walk.Integers


def _looked_through(stream: Any, tally: Tally, part: Part, window_octets: int) -> Iterator[tuple[walk.Octets, _Found, int]]:
    """Windows of a stream, the packets found in each, and where in the file it begins. All octets but packets' are tallied."""
    left = None if part.end_octet is None else part.end_octet - part.begin_octet
    if part.begin_octet:
        stream.seek(part.begin_octet)
    else:
        stream = _begun(stream, tally)
    offset, rest, is_open, is_within_line = tally.octets_header, b"", False, False
    while True:
        window, is_last = more(stream, rest, window_octets, None if left is None else left - offset - len(rest))
        tally.octets = offset + len(window)
        data = np.concatenate([np.frombuffer(window, np.uint8), _GUARD])
        at, is_full = 0, True
        while is_full:
            starts, ends, stops, kinds = (np.empty(BLOCK_PACKETS, np.int64) for _ in range(4))
            count, at, padding, gone_on, is_open, is_within_line = walk.frame_packets(
                data, at, len(window), is_last, is_open, is_within_line, starts, ends, stops, kinds
            )
            tally.octets_padding += padding
            tally.octets_quarantined += gone_on
            yield data, _Found(starts[:count], ends[:count], stops[:count], kinds[:count]), part.begin_octet + offset
            is_full = count == BLOCK_PACKETS
        if is_last:
            return
        offset, rest = offset + at, window[at:]


class _Begun:
    """A stream whose first octets have been read."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head, self._stream = io.BytesIO(head), stream

    def read(self, octets: int) -> bytes:
        """The next octets."""
        return self._head.read(octets) or self._stream.read(octets)


def _begun(stream: Any, tally: Tally) -> _Begun:
    """A stream that was looked into: it is a detail file, or empty. Raises ReadFault if it is not."""
    head, _ = more(stream, b"", HEAD_OCTETS, None)
    if head.startswith(_BYTE_ORDER_MARK):
        tally.octets_header = len(_BYTE_ORDER_MARK)
        head = head[len(_BYTE_ORDER_MARK) :]
    _require_detail(head)
    return _Begun(head, stream)


def _require_detail(head: bytes) -> None:
    """Refuse a file that is something else, by name, before anything of it is read."""
    if not head.strip(b"\r\n") or walk.first_header(np.concatenate([np.frombuffer(head, np.uint8), _GUARD]), len(head)) >= 0:
        return
    if b" = " in head and (b"\n\t" in head or head.startswith(b"\t")) and b"\0" not in head:
        raise ReadFault("its packets have no header line as ctime writes it, so this is not a FreeRADIUS detail file as it comes")
    other = recognised(head)
    raise ReadFault(f"this is {other}, not a FreeRADIUS detail file" if other else "this is not a FreeRADIUS detail file")


def _block(data: walk.Octets, found: _Found, offset: int, asked: _Asked, tally: Tally, first_ordinal: int) -> Block:
    packets = len(found.starts)
    spans = np.empty((len(asked.columns), packets, 2), np.int32)
    quotes = np.empty((len(asked.columns), packets), np.uint8)
    codes = np.empty(packets, np.int64)
    walk.walk_packets(
        data, found.starts, found.ends, found.kinds, asked.names, asked.bounds, asked.table, asked.header_column,
        spans, quotes, codes,
    )  # fmt: skip
    is_sound = codes == walk.SOUND
    lengths = found.stops - found.starts
    tally.octets_records += int(lengths[is_sound].sum())
    tally.octets_quarantined += int(lengths[~is_sound].sum())
    tally.spans_quarantined += int((codes == walk.HEADER_MISSING).sum())
    tally.warn("last_packet_without_empty_line", int((is_sound & (found.kinds == walk.BY_END)).sum()))
    ordinals = first_ordinal + tally.records + np.arange(packets, dtype=np.int64)
    tally.records += packets
    texts = [_text(data, spans[column], quotes[column]) for column in range(len(asked.columns))]
    return Block(
        pa.RecordBatch.from_arrays(texts, schema=pa.schema([(name, pa.string()) for name in asked.columns])),
        ordinals,
        offset + found.starts,
        no_faults(packets) if is_sound.all() else _FAULTS.take(pa.array(codes)),
    )


def _text(data: walk.Octets, spans: walk.Spans, quotes: npt.NDArray[np.uint8]) -> pa.StringArray:
    """The values of an attribute: what the walk found was seen to be UTF-8 as it is written, and once its escapes are undone."""
    offsets, validity = np.empty(len(spans) + 1, np.int32), np.zeros((len(spans) + 7) // 8, np.uint8)
    out = np.empty(int(np.maximum(spans[:, 1], 0).sum()), np.uint8)
    missing = walk.gather(data, spans, quotes, offsets, validity, out)
    buffers = [pa.py_buffer(validity) if missing else None, pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.string(), len(spans), buffers, missing)
