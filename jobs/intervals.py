"""Intervals of usage that count in a month, as Arrow batches in the tasks that work on them.

What reads every record of a month reads its data files by Arrow: a row that Spark hands to a worker costs more than all that is
done with it there, and what Spark itself does with every row it compiles anew for each query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.batches import Visible
from jobs.data_files import data_file_batches
from jobs.lake import Lake
from jobs.spark import in_tasks
from schemas.table import Table

OF_INTERVAL = (
    *("source", "identifier_type", "identifier_key", "closed_at", "octets_up", "octets_down"),
    *("access_technology", "roaming_zone", "month_part", "is_estimated"),
)
_TEXTS = ("source", "identifier_type", "access_technology", "roaming_zone")
Work = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Intervals(Protocol):
    """Rows with the columns OF_INTERVAL; texts may be encoded by a dictionary."""

    def mapped(self, work: Work, schema: pa.Schema) -> DataFrame:
        """Rows of the schema that work makes of the batches of each task."""


@dataclass(frozen=True)
class OfFrame:
    """Intervals that Spark has worked out: few, or more than a driver should name."""

    frame: DataFrame

    def mapped(self, work: Work, schema: pa.Schema) -> DataFrame:
        """As Intervals.mapped: Spark hands the rows over."""
        return self.frame.select(*OF_INTERVAL).mapInArrow(work, from_arrow_schema(schema))


@dataclass(frozen=True)
class OfFiles:
    """Intervals of data files, without rows that do not count.

    Args:
        lake: the lake.
        files: tables with the paths of their data files.
        visible: which rows of batches count; tables without batches have none that do not.
        dropped: ordinals of records that do not count, by file number; sorted.
    """

    lake: Lake
    files: Sequence[tuple[Table, str]]
    visible: Visible
    dropped: Mapping[int, npt.NDArray[np.int64]]

    def mapped(self, work: Work, schema: pa.Schema) -> DataFrame:
        """As Intervals.mapped: each task reads a data file."""
        files = [(table, self.lake.path(table), path) for table, path in self.files]
        visible, dropped = self.visible, self.dropped

        def read(number: int) -> Iterator[pa.RecordBatch]:
            table, place, path = files[number]
            is_of_batch = "batch" in table.names
            columns = [*OF_INTERVAL, *(("batch", "file_number", "record_ordinal") if is_of_batch else ())]
            for rows in data_file_batches(place, path, table, columns, _TEXTS):
                if is_of_batch:
                    kept = visible.rows(rows) & ~dropped_of(rows, dropped)
                    yield rows if kept.all() else rows.filter(pa.array(kept))
                else:
                    yield rows

        return in_tasks(self.lake.spark, len(files), lambda number: work(read(number)), schema)


def dropped_of(rows: pa.RecordBatch, dropped: Mapping[int, npt.NDArray[np.int64]]) -> npt.NDArray[np.bool_]:
    """Which rows are dropped, by their file number and ordinal."""
    found = np.zeros(len(rows), bool)
    if dropped:
        numbers = rows["file_number"].to_numpy()
        for number in set(np.unique(numbers).tolist()) & dropped.keys():
            found |= (numbers == number) & np.isin(rows["record_ordinal"].to_numpy(), dropped[number])
    return found


def by_file(positions: pa.Table) -> dict[int, npt.NDArray[np.int64]]:
    """Ordinals of records by file number, from rows of both; sorted."""
    rows = positions.sort_by([(name, "ascending") for name in positions.column_names])
    numbers, ordinals = (column.to_numpy() for column in rows.columns)
    distinct = np.unique(numbers)
    begins, ends = (np.searchsorted(numbers, distinct, side) for side in ("left", "right"))
    return {number: ordinals[begin:end] for number, begin, end in zip(distinct.tolist(), begins, ends, strict=True)}


def summable(amounts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Amounts that are not negative, as decimals where their sum might not fit into 64 bits: Arrow's sums of integers wrap."""
    most = (pc.max(amounts).as_py() or 0) * len(amounts)
    return amounts if most < 1 << 63 else amounts.cast(pa.decimal128(38))
