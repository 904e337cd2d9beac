"""The walk over IPDR/XDR records, compiled: from an element to the next, by the descriptors read so far."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from jobs.readers.window import Octets, Spans

Integers = npt.NDArray[np.int64]

LONGEST_RECORD_OCTETS = 1 << 20
DESCRIPTOR, RECORD, DOCUMENT_END = 1, 2, 3
VARIABLE = -1
"""The size of a value that has its length in front."""

# Why a walk ended.
FULL, CUT, OTHER_ELEMENT, ELEMENT_UNKNOWN, DESCRIPTOR_UNKNOWN, TYPE_UNKNOWN, MARKER_MISSING, LENGTH_IMPOSSIBLE = range(8)
FAULTS = (None, "truncated", None, "element_unknown", "descriptor_unknown", "type_unknown", "marker_missing", "length_impossible")

_compiled: Any = numba.njit(cache=True, nogil=True)


@_compiled
def _unsigned(data: Octets, at: int) -> int:
    value = 0
    for place in range(at, at + 4):
        value = (value << 8) | data[place]
    return value


@_compiled
def walk_records(
    data: Octets,
    at: int,
    end: int,
    has_marker: bool,
    ids: Integers,
    counts: Integers,
    sizes: Integers,
    places: Integers,
    starts: Integers,
    ends: Integers,
    descriptors: Integers,
    spans: npt.NDArray[np.int32],
) -> tuple[int, int, int]:
    """Walk records that follow each other from a boundary on, as many as there is room for.

    Args:
        data: the window.
        at: where to begin.
        end: where the window ends.
        has_marker: the values of a record come behind 0xFFFFFFFF.
        ids: descriptors' ids.
        counts: how many attributes each has; -1 if one is of a type that is not known.
        sizes: octets of each attribute, or VARIABLE.
        places: the place of each attribute in a row, or -1.
        starts: is filled with where records begin.
        ends: is filled with where they end.
        descriptors: is filled with the descriptor of each, by its position.
        spans: is filled with begin and length of values by place; the length is -1 where the record has none.

    Returns:
        How many were walked, where the walk ended, and why.
    """
    row = 0
    while row < len(starts):
        if at + 4 > end:
            return row, at, CUT
        kind = _unsigned(data, at)
        if kind in (DESCRIPTOR, DOCUMENT_END):
            return row, at, OTHER_ELEMENT
        if kind != RECORD:
            return row, at, ELEMENT_UNKNOWN
        if at + 8 > end:
            return row, at, CUT
        number, which = _unsigned(data, at + 4), 0
        while which < len(ids) and ids[which] != number:
            which += 1
        if which == len(ids):
            return row, at, DESCRIPTOR_UNKNOWN
        if counts[which] < 0:
            return row, at, TYPE_UNKNOWN
        place = at + 8
        if has_marker:
            if place + 4 > end:
                return row, at, CUT
            if _unsigned(data, place) != 0xFFFFFFFF:
                return row, at, MARKER_MISSING
            place += 4
        spans[row] = -1
        for attribute in range(counts[which]):
            size = sizes[which, attribute]
            if size == VARIABLE:
                if place + 4 > end:
                    return row, at, CUT
                size = _unsigned(data, place)
                place += 4
            if place + size - at > LONGEST_RECORD_OCTETS:
                return row, at, LENGTH_IMPOSSIBLE
            if place + size > end:
                return row, at, CUT
            if places[which, attribute] >= 0:
                spans[row, places[which, attribute], 0], spans[row, places[which, attribute], 1] = place, size
            place += size
        starts[row], ends[row], descriptors[row] = at, place, which
        row += 1
        at = place
    return row, at, FULL


@_compiled
def hexadecimal(data: Octets, spans: Spans, offsets: npt.NDArray[np.int32], out: Octets) -> None:
    """Write octets of spans as hexadecimal digits, a text each; a missing one has no digits."""
    filled = 0
    for row in range(len(spans)):
        offsets[row] = filled
        for place in range(spans[row, 0], spans[row, 0] + max(0, spans[row, 1])):
            high, low = data[place] >> 4, data[place] & 15
            out[filled] = high + 48 if high < 10 else high + 87
            out[filled + 1] = low + 48 if low < 10 else low + 87
            filled += 2
    offsets[len(spans)] = filled
