"""Once: the same content under the same key is a duplicate, other content a conflict. Found on narrow keys of written data.

A shuffle of every record costs more than reading it, and hardly any record comes twice. So first the beginnings of the record
keys are compared. The rows that are found to begin alike are read and looked at exactly, by key and content; and only the data
files that hold a repeat are written anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.data_files import FOUND, DataFile, TableWriter, data_file_batches
from jobs.key_beginnings import KEYS, PLACES, Sought, bucketed, repeated_places
from jobs.lake import Lake
from jobs.meter import DUPLICATE
from jobs.pseudonyms import PSEUDONYM, beginnings
from jobs.steps import are_few, asked, begin, in_groups
from schemas.table import Table
from schemas.tables import READINGS, REJECTED, SUBSCRIPTIONS

_BUCKET_ROWS = 1 << 22
_POSITION = ("file_number", "record_ordinal", "interval_index", "month_part", "keys_part")
_DUPLICATE_OF = ("duplicate_of_file_number", "duplicate_of_record_ordinal")
_GROUPED = pa.field("of_group", pa.int32())
"""Which group of data files a row is of."""
_BUCKET = pa.field("bucket", pa.int32())
_JUDGED = pa.schema(
    [
        *PLACES,
        *(pa.field(name, pa.int64()) for name in _DUPLICATE_OF),
        *(pa.field(name, pa.bool_()) for name in ("is_conflicting", "is_first")),
    ]
)
Counting = Callable[[pa.RecordBatch], npt.NDArray[np.bool_]]


def remove(
    lake: Lake, table: Table, files: Sequence[DataFile], before: Mapping[str, int], counting: Counting, rejected: str
) -> Iterator[dict[str, Any]]:
    """Write data files anew that hold records that came before, or whose key came with other content.

    Args:
        lake: the lake.
        table: the table the files are for.
        files: data files that are not yet part of it.
        before: its data files whose rows they may repeat: rows by path.
        counting: of rows of the table, which count; the new ones all do.
        rejected: where data files of ``rejected`` are written.

    Yields:
        Paths ``replaced``, data files ``accepted`` in their place and ``rejected`` with the duplicates, and ``duplicates``:
        records and octets of volume by file number.
    """
    if not files:
        return
    rows = {**{file.path: file.rows for file in files}, **before}
    groups = in_groups([*rows.values()])
    buckets = 1 << max(int(lake.spark.sparkContext.defaultParallelism) // 2, sum(rows.values()) // _BUCKET_ROWS).bit_length()
    compared = _Compared(table, lake.path(table), rejected, [*rows], len(files), groups, buckets)
    sought = None
    if not are_few(rows.values()) and are_few(file.rows for file in files):
        sought = Sought.of(begin(lake.spark, True, len(files), compared.keys_of, KEYS).rows())
    found = begin(lake.spark, are_few(rows.values()), len(groups), lambda group: compared.keys(group, sought), KEYS)
    places = found.then("bucket", compared.buckets, compared.places, _in(_GROUPED, PLACES))
    suspects = places.then("of_group", len(groups), lambda batches: compared.suspects(batches, counting), _suspected(table))
    judged = suspects.then("bucket", compared.buckets, compared.judged, _in(_GROUPED, _JUDGED))
    for row in judged.then("of_group", len(groups), compared.rewritten, FOUND).rows()["found"].to_pylist():
        yield json.loads(row)


def _in(number: pa.Field, schema: pa.Schema) -> pa.Schema:
    return pa.schema([number, *schema])


def is_first_row(table: Table) -> str:
    """One row stands for each record: its first interval, in its first month; an assignment's under its earliest keys. As SQL."""
    if table is SUBSCRIPTIONS:
        return "keys_part = 0"
    return "true" if table is READINGS else "interval_index = 0 AND month_part <= 1"


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
    return pa.schema([_BUCKET, *(table.arrow_schema.field(name) for name in of_table), *told, *PLACES])


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
        rows,
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
    )


@dataclass(frozen=True)
class _Compared:
    """The steps of a comparison; each looks at a group of data files, or at a bucket of keys.

    Args:
        table: the table.
        place: where it lies.
        rejected: where data files of ``rejected`` are written.
        paths: data files, the new ones first.
        new_files: how many are new.
        groups: numbers of the paths that are looked at together.
        buckets: how many buckets keys are in, by their value: a power of two.
    """

    table: Table
    place: str
    rejected: str
    paths: Sequence[str]
    new_files: int
    groups: Sequence[Sequence[int]]
    buckets: int

    def keys(self, group: int, sought: Sought | None) -> Iterator[pa.RecordBatch]:
        """Keys of a group's data files, as numbers; of those that were there before only what is sought, if new ones are few."""
        for number in self.groups[group]:
            yield from self.keys_of(number, None if number < self.new_files else sought)

    def keys_of(self, number: int, sought: Sought | None = None) -> Iterator[pa.RecordBatch]:
        """Keys of a data file, as numbers."""
        batches = data_file_batches(self.place, self.paths[number], self.table, ["record_key"])
        yield bucketed(batches, number, self.buckets, sought)

    def places(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Places of rows of a bucket that may be repeats."""
        for found in repeated_places(batches, self.new_files):
            yield self._with_group(found)

    def _with_group(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows with the number of the group that their data file is in."""
        group_of = np.repeat(np.arange(len(self.groups), dtype=np.int32), [len(group) for group in self.groups])
        groups = pa.array(group_of[rows["data_file"].to_numpy()])
        return pa.RecordBatch.from_arrays([groups, *rows.columns], schema=_in(_GROUPED, rows.schema))

    def suspects(self, batches: Iterable[pa.RecordBatch], counting: Counting) -> Iterator[pa.RecordBatch]:
        """Rows at the places of a group, as they are judged."""
        found = []
        for number, places in _by_data_file(batches):
            for rows, here, at in _beside(self.place, self.paths[number], self.table, places):
                if len(at):
                    taken = rows.take(pa.array(at)).cast(self.table.arrow_schema)
                    for name in PLACES.names:
                        taken = taken.append_column(name, here[name].combine_chunks())
                    found.append(taken if number < self.new_files else taken.filter(pa.array(counting(taken))))
        if found:
            yield from self._as_judged(pa.Table.from_batches(found))

    def _as_judged(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        schema = _suspected(self.table)
        keys = beginnings(rows["record_key"].cast(PSEUDONYM).combine_chunks())
        buckets = keys >> np.uint64(64 - (self.buckets - 1).bit_length())
        worked_out = {
            "content_hash": content_hash(self.table),
            "is_candidate": f"data_file < {self.new_files}",
            "is_first": is_first_row(self.table),
        }
        chosen = [f"{worked_out[name]} AS {name}" if name in worked_out else name for name in schema.names]
        numbered = rows.append_column(_BUCKET, pa.array(buckets.astype(np.int32)))
        yield from asked(numbered, f"SELECT {', '.join(chosen)} FROM rows").cast(schema).combine_chunks().to_batches()

    def judged(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The repeats of a bucket."""
        if some := [batch for batch in batches if len(batch)]:
            found = find_repeats(pa.Table.from_batches(some), self.table).select(_JUDGED.names).cast(_JUDGED)
            for batch in found.combine_chunks().to_batches():
                yield self._with_group(batch)

    def rewritten(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """What was written anew of a group's data files, together, as JSON."""
        accepted, rejected = TableWriter(self.table, self.place), TableWriter(REJECTED, self.rejected)
        found: dict[str, list[Any]] = {"replaced": [], "duplicates": []}
        for number, repeats in _by_data_file(batches):
            found["replaced"].append(self.paths[number])
            found["duplicates"] += _without_duplicates(self.table, self.paths[number], repeats, accepted, rejected)
        if found["replaced"]:
            files = {"accepted": accepted.close(), "rejected": rejected.close()}
            found |= {name: [file.as_json() for file in written] for name, written in files.items()}
            yield pa.RecordBatch.from_pylist([{"found": json.dumps(found)}], FOUND)


def _by_data_file(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Rows of each data file among them, in its order."""
    if some := [batch for batch in batches if len(batch)]:
        rows = pa.Table.from_batches(some).sort_by([("data_file", "ascending"), ("row_index", "ascending")]).combine_chunks()
        numbers = rows["data_file"].to_numpy()
        for number in np.unique(numbers).tolist():
            first, last = np.searchsorted(numbers, [number, number + 1])
            yield number, rows.slice(first, last - first)


def _beside(
    place: str, path: str, table: Table, places: pa.Table
) -> Iterator[tuple[pa.RecordBatch, pa.Table, npt.NDArray[np.int64]]]:
    """Rows of a data file, some at a time and texts encoded, with the places that lie among them, and where."""
    indices, begin = places["row_index"].to_numpy(), 0
    for rows in data_file_batches(place, path, table, encoded=table.texts):
        first, last = np.searchsorted(indices, [begin, begin + len(rows)])
        yield rows, places.slice(first, last - first), indices[first:last] - begin
        begin += len(rows)


def _without_duplicates(
    table: Table, path: str, repeats: pa.Table, accepted: TableWriter, rejected: TableWriter
) -> Iterator[tuple[int, Mapping[str, int]]]:
    """Write a data file anew: without its duplicates, which are rejected and counted by file, and with its conflicts flagged."""
    for rows, here, at in _beside(accepted.root, path, table, repeats):
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
