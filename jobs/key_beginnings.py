"""Keys by their beginnings: which may stand twice is seen on a number for each row, before anything else is read.

Forty bits of each key, with the number of its row in the other twenty-four of one number, as sorted arrays: Spark moves them by
the thousand as one value. Keys that begin alike by coincidence are told apart later, by whoever reads their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.pseudonyms import PSEUDONYM, beginnings

_ROW_BITS = np.uint64(24)
"""Of the first eight octets of a key, as many bits give way to the number of its row."""
_ROW_MASK = (np.uint64(1) << _ROW_BITS) - np.uint64(1)
_KEPT_BITS = np.uint64(64) - _ROW_BITS
_LONGEST_SOUGHT_BITS, _MORE_BITS = 24, 6
"""Of keys that are sought as many bits are looked at first, at most; else so many more than tell them apart."""
_MANY_TIMES = 8
KEYS = pa.schema([("bucket", pa.int32()), ("data_file", pa.int32()), ("first_row", pa.int64()), ("keys", pa.binary())])
"""Numbers of a data file whose keys are in one bucket: rows count from the first."""
PLACES = pa.schema([("data_file", pa.int32()), ("row_index", pa.int64())])


class Met:
    """Record keys that a task has met, so that a record that comes again can be put into a file of its own.

    A network element that says something twice mostly does so soon after. Where second copies lie apart, they are removed without
    writing the records around them anew. Only where rows lie depends on it: coincidences do no harm.
    """

    def __init__(self) -> None:
        """Nothing is met yet."""
        self._beginnings: list[tuple[np.uint64, npt.NDArray[np.uint64]]] = []
        """Of the keys of each call, sorted, and how many of their 64 bits gave way to the number of a row."""

    def __call__(self, batches: Sequence[pa.RecordBatch]) -> npt.NDArray[np.bool_]:
        """Which rows begin as an earlier one of the task does, unless it stands right before: then they are of one record."""
        keys, rows = _beginnings(batch["record_key"] for batch in batches)
        count = sum(map(len, batches))
        row_bits = np.uint64(count.bit_length())
        row_mask = (np.uint64(1) << row_bits) - np.uint64(1)
        numbers = np.sort((keys & ~row_mask) | rows.astype(np.uint64))
        rows, keys = (numbers & row_mask).astype(np.int64), numbers >> row_bits
        is_same = np.zeros(len(keys), bool)
        is_same[1:] = keys[1:] == keys[:-1]
        begins = ~is_same
        begins[1:] |= rows[1:] != rows[:-1] + 1
        come_again = is_same & begins
        for bits, earlier in self._beginnings:
            shorter = max(bits, row_bits)
            come_again |= _is_among(keys >> (shorter - row_bits), earlier >> (shorter - bits))
        self._beginnings.append((row_bits, keys))
        found = np.zeros(count, bool)
        if come_again.any():
            runs = np.flatnonzero(begins)
            found[rows] = np.repeat(come_again[runs], np.diff(np.r_[runs, len(rows)]))
        return found


@dataclass(frozen=True)
class Sought:
    """Beginnings of some keys, to be found among many in no order. Sorted, each once."""

    keys: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, found: pa.Table) -> Sought:
        """Those of rows of KEYS."""
        numbers = [np.frombuffer(keys, np.uint64) >> _ROW_BITS for keys in found["keys"].to_pylist()]
        return cls(np.unique(np.concatenate([np.zeros(0, np.uint64), *numbers])))

    @classmethod
    def among(cls, keys: pa.ChunkedArray) -> Sought:
        """Those of some keys."""
        return cls(np.unique(beginnings(keys.drop_null().cast(PSEUDONYM).combine_chunks()) >> _ROW_BITS))

    def rows(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """Which rows have a key that begins so."""
        there, rows = _beginnings([column])
        return rows[self.places(there)]

    @cached_property
    def _first_bits(self) -> npt.NDArray[np.bool_]:
        """Whether any begins with these bits: most that are not sought are told by one look."""
        first_bits = np.zeros(1 << self._sought_bits, bool)
        first_bits[self.keys >> (_KEPT_BITS - np.uint64(self._sought_bits))] = True
        return first_bits

    @cached_property
    def _sought_bits(self) -> int:
        """Few keys are looked up in a table that fits into a processor's cache."""
        return min(len(self.keys).bit_length() + _MORE_BITS, _LONGEST_SOUGHT_BITS)

    def places(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Which of some keys, of 64 bits each, begin so."""
        some = np.flatnonzero(self._first_bits[keys >> np.uint64(64 - self._sought_bits)])
        return np.asarray(some[_looked_up(keys[some] >> _ROW_BITS, self.keys)], np.int64)


def bucketed(columns: Iterable[pa.Array], data_file: int, buckets: int, sought: Sought | None = None) -> pa.RecordBatch:
    """The keys of a data file, or those that are sought, sorted, in a row for each bucket of their values."""
    every, rows = _beginnings(columns)
    if sought is not None:
        chosen = sought.places(every)
        every, rows = every[chosen], rows[chosen]
    found = []
    for first_row in range(0, int(rows[-1]) + 1 if len(rows) else 0, 1 << int(_ROW_BITS)):
        some = slice(*np.searchsorted(rows, [first_row, first_row + (1 << int(_ROW_BITS))]))
        keys = np.sort((every[some] & ~_ROW_MASK) | (rows[some] - first_row).astype(np.uint64))
        ends = np.arange(1, buckets, dtype=np.uint64) << np.uint64(64 - (buckets - 1).bit_length())
        parts = np.split(keys, np.searchsorted(keys, ends))
        found += [(bucket, data_file, first_row, part.tobytes()) for bucket, part in enumerate(parts) if len(part)]
    columns = list(zip(*found, strict=True)) or [()] * len(KEYS)
    return pa.RecordBatch.from_arrays([pa.array(of, kind) for of, kind in zip(columns, KEYS.types, strict=True)], schema=KEYS)


def repeated_places(batches: Iterable[pa.RecordBatch], new_files: int) -> Iterator[pa.RecordBatch]:
    """Places of rows whose keys begin alike, if one of them is in a new file; of all keys of one bucket.

    Args:
        batches: rows of KEYS.
        new_files: data files with lower numbers are new, the others were there before.
    """
    parts = []
    for of in (row for rows in batches for row in rows.to_pylist()):
        numbers = np.frombuffer(of["keys"], np.uint64)
        parts.append((of["data_file"], of["first_row"], numbers & _ROW_MASK, numbers >> _ROW_BITS))
    new, before = ([keys for number, *_, keys in parts if (number < new_files) is there] for there in (True, False))
    sought = _repeated(new, before)
    for number, first_row, rows, keys in parts:
        found = rows[_is_among(keys, sought)].astype(np.int64) + first_row
        if len(found):
            data_files = pa.repeat(pa.scalar(number, pa.int32()), len(found))
            yield pa.RecordBatch.from_arrays([data_files, pa.array(found)], schema=PLACES)


def _beginnings(columns: Iterable[pa.Array]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The first octets of the keys that are there, each as one number, and the rows that they are in."""
    found, rows, first = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    for keys in columns:
        found.append(beginnings(keys.drop_null().cast(PSEUDONYM)))
        rows.append(first + np.flatnonzero(keys.is_valid().to_numpy(zero_copy_only=False)))
        first += len(keys)
    return np.concatenate(found), np.concatenate(rows)


def _repeated(new: Sequence[npt.NDArray[np.uint64]], before: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """Of new keys those that stand twice, or are among those before; sorted, each once."""
    keys = np.sort(np.concatenate([np.zeros(0, np.uint64), *new]))
    return np.unique(np.concatenate([keys[1:][keys[1:] == keys[:-1]], *[keys[_is_among(keys, old)] for old in before]]))


def _is_among(keys: npt.NDArray[np.uint64], some: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the keys are among some; both are sorted."""
    if not len(some):
        return np.zeros(len(keys), bool)
    if len(some) * _MANY_TIMES < len(keys):  # it is the few that are sought
        found = np.zeros(len(keys), bool)
        first, counts = np.searchsorted(keys, some), np.searchsorted(keys, some, side="right")
        counts -= first
        found[np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())] = True
        return found
    return _looked_up(keys, some)


def _looked_up(keys: npt.NDArray[np.uint64], some: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the keys, in any order, are among some sorted ones; without these there must be none to look up."""
    among: npt.NDArray[np.bool_] = some[np.minimum(np.searchsorted(some, keys), len(some) - 1)] == keys
    return among
