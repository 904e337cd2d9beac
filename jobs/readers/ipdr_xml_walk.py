"""The walk over IPDRDoc XML, compiled: from one record boundary to the next, and from a record to the spans of its elements.

A record is vouched for only if it is plain: elements without children, no references but to the predefined entities, no
section or comment. Whatever else XML allows, and whatever it forbids, is left to a whole parser, record by record. Every octet is
looked at a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from jobs.readers.window import Octets, Spans

Integers = npt.NDArray[np.int64]

LONGEST_RECORD_OCTETS = 1 << 20
LONGEST_TAG_OCTETS = 1 << 16
LONGEST_NAME_OCTETS = 256

# What is found between two boundaries.
(
    RECORD,
    NOT_CLOSED,
    TRUNCATED,
    TOO_LONG,
    NO_RECORD,
    MORE_OF_NO_RECORD,
    ROOT,
    ROOT_END,
    DOCUMENT_END,
    OTHER_MARKUP,
    DECLARATION,
) = range(11)

# What a markup is by its first octets; what begins or ends a record or the document, from _RECORD_TAG on, is a boundary.
_CUT, _OTHER, _COMMENT, _CDATA, _INSTRUCTION, _RECORD_END_TAG = range(6)
_RECORD_TAG, _ROOT_TAG, _ROOT_END_TAG, _END_TAG, _END_END_TAG, _DECLARATION = range(6, 12)

_LESS, _GREATER, _SLASH, _BANG, _QUESTION, _MINUS, _COLON, _EQUALS = (ord(sign) for sign in "<>/!?-:=")
_AMPERSAND, _BRACKET, _CLOSING_BRACKET, _QUOTE, _APOSTROPHE, _RETURN = (ord(sign) for sign in "&[]\"'\r")
_MOST_ATTRIBUTES = 8
_NIL = ord("l")
"""The last letter of ``xsi:nil``, behind an i, which makes a text none: what ends like it is not plain."""

_PLAIN_TEXT, _END_OF_TEXT, _UNUSUAL, _HIGH, _IS_RETURN, _IS_BRACKET, _IS_REFERENCE = range(7)


def _classes() -> npt.NDArray[np.uint8]:
    """Of each octet, what it is in a text."""
    found = np.zeros(256, np.uint8)
    found[:32], found[0x80:] = _UNUSUAL, _HIGH
    found[[9, 10]] = _PLAIN_TEXT
    found[_LESS], found[_AMPERSAND], found[_RETURN], found[_CLOSING_BRACKET] = (
        _END_OF_TEXT,
        _IS_REFERENCE,
        _IS_RETURN,
        _IS_BRACKET,
    )
    return found


def _name_octets() -> npt.NDArray[np.bool_]:
    found = np.zeros(256, np.bool_)
    found[[ord(sign) for sign in "_-.:"]] = True
    found[0x80:] = True
    for first, last in ("09", "AZ", "az"):
        found[ord(first) : ord(last) + 1] = True
    return found


_CLASS, _IS_NAME = _classes(), _name_octets()
_REFERENCES = np.frombuffer(b"amp;\0lt;\0\0gt;\0\0quot;apos;", np.uint8).reshape(5, 5)
_CDATA_OPENS = np.frombuffer(b"<![CDATA[", np.uint8)
_IPDR = np.frombuffer(b"IPDRDoc.End", np.uint8)
_CLOSINGS = np.frombuffer(b"-->]]>?>>", np.uint8).reshape(3, 3)
_CLOSING_OCTETS = np.array([3, 3, 2], np.int64)

_compiled: Any = numba.njit(cache=True, nogil=True)


@_compiled
def _is_space(octet: int) -> bool:
    return octet == 32 or octet == 10 or octet == 13 or octet == 9


@_compiled
def _markup(data: Octets, at: int, end: int) -> tuple[int, int]:
    """What begins with the ``<`` at a place, and where its name ends; _CUT if the window ends before it can be told."""
    place = at + 1
    if place >= end:
        return _CUT, place
    if data[place] == _QUESTION:
        return _INSTRUCTION, place + 1
    if data[place] == _BANG:
        for nth in range(2, len(_CDATA_OPENS)):
            if at + nth >= end:
                return _CUT, place
            octet = data[at + nth]
            if nth == 2 and (octet | 0x20) >= 97 and (octet | 0x20) <= 122:
                return _DECLARATION, place
            if nth == 2 and octet == _MINUS:
                if at + 3 >= end:
                    return _CUT, place
                return (_COMMENT, at + 4) if data[at + 3] == _MINUS else (_OTHER, place)
            if octet != _CDATA_OPENS[nth]:
                return _OTHER, place
        return _CDATA, at + len(_CDATA_OPENS)
    is_end = data[place] == _SLASH
    place += is_end
    begin = local = place
    while place < end and _IS_NAME[data[place]] and place - begin <= LONGEST_NAME_OCTETS:
        if data[place] == _COLON:
            local = place + 1
        place += 1
    if place - begin > LONGEST_NAME_OCTETS:
        return _OTHER, place
    if place >= end:
        return _CUT, place
    length = place - local
    if length != 4 and length != 7 and length != 11:
        return _OTHER, place
    for nth in range(length):
        if data[local + nth] != _IPDR[nth]:
            return _OTHER, place
    if length == 4:
        return (_RECORD_END_TAG if is_end else _RECORD_TAG), place
    if length == 7:
        return (_ROOT_END_TAG if is_end else _ROOT_TAG), place
    return (_END_END_TAG if is_end else _END_TAG), place


@_compiled
def tag_end(data: Octets, at: int, end: int, is_last: bool) -> int:
    """Where a tag ends, from behind its name on; -1 if it never does, -2 if that is beyond the end of the window.

    A ``>`` in quotes ends no tag, unless the quotes never close: vendors write ``docId="docId="…"``.
    """
    limit = min(end, at + LONGEST_TAG_OCTETS)
    quote, first = 0, -1
    for place in range(at, limit):
        octet = data[place]
        if octet == _LESS:
            return first
        if octet == _GREATER:
            if quote == 0:
                return place + 1
            if first < 0:
                first = place + 1
        elif quote == 0:
            if octet in (_QUOTE, _APOSTROPHE):
                quote = octet
        elif octet == quote:
            quote = 0
    return first if is_last or limit < end or limit == at + LONGEST_TAG_OCTETS else -2


@_compiled
def _closing(data: Octets, at: int, end: int, kind: int, none_before: Integers) -> int:
    """Where a comment, CDATA section or instruction ends, from behind its opening on; -1 if not before the end.

    What was looked through in vain once is not again, so that openings without an end cost no more than one.
    """
    which = kind - _COMMENT
    which = 0 if kind == _COMMENT else 1 if kind == _CDATA else 2
    octets = _CLOSING_OCTETS[which]
    place = max(at, none_before[which])
    while place + octets <= end:
        if (
            data[place] == _CLOSINGS[which, 0]
            and data[place + 1] == _CLOSINGS[which, 1]
            and (octets == 2 or data[place + 2] == _CLOSINGS[which, 2])
        ):
            return place + octets
        place += 1
    none_before[which] = place
    return -1


@_compiled
def _record_end(data: Octets, at: int, after: int, end: int, is_last: bool, none_before: Integers) -> tuple[int, int]:
    """What the record that begins at a place is, and where it ends; -1 if the window ends before it."""
    limit = min(end, at + LONGEST_RECORD_OCTETS)
    is_cut = limit == end and not is_last and end < at + LONGEST_RECORD_OCTETS
    stop = tag_end(data, after, limit, not is_cut)
    if stop == -2:
        return -1, at
    if stop > 0 and data[stop - 2] == _SLASH:
        return RECORD, stop
    place = after
    while True:
        while place < limit and data[place] != _LESS:
            place += 1
        if place >= limit:
            break
        kind, behind = _markup(data, place, limit)
        if kind == _CUT:
            break
        if kind == _RECORD_END_TAG:
            while behind < limit and _is_space(data[behind]):
                behind += 1
            if behind >= limit:
                break
            if data[behind] == _GREATER:
                return RECORD, behind + 1
        elif kind == _DECLARATION:
            return DECLARATION, place
        elif kind >= _RECORD_TAG:
            return NOT_CLOSED, place
        elif kind in (_COMMENT, _CDATA, _INSTRUCTION):
            closed = _closing(data, behind, limit, kind, none_before)
            if closed < 0 and is_cut:
                break
            behind = max(closed, behind)
        place = behind
    if is_cut:
        return -1, at
    return (TRUNCATED if limit == end and end < at + LONGEST_RECORD_OCTETS else TOO_LONG), limit


@_compiled
def frame_records(
    data: Octets,
    at: int,
    end: int,
    is_last: bool,
    is_open: bool,
    starts: Integers,
    ends: Integers,
    kinds: Integers,
) -> tuple[int, int, int, bool]:
    """Find records and what stands between them, from a boundary on, in a window of a document.

    Octets that are neither are quarantined up to the next tag that begins a record, or begins or ends the document.

    Args:
        data: the window.
        at: where to begin.
        end: where the window ends.
        is_last: the file ends with the window.
        is_open: octets that are no record go on from the window before.
        starts: is filled with where each begins.
        ends: is filled with where it ends.
        kinds: is filled with what it is, RECORD to DECLARATION.

    Returns:
        How many were found, where to go on, octets of white space, whether octets that are no record go on.
    """
    found, spaces = 0, 0
    none_before = np.zeros(3, np.int64)
    while at < end and found < len(starts):
        if not is_open and _is_space(data[at]):
            spaces += 1
            at += 1
            continue
        kind, stop = _OTHER, at
        if data[at] == _LESS:
            kind, stop = _markup(data, at, end)
            if kind == _CUT and not is_last:
                break
            is_open = is_open and kind < _RECORD_TAG
        what = -1
        if kind == _DECLARATION:
            what, stop = DECLARATION, at + 1
        elif kind == _RECORD_TAG:
            what, stop = _record_end(data, at, stop, end, is_last, none_before)
            if what < 0:
                break
        elif kind >= _ROOT_TAG:
            stop = tag_end(data, stop, end, is_last)
            if stop == -2:
                break
            if stop > 0:
                what = ROOT if kind == _ROOT_TAG else ROOT_END if kind == _ROOT_END_TAG else OTHER_MARKUP
                what = DOCUMENT_END if kind == _END_TAG else what
        elif not is_open and (kind in (_COMMENT, _INSTRUCTION)):
            limit = min(end, at + LONGEST_RECORD_OCTETS)
            stop = _closing(data, stop, limit, kind, none_before)
            if stop < 0 and not is_last and end < at + LONGEST_RECORD_OCTETS:
                break
            if stop > 0:
                what = OTHER_MARKUP
        if what >= 0:
            starts[found], ends[found], kinds[found] = at, stop, what
            found += 1
            at = stop
            is_open = what == TOO_LONG
            if what == DECLARATION:
                break
            continue
        place, is_boundary = at + 1, False
        while place < end:
            if data[place] == _LESS:
                next_kind, _ = _markup(data, place, end)
                if next_kind >= _RECORD_TAG or (next_kind == _CUT and not is_last):
                    is_boundary = next_kind != _CUT
                    break
            place += 1
        starts[found], ends[found], kinds[found] = at, place, MORE_OF_NO_RECORD if is_open else NO_RECORD
        found += 1
        at = place
        is_open = not is_boundary
    return found, at, spaces, is_open


# Elements of a record


def name_table(places: Mapping[str, int]) -> tuple[npt.NDArray[np.int32], Octets]:
    """A table of names by hash: begin and length in the octets that are returned too, and place; no place is -1."""
    size = 16
    while size < 4 * len(places):
        size *= 2
    table = np.full((size, 3), -1, np.int32)
    octets = b""
    for name, place in places.items():
        text = name.encode()
        slot = 0
        for octet in text:
            slot = (slot * 31 + octet) & 0xFFFFFFFF
        slot &= size - 1
        while table[slot, 2] >= 0:
            slot = (slot + 1) & (size - 1)
        table[slot] = len(octets), len(text), place
        octets += text
    return table, np.frombuffer(octets + b"\0", np.uint8)


@_compiled
def _lower(octet: int) -> int:
    return octet + 32 if octet >= 65 and octet <= 90 else octet


@_compiled
def _place_of(data: Octets, at: int, length: int, code: int, table: npt.NDArray[np.int32], names: Octets) -> int:
    """The place of an element by its local name; -1 if it is not asked for."""
    slot = code & (len(table) - 1)
    while table[slot, 2] >= 0:
        if table[slot, 1] == length:
            nth = 0
            while nth < length and _lower(data[at + nth]) == names[table[slot, 0] + nth]:
                nth += 1
            if nth == length:
                return table[slot, 2]
        slot = (slot + 1) & (len(table) - 1)
    return -1


@_compiled
def _utf_8_end(data: Octets, at: int) -> int:
    """Where a character of more than one octet ends in UTF-8; -1 if it is none, or none that XML has."""
    first, second, third, fourth = data[at], data[at + 1], data[at + 2], data[at + 3]
    if second & 0xC0 != 0x80 or first < 0xC2:
        return -1
    if first < 0xE0:
        return at + 2
    if third & 0xC0 != 0x80:
        return -1
    if first < 0xF0:
        if (first == 0xE0 and second < 0xA0) or (first == 0xED and second >= 0xA0):
            return -1
        return -1 if first == 0xEF and second == 0xBF and third >= 0xBE else at + 3
    if fourth & 0xC0 != 0x80 or first > 0xF4 or (first == 0xF0 and second < 0x90) or (first == 0xF4 and second >= 0x90):
        return -1
    return at + 4


@_compiled
def _is_first_of_name(octet: int) -> bool:
    return ((octet | 0x20) >= 97 and (octet | 0x20) <= 122) or octet == 95


@_compiled
def _attributes_end(data: Octets, at: int, end: int) -> int:
    """Where a start tag with plain attributes ends, from behind its name on; -1 if there is anything unusual about it."""
    begins, lengths = np.empty(_MOST_ATTRIBUTES, np.int64), np.empty(_MOST_ATTRIBUTES, np.int64)
    count = 0
    while True:
        has_space = False
        while at < end and _is_space(data[at]):
            has_space = True
            at += 1
        if at >= end:
            return -1
        if data[at] == _GREATER:
            return at + 1
        if not has_space or count == _MOST_ATTRIBUTES or not _is_first_of_name(data[at]):
            return -1
        begin = at
        while at < end and _IS_NAME[data[at]] and data[at] < 0x80:
            at += 1
        begins[count], lengths[count] = begin, at - begin
        if lengths[count] > LONGEST_NAME_OCTETS or (_lower(data[at - 1]) == _NIL and _lower(data[at - 2]) == _NIL - 3):
            return -1
        for other in range(count):
            if lengths[other] == lengths[count]:
                nth = 0
                while nth < lengths[count] and data[begins[other] + nth] == data[begin + nth]:
                    nth += 1
                if nth == lengths[count]:
                    return -1
        count += 1
        if at + 1 >= end or data[at] != _EQUALS:
            return -1
        quote = data[at + 1]
        if quote != _QUOTE and quote != _APOSTROPHE:
            return -1
        at += 2
        while at < end and data[at] != quote:
            if data[at] == _LESS or data[at] == _AMPERSAND or data[at] < 32 or data[at] >= 0x80:
                return -1
            at += 1
        if at >= end:
            return -1
        at += 1


@_compiled
def _reference_end(data: Octets, at: int) -> int:
    """Where a reference to one of the five predefined entities ends, from behind its ``&`` on; -1 if it is another."""
    for which in range(len(_REFERENCES)):
        nth = 0
        while nth < 5 and _REFERENCES[which, nth] != 0 and data[at + nth] == _REFERENCES[which, nth]:
            nth += 1
        if nth == 5 or _REFERENCES[which, nth] == 0:
            return at + nth
    return -1


@_compiled
def _text_end(data: Octets, at: int, end: int, is_latin: bool) -> int:
    """Where a plain text ends, at a ``<``; -1 if it has a control character, octets that are none, or an unusual reference."""
    while at < end:
        kind = _CLASS[data[at]]
        if kind in (_PLAIN_TEXT, _IS_RETURN):
            at += 1
        elif kind == _END_OF_TEXT:
            return at
        elif kind == _HIGH:
            at = at + 1 if is_latin else _utf_8_end(data, at)
            if at < 0:
                return -1
        elif kind == _IS_BRACKET:
            if data[at + 1] == _CLOSING_BRACKET:
                return -1
            at += 1
        elif kind == _IS_REFERENCE:
            at = _reference_end(data, at + 1)
            if at < 0:
                return -1
        else:
            return -1
    return -1


@_compiled
def _is_plain(
    data: Octets, start: int, end: int, is_latin: bool, table: npt.NDArray[np.int32], names: Octets, spans: Spans
) -> bool:
    """Fill the spans of one record; whether it is so plain that they are sure."""
    at = start + 1
    if not _is_first_of_name(data[at]):
        return False
    while data[at] < 0x80 and _IS_NAME[data[at]]:
        at += 1
    root = at - start - 1
    at = _attributes_end(data, at, end)
    if at < 0:
        return False
    while True:
        while at < end and _is_space(data[at]):
            at += 1
        if at + 1 >= end or data[at] != _LESS:
            return False
        if data[at + 1] == _SLASH:
            for nth in range(root):
                if data[at + 2 + nth] != data[start + 1 + nth]:
                    return False
            return at + 2 + root + 1 == end and data[end - 1] == _GREATER
        at += 1
        name = local = at
        if not _is_first_of_name(data[at]):
            return False
        code = 0
        while True:
            octet = data[at]
            if octet >= 0x80 or not _IS_NAME[octet]:
                break
            if octet == _COLON:
                local, code = at + 1, 0
            else:
                code = (code * 31 + _lower(octet)) & 0xFFFFFFFF
            at += 1
        length = at - name
        if length > LONGEST_NAME_OCTETS:
            return False
        begin = stop = at
        if data[at] == _SLASH and data[at + 1] == _GREATER:
            at += 2
        else:
            begin = at + 1 if data[at] == _GREATER else _attributes_end(data, at, end)
            if begin < 0:
                return False
            stop = _text_end(data, begin, end, is_latin)
            if stop < 0 or data[stop + 1] != _SLASH:
                return False
            at = stop + 2
            for nth in range(length):
                if data[at + nth] != data[name + nth]:
                    return False
            at += length
            if data[at] != _GREATER:
                return False
            at += 1
        if at > end:
            return False
        place = _place_of(data, local, name + length - local, code, table, names)
        if place < 0:
            continue
        while begin < stop and _is_space(data[begin]):
            begin += 1
        while begin < stop and _is_space(data[stop - 1]):
            stop -= 1
        for inner in range(begin, stop):
            if data[inner] == _RETURN:
                return False
        if spans[place, 1] >= 0:
            return False
        spans[place, 0], spans[place, 1] = begin, stop - begin


@_compiled
def walk_records(
    data: Octets,
    starts: Integers,
    ends: Integers,
    is_latin: bool,
    table: npt.NDArray[np.int32],
    names: Octets,
    spans: npt.NDArray[np.int32],
    is_sure: npt.NDArray[np.bool_],
) -> None:
    """Fill the spans (begin, length; -1 where there is none) of the elements of records, by place; and which rows are sure."""
    for row in range(len(starts)):
        spans[row] = -1
        is_sure[row] = _is_plain(data, starts[row], ends[row], is_latin, table, names, spans[row])
        if not is_sure[row]:
            spans[row] = -1
