"""The walk over FreeRADIUS detail files, compiled: from one packet to the next, and over the attribute lines of each.

Two passes that know nothing of each other: ``frame_packets`` finds packets by their header lines and by empty lines; and
``walk_packets`` finds the attributes within each. Compiled with Numba, whose machine code is kept beside the module. Nothing is
read outside the octets given, and both passes end after as many steps as there are octets.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Spans = npt.NDArray[np.int32]

LONGEST_LINE_OCTETS = 1 << 16
"""An attribute has 253 octets, a long one of RFC 6929 some 4,000, each written as four characters at most."""
LONGEST_PACKET_OCTETS = 1 << 20
"""A RADIUS packet has 4,096 octets, 65,535 by RFC 7930; names and escapes make ten times as much of it at most."""
TAIL_OCTETS = 64
"""What is kept of a line that is being skipped: a header line that another line is torn off by ends with it."""
HEADER_TIME_OCTETS = 24
MISSING = -1

BY_EMPTY_LINE, BY_HEADER, BY_END, WITHIN_LINE, NOT_YET = range(5)
"""How a packet ends: by an empty line, by the next header, by the end of the file behind a line or within one, or not so far."""

(
    SOUND, PACKET_TOO_LONG, HEADER_MISSING, TRUNCATED, NOT_UTF_8, LINE_TOO_LONG, LINE_END_BROKEN, LINE_NOT_INDENTED,
    ATTRIBUTE_MALFORMED, QUOTING_BROKEN, ESCAPE_MALFORMED, VALUE_NOT_UTF_8, ATTRIBUTE_REPEATED, NO_ATTRIBUTES,
) = range(14)  # fmt: skip
FAULTS = (
    None, "packet_too_long", "header_missing", "truncated", "not_utf_8", "line_too_long", "line_end_broken", "line_not_indented",
    "attribute_malformed", "quoting_broken", "escape_malformed", "value_not_utf_8", "attribute_repeated", "no_attributes",
)  # fmt: skip

_FEED, _RETURN, _TAB, _SPACE, _COLON, _PLUS, _EQUALS = 10, 13, 9, 32, 58, 43, 61
_DOUBLE, _SINGLE, _BACKSLASH, _ZERO = 34, 39, 92, 48
_DAY_NAMES = np.frombuffer(b"MonTueWedThuFriSatSun", np.uint8).copy()
_MONTH_NAMES = np.frombuffer(b"JanFebMarAprMayJunJulAugSepOctNovDec", np.uint8).copy()

_compiled: Any = numba.njit(cache=True, nogil=True)


@_compiled
def _is_name(data: Octets, at: int, names: Octets) -> bool:
    for place in range(0, len(names), 3):
        if data[at] == names[place] and data[at + 1] == names[place + 1] and data[at + 2] == names[place + 2]:
            return True
    return False


@_compiled
def _two_digits(data: Octets, at: int) -> int:
    """The number that two digits are; -1 if they are none."""
    high, low = int(data[at]) - _ZERO, int(data[at + 1]) - _ZERO
    return high * 10 + low if 0 <= high <= 9 and 0 <= low <= 9 else -1


@_compiled
def is_header_time(data: Octets, at: int) -> bool:
    """A time as ctime writes it, such as ``Tue Sep 13 16:24:27 2011``, stands at a place with 24 octets behind it."""
    if data[at + 13] != _COLON or data[at + 16] != _COLON:
        return False
    if data[at + 3] != _SPACE or data[at + 7] != _SPACE or data[at + 10] != _SPACE or data[at + 19] != _SPACE:
        return False
    low = int(data[at + 9]) - _ZERO
    day = low if data[at + 8] == _SPACE and 0 <= low <= 9 else _two_digits(data, at + 8)
    hour, minute, second = _two_digits(data, at + 11), _two_digits(data, at + 14), _two_digits(data, at + 17)
    if day < 1 or day > 31 or hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return False
    if _two_digits(data, at + 20) < 0 or _two_digits(data, at + 22) < 0:
        return False
    return _is_name(data, at, _DAY_NAMES) and _is_name(data, at + 4, _MONTH_NAMES)


@_compiled
def first_header(data: Octets, end: int) -> int:
    """Where the first header line begins; -1 if there is none."""
    line = 0
    while line + HEADER_TIME_OCTETS <= end:
        stop = line
        while stop < end and data[stop] != _FEED:
            stop += 1
        last = stop - 1 if stop > line and data[stop - 1] == _RETURN else stop
        if last - line == HEADER_TIME_OCTETS and is_header_time(data, line):
            return line
        line = stop + 1
    return -1


@_compiled
def _header_at_end(data: Octets, line: int, last: int) -> int:
    """Where the header begins that a line is, or ends with because the one before was never ended; -1 if there is none.

    A time behind an operator may be a value: nothing begins with it, and ``_walk`` has the packet quarantined.
    """
    at = last - HEADER_TIME_OCTETS
    if at < line or not is_header_time(data, at):
        return -1
    if at - line >= 2 and data[at - 1] == _SPACE and data[at - 2] == _EQUALS:
        return -1
    return at


@_compiled
def frame_packets(
    data: Octets,
    at: int,
    end: int,
    is_last: bool,
    is_open: bool,
    is_within_line: bool,
    starts: Integers,
    ends: Integers,
    stops: Integers,
    kinds: Integers,
) -> tuple[int, int, int, int, bool, bool]:
    """Find packets from a boundary on, in a window of a file: what lies between header lines and empty ones.

    Args:
        data: the window.
        at: where to begin.
        end: where the window ends.
        is_last: the file ends with the window.
        is_open: a packet that is too long goes on from the window before.
        is_within_line: so does a line of it.
        starts: is filled with where packets begin, or lines that belong to none.
        ends: is filled with where their last line ends.
        stops: is filled with where the empty line behind it ends, which belongs to the packet.
        kinds: is filled with how they end.

    Returns:
        How many were found, where to go on, octets of padding (other empty lines), octets of the packet that went on, whether one
        goes on, and whether a line of it does.
    """
    found, padding, gone_on = 0, 0, 0
    start = at if is_open else -1
    line = at
    while found < len(starts):
        stop = line
        while stop < end and data[stop] != _FEED:
            stop += 1
        if stop == end and (not is_last or line == end):
            break
        after = min(stop + 1, end)
        last = stop - 1 if stop > line and data[stop - 1] == _RETURN else stop
        kind, content, header = -1, line, -1
        if last == line and not is_within_line:
            if start < 0:
                padding += after - line
            else:
                kind = BY_EMPTY_LINE
        else:
            header = _header_at_end(data, line, last)
            if start < 0 and header != line:
                start = line
            if header >= 0 and start >= 0:
                kind, content = BY_HEADER, header
            elif header >= 0:
                start = header
        if kind >= 0:
            closed = after if kind == BY_EMPTY_LINE else header
            if is_open:
                gone_on += closed - start
                is_open = False
            else:
                starts[found], ends[found], stops[found], kinds[found] = start, content, closed, kind
                found += 1
            start = header
        line = after
        is_within_line = False
    if found == len(starts):
        return found, start if start >= 0 else line, padding, gone_on, False, False
    if is_last:
        if is_open:
            gone_on += end - start
        elif start >= 0:
            starts[found], ends[found], stops[found] = start, end, end
            kinds[found] = BY_END if data[end - 1] == _FEED else WITHIN_LINE
            found += 1
        return found, end, padding, gone_on, False, False
    if start < 0:
        start = line
    if not is_open and end - start <= LONGEST_PACKET_OCTETS + TAIL_OCTETS:
        return found, start, padding, gone_on, False, False
    tail = max(line, end - TAIL_OCTETS)
    if is_open:
        gone_on += tail - start
    else:
        starts[found], ends[found], stops[found], kinds[found] = start, tail, tail, NOT_YET
        found += 1
    return found, tail, padding, gone_on, True, is_within_line or tail > line


@_compiled
def name_hash(data: Octets, begin: int, end: int) -> int:
    """A number by which names differ mostly: of their length, and octets at both ends and in the middle."""
    length = end - begin
    if length < 3:
        return length
    tail = (int(data[end - 1]) * 31 + int(data[end - 2])) * 31 + int(data[end - 3])
    return (tail * 31 + int(data[begin + length // 2])) * 31 + int(data[begin]) + length * 7919


@_compiled
def _column_of(data: Octets, begin: int, end: int, names: Octets, bounds: Integers, table: Integers) -> int:
    """The column that a name stands for; MISSING if it was not asked for."""
    place = name_hash(data, begin, end) & (len(table) - 1)
    while table[place] != MISSING:
        column = table[place]
        first = bounds[column]
        if bounds[column + 1] - first == end - begin:
            offset = 0
            while offset < end - begin and data[begin + offset] == names[first + offset]:
                offset += 1
            if offset == end - begin:
                return column
        place = (place + 1) & (len(table) - 1)
    return MISSING


@_compiled
def is_text(data: Octets, begin: int, end: int) -> bool:
    """Octets are UTF-8 (RFC 3629) without NUL."""
    at = begin
    while at < end:
        first = data[at]
        at += 1
        if first < 0x80:
            if first == 0:
                return False
            continue
        least, most = 0x80, 0xBF
        if 0xC2 <= first <= 0xDF:
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
            if first == 0xE0:
                least = 0xA0
            elif first == 0xED:
                most = 0x9F
        elif 0xF0 <= first <= 0xF4:
            more = 3
            if first == 0xF0:
                least = 0x90
            elif first == 0xF4:
                most = 0x8F
        else:
            return False
        if at + more > end:
            return False
        for place in range(more):
            octet = data[at + place]
            if octet < least or octet > most:
                return False
            least, most = 0x80, 0xBF
        at += more
    return True


@_compiled
def _unescaped(data: Octets, begin: int, length: int, quote: int, out: Octets, filled: int) -> int:
    """Write a value without its escapes, which were checked before; return how far the octets are filled then."""
    at, end = begin, begin + length
    while at < end:
        octet = data[at]
        at += 1
        if octet == _BACKSLASH:
            escape = data[at]
            if quote == _SINGLE:
                if escape in (_SINGLE, _BACKSLASH):
                    octet = escape
                    at += 1
            elif escape == 110:  # n
                octet = np.uint8(_FEED)
                at += 1
            elif escape == 114:  # r
                octet = np.uint8(_RETURN)
                at += 1
            elif escape == 116:  # t
                octet = np.uint8(_TAB)
                at += 1
            elif escape in (_DOUBLE, _BACKSLASH):
                octet = escape
                at += 1
            else:
                octet = np.uint8((escape - _ZERO) * 64 + (data[at + 1] - _ZERO) * 8 + (data[at + 2] - _ZERO))
                at += 3
        out[filled] = octet
        filled += 1
    return filled


@_compiled
def _check_quoted(data: Octets, begin: int, end: int, quote: int) -> tuple[int, int, bool]:
    """The fault of what stands between quotes, how many escapes are in it, and whether there are octets among them."""
    escapes, has_octets, at = 0, False, begin
    while at < end:
        octet = data[at]
        at += 1
        if octet == quote:
            return QUOTING_BROKEN, escapes, has_octets
        if octet != _BACKSLASH:
            continue
        escapes += 1
        if at >= end:
            return QUOTING_BROKEN, escapes, has_octets
        escape = data[at]
        if quote == _SINGLE:
            # Nothing else is escaped between single quotes: another backslash is one.
            at += 1 if escape in (_SINGLE, _BACKSLASH) else 0
        elif escape == 110 or escape == 114 or escape == 116 or escape in (_DOUBLE, _BACKSLASH):
            at += 1
        elif at + 2 < end and 48 <= escape <= 51 and 48 <= data[at + 1] <= 55 and 48 <= data[at + 2] <= 55:
            has_octets = True
            at += 3
        else:
            return ESCAPE_MALFORMED, escapes, has_octets
    return SOUND, escapes, has_octets


@_compiled
def _closes(data: Octets, begin: int, last: int) -> bool:
    """The quote that a value begins with is its last octet, and not escaped."""
    if last - begin < 2 or data[last - 1] != data[begin]:
        return False
    at = last - 2
    while at > begin and data[at] == _BACKSLASH:
        at -= 1
    return (last - 2 - at) & 1 == 0


@_compiled
def _octets_of(data: Octets, begin: int, length: int, quote: int, out: Octets) -> int:
    """Write a value, without its escapes if it has any; return how many octets it has."""
    if quote:
        return _unescaped(data, begin, length, quote, out, 0)
    for place in range(length):
        out[place] = data[begin + place]
    return length


@_compiled
def _keep(
    data: Octets, begin: int, last: int, column: int, row: int, spans: Spans, quotes: Octets, one: Octets, other: Octets
) -> int:
    """Keep a value in its column; return what is wrong with it."""
    quote = 0
    if last > begin and (data[begin] == _DOUBLE or data[begin] == _SINGLE):
        fault, escapes, has_octets = _check_quoted(data, begin + 1, last - 1, data[begin])
        if fault != SOUND:
            return fault
        quote = int(data[begin]) if escapes else 0
        begin, last = begin + 1, last - 1
        if has_octets and not is_text(one, 0, _unescaped(data, begin, last - begin, quote, one, 0)):
            return VALUE_NOT_UTF_8
    if spans[column, row, 1] == MISSING:
        spans[column, row, 0], spans[column, row, 1] = begin, last - begin
        quotes[column, row] = quote
        return SOUND
    length = _octets_of(data, begin, last - begin, quote, one)
    if length != _octets_of(data, spans[column, row, 0], spans[column, row, 1], quotes[column, row], other):
        return ATTRIBUTE_REPEATED
    for place in range(length):
        if one[place] != other[place]:
            return ATTRIBUTE_REPEATED
    return SOUND


@_compiled
def _suspects(data: Octets, begin: int, end: int) -> tuple[bool, bool]:
    """There are octets that may be no text, and carriage returns. Without a branch, so that it takes many octets at a time."""
    unusual, returns = np.uint8(0), np.uint8(0)
    for place in range(begin, end):
        octet = data[place]
        unusual |= np.uint8(octet >= 0x80) | np.uint8(octet == 0)
        returns |= np.uint8(octet == _RETURN)
    return bool(unusual), bool(returns)


@_compiled
def _has_return(data: Octets, begin: int, end: int) -> bool:
    place = begin
    while place < end and data[place] != _RETURN:
        place += 1
    return place < end


@_compiled
def _walk(
    data: Octets,
    start: int,
    end: int,
    kind: int,
    names: Octets,
    bounds: Integers,
    table: Integers,
    header_column: int,
    row: int,
    spans: Spans,
    quotes: Octets,
    one: Octets,
    other: Octets,
) -> int:
    """Find the attributes of one packet that were asked for; return what is wrong with it."""
    if kind == NOT_YET or end - start > LONGEST_PACKET_OCTETS:
        return PACKET_TOO_LONG
    at = start + HEADER_TIME_OCTETS
    if at > end or not is_header_time(data, start):
        return HEADER_MISSING
    if at < end and data[at] == _RETURN and (at + 1 < end or kind != BY_HEADER):
        at += 1
    if at < end and data[at] != _FEED:
        return HEADER_MISSING
    if kind in (BY_HEADER, WITHIN_LINE):
        return TRUNCATED
    is_suspect, has_returns = _suspects(data, start, end)
    if is_suspect and not is_text(data, start, end):
        return NOT_UTF_8
    if header_column != MISSING:
        spans[header_column, row, 0], spans[header_column, row, 1] = start, HEADER_TIME_OCTETS
        quotes[header_column, row] = 0
    at += 1
    if at >= end:
        return NO_ATTRIBUTES if kind == BY_EMPTY_LINE else TRUNCATED
    while at < end:
        begin = at
        while begin < end and (data[begin] == _TAB or data[begin] == _SPACE):
            begin += 1
        behind = begin
        while behind < end and data[behind] != _SPACE and data[behind] != _FEED:
            behind += 1
        stop = behind
        while stop < end and data[stop] != _FEED:
            stop += 1
        last = stop - 1 if data[stop - 1] == _RETURN else stop
        if last - at > LONGEST_LINE_OCTETS:
            return LINE_TOO_LONG
        if has_returns and _has_return(data, at, last):
            return LINE_END_BROKEN
        if begin == at:
            return LINE_NOT_INDENTED
        equals = behind + 1
        if equals < last and (data[equals] == _COLON or data[equals] == _PLUS):
            equals += 1
        if behind == begin or equals + 1 >= last or data[equals] != _EQUALS or data[equals + 1] != _SPACE:
            return ATTRIBUTE_MALFORMED
        value = equals + 2
        if value < last and (data[value] == _DOUBLE or data[value] == _SINGLE) and not _closes(data, value, last):
            return QUOTING_BROKEN
        if last - value == HEADER_TIME_OCTETS and is_header_time(data, value):
            return TRUNCATED
        column = _column_of(data, begin, behind, names, bounds, table)
        if column != MISSING:
            fault = _keep(data, value, last, column, row, spans, quotes, one, other)
            if fault != SOUND:
                return fault
        at = stop + 1
    return SOUND


@_compiled
def walk_packets(
    data: Octets,
    starts: Integers,
    ends: Integers,
    kinds: Integers,
    names: Octets,
    bounds: Integers,
    table: Integers,
    header_column: int,
    spans: Spans,
    quotes: Octets,
    faults: Integers,
) -> None:
    """Find the attributes of packets that were asked for, and what is wrong with each; a faulty one has no attributes.

    Args:
        data: the window.
        starts: where packets begin.
        ends: where their last lines end.
        kinds: how they end.
        names: the attributes' names, one after the other.
        bounds: where each begins in there, and the last ends.
        table: the columns by the hash of their names (``name_hash``), MISSING where there is none; a power of two of places.
        header_column: the column that the header line goes to, or MISSING.
        spans: is filled with begin and length of values, by column and packet; the length is MISSING where there is none.
        quotes: is filled with the quote of values that have escapes, else 0.
        faults: is filled with what is wrong with each packet.
    """
    one, other = np.empty(LONGEST_LINE_OCTETS, np.uint8), np.empty(LONGEST_LINE_OCTETS, np.uint8)
    for row in range(len(starts)):
        for column in range(len(spans)):
            spans[column, row, 1] = MISSING
        faults[row] = _walk(
            data, starts[row], ends[row], kinds[row], names, bounds, table, header_column, row, spans, quotes, one, other
        )
        if faults[row] != SOUND:
            for column in range(len(spans)):
                spans[column, row, 1] = MISSING


@_compiled
def gather(data: Octets, spans: Spans, quotes: Octets, offsets: Spans, validity: Octets, out: Octets) -> int:
    """Gather the values of a column one after the other, escapes undone, as Arrow lays out text; return how many are missing."""
    filled, missing = 0, 0
    for row in range(len(spans)):
        offsets[row] = filled
        begin, length = spans[row, 0], spans[row, 1]
        if length < 0:
            missing += 1
            continue
        validity[row >> 3] |= np.uint8(1 << (row & 7))
        if quotes[row]:
            filled = _unescaped(data, begin, length, quotes[row], out, filled)
        else:
            for place in range(length):
                out[filled + place] = data[begin + place]
            filled += length
    offsets[len(spans)] = filled
    return missing
