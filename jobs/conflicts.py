"""Records with one key and other content: all but one of them are superseded, whatever the order in which they arrived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.batches import AsOf
from jobs.delta_log import ANY, Where
from jobs.key_beginnings import Sought
from jobs.lake import versions
from jobs.land import read_deliveries
from jobs.pseudonyms import PSEUDONYM
from jobs.repeats import DUPLICATE
from jobs.spark import FEW_ROWS
from jobs.steps import OnDriver, Steps, asked
from jobs.table_rows import POSITION, OfFiles, files_of, having, meet, read
from schemas.table import Table
from schemas.tables import LANDED, REJECTED

_POSITIONS = pa.schema([(name, pa.int64()) for name in POSITION])
_KEYS = pa.schema([("record_key", pa.binary())])
_KEY = ("record_key", PSEUDONYM)
_ACCEPTED = pa.schema([_KEY, *_POSITIONS, ("is_conflicting", pa.bool_())])
_DUPLICATES = pa.schema([_KEY, *_POSITIONS, *((f"duplicate_of_{name}", pa.int64()) for name in POSITION)])
_RANKS = pa.schema([("file_number", pa.int64()), ("file_sequence", pa.int64()), ("file_hash", pa.string())])
# The accepted position ends the order, so that it is total.
_SUPERSEDED = """
    WITH conflicting AS (SELECT DISTINCT record_key FROM accepted WHERE is_conflicting),
    contending AS (
        SELECT DISTINCT record_key, file_number, record_ordinal FROM accepted SEMI JOIN conflicting USING (record_key)
    ),
    copies AS (
        SELECT record_key, file_number AS of_file, record_ordinal AS of_ordinal, file_number, record_ordinal FROM contending
        UNION ALL
        SELECT record_key, contending.file_number, contending.record_ordinal, duplicates.file_number, duplicates.record_ordinal
        FROM duplicates JOIN contending USING (record_key)
        WHERE duplicate_of_file_number = contending.file_number AND duplicate_of_record_ordinal = contending.record_ordinal
    ), delivered AS (
        SELECT record_key, of_file, of_ordinal, max({
            'sequence': coalesce(file_sequence, -1), 'hash': file_hash, 'ordinal': record_ordinal,
            'of_file': of_file, 'of_ordinal': of_ordinal
        }) AS last
        FROM copies JOIN deliveries USING (file_number) GROUP BY ALL
    )
    SELECT of_file AS file_number, of_ordinal AS record_ordinal FROM delivered
    QUALIFY last <> max(last) OVER (PARTITION BY record_key)
"""


def superseded(counted: AsOf, table: Table, where: Where = ANY) -> Steps:
    """Of records with one key and different content, all but the one whose content was delivered last.

    Last is the greatest (file sequence, file hash, ordinal) over every delivery of the content, duplicates too, so that the order
    of arrival does not matter. A record is kept or dropped with all its rows of the month.

    Args:
        counted: the lake as of a batch.
        table: ``accepted`` or ``subscriptions``.
        where: what rows have in some columns.

    Returns:
        ``file_number, record_ordinal`` of the records that do not count.
    """
    lake, ranks = counted.lake, _ranks(counted)
    # Conflicts are rare, and looking for them first keeps what is looked at small.
    flagged = replace(files_of(counted, table, where, ["is_conflicting"], _is_conflicting), true_in="is_conflicting")
    found = read(OfFiles(lake, [flagged], _KEYS.names), _KEYS, FEW_ROWS + 1)
    if not len(found):
        return OnDriver(_POSITIONS.empty_table())
    are_many = len(found) > FEW_ROWS
    contending = _has_key if are_many else having(Sought.among(found["record_key"]))
    accepted = OfFiles(lake, [files_of(counted, table, where, _KEYS.names, contending)], _ACCEPTED.names)
    duplicates = OfFiles(lake, [files_of(counted, REJECTED, {"reason": DUPLICATE}, _KEYS.names, contending)], _DUPLICATES.names)

    def told(**of: pa.Table) -> Iterator[pa.RecordBatch]:
        yield from judged(**of, deliveries=ranks).combine_chunks().to_batches()

    tables = {"accepted": (accepted, _ACCEPTED), "duplicates": (duplicates, _DUPLICATES)}
    return meet(lake.spark, "record_key", tables, told, _POSITIONS, None if are_many else len(found))


def judged(accepted: pa.Table, duplicates: pa.Table, deliveries: pa.Table) -> pa.Table:
    """Rows of ``superseded``.

    Args:
        accepted: ``record_key, file_number, record_ordinal, is_conflicting`` of records that were accepted.
        duplicates: key and position of duplicates, and the position of the accepted copy.
        deliveries: ``file_number, file_sequence, file_hash`` of every delivery.
    """
    return asked(_SUPERSEDED, accepted=accepted, duplicates=duplicates, deliveries=deliveries).cast(_POSITIONS)


def some_superseded(counted: AsOf, table: Table, where: Where = ANY) -> pa.Table:
    """Rows of ``superseded``, on the driver: one more than FEW_ROWS at most.

    Looked for once while the tables are as they are: metering and the verdict ask for the same.
    """
    state = (counted.cutoff, versions(counted.lake, (table, REJECTED, LANDED)))
    found: pa.Table = counted.lake.kept(
        f"superseded {table.name} {where}", state, lambda: superseded(counted, table, where).rows(FEW_ROWS + 1)
    )
    return found


def settled(counted: AsOf, table: Table, where: Where = ANY) -> DataFrame:
    """Rows of ``accepted`` or ``subscriptions`` that count, without those that a later delivery corrected."""
    rows, found = counted.rows(table, where), some_superseded(counted, table, where)
    if not len(found):
        return rows
    if len(found) > FEW_ROWS:
        dropped = superseded(counted, table, where).in_frame(counted.lake.spark)
    else:
        dropped = F.broadcast(counted.lake.spark.createDataFrame(found))
    return rows.join(dropped, list(POSITION), "left_anti").select(*table.names)


def _is_conflicting(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    return np.asarray(rows["is_conflicting"], bool) & _has_key(rows)


def _has_key(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_valid(rows["record_key"]), bool)


def _ranks(counted: AsOf) -> pa.Table:
    """Sequence and hash of every delivery, as far as they rank records; the same bytes rank as their latest delivery."""
    deliveries = read_deliveries(counted.lake)
    latest: dict[str, int] = {}
    for delivery in deliveries:
        latest[delivery.file_hash] = max(latest.get(delivery.file_hash, -1), delivery.file_sequence or -1)
    rows = [{"file_number": d.file_number, "file_sequence": latest[d.file_hash], "file_hash": d.file_hash} for d in deliveries]
    return pa.Table.from_pylist(rows, _RANKS)
