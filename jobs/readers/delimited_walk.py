"""Fields of delimited lines without quotes, compiled: only the columns that are wanted are looked at twice, and copied.

Checked against Arrow's reader of CSV, which stays the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.known import Octets, Offsets
from jobs.readers.block import Positions

_compiled: Any = numba.njit(cache=True, nogil=True)


def fields(
    octets: bytes, starts: Positions, lengths: Positions, delimiter: str, names: Sequence[str], wanted: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], pa.RecordBatch]:
    """Which lines have a field for each name, and of these lines the fields that are wanted, as text.

    Args:
        octets: the lines, UTF-8.
        starts: where each line begins.
        lengths: octets of each, without its end.
        delimiter: stands between fields; of one octet.
        names: of all fields.
        wanted: of those that are given.
    """
    every = np.frombuffer(octets, np.uint8)
    column_of = np.full(len(names), -1, np.int64)
    column_of[[names.index(name) for name in wanted]] = np.arange(len(wanted))
    begins, sizes = (np.zeros((len(wanted), len(starts)), np.int64) for _ in range(2))
    is_sound = np.zeros(len(starts), np.bool_)
    _find(every, starts, lengths, ord(delimiter), column_of, begins, sizes, is_sound)
    if not is_sound.all():
        # In the order of before, for which code is compiled.
        begins, sizes = (np.compress(is_sound, places, axis=1) for places in (begins, sizes))
    columns = [_texts(every, *of) for of in zip(begins, sizes, strict=True)]
    return is_sound, pa.RecordBatch.from_arrays(columns, list(wanted))


def _texts(octets: Octets, begins: Positions, sizes: Positions) -> pa.StringArray:
    offsets = np.zeros(len(begins) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    copied = np.empty(offsets[-1], np.uint8)
    _copy(octets, begins, offsets, copied)
    return pa.Array.from_buffers(pa.string(), len(begins), [None, pa.py_buffer(offsets), pa.py_buffer(copied)])


# Places are numbers without a sign: of others Numba asks each time whether they count from the end.
@_compiled
def _find(
    octets: Octets,
    starts: Positions,
    lengths: Positions,
    delimiter: int,
    column_of: Positions,
    begins: Positions,
    sizes: Positions,
    is_sound: npt.NDArray[np.bool_],
) -> None:
    fields, between, one = np.uint64(len(column_of)), np.uint8(delimiter), np.uint64(1)
    for line in range(len(starts)):
        at = begin = np.uint64(starts[line])
        end, field = begin + np.uint64(lengths[line]), np.uint64(0)
        while at <= end:
            if at == end or octets[at] == between:
                if field < fields and column_of[field] >= 0:
                    column = np.uint64(column_of[field])
                    begins[column, line] = begin
                    sizes[column, line] = at - begin
                field += one
                begin = at + one
            at += one
        is_sound[line] = field == fields


@_compiled
def _copy(octets: Octets, begins: Positions, offsets: Offsets, copied: Octets) -> None:
    for row in range(len(begins)):
        begin, to = np.uint64(begins[row]), np.uint64(offsets[row])
        for at in range(np.uint64(offsets[row + 1]) - to):
            copied[to + at] = octets[begin + at]
