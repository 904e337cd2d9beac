"""Batches: which rows of the lake exist for a reader, as of which batch.

A batch is written ahead and then committed, both as rows of ``batches``. Rows of an uncommitted batch exist for nobody; rows of a
delivery that was withdrawn cease to exist from the withdrawing batch on. So an earlier cutoff still shows what was known then.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow.compute import Expression
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.delta_log import ANY, Where
from jobs.lake import Lake
from schemas.table import Table
from schemas.tables import BATCHES


@dataclass(frozen=True)
class Batch:
    """One batch of deliveries."""

    number: int
    is_committed: bool
    file_numbers: tuple[int, ...]
    withdrawn_file_numbers: tuple[int, ...]
    reason: str | None
    base_versions: str


def read_batches(lake: Lake) -> list[Batch]:
    """Every batch by number; the last one may be planned only."""
    rows = lake.small(BATCHES)
    committed = {row.batch for row in rows if row.state == "committed"}
    planned = sorted((row for row in rows if row.state == "planned"), key=lambda row: int(row.batch))
    return [
        Batch(
            row.batch,
            row.batch in committed,
            tuple(row.file_numbers),
            tuple(row.withdrawn_file_numbers),
            row.reason,
            row.base_versions,
        )
        for row in planned
    ]


def latest(batches: Sequence[Batch]) -> int:
    """Number of the last committed batch, 0 if there is none."""
    return max((batch.number for batch in batches if batch.is_committed), default=0)


@dataclass(frozen=True)
class AsOf:
    """The lake as it was after a batch."""

    lake: Lake
    batches: Sequence[Batch]
    cutoff: int

    @classmethod
    def now(cls, lake: Lake) -> AsOf:
        """The lake after the last committed batch."""
        batches = read_batches(lake)
        return cls(lake, batches, latest(batches))

    def at(self, cutoff: int) -> AsOf:
        """The lake after an earlier batch."""
        return AsOf(self.lake, self.batches, cutoff)

    def rows(self, table: Table, where: Where = ANY) -> DataFrame:
        """Rows of a table that count, and meet a condition as of ``Lake.read``."""
        return visible(self.lake.read(table, where), self.batches, self.cutoff)

    @property
    def visible(self) -> Visible:
        """Which rows count, for a worker."""
        uncommitted, withdrawn_by = _hidden(self.batches, self.cutoff)
        return Visible(self.cutoff, frozenset(uncommitted), withdrawn_by)

    def few(self, table: Table, where: Expression) -> list[Row]:
        """Rows of a table of few rows that count, on the driver and without a Spark job: those that meet a condition."""
        return visible_rows(self.lake.few(table, where), self.batches, self.cutoff)


@dataclass(frozen=True)
class Visible:
    """As ``visible``, of Arrow batches on a worker.

    Args:
        cutoff: last batch that counts.
        uncommitted: batches up to it that do not.
        withdrawn_by: the last batch up to it that withdrew each delivery, by file number.
    """

    cutoff: int
    uncommitted: frozenset[int]
    withdrawn_by: Mapping[int, int]

    def rows(self, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Which rows count, by their ``batch`` and ``file_number``."""
        batch = rows["batch"].to_numpy()
        count: npt.NDArray[np.bool_] = (batch <= self.cutoff) & ~np.isin(batch, [*self.uncommitted])
        numbers = rows["file_number"].to_numpy()
        for number in among(numbers, self.withdrawn_by):
            count &= (numbers != number) | (batch >= self.withdrawn_by[number])
        return count


def among(numbers: npt.NDArray[np.int64], some: Container[int]) -> list[int]:
    """Which of some file numbers, mostly none, are among those of rows."""
    if not some or not len(numbers):
        return []
    first, last = int(numbers.min()), int(numbers.max())
    return [number for number in ([first] if first == last else np.unique(numbers).tolist()) if number in some]


def withdrawn_between(batches: Sequence[Batch], earlier: int, later: int) -> list[int]:
    """Deliveries whose rows counted as of the earlier batch and were withdrawn up to the later one."""
    told = [batch for batch in batches if batch.is_committed and earlier < batch.number <= later]
    return sorted({number for batch in told for number in batch.withdrawn_file_numbers})


def visible(frame: DataFrame, batches: Sequence[Batch], cutoff: int) -> DataFrame:
    """Rows of committed batches up to the cutoff, without deliveries that were withdrawn by then.

    Args:
        frame: rows of a table with the columns ``batch`` and ``file_number``.
        batches: all batches.
        cutoff: last batch that counts.
    """
    uncommitted, withdrawn_by = _hidden(batches, cutoff)
    rows = frame.where(F.col("batch") <= cutoff)
    if uncommitted:
        rows = rows.where(~F.col("batch").isin(sorted(uncommitted)))
    if not withdrawn_by:
        return rows
    told = pa.table({"withdrawn_file_number": [*withdrawn_by], "withdrawn_by": [*withdrawn_by.values()]})
    withdrawn = frame.sparkSession.createDataFrame(told)
    ceased = (F.col("file_number") == F.col("withdrawn_file_number")) & (F.col("batch") < F.col("withdrawn_by"))
    return rows.join(F.broadcast(withdrawn), on=ceased, how="left_anti")


def visible_rows(rows: Sequence[Row], batches: Sequence[Batch], cutoff: int) -> list[Row]:
    """As ``visible``, of a few rows on the driver."""
    uncommitted, withdrawn_by = _hidden(batches, cutoff)
    return [
        row
        for row in rows
        if row.batch <= cutoff and row.batch not in uncommitted and row.batch >= withdrawn_by.get(row.file_number, 0)
    ]


def _hidden(batches: Sequence[Batch], cutoff: int) -> tuple[set[int], dict[int, int]]:
    """Batches up to the cutoff that were not committed, and the last batch up to it that withdrew each delivery."""
    counted = [batch for batch in batches if batch.number <= cutoff]
    withdrawals = sorted((b.number, n) for b in counted if b.is_committed for n in b.withdrawn_file_numbers)
    return {b.number for b in counted if not b.is_committed}, {number: batch for batch, number in withdrawals}
