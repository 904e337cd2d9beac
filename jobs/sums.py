"""Sums of a month's intervals per identifier, by Arrow and NumPy in the tasks.

Each task adds up what it reads, and hands its sums on in pieces by the beginning of the identifier, many sums as one value of a
row; a second task adds up the sums of a piece. Identifiers are ordered, not looked up: a table of millions of them is not in a
processor's cache, and each look waits for memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.intervals import Intervals
from jobs.meter import Month

Integers = npt.NDArray[np.int64]

_TEXTS = ("identifier_type", "source", "access_technology", "roaming_zone")
"""What sums are told apart by beside identifier and holder; few different ones, which are numbered."""
_USAGE = pa.schema(
    [
        *[(name, pa.string()) for name in _TEXTS],
        ("identifier_key", pa.binary()),
        ("held_at", pa.timestamp("us", "UTC")),
        *[(name, pa.int64()) for name in ("octets_up", "octets_down", "intervals")],
        ("is_estimated", pa.bool_()),
    ]
)
_SUM = np.dtype(
    [
        *[("key", np.uint64), ("rest", np.uint64), ("texts", np.int32), ("held_at", np.int64)],
        *[("octets_up", np.int64), ("octets_down", np.int64), ("intervals", np.int64), ("is_estimated", np.bool_)],
    ]
)
"""A sum as it travels: the two halves of the identifier, numbers of its texts, the instant in microseconds, and what is added."""
_PIECES = pa.schema([("piece", pa.int32()), ("texts", pa.string()), ("sums", pa.binary())])
_PIECE_BITS = 6
"""Pieces are 64, however large the month is: of 10 million identifiers each has as many sums as a task reads."""
_TOGETHER_ROWS = 1 << 20
"""Rows that are put in order at once."""
_HANDED_ON_ROWS = 1 << 16
_MIXING = tuple(np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F))
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the session's zone is UTC


def by_identifier(intervals: Intervals, assignments: DataFrame, month: Month) -> DataFrame:
    """Add up intervals per identifier before anyone asks whose they are: apart only where a holder begins or ends.

    Nearly every identifier has one holder all month, so this leaves a few rows of each to be joined with the assignments.

    Args:
        intervals: those of the month that count; none closed before it began.
        assignments: rows of ``subscriptions``.
        month: the month.

    Returns:
        Sums per identifier, source, access technology, roaming zone and ``held_at``: an instant at which the identifier had the
        holder that it had when each of the intervals closed.

    Raises:
        OverflowError: a sum might not fit into 64 bits.
    """
    changes = _changes(assignments, month)

    def added(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = _Sums()
        for rows in batches:
            sums.add(_of_intervals(rows, changes, sums))
        yield sums.pieces()

    def together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = _Sums()
        for piece in (row for rows in batches for row in rows.to_pylist()):
            found = np.frombuffer(piece["sums"], _SUM).copy()
            numbers = np.array([sums.number(tuple(texts)) for texts in json.loads(piece["texts"])], np.int32)
            found["texts"] = numbers[found["texts"]]
            sums.add(found)
        yield from sums.rows()

    pieces = intervals.mapped(added, _PIECES).repartitionById(1 << _PIECE_BITS, "piece")
    return pieces.mapInArrow(together, from_arrow_schema(_USAGE))


@dataclass(frozen=True)
class _Changes:
    """When identifiers change hands within a month, which begins and ends at these microseconds.

    By the beginning of the identifier: two with the same one share the changes of both. Their usage is added up in more terms
    than it need be, and counts once all the same.

    Args:
        begin: of the month.
        end: of the month.
        keys: beginnings of identifiers; sorted, each once.
        instants: when any of them changes hands; sorted, each once.
        changes: place of a key times one more than there are instants, plus the number of an instant from 1; sorted.
    """

    begin: int
    end: int
    keys: npt.NDArray[np.uint64]
    instants: Integers
    changes: Integers

    @classmethod
    def of(cls, month: Month, keys: npt.NDArray[np.uint64], instants: Integers) -> _Changes:
        """A key and an instant for each change."""
        distinct_keys, places = np.unique(keys, return_inverse=True)
        distinct_instants, numbers = np.unique(instants, return_inverse=True)
        changes = np.unique(places * (len(distinct_instants) + 1) + numbers + 1)
        return cls(_microseconds(month.begin), _microseconds(month.end), distinct_keys, distinct_instants, changes)

    def held_at(self, keys: npt.NDArray[np.uint64], closed: Integers) -> Integers:
        """An instant since when each identifier has had the holder of its close.

        What closes after the month, having begun in it, stands for itself.
        """
        held = np.where(closed < self.end, self.begin, closed)
        if not len(self.keys):
            return held
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        changing = np.flatnonzero((self.keys[places] == keys) & (closed < self.end))
        width = len(self.instants) + 1
        passed = places[changing] * width + np.searchsorted(self.instants, closed[changing], side="right")
        last = self.changes[np.searchsorted(self.changes, passed, side="right") - 1]
        has_changed = (last <= passed) & (last // width == places[changing])
        held[changing[has_changed]] = self.instants[last[has_changed] % width - 1]
        return held


def _changes(assignments: DataFrame, month: Month) -> _Changes:
    ends = F.explode(F.array("assigned_from", "assigned_to")).alias("changed_at")
    is_inside = (F.col("changed_at") > F.lit(month.begin)) & (F.col("changed_at") < F.lit(month.end))
    found = assignments.select("identifier_key", ends).where(is_inside).distinct().toArrow()
    keys, _ = _halves(found["identifier_key"].combine_chunks())
    return _Changes.of(month, keys, found["changed_at"].cast(pa.int64()).to_numpy())


def _microseconds(instant: datetime) -> int:
    return (instant.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1)


def _halves(identifiers: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The first and the last eight octets of pseudonyms, each as one number."""
    fixed = identifiers.cast(pa.binary(16))
    octets = fixed.buffers()[1] if len(fixed) else b""
    words = np.frombuffer(octets, ">u8")[fixed.offset * 2 :][: len(fixed) * 2].astype(np.uint64)
    return words[::2], words[1::2]


def _of_intervals(rows: pa.RecordBatch, changes: _Changes, sums: _Sums) -> npt.NDArray[Any]:
    """Each interval as a sum of its own."""
    found = np.empty(len(rows), _SUM)
    found["key"], found["rest"] = _halves(rows["identifier_key"])
    found["texts"] = sums.numbers([rows[name] for name in _TEXTS])
    found["held_at"] = changes.held_at(found["key"], rows["closed_at"].cast(pa.int64()).to_numpy())
    for name in ("octets_up", "octets_down"):
        found[name] = rows[name].to_numpy()
    found["intervals"] = rows["month_part"].to_numpy() <= 1
    found["is_estimated"] = rows["is_estimated"].to_numpy(zero_copy_only=False)
    return found


@dataclass
class _Sums:
    """Sums as they come: what has come is added up whenever it is much, and at the end."""

    _held: list[npt.NDArray[Any]] = field(default_factory=list)
    _rows: int = 0
    _added: int = 0
    """Rows of the sums that were added up last, which are the first held."""
    _texts: dict[tuple[str | None, ...], int] = field(default_factory=dict)

    def number(self, texts: tuple[str | None, ...]) -> int:
        """The number of some texts, in the order in which they came."""
        return self._texts.setdefault(texts, len(self._texts))

    def numbers(self, columns: Sequence[pa.Array]) -> npt.NDArray[np.int32]:
        """The number of each row's texts."""
        encoded = [c if pa.types.is_dictionary(c.type) else pc.dictionary_encode(c) for c in columns]
        sizes = [len(column.dictionary) + 1 for column in encoded]  # one more for null
        codes = np.zeros(len(columns[0]), np.int64)
        for column, size in zip(encoded, sizes, strict=True):
            codes = codes * size + pc.fill_null(column.indices.cast(pa.int64()), size - 1).to_numpy()
        there = np.unique(codes)
        values = [[*column.dictionary.to_pylist(), None] for column in encoded]
        numbers = [
            self.number(tuple(of[at] for of, at in zip(values, np.unravel_index(code, sizes), strict=True))) for code in there
        ]
        found: npt.NDArray[np.int32] = np.array(numbers, np.int32)[np.searchsorted(there, codes)]
        return found

    def add(self, sums: npt.NDArray[Any]) -> None:
        """Take in sums."""
        self._held.append(sums)
        self._rows += len(sums)
        if self._rows > max(_TOGETHER_ROWS, 2 * self._added):
            self._add_up()

    def _add_up(self) -> npt.NDArray[Any]:
        together = _added_up(np.concatenate([np.zeros(0, _SUM), *self._held]))
        self._held, self._rows, self._added = [together], len(together), len(together)
        return together

    def pieces(self) -> pa.RecordBatch:
        """The sums in a row for each piece that there is."""
        sums, texts = self._add_up(), json.dumps(list(self._texts))
        of = (sums["key"] >> np.uint64(64 - _PIECE_BITS)).astype(np.int32)
        numbers, first = np.unique(of, return_index=True)
        parts = np.split(sums, first[1:])
        found = [{"piece": n, "texts": texts, "sums": part.tobytes()} for n, part in zip(numbers.tolist(), parts, strict=True)]
        return pa.RecordBatch.from_pylist(found, _PIECES)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The sums in columns, some at a time."""
        sums, texts = self._add_up(), list(self._texts)
        for begin in range(0, len(sums), _HANDED_ON_ROWS):
            some = sums[begin : begin + _HANDED_ON_ROWS]
            identifiers = np.column_stack([some["key"], some["rest"]]).astype(">u8").tobytes()
            columns: Mapping[str, pa.Array] = {
                "identifier_key": pa.Array.from_buffers(pa.binary(16), len(some), [None, pa.py_buffer(identifiers)]),
                "held_at": pa.array(some["held_at"]).cast(pa.timestamp("us", "UTC")),
                **{
                    name: pa.array([of[at] for of in texts], pa.string()).take(pa.array(some["texts"]))
                    for at, name in enumerate(_TEXTS)
                },
                **{name: pa.array(some[name]) for name in ("octets_up", "octets_down", "intervals", "is_estimated")},
            }
            yield pa.RecordBatch.from_arrays([columns[field.name].cast(field.type) for field in _USAGE], schema=_USAGE)


def _added_up(sums: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums of the same identifier, texts and instant as one; in the order of the identifiers' first octets."""
    if not len(sums):
        return sums
    keys, texts, held_at = sums["key"], sums["texts"].astype(np.uint64), sums["held_at"].astype(np.uint64)
    # Numbers are put in order several times faster than rows. The octets that choose a piece stay as they are.
    mixed = keys ^ (((sums["rest"] ^ texts * _MIXING[0]) ^ held_at * _MIXING[1]) >> np.uint64(16))
    order = np.argsort(mixed)
    ordered = sums[order]
    begins = np.ones(len(sums), bool)
    begins[1:] = ~_is_same(ordered[1:], ordered[:-1])
    if not np.array_equal(begins[1:], mixed[order][1:] != mixed[order][:-1]):  # a coincidence: rows decide
        ordered = sums[np.lexsort([sums[name] for name in ("held_at", "texts", "rest", "key")])]
        begins[1:] = ~_is_same(ordered[1:], ordered[:-1])
    first = np.flatnonzero(begins)
    found = ordered[first]
    longest = int(np.diff(np.append(first, len(sums))).max())
    for name in ("octets_up", "octets_down", "intervals"):
        if int(ordered[name].max()) * longest >= 1 << 63:
            raise OverflowError(f"{name} of an identifier might not fit into 64 bits")
        found[name] = np.add.reduceat(ordered[name], first)
    found["is_estimated"] = np.logical_or.reduceat(ordered["is_estimated"], first)
    return found


def _is_same(some: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    same = np.ones(len(some), bool)
    for name in ("key", "rest", "texts", "held_at"):
        same &= some[name] == others[name]
    return same
