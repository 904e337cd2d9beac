"""One holder at a time: nobody could say whose usage it is that an identifier of two subscriptions has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.alike import BUCKET, Alike, Counting
from jobs.lake import Lake
from jobs.run import Refused
from jobs.steps import InTasks, Steps, asked
from jobs.table_rows import OfFiles, OfFrame
from schemas.tables import SUBSCRIPTIONS

_PLACE = ("source", "file_number", "record_ordinal")
_COLUMNS = (*_PLACE, "identifier_type", "identifier_key", "assigned_from", "assigned_to")
_SCHEMA = pa.schema([BUCKET, *(SUBSCRIPTIONS.arrow_schema.field(name) for name in _COLUMNS)])
_CLASHES = pa.schema([SUBSCRIPTIONS.arrow_schema.field(name) for name in _PLACE])
_FRAME_BUCKETS = 64


@dataclass(frozen=True)
class Assignments:
    """Assignments of identifiers in buckets; all of an identifier are in one, if they are several."""

    steps: Steps
    buckets: int

    @classmethod
    def of(cls, lake: Lake, assignments: OfFiles | OfFrame) -> Assignments:
        """These rows of ``subscriptions``, of which those of data files are read from there."""
        if isinstance(assignments, OfFrame):
            return cls.of_frame(assignments.frame)
        (files,) = assignments.tables
        return cls.of_files(lake, files.rows_of, files.counting)

    @classmethod
    def of_files(cls, lake: Lake, files: Mapping[str, int], counting: Counting) -> Assignments:
        """Those of data files of ``subscriptions``, rows by path, that count and whose identifier may have several."""
        alike = Alike.of(lake, SUBSCRIPTIONS, "identifier_key", files, len(files))
        return cls(alike.rows(lake.spark, counting, lambda rows: rows.select(_SCHEMA.names), _SCHEMA), alike.buckets)

    @classmethod
    def of_frame(cls, assignments: DataFrame) -> Assignments:
        """Those that Spark has worked out."""
        bucket = F.pmod(F.xxhash64("identifier_key"), F.lit(_FRAME_BUCKETS)).cast("int").alias(BUCKET.name)
        return cls(InTasks(assignments.select(bucket, *_COLUMNS)), _FRAME_BUCKETS)

    def overlapping(self) -> pa.Table:
        """``source, file_number, record_ordinal`` of assignments that begin while another of the same identifier lasts."""
        return self.steps.then(BUCKET.name, self.buckets, _clashing, _CLASHES).rows()


def _clashing(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The later assignments of a bucket."""
    some = [batch for batch in batches if len(batch)]
    if not some:
        return
    found = asked(
        f"""
        WITH lasting AS (
            SELECT *, coalesce(assigned_to, 'infinity'::TIMESTAMPTZ) AS assigned_until
            FROM rows WHERE assigned_to IS NULL OR assigned_from < assigned_to
        ), several AS (
            SELECT identifier_type, identifier_key FROM lasting GROUP BY ALL HAVING count(*) > 1
        )
        SELECT {", ".join(_PLACE)} FROM (
            SELECT *, max(assigned_until) OVER (
                PARTITION BY identifier_type, identifier_key ORDER BY assigned_from, assigned_until, file_number, record_ordinal
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS taken_until
            FROM lasting SEMI JOIN several USING (identifier_type, identifier_key)
        ) WHERE assigned_from < taken_until
        """,
        rows=pa.Table.from_batches(some),
    )
    yield from found.cast(_CLASHES).combine_chunks().to_batches()


def require_one_holder(assignments: Assignments) -> None:
    """Refuse overlapping holders. Raises Refused, naming how many and the first record's place."""
    clashes = assignments.overlapping()
    if len(clashes):
        order = [(name, "ascending") for name in ("file_number", "record_ordinal", "source")]
        first = clashes.sort_by(order).slice(0, 1).to_pylist()[0]
        place = f"source {first['source']}, delivery {first['file_number']}, record {first['record_ordinal']}"
        raise Refused(f"{len(clashes)} assignments overlap another holder of the same identifier, the first at {place}")


def lasting_into(rows: pa.RecordBatch, begin: datetime) -> npt.NDArray[np.bool_]:
    """As ``jobs.month.lasts_into``, of rows of Arrow: those that have not ended before a month begins."""
    ended, inactive = (pc.fill_null(pc.less_equal(rows[name], begin), False) for name in ("assigned_to", "active_to"))
    return np.asarray(pc.invert(pc.and_(ended, inactive)), bool)
