"""Once: the same content under the same key is a duplicate, other content a conflict. Found on narrow keys of written data.

A shuffle of every record costs more than reading it, and hardly any record comes twice. So first the beginnings of the record
keys are compared: forty bits each, with the number of the row in the other twenty-four of one number, as sorted arrays that Spark
moves by the thousand as one value. The rows that are found to begin alike are read and looked at exactly, by key and content; and
only the data files that hold a repeat are written anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.data_files import FOUND, DataFile, TableWriter, data_file_batches
from jobs.lake import Lake
from jobs.meter import DUPLICATE
from jobs.pseudonyms import PSEUDONYM, beginnings
from jobs.spark import in_tasks
from schemas.table import Table
from schemas.tables import READINGS, REJECTED, SUBSCRIPTIONS

_ROW_BITS = np.uint64(24)
"""Of the first eight octets of a key, as many bits give way to the number of its row."""
_ROW_MASK = (np.uint64(1) << _ROW_BITS) - np.uint64(1)
_BUCKET_ROWS = 1 << 22
_MANY_TIMES = 8
_HANDED_ON_ROWS = 1 << 16
_POSITION = ("file_number", "record_ordinal", "interval_index", "month_part", "keys_part")
_FIRST = ("file_number", "record_ordinal")
_CARRIED = ("data_file", "row_index")
_PLACES = pa.schema([("data_file", pa.int32()), ("row_index", pa.int64())])
_KEYS = pa.schema([("bucket", pa.int32()), ("data_file", pa.int32()), ("first_row", pa.int64()), ("keys", pa.binary())])


def remove(
    lake: Lake,
    table: Table,
    files: Sequence[DataFile],
    before: Sequence[str],
    counting: Callable[[DataFrame], DataFrame],
    rejected: str,
) -> Iterator[dict[str, Any]]:
    """Write data files anew that hold records that came before, or whose key came with other content.

    Args:
        lake: the lake.
        table: the table the files are for.
        files: data files that are not yet part of it.
        before: paths of its data files whose rows they may repeat.
        counting: of rows of the table, those that count; the new ones all do.
        rejected: where data files of ``rejected`` are written.

    Yields:
        Paths ``replaced``, data files ``accepted`` in their place and ``rejected`` with the duplicates, and ``duplicates``:
        records and octets of volume by file number.
    """
    if files:
        paths = [*(file.path for file in files), *before]
        suspects = counting(_rows_at(lake, table, paths, _suspects(lake, table, files, paths)))
        hashed = suspects.withColumns({"content_hash": content_hash(table), "is_candidate": F.col("data_file") < len(files)})
        yield from _rewritten(lake, table, find_repeats(hashed, table), rejected, paths[: len(files)])


class Met:
    """Record keys that a task has met, so that a record that comes again can be put into a file of its own.

    A network element that says something twice mostly does so soon after. Where second copies lie apart, they are removed without
    writing the records around them anew. Only where rows lie depends on it: coincidences do no harm.
    """

    def __init__(self) -> None:
        """Nothing is met yet."""
        self._beginnings: list[tuple[np.uint64, npt.NDArray[np.uint64]]] = []
        """Of the keys of each call, sorted, and how many of their 64 bits gave way to the number of a row."""

    def __call__(self, batches: Sequence[pa.RecordBatch]) -> npt.NDArray[np.bool_]:
        """Which rows begin as an earlier one of the task does, unless it stands right before: then they are of one record."""
        keys, rows = _beginnings(batches)
        count = sum(map(len, batches))
        row_bits = np.uint64(count.bit_length())
        row_mask = (np.uint64(1) << row_bits) - np.uint64(1)
        numbers = np.sort((keys & ~row_mask) | rows.astype(np.uint64))
        rows, keys = (numbers & row_mask).astype(np.int64), numbers >> row_bits
        is_same = np.zeros(len(keys), bool)
        is_same[1:] = keys[1:] == keys[:-1]
        begins = ~is_same
        begins[1:] |= rows[1:] != rows[:-1] + 1
        come_again = is_same & begins
        for bits, earlier in self._beginnings:
            shorter = max(bits, row_bits)
            come_again |= _is_among(keys >> (shorter - row_bits), earlier >> (shorter - bits))
        self._beginnings.append((row_bits, keys))
        found = np.zeros(count, bool)
        if come_again.any():
            runs = np.flatnonzero(begins)
            found[rows] = np.repeat(come_again[runs], np.diff(np.r_[runs, len(rows)]))
        return found


def content_hash(table: Table) -> Column:
    """xxHash64 of what a record says, apart from where it was read: equal for true duplicates."""
    where = {*_POSITION, "batch", "source", "byte_offset", "keys_from", "record_key", "is_conflicting"}
    return F.xxhash64(*[name for name in table.names if name not in where])


def find_repeats(rows: DataFrame, table: Table) -> DataFrame:
    """Records that were received before, or whose key came with other content.

    A true duplicate has equal times, so it lies in the same month and its parts can be compared one by one. A conflict is seen
    where both contents have octets in one month.

    Args:
        rows: rows of the table with their ``content_hash``; ``is_candidate`` says which are new, the others were there before.
            May carry ``data_file`` and ``row_index``.
        table: the table.

    Returns:
        One row per repeated candidate: its position and what it carries, ``duplicate_of_file_number`` and
        ``duplicate_of_record_ordinal`` (null if it is no duplicate) and ``is_conflicting``.
    """
    part = [name for name in ("interval_index", "month_part", "usage_month", "keys_from") if name in table.names]
    position = [name for name in _POSITION if name in table.names]
    carried = [name for name in _CARRIED if name in rows.columns]
    # Conflicting content may be split at the month end where the other is not: parts are compared only where contents are equal.
    same_key = Window.partitionBy("record_key", *[name for name in part if name != "month_part"])
    same_content = Window.partitionBy("record_key", *part, "content_hash").orderBy(
        "is_candidate", "file_number", "record_ordinal"
    )
    judged = rows.where("record_key IS NOT NULL").select(
        *position,
        *carried,
        "is_candidate",
        F.row_number().over(same_content).alias("copy"),
        *[F.first(name).over(same_content).alias(f"first_{name}") for name in _FIRST],
        (F.min("content_hash").over(same_key) != F.max("content_hash").over(same_key)).alias("is_conflicting"),
    )
    is_duplicate = F.col("copy") > 1
    return judged.where(F.col("is_candidate") & (is_duplicate | F.col("is_conflicting"))).select(
        *position,
        *carried,
        *[F.when(is_duplicate, F.col(f"first_{name}")).alias(f"duplicate_of_{name}") for name in _FIRST],
        "is_conflicting",
    )


def is_first_row(table: Table) -> Column:
    """One row stands for each record: its first interval, in its first month; an assignment's under its earliest keys."""
    if table is SUBSCRIPTIONS:
        return F.col("keys_part") == 0
    return F.lit(True) if table is READINGS else (F.col("interval_index") == 0) & (F.col("month_part") <= 1)


def _suspects(lake: Lake, table: Table, files: Sequence[DataFile], paths: Sequence[str]) -> DataFrame:
    """Rows whose record keys begin alike, if one of them is in the new files, which the paths begin with.

    Returns:
        ``data_file``, the number of a path, and ``row_index``.
    """
    place = lake.path(table)
    workers = int(lake.spark.sparkContext.defaultParallelism)
    buckets = 1 << max(workers, sum(file.rows for file in files) // _BUCKET_ROWS).bit_length()

    def read(number: int) -> pa.RecordBatch:
        return _bucketed(data_file_batches(place, paths[number], table, ["record_key"]), number, buckets)

    def repeated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = []
        for of in (row for rows in batches for row in rows.to_pylist()):
            numbers = np.frombuffer(of["keys"], np.uint64)
            parts.append((of["data_file"], of["first_row"], numbers & _ROW_MASK, numbers >> _ROW_BITS))
        new, before = ([keys for number, *_, keys in parts if (number < len(files)) is there] for there in (True, False))
        sought = _repeated(new, before)
        for number, first_row, rows, keys in parts:
            found = rows[_is_among(keys, sought)].astype(np.int64) + first_row
            data_files = pa.repeat(pa.scalar(number, pa.int32()), len(found))
            yield pa.RecordBatch.from_arrays([data_files, pa.array(found)], schema=_PLACES)

    keys = in_tasks(lake.spark, len(paths), read, _KEYS)
    return keys.repartitionById(buckets, "bucket").mapInArrow(repeated, from_arrow_schema(_PLACES))


def _bucketed(batches: Iterable[pa.RecordBatch], data_file: int, buckets: int) -> pa.RecordBatch:
    """The record keys of a data file, sorted, in a row for each bucket of their values."""
    every, rows = _beginnings(batches)
    found = []
    for first_row in range(0, int(rows[-1]) + 1 if len(rows) else 0, 1 << int(_ROW_BITS)):
        some = slice(*np.searchsorted(rows, [first_row, first_row + (1 << int(_ROW_BITS))]))
        keys = np.sort((every[some] & ~_ROW_MASK) | (rows[some] - first_row).astype(np.uint64))
        ends = np.arange(1, buckets, dtype=np.uint64) << np.uint64(64 - (buckets - 1).bit_length())
        parts = np.split(keys, np.searchsorted(keys, ends))
        found += [(bucket, data_file, first_row, part.tobytes()) for bucket, part in enumerate(parts)]
    columns = list(zip(*found, strict=True)) or [()] * len(_KEYS)
    return pa.RecordBatch.from_arrays([pa.array(of, kind) for of, kind in zip(columns, _KEYS.types, strict=True)], schema=_KEYS)


def _beginnings(batches: Iterable[pa.RecordBatch]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The first octets of the record keys that are there, each as one number, and the rows that they are in."""
    found, rows, first = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    for batch in batches:
        record_keys = batch["record_key"]
        found.append(beginnings(record_keys.drop_null().cast(PSEUDONYM)))
        rows.append(first + np.flatnonzero(record_keys.is_valid().to_numpy(zero_copy_only=False)))
        first += len(record_keys)
    return np.concatenate(found), np.concatenate(rows)


def _repeated(new: Sequence[npt.NDArray[np.uint64]], before: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """Of new keys those that stand twice, or are among those before; sorted, each once."""
    keys = np.sort(np.concatenate([np.zeros(0, np.uint64), *new]))
    return np.unique(np.concatenate([keys[1:][keys[1:] == keys[:-1]], *[keys[_is_among(keys, old)] for old in before]]))


def _is_among(keys: npt.NDArray[np.uint64], some: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the keys are among some; both are sorted."""
    if not len(some):
        return np.zeros(len(keys), bool)
    if len(some) * _MANY_TIMES < len(keys):  # it is the few that are sought
        found = np.zeros(len(keys), bool)
        first, counts = np.searchsorted(keys, some), np.searchsorted(keys, some, side="right")
        counts -= first
        found[np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())] = True
        return found
    among: npt.NDArray[np.bool_] = some[np.minimum(np.searchsorted(some, keys), len(some) - 1)] == keys
    return among


def _rows_at(lake: Lake, table: Table, paths: Sequence[str], places: DataFrame) -> DataFrame:
    """Rows of data files at some places, with their ``data_file`` and ``row_index``."""
    place = lake.path(table)
    schema = pa.schema([*table.arrow_schema, *_PLACES])

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, found in _of_data_file(batches):
            yield from _together(taken(number, found))

    def taken(number: int, found: pa.Table) -> Iterator[pa.RecordBatch]:
        for rows, here, at in _beside(place, paths[number], table, found):
            if len(at):
                carried = [here[name].combine_chunks() for name in _CARRIED]
                yield pa.RecordBatch.from_arrays([*rows.take(pa.array(at)), *carried], schema=schema)

    return places.repartitionById(len(paths), "data_file").mapInArrow(read, from_arrow_schema(schema))


def _together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in few batches: Spark takes milliseconds for each, however few rows it has."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= _HANDED_ON_ROWS:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held = []
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _of_data_file(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a task, which are of one data file, in its order; nothing if it has none."""
    if some := [batch for batch in batches if len(batch)]:
        rows = pa.Table.from_batches(some).sort_by("row_index").combine_chunks()
        yield rows["data_file"][0].as_py(), rows


def _beside(
    place: str, path: str, table: Table, places: pa.Table
) -> Iterator[tuple[pa.RecordBatch, pa.Table, npt.NDArray[np.int64]]]:
    """Rows of a data file, some at a time, with the places that lie among them, and where."""
    indices, begin = places["row_index"].to_numpy(), 0
    for rows in data_file_batches(place, path, table):
        first, last = np.searchsorted(indices, [begin, begin + len(rows)])
        yield rows, places.slice(first, last - first), indices[first:last] - begin
        begin += len(rows)


def _rewritten(lake: Lake, table: Table, repeats: DataFrame, rejected: str, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    place = lake.path(table)

    def rewrite(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, of_file in _of_data_file(batches):
            writers = TableWriter(table, place), TableWriter(REJECTED, rejected)
            found = _without_duplicates(table, paths[number], of_file, *writers)
            yield pa.RecordBatch.from_pylist([{"found": json.dumps(found)}], FOUND)

    columns = (*_CARRIED, *[f"duplicate_of_{name}" for name in _FIRST], "is_conflicting")
    by_file = repeats.select(*columns, is_first_row(table).alias("is_first")).repartitionById(len(paths), "data_file")
    for row in by_file.mapInArrow(rewrite, from_arrow_schema(FOUND)).collect():
        yield json.loads(row.found)


def _without_duplicates(
    table: Table, path: str, repeats: pa.Table, accepted: TableWriter, rejected: TableWriter
) -> dict[str, Any]:
    """Write a data file anew: without its duplicates, which are rejected, and with its conflicts flagged."""
    counted: list[tuple[int, Mapping[str, int]]] = []
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
        judged = {name: removed[name].combine_chunks().filter(first) for name in [f"duplicate_of_{part}" for part in _FIRST]}
        rejected.write({**same, **judged, "reason": DUPLICATE})
        counted += _counted(pa.Table.from_batches([duplicates.append_column("is_first", first)]))
    return {
        "replaced": [path],
        "accepted": [file.as_json() for file in accepted.close()],
        "rejected": [file.as_json() for file in rejected.close()],
        "duplicates": counted,
    }


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
