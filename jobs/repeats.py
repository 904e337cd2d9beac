"""Once: the same content under the same key is a duplicate, other content a conflict. Found on narrow keys of written data.

A shuffle of every record costs more than reading it, and hardly any record comes twice. So first the beginnings of the record
keys are compared. The rows that are found to begin alike are read and looked at exactly, by key and content; and only the data
files that hold a repeat are written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.alike import BUCKET, Alike, Counting, beside, by_data_file, in_group
from jobs.data_files import FOUND, DataFile, TableWriter
from jobs.key_beginnings import PLACES
from jobs.lake import Lake
from jobs.steps import asked
from schemas.table import Table
from schemas.tables import READINGS, REJECTED, SUBSCRIPTIONS

DUPLICATE = "duplicate"
"""Reason of records that were received before."""
_POSITION = ("file_number", "record_ordinal", "interval_index", "month_part", "keys_part")
_DUPLICATE_OF = ("duplicate_of_file_number", "duplicate_of_record_ordinal")
_JUDGED = pa.schema(
    [
        *PLACES,
        *(pa.field(name, pa.int64()) for name in _DUPLICATE_OF),
        *(pa.field(name, pa.bool_()) for name in ("is_conflicting", "is_first")),
    ]
)


def remove(
    lake: Lake, table: Table, files: Sequence[DataFile], before: Mapping[str, int], counting: Counting, rejected: str
) -> Iterator[dict[str, Any]]:
    """Write data files anew that hold records that came before, or whose key came with other content.

    Args:
        lake: the lake.
        table: the table the files are for.
        files: data files that are not yet part of it.
        before: its data files whose rows they may repeat: rows by path.
        counting: which rows of the table count: all of the new ones.
        rejected: where data files of ``rejected`` are written.

    Yields:
        Paths ``replaced``, data files ``accepted`` in their place and ``rejected`` with the duplicates, and ``duplicates``:
        records and octets of volume by file number.
    """
    if not files:
        return
    rows = {**{file.path: file.rows for file in files}, **before}
    alike = Alike.of(lake, table, "record_key", rows, len(files))
    compared = _Compared(alike, rejected)
    suspects = alike.rows(lake.spark, counting, compared.as_judged, _suspected(table))
    judged = suspects.then("bucket", alike.buckets, compared.judged, in_group(_JUDGED), are_mostly_few=True)
    for row in judged.then("of_group", len(alike.groups), compared.rewritten, FOUND).rows()["found"].to_pylist():
        yield json.loads(row)


def is_first_row(table: Table) -> str:
    """One row stands for each record: its first interval, in its first month; an assignment's under its earliest keys. As SQL."""
    # A table that came to a worker is another object.
    if table.name == SUBSCRIPTIONS.name:
        return "keys_part = 0"
    return "true" if table.name == READINGS.name else "interval_index = 0 AND month_part <= 1"


def content_hash(table: Table) -> str:
    """Hash of what a record says, apart from where it was read, as SQL of DuckDB: equal for true duplicates."""
    where = {*_POSITION, "batch", "source", "byte_offset", "keys_from", "record_key", "is_conflicting"}
    return f"CAST(hash({', '.join(name for name in table.names if name not in where)}) >> 1 AS BIGINT)"


def _parts(table: Table) -> list[str]:
    """Columns by which the rows of a record are told apart."""
    return [name for name in ("interval_index", "month_part", "usage_month", "keys_from") if name in table.names]


def _suspected(table: Table) -> pa.Schema:
    """Of a row that may be a repeat: what it is judged by, and its place."""
    of_table = ["record_key", *_parts(table), "file_number", "record_ordinal"]
    told = [("content_hash", pa.int64()), ("is_candidate", pa.bool_()), ("is_first", pa.bool_())]
    return pa.schema([BUCKET, *(table.arrow_schema.field(name) for name in of_table), *told, *PLACES])


def find_repeats(rows: pa.Table, table: Table) -> pa.Table:
    """Records that were received before, or whose key came with other content.

    A true duplicate has equal times, so it lies in the same month and its parts can be compared one by one. A conflict is seen
    where both contents have octets in one month.

    Args:
        rows: what rows of the table are judged by; ``is_candidate`` says which are new, the others were there before.
        table: the table.

    Returns:
        The repeated candidates, with ``duplicate_of_file_number`` and ``duplicate_of_record_ordinal`` (null if it is no
        duplicate) and whether one ``is_conflicting``.
    """
    # Conflicting content may be split at the month end where the other is not: parts are compared only where contents are equal.
    of_key = ", ".join(["record_key", *[name for name in _parts(table) if name != "month_part"]])
    of_content = ", ".join(["record_key", *_parts(table), "content_hash"])
    return asked(
        f"""
        SELECT * EXCLUDE (is_copy, first_file_number, first_record_ordinal),
            CASE WHEN is_copy THEN first_file_number END AS duplicate_of_file_number,
            CASE WHEN is_copy THEN first_record_ordinal END AS duplicate_of_record_ordinal
        FROM (
            SELECT *,
                row_number() OVER same_content > 1 AS is_copy,
                first_value(file_number) OVER same_content AS first_file_number,
                first_value(record_ordinal) OVER same_content AS first_record_ordinal,
                min(content_hash) OVER same_key <> max(content_hash) OVER same_key AS is_conflicting
            FROM rows WHERE record_key IS NOT NULL
            WINDOW same_key AS (PARTITION BY {of_key}),
                same_content AS (PARTITION BY {of_content} ORDER BY is_candidate, file_number, record_ordinal)
        )
        WHERE is_candidate AND (is_copy OR is_conflicting)
        """,
        rows=rows,
    )


@dataclass(frozen=True)
class _Compared:
    """What is asked of records that may be repeats: rows as they are judged, the verdict, and what is written for it.

    Args:
        alike: the records' data files.
        rejected: where data files of ``rejected`` are written.
    """

    alike: Alike
    rejected: str

    def as_judged(self, rows: pa.Table) -> pa.Table:
        """What rows are judged by."""
        table = self.alike.table
        worked_out = {
            "content_hash": content_hash(table),
            "is_candidate": f"data_file < {self.alike.new_files}",
            "is_first": is_first_row(table),
        }
        names = _suspected(table).names
        return asked(f"SELECT {', '.join(f'{worked_out.get(name, name)} AS {name}' for name in names)} FROM rows", rows=rows)

    def judged(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The repeats of some buckets."""
        if some := [batch for batch in batches if len(batch)]:
            found = find_repeats(pa.Table.from_batches(some), self.alike.table)
            yield from self.alike.with_group(found.select(_JUDGED.names).cast(_JUDGED))

    def rewritten(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """What was written anew of a group's data files, together, as JSON."""
        table = self.alike.table
        accepted, rejected = TableWriter(table, self.alike.place), TableWriter(REJECTED, self.rejected)
        found: dict[str, list[Any]] = {"replaced": [], "duplicates": []}
        for number, repeats in by_data_file(batches):
            found["replaced"].append(self.alike.paths[number])
            found["duplicates"] += _without_duplicates(table, self.alike.paths[number], repeats, accepted, rejected)
        if found["replaced"]:
            files = {"accepted": accepted.close(), "rejected": rejected.close()}
            found |= {name: [file.as_json() for file in written] for name, written in files.items()}
            yield pa.RecordBatch.from_pylist([{"found": json.dumps(found)}], FOUND)


def _without_duplicates(
    table: Table, path: str, repeats: pa.Table, accepted: TableWriter, rejected: TableWriter
) -> Iterator[tuple[int, Mapping[str, int]]]:
    """Write a data file anew: without its duplicates, which are rejected and counted by file, and with its conflicts flagged."""
    for rows, here, at in beside(accepted.root, path, table, repeats):
        is_duplicate = here["duplicate_of_file_number"].is_valid().to_numpy()
        conflicting, kept = np.zeros(len(rows), bool), np.ones(len(rows), bool)
        conflicting[at[here["is_conflicting"].to_numpy()]] = True
        kept[at[is_duplicate]] = False
        columns = {name: rows[name].filter(pa.array(kept)) for name in table.names}
        accepted.write({**columns, "is_conflicting": pa.array(conflicting[kept])})
        removed = here.filter(pa.array(is_duplicate))
        duplicates, first = rows.take(pa.array(at[is_duplicate])), removed["is_first"].combine_chunks()
        same = {name: duplicates[name].filter(first) for name in REJECTED.names if name in table.names}
        judged = {name: removed[name].combine_chunks().filter(first) for name in _DUPLICATE_OF}
        rejected.write({**same, **judged, "reason": DUPLICATE})
        yield from _counted(pa.Table.from_batches([duplicates.append_column("is_first", first)]))


def _counted(duplicates: pa.Table) -> Iterator[tuple[int, Mapping[str, int]]]:
    """Duplicate records and their octets of volume, by file number."""
    volume = (
        pc.add(duplicates["octets_up"], duplicates["octets_down"])
        if "octets_up" in duplicates.column_names
        else pa.chunked_array([pa.repeat(pa.scalar(0, pa.int64()), len(duplicates))])
    )
    by_file = (
        duplicates.append_column("volume", volume).group_by("file_number").aggregate([("is_first", "sum"), ("volume", "sum")])
    )
    for row in by_file.to_pylist():
        yield row["file_number"], {"duplicate": row["is_first_sum"], "volume_duplicate": row["volume_sum"]}
