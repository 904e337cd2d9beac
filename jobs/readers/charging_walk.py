"""The walk over BER charging records, compiled: from octets to numbers and spans, and from one record boundary to the next.

Compiled with Numba, whose machine code is kept beside the module. Nothing is read outside the octets given; every length is
checked against what encloses it, every depth against DEEPEST, and a walk ends after as many steps as there are octets.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from jobs.readers.charging_tags import (
    CONTAINER,
    INTEGERS,
    KNOWN_TAGS,
    SPANS,
    TAGS,
    UNIVERSAL,
    Action,
    Context,
    action_table,
    context_table,
    form_table,
)

Octets = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

DEEPEST = 24
"""A charging record nests seven deep; what nests deeper is no charging record."""
LONGEST_RECORD_OCTETS = 1 << 17
"""A record in a TS 32.297 file has 65,535 octets at most; a raw one may be somewhat longer."""
MISSING = -1
"""A number that the record does not have. No number of a charging record is negative."""

SOUND, MALFORMED, TIME_MALFORMED, VOLUME_AMBIGUOUS, INTEGER_OVERFLOW = range(5)
FAULTS = (None, "ber_malformed", "time_malformed", "volume_sign_ambiguous", "integer_out_of_range")

ACTIONS, FORM_OF_TAG, CONTEXT_OF_FORM = action_table(), form_table(), context_table()
FORM_READ_OF_TAG = np.where(FORM_OF_TAG > 0, FORM_OF_TAG, -1).astype(np.int16)
_SKIP, _INTEGER, _VOLUME, _INSTANT, _SPAN, _ENTER, _CONTAINER = (int(action) for action in Action)
_SKIPPED, _UNIT_USAGE_LIST = int(Context.SKIPPED), int(Context.MULTIPLE_UNIT_USAGE)
_RECORD_INTEGERS, _CONTAINER_NUMBERS, _SPANS = len(INTEGERS), len(CONTAINER), len(SPANS)
_RATING_GROUP = CONTAINER.index("ratingGroup")
_TAGS, _UNIVERSAL = TAGS, UNIVERSAL
_LARGEST = np.iinfo(np.int64).max

# What a walk over one record says beside the numbers: fault, whether an instant had no offset, whether a sign was restored.
FAULT, NO_OFFSET, SIGN_RESTORED, FORM = range(4)
NOTES = ("fault", "no_offset", "sign_restored", "form")

RECORD, NO_RECORD, MORE_OF_NO_RECORD = range(3)

_compiled: Any = numba.njit(cache=True, nogil=True)


@_compiled
def tag_at(data: Octets, at: int, end: int) -> tuple[int, int, int]:
    """Class and form bits, number of a tag, and where its length begins; -1 instead if it is cut off or too long."""
    first = data[at]
    number = first & 0x1F
    at += 1
    if number == 0x1F:
        number = 0
        for _ in range(3):
            if at >= end:
                return 0, 0, -1
            octet = data[at]
            at += 1
            number = (number << 7) | (octet & 0x7F)
            if octet < 0x80:
                return first & 0xE0, number, at
        return 0, 0, -1
    return first & 0xE0, number, at


@_compiled
def length_at(data: Octets, at: int, end: int) -> tuple[int, int]:
    """Length and where the content begins; the length is -1 if it is indefinite, -2 if it cannot be."""
    if at >= end:
        return -2, at
    first = data[at]
    at += 1
    if first < 0x80:
        return int(first), at
    if first == 0x80:
        return -1, at
    count = first & 0x7F
    if count > 8 or at + count > end:
        return -2, at
    length = 0
    for _ in range(count):
        if length > 0xFFFFFFFF:
            return -2, at
        length = (length << 8) | data[at]
        at += 1
    return length, at


@_compiled
def _unsigned(data: Octets, at: int, length: int) -> int:
    """An INTEGER that is meant without a sign; MISSING if it does not fit."""
    if length == 0:
        return MISSING
    if length > 8:
        for place in range(at, at + length - 8):
            if data[place] != 0:
                return MISSING
        at, length = at + length - 8, 8
    if length == 8 and data[at] >= 0x80:
        return _LARGEST
    value = 0
    for place in range(at, at + length):
        value = (value << 8) | data[place]
    return value


@_compiled
def _digits(octet: int) -> int:
    high, low = octet >> 4, octet & 0x0F
    return high * 10 + low if high < 10 and low < 10 else -1


@_compiled
def _instant(data: Octets, at: int, length: int) -> int:
    """Microseconds of a TimeStamp since 1970, UTC if it has its offset (9 octets), else as written (6); MISSING if it is none."""
    if length != 9 and length != 6:
        return MISSING
    year, month, day = _digits(data[at]), _digits(data[at + 1]), _digits(data[at + 2])
    hour, minute, second = _digits(data[at + 3]), _digits(data[at + 4]), _digits(data[at + 5])
    if year < 0 or month < 1 or month > 12 or day < 1 or day > 31:
        return MISSING
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return MISSING
    leap = year % 4 == 0
    if (month == 2 and day > 28 + leap) or (day == 31 and (month == 4 or month == 6 or month == 9 or month == 11)):
        return MISSING
    # Days from 1970 to a civil date, of the years 2000 to 2099.
    shifted_year = 2000 + year - (month <= 2)
    era = shifted_year // 400
    year_of_era = shifted_year - era * 400
    shifted_month = month - 3 if month > 2 else month + 9
    day_of_year = (153 * shifted_month + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    seconds = days * 86400 + hour * 3600 + minute * 60 + second
    if length == 9:
        sign, hours, minutes = data[at + 6], _digits(data[at + 7]), _digits(data[at + 8])
        if (sign != 0x2B and sign != 0x2D) or hours < 0 or hours > 14:
            return MISSING
        if minutes != 0 and minutes != 15 and minutes != 30 and minutes != 45:
            return MISSING
        offset = hours * 3600 + minutes * 60
        seconds += offset if sign == 0x2D else -offset
    return seconds * 1_000_000


@_compiled
def _limit(levels: Integers, depth: int, end: int) -> int:
    """Where the innermost enclosing element of a definite length ends."""
    for level in range(depth, -1, -1):
        if levels[level] != MISSING:
            return levels[level]
    return end


@_compiled
def _walk(
    data: Octets,
    start: int,
    end: int,
    actions: npt.NDArray[np.int16],
    forms: npt.NDArray[np.int16],
    contexts: npt.NDArray[np.int16],
    numbers: Integers,
    spans: npt.NDArray[np.int32],
    notes: Integers,
    containers: Integers,
    container_of: Integers,
    row: int,
    filled: int,
) -> tuple[int, int]:
    """Walk one record into its row; return where it ends (-1 if it is malformed) and how many containers are filled.

    The fault of the row is set; a record that needs more containers than there is room for ends at -2.
    """
    levels = np.empty(DEEPEST, np.int64)  # where each level ends; MISSING if an end-of-contents says so
    places = np.empty(DEEPEST, np.int16)
    depth = -1
    at, limit = start, end
    container, unit_usage_from, rating_group = -1, filled, MISSING
    while True:
        while depth >= 0 and levels[depth] == at:
            depth -= 1
        if depth < 0 and at > start:
            return at, filled
        limit = _limit(levels, depth, end)
        if at >= limit:
            return -1, filled
        if depth >= 0 and levels[depth] == MISSING and data[at] == 0:
            if at + 1 >= limit or data[at + 1] != 0:
                return -1, filled
            depth -= 1
            at += 2
            continue
        bits, number, after = tag_at(data, at, limit)
        if after < 0:
            return -1, filled
        length, content = length_at(data, after, limit)
        if length == -2 or (length == -1 and not bits & 0x20) or content + length > limit:
            return -1, filled
        is_constructed = bits & 0x20 != 0
        action, argument, kind = _SKIP, 0, 0
        if depth < 0:
            form = forms[number] if bits == 0xA0 and number < _TAGS else -1
            if form < 0:
                return -1, filled
            notes[row, FORM] = form
            action, argument = _ENTER, contexts[form]
        else:
            place = number if bits & 0xC0 == 0x80 else (number + _UNIVERSAL if bits & 0xC0 == 0 else _TAGS)
            if place < _TAGS:
                action, argument, kind = (
                    actions[places[depth], place, 0],
                    actions[places[depth], place, 1],
                    actions[places[depth], place, 2],
                )
        if action in (_ENTER, _CONTAINER) or length == -1:
            if action in (_ENTER, _CONTAINER):
                if not is_constructed:
                    return -1, filled
            elif action != _SKIP:
                return -1, filled
            if depth + 1 >= DEEPEST:
                return -1, filled
            if action == _CONTAINER:
                if filled >= len(container_of):
                    return -2, filled
                container = filled
                containers[container, :] = MISSING
                containers[container, 0] = kind
                containers[container, _RATING_GROUP] = rating_group
                container_of[container] = row
                filled += 1
            elif action == _ENTER and argument == _UNIT_USAGE_LIST:
                unit_usage_from, rating_group = filled, MISSING
            depth += 1
            places[depth] = argument if action in (_ENTER, _CONTAINER) else _SKIPPED
            levels[depth] = MISSING if length == -1 else content + length
            at = content
            continue
        if action != _SKIP and is_constructed:
            return -1, filled
        if action == _SPAN:
            spans[row, argument, 0], spans[row, argument, 1] = content, length
        elif action != _SKIP:
            if action == _INSTANT:
                value = _instant(data, content, length)
                if value == MISSING:
                    notes[row, FAULT] = TIME_MALFORMED
                elif length == 6:
                    notes[row, NO_OFFSET] = 1
            else:
                value = _unsigned(data, content, length)
                if value == MISSING:
                    notes[row, FAULT] = INTEGER_OVERFLOW
                elif action == _VOLUME and data[content] >= 0x80:
                    # A counter of 4 or 8 octets whose leading zero was left out; shorter, nobody can tell what was meant.
                    if length != 4 and length != 8:
                        notes[row, FAULT] = VOLUME_AMBIGUOUS
                    else:
                        notes[row, SIGN_RESTORED] = 1
            if argument < _RECORD_INTEGERS:
                numbers[row, argument] = value
            elif argument - _RECORD_INTEGERS == _RATING_GROUP and places[depth] == _UNIT_USAGE_LIST:
                rating_group = value
                for earlier in range(unit_usage_from, filled):
                    containers[earlier, _RATING_GROUP] = value
            elif container >= 0:
                containers[container, argument - _RECORD_INTEGERS] = value
        at = content + length


@_compiled
def walk_records(
    data: Octets,
    starts: Integers,
    ends: Integers,
    actions: npt.NDArray[np.int16],
    forms: npt.NDArray[np.int16],
    contexts: npt.NDArray[np.int16],
    numbers: Integers,
    spans: npt.NDArray[np.int32],
    notes: Integers,
    containers: Integers,
    container_of: Integers,
) -> tuple[int, int]:
    """Walk records into their rows until the room for containers is used up; how many were walked, and containers filled."""
    filled = 0
    for row in range(len(starts)):
        notes[row, :] = 0
        numbers[row, :] = MISSING
        spans[row, :, :] = MISSING
        before = filled
        stop, filled = _walk(
            data, starts[row], ends[row], actions, forms, contexts, numbers, spans, notes, containers, container_of, row, filled
        )
        if stop == -2 and row > 0:
            return row, before
        if stop != ends[row]:
            notes[row, FAULT] = MALFORMED
            filled = before
    return len(starts), filled


@_compiled
def _skip_to_end(data: Octets, at: int, end: int, is_deep: bool) -> int:
    """Where the element at a place ends; -1 if it is malformed, -2 if it is cut off by the end.

    Contents of a definite length are stepped over, or looked into as well if ``is_deep``.
    """
    levels = np.empty(DEEPEST, np.int64)
    depth = -1
    start = at
    while True:
        while depth >= 0 and levels[depth] == at:
            depth -= 1
        if depth < 0 and at > start:
            return at
        limit = _limit(levels, depth, end)
        if at - start > LONGEST_RECORD_OCTETS:
            return -1
        if at >= limit:
            return -2 if limit == end else -1
        if depth >= 0 and levels[depth] == MISSING and data[at] == 0:
            if at + 1 >= limit:
                return -2 if limit == end else -1
            if data[at + 1] != 0:
                return -1
            depth -= 1
            at += 2
            continue
        bits, _, after = tag_at(data, at, limit)
        if after < 0:
            return -2 if limit == end and end - at < 5 else -1
        length, content = length_at(data, after, limit)
        if length == -2:
            return -2 if limit == end and end - at < 13 else -1
        if length == -1:
            if not bits & 0x20 or depth + 1 >= DEEPEST:
                return -1
            depth += 1
            levels[depth] = MISSING
            at = content
        elif content + length - start > LONGEST_RECORD_OCTETS:
            return -1
        elif content + length > limit:
            return -2 if limit == end else -1
        elif is_deep and bits & 0x20:
            if depth + 1 >= DEEPEST:
                return -1
            depth += 1
            levels[depth] = content + length
            at = content
        else:
            at = content + length


@_compiled
def record_end(data: Octets, at: int, end: int, forms: npt.NDArray[np.int16], is_deep: bool) -> int:
    """Where the record that begins at a place ends; -1 if none begins there, -2 if it goes on beyond the end."""
    if at >= end:
        return -2
    if data[at] & 0xE0 != 0xA0:
        return -1
    _, number, after = tag_at(data, at, end)
    if after < 0:
        return -2 if end - at < 4 else -1
    if number >= _TAGS or forms[number] < 0:
        return -1
    return _skip_to_end(data, at, end, is_deep)


@_compiled
def framed_end(data: Octets, at: int, end: int, forms: npt.NDArray[np.int16]) -> tuple[int, int]:
    """Begin and end of the record behind a CDR header (TS 32.297); the end is -1 if none is there, -2 if it is cut off."""
    if end - at < 5:
        return at, -2
    length = (int(data[at]) << 8) | data[at + 1]
    body = at + (5 if data[at + 2] >> 5 == 7 else 4)
    if data[at + 3] >> 5 != 1 or length < 2:
        return at, -1
    if body + length > end:
        # Not before its first octets say that it is a record at all, and of no other length.
        if body + 4 <= end and record_end(data, body, end, forms, False) != -2:
            return at, -1
        return body, -2
    stop = record_end(data, body, body + length, forms, False)
    return body, body + length if stop == body + length else -1


@_compiled
def _padding(data: Octets, at: int, end: int, is_last: bool, is_framed: bool, forms: npt.NDArray[np.int16]) -> int:
    """Octets of padding from a boundary on: a run of 0x00 or 0xFF, which no record begins with."""
    octet = data[at]
    run = at
    while run < end and data[run] == octet:
        run += 1
    if not is_framed:
        return run - at
    # A CDR header may begin with one such octet, that of its length.
    if run == end:
        return run - at if is_last else max(0, run - at - 1)
    before = framed_end(data, run - 1, end, forms)[1]
    may_be_header = before >= 0 or (before == -2 and not is_last)
    if may_be_header and framed_end(data, run, end, forms)[1] < 0:
        run -= 1
    return run - at


@_compiled
def frame_records(
    data: Octets,
    at: int,
    end: int,
    is_last: bool,
    is_framed: bool,
    is_open: bool,
    forms: npt.NDArray[np.int16],
    forms_read: npt.NDArray[np.int16],
    starts: Integers,
    ends: Integers,
    kinds: Integers,
) -> tuple[int, int, int, int, bool]:
    """Find records from a boundary on, in a window of a file.

    Octets that are no record are quarantined up to the next place where a record that is read begins.

    Args:
        data: the window.
        at: where to begin.
        end: where the window ends.
        is_last: the file ends with the window.
        is_framed: each record has a CDR header (TS 32.297), else records follow each other.
        is_open: octets that are no record go on from the window before.
        forms: ``FORM_OF_TAG``.
        forms_read: the same, -1 for records that are not read.
        starts: is filled with where records begin, or octets that are none.
        ends: is filled with where they end.
        kinds: is filled with RECORD, NO_RECORD, or MORE_OF_NO_RECORD where such octets go on from the window before.

    Returns:
        How many were found, where to go on, octets of padding, octets of CDR headers, whether octets that are no record go on.
    """
    found, padding, headers = 0, 0, 0
    while at < end and found < len(starts):
        if not is_open and (data[at] == 0x00 or data[at] == 0xFF):
            run = _padding(data, at, end, is_last, is_framed, forms)
            if run > 0:
                padding += run
                at += run
                continue
        body, stop = at, 0
        sought = forms_read if is_open else forms
        if is_framed:
            body, stop = framed_end(data, at, end, sought)
        else:
            stop = record_end(data, at, end, sought, True)
        if stop == -2 and not is_last:
            break
        if stop >= 0:
            starts[found], ends[found], kinds[found] = body, stop, RECORD
            headers += body - at
            found += 1
            at = stop
            is_open = False
            continue
        place = at + 1
        while place < end:
            stop = framed_end(data, place, end, forms_read)[1] if is_framed else record_end(data, place, end, forms_read, True)
            if stop >= 0 or (stop == -2 and not is_last):
                break
            place += 1
        starts[found], ends[found], kinds[found] = at, place, MORE_OF_NO_RECORD if is_open else NO_RECORD
        found += 1
        at = place
        is_open = stop < 0
    return found, at, padding, headers, is_open


@_compiled
def digits(data: Octets, spans: npt.NDArray[np.int32], skipped: int, offsets: npt.NDArray[np.int32], out: Octets) -> None:
    """Gather TBCD digits of spans, nibbles swapped, F filling up the last octet; what is no digit is written as ``?``."""
    filled = 0
    for row in range(len(spans)):
        offsets[row] = filled
        last = spans[row, 0] + max(0, spans[row, 1]) - 1
        for place in range(spans[row, 0] + skipped, last + 1):
            low, high = data[place] & 0x0F, data[place] >> 4
            out[filled] = 48 + low if low < 10 else 63
            filled += 1
            if high == 0x0F and place == last:
                break
            out[filled] = 48 + high if high < 10 else 63
            filled += 1
    offsets[len(spans)] = filled


assert max(KNOWN_TAGS) < TAGS
