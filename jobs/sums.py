"""Sums of a month's intervals per identifier, by Arrow in the tasks.

Each task adds up what it reads, and hands its sums on in pieces by the beginning of the identifier, many sums as one value of a
row; a second task adds up the sums of a piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.intervals import Intervals, summable
from jobs.meter import Month
from jobs.pseudonyms import PSEUDONYM, beginnings

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
_SUM = pa.schema(
    [
        ("identifier_key", PSEUDONYM),
        ("texts", pa.int32()),
        *[(name, pa.int64()) for name in ("held_at", "octets_up", "octets_down", "intervals")],
        ("is_estimated", pa.bool_()),
    ]
)
"""A sum as it travels: its texts by a number, its instant in microseconds."""
_TOLD_APART, _ADDED = ("identifier_key", "texts", "held_at"), ("octets_up", "octets_down", "intervals")
_PIECES = pa.schema([("piece", pa.int32()), ("texts", pa.string()), ("sums", pa.binary())])
_TOGETHER_ROWS = 1 << 21
"""Rows that are added up at once."""
_HANDED_ON_ROWS = 1 << 16
_MOST_CHANGES = 1 << 22
"""Changes of holder that every task is told, in 64 MiB."""
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

    A sum that does not fit into 64 bits ends the query that asks for it (OverflowError in the task).
    """
    changes = _changes(assignments, month)
    # A task for each piece: 64 where a month is large, and as few as anything else has where it is small (jobs.spark).
    count = int(assignments.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)

    def added(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = _Sums()
        for rows in batches:
            sums.add(_of_intervals(rows, changes, sums))
        yield sums.pieces(count)

    def together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = _Sums()
        for piece in (row for rows in batches for row in rows.to_pylist()):
            numbers = pa.array([sums.number(tuple(texts)) for texts in json.loads(piece["texts"])], pa.int32())
            found = pa.ipc.open_stream(piece["sums"]).read_all()
            sums.add(found.set_column(1, "texts", numbers.take(found["texts"])))
        yield from sums.rows()

    pieces = intervals.mapped(added, _PIECES).repartitionById(count, "piece")
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
        are_many: there are more than are told here.
    """

    begin: int
    end: int
    keys: npt.NDArray[np.uint64]
    instants: Integers
    changes: Integers
    are_many: bool

    @classmethod
    def of(cls, month: Month, keys: npt.NDArray[np.uint64], instants: Integers) -> _Changes:
        """A key and an instant for each change."""
        distinct_keys, places = np.unique(keys, return_inverse=True)
        distinct_instants, numbers = np.unique(instants, return_inverse=True)
        changes = np.unique(places * (len(distinct_instants) + 1) + numbers + 1)
        bounds = _microseconds(month.begin), _microseconds(month.end)
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
    found = assignments.select("identifier_key", ends).where(is_inside).distinct().limit(_MOST_CHANGES + 1).toArrow()
    keys = beginnings(found["identifier_key"].cast(PSEUDONYM).combine_chunks())
    return _Changes.of(month, keys, found["changed_at"].cast(pa.int64()).to_numpy())


def _microseconds(instant: datetime) -> int:
    return (instant.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1)


def _of_intervals(rows: pa.RecordBatch, changes: _Changes, sums: _Sums) -> pa.Table:
    """Each interval as a sum of its own."""
    identifiers = rows["identifier_key"].cast(PSEUDONYM)
    held_at = changes.held_at(beginnings(identifiers), rows["closed_at"].cast(pa.int64()).to_numpy())
    counts = pc.less_equal(rows["month_part"], 1).cast(pa.int64())
    columns = [identifiers, sums.numbers([rows[name] for name in _TEXTS]), pa.array(held_at)]
    return pa.table([*columns, rows["octets_up"], rows["octets_down"], counts, rows["is_estimated"]], schema=_SUM)


@dataclass
class _Sums:
    """Sums as they come: what has come is added up whenever it is much, and at the end."""

    _held: list[pa.Table] = field(default_factory=lambda: [_SUM.empty_table()])
    _rows: int = 0
    _added: int = 0
    """Rows of the sums that were added up last, which are the first held."""
    _texts: dict[tuple[str | None, ...], int] = field(default_factory=dict)

    def number(self, texts: tuple[str | None, ...]) -> int:
        """The number of some texts, in the order in which they came."""
        return self._texts.setdefault(texts, len(self._texts))

    def numbers(self, columns: Sequence[pa.Array]) -> pa.Int32Array:
        """The number of each row's texts."""
        encoded = [c if pa.types.is_dictionary(c.type) else pc.dictionary_encode(c) for c in columns]
        values = [[*column.dictionary.to_pylist(), None] for column in encoded]
        codes = np.zeros(len(columns[0]), np.int64)
        for column, of in zip(encoded, values, strict=True):
            codes = codes * len(of) + pc.fill_null(column.indices.cast(pa.int64()), len(of) - 1).to_numpy()
        there = np.unique(codes)
        places = np.unravel_index(there, [len(of) for of in values])
        numbers = [self.number(tuple(of[at] for of, at in zip(values, row, strict=True))) for row in zip(*places, strict=True)]
        return pa.array(numbers, pa.int32()).take(pa.array(np.searchsorted(there, codes)))

    def add(self, sums: pa.Table) -> None:
        """Take in sums."""
        self._held.append(sums)
        self._rows += len(sums)
        if self._rows > max(_TOGETHER_ROWS, 2 * self._added):
            self._add_up()

    def _add_up(self) -> pa.Table:
        together = _added_up(pa.concat_tables(self._held))
        self._held, self._rows, self._added = [together], len(together), len(together)
        return together

    def pieces(self, count: int) -> pa.RecordBatch:
        """The sums in a row for each piece that there is, of so many."""
        sums, texts = self._add_up(), json.dumps(list(self._texts))
        piece = (beginnings(sums["identifier_key"].combine_chunks()) % np.uint64(count)).astype(np.uint16)
        order = np.argsort(piece, kind="stable")
        ordered, ends = sums.take(pa.array(order)), np.cumsum(np.bincount(piece, minlength=count)).tolist()
        found = [
            {"piece": number, "texts": texts, "sums": _serialised(ordered.slice(begin, end - begin))}
            for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False))
            if begin < end
        ]
        return pa.RecordBatch.from_pylist(found, _PIECES)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The sums in columns, some at a time."""
        sums, texts = self._add_up(), list(self._texts)
        columns = {name: sums[name] for name in sums.column_names}
        columns |= {n: pa.array([of[at] for of in texts], pa.string()).take(sums["texts"]) for at, n in enumerate(_TEXTS)}
        found = pa.table([columns[field.name].cast(field.type) for field in _USAGE], schema=_USAGE)
        yield from found.to_batches(_HANDED_ON_ROWS)


def _serialised(sums: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, sums.schema) as stream:
        stream.write_table(sums)
    return bytes(sink.getvalue())


def _added_up(sums: pa.Table) -> pa.Table:
    """Sums of the same identifier, texts and instant as one."""
    amounts = {name: summable(sums[name]) for name in _ADDED}
    rows = pa.table({**{name: sums[name] for name in _TOLD_APART}, **amounts, "is_estimated": sums["is_estimated"]})
    asked = [*((name, "sum") for name in _ADDED), ("is_estimated", "any")]
    found = rows.group_by(list(_TOLD_APART), use_threads=False).aggregate(asked).select([*_TOLD_APART, *map("_".join, asked)])
    try:
        return found.rename_columns(_SUM.names).cast(_SUM)
    except pa.ArrowInvalid:  # its message quotes the value
        raise OverflowError("octets of an identifier do not fit into 64 bits") from None
