"""Rows of tables that count, as Arrow batches in the steps that work on them.

What reads every row of a month, or of an export, reads its data files by Arrow: a row that Spark hands to a worker costs more
than all that is done with it there, and what Spark itself does with every row it compiles anew for each query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.batches import AsOf, among
from jobs.data_files import data_file_batches
from jobs.delta_log import ANY, Where
from jobs.key_beginnings import Sought
from jobs.lake import Lake, meeting
from jobs.pieces import PIECE_ROWS, PIECES, handed_on, of_pieces, pieces_for
from jobs.steps import GROUP_ROWS, InTasks, Steps, Work, are_few, begin, in_groups, side_by_side
from schemas.table import Table

POSITION = ("file_number", "record_ordinal")
Counting = Callable[[pa.RecordBatch], npt.NDArray[np.bool_]]
"""Which rows of a table count."""


class TableRows(Protocol):
    """Rows of some columns; texts may be encoded by a dictionary."""

    @property
    def counts(self) -> Sequence[int]:
        """Rows of each data file; of a frame, as many as it may have."""

    def mapped(self, work: Work, schema: pa.Schema, is_little: bool, in_tasks: int = GROUP_ROWS) -> Steps:
        """Rows of the schema that work makes of batches, some files at a time.

        Args:
            work: what is done with all batches of some files.
            schema: of the rows that it makes.
            is_little: the driver does it, as of ``begin``.
            in_tasks: rows of a task's files, if tasks do it.
        """


@dataclass(frozen=True)
class OfFrame:
    """Rows that Spark has worked out.

    Args:
        frame: the rows.
        columns: the columns wanted.
        most_rows: how many they may be; by default what makes a piece of each partition of Spark's own shuffles.
    """

    frame: DataFrame
    columns: Sequence[str]
    most_rows: int | None = None

    @property
    def counts(self) -> Sequence[int]:
        """As TableRows.counts."""
        if self.most_rows is not None:
            return [self.most_rows]
        return [int(self.frame.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1) * PIECE_ROWS]

    def mapped(self, work: Work, schema: pa.Schema, is_little: bool, in_tasks: int = GROUP_ROWS) -> Steps:
        """As TableRows.mapped: Spark hands the rows over."""
        return InTasks(self.frame.select(*self.columns).mapInArrow(work, from_arrow_schema(schema)))


def _every(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    return np.ones(len(rows), bool)


@dataclass(frozen=True)
class Files:
    """Data files of a table.

    Args:
        table: the table.
        rows_of: rows by path under the table, as ``Lake.paths`` gives them.
        judged_by: columns by which it is told which rows count.
        counting: which rows count; all by default.
        true_in: a column that is true of all of them, and of few others: row groups without any are not read.
    """

    table: Table
    rows_of: Mapping[str, int]
    judged_by: Sequence[str] = ()
    counting: Counting = _every
    true_in: str | None = None

    def rows(self, place: str, path: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Those of a data file that count, with these columns and those that they are judged by; texts encoded."""
        for rows in data_file_batches(place, path, self.table, [*columns, *self.judged_by], self.table.texts, self.true_in):
            if (counts := self.counting(rows)).all():
                yield rows
            elif counts.any():
                yield rows.filter(pa.array(counts))


@dataclass(frozen=True)
class OfFiles:
    """Rows of data files, without those that do not count.

    Args:
        lake: the lake.
        tables: data files of each table.
        columns: the columns wanted.
    """

    lake: Lake
    tables: Sequence[Files]
    columns: Sequence[str]

    @property
    def counts(self) -> Sequence[int]:
        """As TableRows.counts."""
        return [rows for of in self.tables for rows in of.rows_of.values()]

    def of_columns(self, columns: Sequence[str]) -> OfFiles:
        """Other columns of the same rows."""
        return replace(self, columns=columns)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows on the driver, some at a time."""
        for of in self.tables:
            for path in of.rows_of:
                yield from of.rows(self.lake.path(of.table), path, self.columns)

    def mapped(self, work: Work, schema: pa.Schema, is_little: bool, in_tasks: int = GROUP_ROWS) -> Steps:
        """As TableRows.mapped."""
        files = [(of, self.lake.path(of.table), path) for of in self.tables for path in of.rows_of]
        groups, columns = in_groups(self.counts, in_tasks), self.columns

        def read(group: int) -> Iterator[pa.RecordBatch]:
            for of, place, path in (files[number] for number in groups[group]):
                yield from of.rows(place, path, columns)

        return begin(self.lake.spark, is_little, len(groups), lambda group: work(read(group)), schema)


def files_where(lake: Lake, table: Table, where: Where, judged_by: Sequence[str] = (), also: Counting = _every) -> Files:
    """Data files of a table with the rows that meet a condition as of ``Lake.read``.

    Args:
        lake: the lake.
        table: the table.
        where: what rows have in some columns.
        judged_by: columns that ``also`` asks for.
        also: which of these rows count.
    """
    within = {name: wanted for name, wanted in where.items() if name not in table.partitioned_by}

    def counting(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return meeting(rows, within) & also(rows)

    return Files(table, lake.paths(table, where), [*within, *judged_by], counting)


def files_of(counted: AsOf, table: Table, where: Where = ANY, judged_by: Sequence[str] = (), also: Counting = _every) -> Files:
    """As ``files_where``, of the rows that count as of a batch, if the table has batches."""
    if "batch" not in table.names:
        return files_where(counted.lake, table, where, judged_by, also)
    visible = counted.visible

    def counting(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return visible.rows(rows) & also(rows)

    return files_where(counted.lake, table, where, ["batch", "file_number", *judged_by], counting)


def read(rows: TableRows, schema: pa.Schema, at_most: int | None = None) -> pa.Table:
    """Columns of rows that are few, on the driver; no more than so many."""

    def select(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch.select(schema.names).cast(schema)

    return rows.mapped(select, schema, are_few(rows.counts)).rows(at_most)


def meet(
    spark: SparkSession,
    key: str,
    rows: Mapping[str, tuple[TableRows, pa.Schema]],
    work: Callable[..., Iterable[pa.RecordBatch]],
    schema: pa.Schema,
    met_rows: int | None = None,
) -> Steps:
    """What work makes of tables by these names, as rows of the schema: all of a key come together, some keys at a time.

    Args:
        spark: the session.
        key: the column of the key, a pseudonym.
        rows: the rows of each table, with the columns that are handed on.
        work: called with a table for each name.
        schema: of the rows that it makes.
        met_rows: about how many of the rows are handed on, if most are not.
    """
    counts = [count for of, _ in rows.values() for count in of.counts]
    pieces = pieces_for(sum(counts) if met_rows is None else met_rows, int(spark.sparkContext.defaultParallelism))
    columns_of = {kind: columns for kind, (_, columns) in rows.items()}

    def on_piece(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if of := of_pieces(batches, columns_of):
            yield from work(**of)

    is_little = are_few(counts)
    handed = [of.mapped(handed_on(kind, columns, key, pieces), PIECES, is_little) for kind, (of, columns) in rows.items()]
    return side_by_side(spark, *handed).then("piece", pieces, on_piece, schema)


def having(sought: Sought) -> Counting:
    """Rows whose ``record_key`` begins as one that is sought; of the others few, by coincidence."""

    def counting(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(rows), bool)
        found[sought.rows(rows["record_key"])] = True
        return found

    return counting


def but_for(positions: pa.Table) -> Counting:
    """Rows whose POSITION is not among these."""
    dropped = _by_file(positions)

    def counting(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        found, numbers = np.ones(len(rows), bool), rows["file_number"].to_numpy()
        for number in among(numbers, dropped):
            found &= (numbers != number) | ~np.isin(rows["record_ordinal"].to_numpy(), dropped[number])
        return found

    return counting


def _by_file(positions: pa.Table) -> dict[int, npt.NDArray[np.int64]]:
    """Ordinals of records by file number, from rows of both; sorted."""
    rows = positions.sort_by([(name, "ascending") for name in positions.column_names])
    numbers, ordinals = (column.to_numpy() for column in rows.columns)
    distinct = np.unique(numbers)
    begins, ends = (np.searchsorted(numbers, distinct, side) for side in ("left", "right"))
    return {number: ordinals[begin:end] for number, begin, end in zip(distinct.tolist(), begins, ends, strict=True)}
