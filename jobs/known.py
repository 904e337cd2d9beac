"""What a worker has worked out of short texts before: a table of places of one size, in memory that does not grow.

A dictionary of half a million texts takes 0.9 microseconds a look, nearly all of it waiting for memory: for the entry, the text
and what is known of it. Here the three lie beside each other.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Octets = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int32]

TEXT_OCTETS = 46
"""A longer text is not remembered. An IMSI has 15 digits, a line identifier perhaps twenty."""
KNOWN_OCTETS = 16
_PLACE_OCTETS = 64
"""A line of a processor's cache: a text, its length, its group, and what is known of it."""
_LENGTH, _GROUP, _KNOWN = TEXT_OCTETS, TEXT_OCTETS + 1, TEXT_OCTETS + 2
_MOST_GROUPS = 255

_compiled: Any = numba.njit(cache=True, nogil=True)


class Known:
    """Sixteen octets for each of many texts, which are of groups: a text of another group is another text.

    Up to three quarters of the places are taken; after that, no other text takes one.
    """

    def __init__(self, places: int, not_before: int = 0) -> None:
        """Make a table of so many places, a power of two, that takes texts when it was offered so many.

        To load compiled functions takes half a second, in which some 400,000 texts are hashed: a small month would lose by it.
        """
        self._places = np.zeros((places, _PLACE_OCTETS), np.uint8)
        self._room, self._not_before, self._offered = places * 3 // 4, not_before, 0
        self._groups: dict[Hashable, int] = {}

    def of(self, group: Hashable, texts: pa.BinaryArray) -> tuple[Octets, npt.NDArray[np.bool_]]:
        """What is known of each text, a row each, and of which something is."""
        found, is_known = np.zeros((len(texts), KNOWN_OCTETS), np.uint8), np.zeros(len(texts), np.bool_)
        if group in self._groups:
            _look_up(self._groups[group], *octets_and_offsets(texts), self._places, found, is_known)
        return found, is_known

    def remember(self, group: Hashable, texts: pa.BinaryArray, known: Octets) -> None:
        """Remember of different texts what is known of them, as far as there is room."""
        self._offered += len(texts)
        if self._offered > self._not_before and (group in self._groups or len(self._groups) < _MOST_GROUPS):
            number = self._groups.setdefault(group, len(self._groups) + 1)
            self._room -= _keep(number, *octets_and_offsets(texts), known, self._places, self._room)


def octets_and_offsets(texts: pa.BinaryArray | pa.StringArray) -> tuple[Octets, Offsets]:
    """The octets of texts, and where in them each begins and the last ends."""
    _, offsets, octets = texts.buffers()
    every = np.frombuffer(octets or b"", np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    for of in (every, bounds):
        of.flags.writeable = False  # whatever they were made of: for what can be written Numba compiles code of its own
    return every, bounds


@_compiled
def _place_of(group: int, octets: Octets, begin: int, end: int, places: Octets) -> np.int64:
    """The place of a text, or the free one where it would be put."""
    hashed = np.uint64(14695981039346656037) ^ np.uint64(group)
    for at in range(begin, end):  # FNV-1a
        hashed = (hashed ^ np.uint64(octets[at])) * np.uint64(1099511628211)
    last = len(places) - 1
    place = np.int64((hashed ^ (hashed >> np.uint64(32))) & np.uint64(last))
    while places[place, _GROUP] != 0:
        is_same = places[place, _GROUP] == group and places[place, _LENGTH] == end - begin
        at = 0
        while is_same and at < end - begin:
            is_same = places[place, at] == octets[begin + at]
            at += 1
        if is_same:
            break
        place = (place + 1) & last
    return place


@_compiled
def _look_up(
    group: int, octets: Octets, offsets: Offsets, places: Octets, found: Octets, is_known: npt.NDArray[np.bool_]
) -> None:
    for row in range(len(found)):
        begin, end = offsets[row], offsets[row + 1]
        if end - begin <= TEXT_OCTETS:
            place = _place_of(group, octets, begin, end, places)
            if places[place, _GROUP] != 0:
                is_known[row] = True
                for at in range(KNOWN_OCTETS):
                    found[row, at] = places[place, _KNOWN + at]


@_compiled
def _keep(group: int, octets: Octets, offsets: Offsets, known: Octets, places: Octets, room: int) -> int:
    """Put texts into places, as many as there is room for; give how many were."""
    kept = 0
    for row in range(len(known)):
        begin, end = offsets[row], offsets[row + 1]
        if end - begin > TEXT_OCTETS or kept == room:
            continue
        place = _place_of(group, octets, begin, end, places)
        kept += places[place, _GROUP] == 0
        places[place, _GROUP], places[place, _LENGTH] = group, end - begin
        for at in range(end - begin):
            places[place, at] = octets[begin + at]
        for at in range(KNOWN_OCTETS):
            places[place, _KNOWN + at] = known[row, at]
    return kept
