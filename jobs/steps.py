"""Steps of work on Arrow batches, each on all rows of one number: on the driver where rows are few, in Spark's tasks otherwise.

What a step does is written once, as a function of batches; only who runs it, and how rows come together in between, differs. A
Spark job of several shuffles takes a second however few the rows, which a day's files, or a late one, would pay each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from itertools import accumulate, groupby
from typing import Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.spark import in_tasks

DRIVER_ROWS = 1 << 22
"""Rows of data files up to which the driver looks at them itself."""
GROUP_ROWS = 1 << 20
"""Rows of data files that are one number in tasks: one for each file, however small, costs more than reading it."""
DRIVER_GROUP_ROWS = 1 << 17
"""As many on the driver, which only shares them among its processors."""
FILE_ROWS = 1 << 14
"""As many rows a file counts for at least: it must be opened."""
Work = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Steps(Protocol):
    """Rows that a step has given."""

    def then(self, number: str, count: int, work: Work, schema: pa.Schema, are_mostly_few: bool = False) -> Steps:
        """What work makes, as rows of the schema, of all rows with the same number, each below the count, at a time.

        Work may be called without rows, and must give none then. Where rows are mostly few it may be called with those of several
        numbers, all of each.
        """

    def rows(self, at_most: int | None = None) -> pa.Table:
        """The rows, on the driver; no more than so many."""

    def in_frame(self, spark: SparkSession) -> DataFrame:
        """The rows as a Spark frame."""


def begin(
    spark: SparkSession, is_little: bool, count: int, work: Callable[[int], Iterable[pa.RecordBatch]], schema: pa.Schema
) -> Steps:
    """Begin with what work gives for each number below the count, as rows of the schema.

    Args:
        spark: the session.
        is_little: the driver does the work.
        count: how many numbers there are.
        work: reads what a number stands for.
        schema: of the rows that it gives.
    """
    if is_little:
        return OnDriver.of([partial(work, number) for number in range(count)], schema)
    return InTasks(in_tasks(spark, count, work, schema))


@dataclass(frozen=True)
class InTasks:
    """Rows of a Spark frame."""

    frame: DataFrame

    def then(self, number: str, count: int, work: Work, schema: pa.Schema, are_mostly_few: bool = False) -> InTasks:
        """As Steps.then: rows are shuffled, and each task has those of one number, or of several if they are few."""
        rows = self.frame.repartition(number) if are_mostly_few else self.frame.repartitionById(count, number)
        return InTasks(rows.mapInArrow(work, from_arrow_schema(schema)))

    def rows(self, at_most: int | None = None) -> pa.Table:
        """As Steps.rows."""
        return (self.frame if at_most is None else self.frame.limit(at_most)).toArrow()

    def in_frame(self, spark: SparkSession) -> DataFrame:
        """As Steps.in_frame."""
        return self.frame


@dataclass(frozen=True)
class OnDriver:
    """Rows that the driver holds."""

    found: pa.Table

    @classmethod
    def of(cls, works: Sequence[Callable[[], Iterable[pa.RecordBatch]]], schema: pa.Schema) -> OnDriver:
        """What works give, as many at a time as there are processors: Arrow holds no lock of the interpreter."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            batches = [batch for found in pool.map(lambda work: list(work()), works) for batch in found]
        return cls(pa.Table.from_batches(batches, schema))

    def then(self, number: str, count: int, work: Work, schema: pa.Schema, are_mostly_few: bool = False) -> OnDriver:
        """As Steps.then."""
        numbers = self.found[number]
        of_number = [self.found.filter(pc.equal(numbers, value)).to_batches() for value in pc.unique(numbers)]
        return self.of([partial(work, batches) for batches in of_number], schema)

    def rows(self, at_most: int | None = None) -> pa.Table:
        """As Steps.rows."""
        return self.found.slice(0, at_most)

    def in_frame(self, spark: SparkSession) -> DataFrame:
        """As Steps.in_frame."""
        return spark.createDataFrame(self.found, from_arrow_schema(self.found.schema))


def side_by_side(spark: SparkSession, *steps: Steps) -> Steps:
    """The rows of several steps of one schema: on the driver if all are there."""
    on_driver = [step.found for step in steps if isinstance(step, OnDriver)]
    if len(on_driver) == len(steps):
        return OnDriver(pa.concat_tables(on_driver))
    return InTasks(reduce(DataFrame.unionByName, [step.in_frame(spark) for step in steps]))


def are_few(rows: Iterable[int]) -> bool:
    """Files of so many rows are looked at by the driver."""
    return sum(max(of_file, FILE_ROWS) for of_file in rows) <= DRIVER_ROWS


def in_groups(rows: Sequence[int], in_tasks: int = GROUP_ROWS) -> list[list[int]]:
    """Neighbours among files of so many rows, some at a time: in tasks about so many rows."""
    before = [*accumulate((max(of_file, FILE_ROWS) for of_file in rows), initial=0)]
    together = DRIVER_GROUP_ROWS if are_few(rows) else in_tasks
    return [[*group] for _, group in groupby(range(len(rows)), lambda number: before[number] // together)]


@dataclass
class Streamed:
    """Batches that DuckDB reads as they come, and what ended them, if anything did: DuckDB would say that in words of its own."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    error: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        """The batches for DuckDB; once."""
        return pa.RecordBatchReader.from_batches(self.schema, self._each())

    def _each(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self.batches
        except BaseException as error:
            self.error = error
            raise


def asked(query: str, **tables: pa.Table | Streamed) -> pa.Table:
    """What DuckDB finds by a query over tables of these names, on the thread that asks.

    Raises:
        OverflowError: a sum does not fit into its type; DuckDB's own message would quote it.
    """
    with _duckdb().cursor() as connection:
        for name, rows in tables.items():
            connection.register(name, rows.reader() if isinstance(rows, Streamed) else rows)
        try:
            return connection.execute(query).to_arrow_table()
        except (duckdb.ConversionException, duckdb.OutOfRangeException):
            raise OverflowError("a sum does not fit into its type") from None
        except duckdb.Error:
            for rows in tables.values():
                if isinstance(rows, Streamed) and rows.error is not None:
                    raise rows.error from None
            raise


@lru_cache(1)
def _duckdb() -> duckdb.DuckDBPyConnection:
    """One for the process: to open one takes five times as long as to ask a few rows of it. Nothing is kept in it."""
    return duckdb.connect(config={"threads": 1, "temp_directory": "", "python_enable_replacements": False})
