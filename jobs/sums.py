"""Sums of a month's intervals per identifier, in the steps of metering.

Each step has DuckDB add up what it reads, and hands its sums on in pieces by the beginning of the identifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.legal_calendar import microseconds
from jobs.pieces import ENCODED, PIECES, in_pieces, of_schema
from jobs.pseudonyms import PSEUDONYM, beginnings
from jobs.steps import GROUP_ROWS, Steps, Streamed, asked
from jobs.table_rows import TableRows

Integers = npt.NDArray[np.int64]

OF_INTERVAL = (
    *("source", "identifier_type", "identifier_key", "closed_at", "octets_up", "octets_down"),
    *("access_technology", "roaming_zone", "month_part", "is_estimated"),
)
"""What is read of an interval of usage."""
USAGE = "usage"
"""Kind of the pieces that have sums."""
_TEXTS = ("identifier_type", "source", "access_technology", "roaming_zone")
"""What sums are told apart by beside identifier and holder; few different ones, which are numbered."""
INSTANT = pa.timestamp("us", "UTC")
AMOUNTS = [*((name, pa.int64()) for name in ("octets_up", "octets_down", "intervals")), ("is_estimated", pa.bool_())]
SUMS = pa.schema([("identifier_key", PSEUDONYM), ("held_at", INSTANT), *AMOUNTS, *((name, ENCODED) for name in _TEXTS)])
"""Sums per identifier, texts and ``held_at``: an instant at which the identifier had the holder of each interval's close."""
_INTERVAL = pa.schema([("identifier_key", PSEUDONYM), ("texts", pa.int32()), ("held_at", INSTANT), *AMOUNTS])
"""An interval as a sum of its own: its texts by a number."""
ADDED = ", ".join(
    [
        *(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in ("octets_up", "octets_down", "intervals")),
        "bool_or(is_estimated) AS is_estimated",
    ]
)
"""Amounts of rows together, as SQL."""
_ADDED_UP = f"SELECT identifier_key, texts, held_at, {ADDED} FROM rows GROUP BY ALL"
_TASKS_OF_PROCESSOR, _MOST_TASK_ROWS = 2, 1 << 23
_MOST_CHANGES = 1 << 22
"""Changes of holder that every task is told, in 64 MiB."""
_OTHER_BITS = np.uint64(44)
"""A key begins with the rest of its 64 bits: so many beginnings fit into a processor's cache."""
_CHANGES = pa.schema([("identifier_key", pa.binary()), ("changed_at", INSTANT)])


def by_identifier(intervals: TableRows, changes: Changes, pieces: int, is_little: bool, processors: int) -> Steps:
    """Add up intervals per identifier before anyone asks whose they are: apart only where a holder begins or ends.

    Nearly every identifier has one holder all month, so this leaves a few rows of each to be joined with the assignments.

    Args:
        intervals: those of the month that count, columns OF_INTERVAL; none closed before it began.
        changes: when identifiers change hands.
        pieces: how many pieces sums are handed on in.
        is_little: the driver does it.
        processors: how many take part, if it is not.

    Returns:
        Rows of SUMS in pieces by identifier; several of what is alike, if several files have it.

    A sum that does not fit into 64 bits ends the query that asks for it (OverflowError in the task).
    """

    def added(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        texts = _Texts()
        found = _added_up(_of_intervals(rows, changes, texts) for rows in batches)
        yield from in_pieces(USAGE, of_schema(texts.told(found), SUMS), "identifier_key", pieces)

    # A file of any hour has most subscribers: the more of them are added up together, the fewer sums there are to be moved.
    of_task = sum(intervals.counts) // (_TASKS_OF_PROCESSOR * processors)
    return intervals.mapped(added, PIECES, is_little, min(max(of_task, GROUP_ROWS), _MOST_TASK_ROWS))


@dataclass(frozen=True)
class Changes:
    """When identifiers change hands within a month, which begins and ends at these microseconds.

    By the beginning of the identifier: two with the same one share the changes of both. Their usage is added up in more terms
    than it need be, and counts once all the same.

    Args:
        begin: of the month.
        end: of the month.
        keys: beginnings of identifiers; sorted, each once.
        instants: when any of them changes hands; sorted, each once.
        changes: place of a key times one more than there are instants, plus the number of an instant from 1; sorted.
        are_many: there are more than are told here.
    """

    begin: int
    end: int
    keys: npt.NDArray[np.uint64]
    instants: Integers
    changes: Integers
    are_many: bool

    @classmethod
    def of(cls, begin: datetime, end: datetime, assignments: TableRows, is_little: bool) -> Changes:
        """Those of assignments within a month of these bounds."""

        def changing(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for rows in batches:
                for instants in (rows["assigned_from"], rows["assigned_to"]):
                    is_inside = pc.and_(pc.greater(instants, begin), pc.less(instants, end))
                    found = pa.RecordBatch.from_arrays([rows["identifier_key"], instants], schema=_CHANGES)
                    yield found.filter(is_inside)

        found = assignments.mapped(changing, _CHANGES, is_little).rows(_MOST_CHANGES + 1)
        keys = beginnings(found["identifier_key"].cast(PSEUDONYM).combine_chunks())
        return cls.among(begin, end, keys, found["changed_at"].cast(pa.int64()).to_numpy())

    @classmethod
    def among(cls, begin: datetime, end: datetime, keys: npt.NDArray[np.uint64], instants: Integers) -> Changes:
        """A key and an instant for each change, in any order."""
        distinct_keys, places = np.unique(keys, return_inverse=True)
        distinct_instants, numbers = np.unique(instants, return_inverse=True)
        changes = np.unique(places * (len(distinct_instants) + 1) + numbers + 1)
        bounds = microseconds(begin), microseconds(end)
        return cls(*bounds, distinct_keys, distinct_instants, changes, len(keys) > _MOST_CHANGES)

    def held_at(self, keys: npt.NDArray[np.uint64], closed: Integers) -> Integers:
        """An instant since when each identifier has had the holder of its close.

        What closes after the month, having begun in it, stands for itself; of more changes than a task is told, everything does.
        """
        if self.are_many:
            return closed
        held = np.where(closed < self.end, self.begin, closed)
        if not len(self.keys):
            return held
        some = np.flatnonzero(self._begins_so[keys >> _OTHER_BITS] & (closed < self.end))
        places = np.minimum(np.searchsorted(self.keys, keys[some]), len(self.keys) - 1)
        is_changing = self.keys[places] == keys[some]
        changing, places = some[is_changing], places[is_changing]
        width = len(self.instants) + 1
        passed = places * width + np.searchsorted(self.instants, closed[changing], side="right")
        last = self.changes[np.searchsorted(self.changes, passed, side="right") - 1]
        has_changed = (last <= passed) & (last // width == places)
        held[changing[has_changed]] = self.instants[last[has_changed] % width - 1]
        return held

    @cached_property
    def _begins_so(self) -> npt.NDArray[np.bool_]:
        """Whether any key begins with these bits: most identifiers never change hands, and are told by one look."""
        begins_so = np.zeros(1 << (64 - int(_OTHER_BITS)), bool)
        begins_so[self.keys >> _OTHER_BITS] = True
        return begins_so


def _of_intervals(rows: pa.RecordBatch, changes: Changes, texts: _Texts) -> pa.RecordBatch:
    """Each interval as a sum of its own."""
    identifiers = rows["identifier_key"].cast(PSEUDONYM)
    held_at = changes.held_at(beginnings(identifiers), rows["closed_at"].cast(pa.int64()).to_numpy())
    counts = pc.less_equal(rows["month_part"], 1).cast(pa.int64())
    told_apart = [identifiers, texts.numbers([rows[name] for name in _TEXTS]), pa.array(held_at).cast(INSTANT)]
    amounts = [rows["octets_up"], rows["octets_down"], counts, rows["is_estimated"]]
    return pa.RecordBatch.from_arrays([*told_apart, *amounts], schema=_INTERVAL)


def _added_up(intervals: Iterable[pa.RecordBatch]) -> pa.Table:
    """Rows of _INTERVAL, those of the same identifier, texts and instant as one. Raises OverflowError."""
    return asked(_ADDED_UP, rows=Streamed(_INTERVAL, intervals))


class _Texts:
    """Numbers in place of several texts: one is compared sooner than they are."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str | None, ...], int] = {}

    def numbers(self, columns: Sequence[pa.Array]) -> pa.Int32Array:
        """The number of each row's texts, in the order in which they came."""
        encoded = [c if pa.types.is_dictionary(c.type) else pc.dictionary_encode(c) for c in columns]
        values = [[*column.dictionary.to_pylist(), None] for column in encoded]
        codes = np.zeros(len(columns[0]), np.int64)
        for column, of in zip(encoded, values, strict=True):
            codes = codes * len(of) + pc.fill_null(column.indices.cast(pa.int64()), len(of) - 1).to_numpy()
        there = np.unique(codes)
        places = zip(*np.unravel_index(there, [len(of) for of in values]), strict=True)
        texts = [tuple(of[at] for of, at in zip(values, row, strict=True)) for row in places]
        numbers = [self._numbers.setdefault(of, len(self._numbers)) for of in texts]
        return pa.array(numbers, pa.int32()).take(pa.array(np.searchsorted(there, codes)))

    def told(self, rows: pa.Table) -> pa.Table:
        """The rows with the texts in place of their numbers."""
        numbers = rows["texts"].combine_chunks()
        for at, name in enumerate(_TEXTS):
            of_texts = pc.dictionary_encode(pa.array([texts[at] for texts in self._numbers], pa.string()))
            rows = rows.append_column(name, of_texts.take(numbers))
        return rows
