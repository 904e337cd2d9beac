"""Rows of data files that may have the same key: found by how keys begin, and then read whole, in steps.

What is the same about them is seen by whoever asks: all rows of one key, and of others by coincidence, have one ``bucket``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.data_files import data_file_batches
from jobs.key_beginnings import KEYS, PLACES, Sought, bucketed, repeated_places
from jobs.lake import Lake
from jobs.pseudonyms import PSEUDONYM, beginnings
from jobs.steps import Steps, are_few, begin, in_groups
from schemas.table import Table

_BUCKET_ROWS = 1 << 20
"""Rows that would be looked at together if every one were alike: they and DuckDB's copy are some 300 octets each."""
_TOLD_ROWS = 1 << 16
BUCKET = pa.field("bucket", pa.int32())
_GROUP = pa.field("of_group", pa.int32())
Counting = Callable[[pa.RecordBatch], npt.NDArray[np.bool_]]
"""Which rows of a table count."""


def in_group(schema: pa.Schema) -> pa.Schema:
    """Columns with ``of_group``: which group of data files a row is of."""
    return pa.schema([_GROUP, *schema])


@dataclass(frozen=True)
class Alike:
    """Data files whose rows are looked at for keys that begin alike.

    Args:
        table: the table that the files are for.
        column: the column of keys: pseudonyms or hashes, or null.
        place: where the table lies.
        paths: data files, the new ones first.
        new_files: how many are new: rows are looked for that are alike to one of theirs.
        rows_of: how many rows each file has.
        groups: numbers of the paths that are looked at together.
        buckets: how many buckets keys are in, by their value: a power of two.
    """

    table: Table
    column: str
    place: str
    paths: Sequence[str]
    new_files: int
    rows_of: Sequence[int]
    groups: Sequence[Sequence[int]]
    buckets: int

    @classmethod
    def of(cls, lake: Lake, table: Table, column: str, files: Mapping[str, int], new_files: int) -> Alike:
        """Data files, rows by path, of which the first so many are new."""
        rows_of = [*files.values()]
        compared = sum(rows_of[:new_files] if are_sought(rows_of, new_files) else rows_of)
        buckets = 1 << max(int(lake.spark.sparkContext.defaultParallelism) - 1, compared // _BUCKET_ROWS, 1).bit_length()
        return cls(table, column, lake.path(table), [*files], new_files, rows_of, in_groups(rows_of), buckets)

    def rows(self, spark: SparkSession, counting: Counting, told: Callable[[pa.Table], pa.Table], schema: pa.Schema) -> Steps:
        """What is told of rows that are alike, as rows of a schema with ``bucket``.

        Args:
            spark: the session.
            counting: which rows count.
            told: of rows with their ``bucket``, ``data_file`` and ``row_index``, the columns of the schema.
            schema: the columns.
        """
        sought = None
        if are_sought(self.rows_of, self.new_files):
            sought = Sought.of(begin(spark, True, self.new_files, self._keys_of, KEYS).rows())
        keys = begin(spark, are_few(self.rows_of), len(self.groups), lambda group: self._keys(group, sought), KEYS)
        places = keys.then("bucket", self.buckets, self._places, in_group(PLACES))
        return places.then("of_group", len(self.groups), lambda batches: self._told(batches, counting, told, schema), schema)

    def with_group(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        """Rows with the number of the group that their data file is in."""
        groups = pa.array(self._group_of[rows["data_file"].to_numpy()])
        yield from rows.add_column(0, _GROUP, groups).combine_chunks().to_batches()

    @cached_property
    def _group_of(self) -> npt.NDArray[np.int32]:
        return np.repeat(np.arange(len(self.groups), dtype=np.int32), [len(group) for group in self.groups])

    def _keys(self, group: int, sought: Sought | None) -> Iterator[pa.RecordBatch]:
        """Keys of a group's data files, as numbers; of those that were there before only what is sought, if new ones are few."""
        for number in self.groups[group]:
            yield from self._keys_of(number, None if number < self.new_files else sought)

    def _keys_of(self, number: int, sought: Sought | None = None) -> Iterator[pa.RecordBatch]:
        batches = data_file_batches(self.place, self.paths[number], self.table, [self.column])
        yield bucketed((batch[self.column] for batch in batches), number, self.buckets, sought)

    def _places(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Places of rows of a bucket that are alike."""
        for found in repeated_places(batches, self.new_files):
            yield from self.with_group(pa.Table.from_batches([found]))

    def _told(
        self, batches: Iterable[pa.RecordBatch], counting: Counting, told: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        """What is told of the rows at the places of a group, some at a time."""
        found: list[pa.RecordBatch] = []
        for number, places in by_data_file(batches):
            for rows, here, at in beside(self.place, self.paths[number], self.table, places):
                if len(at):
                    taken = rows.take(pa.array(at)).cast(self.table.arrow_schema)
                    for name in PLACES.names:
                        taken = taken.append_column(name, here[name].combine_chunks())
                    found.append(taken.filter(pa.array(counting(taken))))
                if sum(map(len, found)) > _TOLD_ROWS:
                    yield from told(self._with_bucket(found)).cast(schema).combine_chunks().to_batches()
                    found = []
        if found:
            yield from told(self._with_bucket(found)).cast(schema).combine_chunks().to_batches()

    def _with_bucket(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        rows = pa.Table.from_batches(batches)
        keys = beginnings(rows[self.column].cast(PSEUDONYM).combine_chunks())
        buckets = (keys >> np.uint64(64 - (self.buckets - 1).bit_length())).astype(np.int32)
        return rows.append_column(BUCKET, pa.array(buckets))


def are_sought(rows_of: Sequence[int], new_files: int) -> bool:
    """New rows are few beside the others, of which only those with their keys are looked at then."""
    return not are_few(rows_of) and are_few(rows_of[:new_files])


def by_data_file(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Rows of each data file among them, in its order."""
    if some := [batch for batch in batches if len(batch)]:
        rows = pa.Table.from_batches(some).sort_by([("data_file", "ascending"), ("row_index", "ascending")]).combine_chunks()
        numbers = rows["data_file"].to_numpy()
        for number in np.unique(numbers).tolist():
            first, last = np.searchsorted(numbers, [number, number + 1])
            yield number, rows.slice(first, last - first)


def beside(
    place: str, path: str, table: Table, places: pa.Table
) -> Iterator[tuple[pa.RecordBatch, pa.Table, npt.NDArray[np.int64]]]:
    """Rows of a data file, some at a time and texts encoded, with the places that lie among them, and where."""
    indices, before = places["row_index"].to_numpy(), 0
    for rows in data_file_batches(place, path, table, encoded=table.texts):
        first, last = np.searchsorted(indices, [before, before + len(rows)])
        yield rows, places.slice(first, last - first), indices[first:last] - before
        before += len(rows)
