"""Once: the same content under the same key is a duplicate, other content a conflict. Found on narrow keys of written data.

A shuffle of every record costs more than reading it, and hardly any record comes twice. So first the beginnings of the record
keys are compared: eight octets each, as sorted arrays that Spark moves by the thousand as one value. What is repeated there is
looked at exactly, by key and content; and only the data files that hold a repeat are written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

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
from jobs.spark import in_tasks
from schemas.table import Table
from schemas.tables import READINGS, REJECTED, SUBSCRIPTIONS

BEGINNING_OCTETS = 8
"""Octets of a record key that are compared first."""
_BUCKET_ROWS = 1 << 22
_BROADCAST_ROWS = 1 << 20
_POSITION = ("file_number", "record_ordinal", "interval_index", "month_part", "keys_part")
_FIRST = ("file_number", "record_ordinal")
_CARRIED = ("data_file", "row_index")
_KEYS = pa.schema([("bucket", pa.int32()), ("is_new", pa.bool_()), ("keys", pa.binary())])
_SUSPECTS = pa.schema([("beginning", pa.binary())])


def remove(lake: Lake, table: Table, files: Sequence[DataFile], existing: DataFrame, rejected: str) -> Iterator[dict[str, Any]]:
    """Write data files anew that hold records that came before, or whose key came with other content.

    Args:
        lake: the lake.
        table: the table the files are for.
        files: data files that are not yet part of it.
        existing: rows of the table that they may repeat.
        rejected: where data files of ``rejected`` are written.

    Yields:
        Paths ``replaced``, data files ``accepted`` in their place and ``rejected`` with the duplicates, and ``duplicates``:
        records and octets of volume by file number.
    """
    if not files:
        return
    # By hash, which Spark looks up several times faster; a record whose key begins otherwise is found to be no repeat.
    suspects = _suspects(lake, table, files, existing).select(F.xxhash64("beginning").alias("beginning_hash")).persist()
    count = suspects.count()
    if count:
        few = F.broadcast(suspects) if count < _BROADCAST_ROWS else suspects
        beginning_hash = F.xxhash64(F.substring("record_key", 1, BEGINNING_OCTETS))
        place = (F.col("_metadata.file_path").alias("data_file"), "_metadata.row_index")
        keys = lake.read_files(table, files).select("record_key", *place)
        found, old = (
            frame.join(few, beginning_hash == F.col("beginning_hash"), "left_semi").drop("beginning_hash")
            for frame in (keys, existing)
        )
        new = _rows_at(lake, table, found, len(files))
        new, old = (frame.withColumn("content_hash", content_hash(table)) for frame in (new, old))
        yield from _rewritten(lake, table, find_repeats(new, old, table), rejected, len(files))
    suspects.unpersist()


def content_hash(table: Table) -> Column:
    """xxHash64 of what a record says, apart from where it was read: equal for true duplicates."""
    where = {*_POSITION, "batch", "source", "byte_offset", "keys_from", "record_key", "is_conflicting"}
    return F.xxhash64(*[name for name in table.names if name not in where])


def find_repeats(candidates: DataFrame, existing: DataFrame, table: Table) -> DataFrame:
    """Records that were received before, or whose key came with other content.

    A true duplicate has equal times, so it lies in the same month and its parts can be compared one by one. A conflict is seen
    where both contents have octets in one month.

    Args:
        candidates: new rows of the table with their ``content_hash``; may carry ``data_file`` and ``row_index``.
        existing: rows that were there before, with their ``content_hash``.
        table: the table.

    Returns:
        One row per repeated candidate: its position and what it carries, ``duplicate_of_file_number`` and
        ``duplicate_of_record_ordinal`` (null if it is no duplicate) and ``is_conflicting``.
    """
    part = [name for name in ("interval_index", "month_part", "usage_month", "keys_from") if name in table.names]
    position = [name for name in _POSITION if name in table.names]
    carried = [name for name in _CARRIED if name in candidates.columns]
    columns = list(dict.fromkeys(["record_key", *part, "content_hash", *position]))
    old = existing.where("record_key IS NOT NULL").select(*columns, F.lit(False).alias("is_candidate"))
    new = candidates.where("record_key IS NOT NULL").select(*columns, *carried, F.lit(True).alias("is_candidate"))
    both = old.unionByName(new, allowMissingColumns=True)
    # Conflicting content may be split at the month end where the other is not: parts are compared only where contents are equal.
    same_key = Window.partitionBy("record_key", *[name for name in part if name != "month_part"])
    same_content = Window.partitionBy("record_key", *part, "content_hash").orderBy(
        "is_candidate", "file_number", "record_ordinal"
    )
    judged = both.select(
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


def _suspects(lake: Lake, table: Table, files: Sequence[DataFile], existing: DataFrame) -> DataFrame:
    """Beginnings of record keys that occur more than once, at least once in the new files.

    Returns:
        ``beginning``, each once.
    """
    place = lake.path(table)
    paths = [(file.path, True) for file in files] + [(_path_of(place, address), False) for address in existing.inputFiles()]
    workers = int(lake.spark.sparkContext.defaultParallelism)
    buckets = 1 << max(workers, sum(file.rows for file in files) // _BUCKET_ROWS).bit_length()

    def read(number: int) -> pa.RecordBatch:
        path, is_new = paths[number]
        keys = [_beginnings(rows["record_key"]) for rows in data_file_batches(place, path, table, ["record_key"])]
        return _bucketed(np.concatenate([np.zeros(0, np.uint64), *keys]), is_new, buckets)

    def repeated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found: dict[bool, list[npt.NDArray[np.uint64]]] = {True: [], False: []}
        for rows in batches:
            for is_new, keys in zip(rows["is_new"].to_pylist(), rows["keys"], strict=True):
                found[is_new].append(np.frombuffer(keys.as_buffer(), np.uint64))
        new = np.sort(np.concatenate([np.zeros(0, np.uint64), *found[True]]))
        again = new[1:][new[1:] == new[:-1]]
        before = [new[np.isin(new, keys)] for keys in found[False]]
        yield pa.RecordBatch.from_arrays([_octets(np.unique(np.concatenate([again, *before])))], schema=_SUSPECTS)

    keys = in_tasks(lake.spark, len(paths), read, _KEYS)
    return keys.repartition(buckets, "bucket").mapInArrow(repeated, from_arrow_schema(_SUSPECTS))


def _beginnings(record_keys: pa.BinaryArray) -> npt.NDArray[np.uint64]:
    """The first octets of the record keys that are there, each as one number."""
    keys = record_keys.drop_null().cast(pa.binary(2 * BEGINNING_OCTETS))
    octets = keys.buffers()[1] if len(keys) else b""
    return np.frombuffer(octets, np.uint64)[keys.offset * 2 :: 2][: len(keys)].copy()


def _bucketed(beginnings: npt.NDArray[np.uint64], is_new: bool, buckets: int) -> pa.RecordBatch:
    """Beginnings of record keys, sorted, in a row for each bucket of their values."""
    values = np.sort(beginnings)
    ends = np.searchsorted(values, np.arange(1, buckets, dtype=np.uint64) << np.uint64(64 - (buckets - 1).bit_length()))
    parts = np.split(values, ends)
    columns = [
        pa.array(np.arange(buckets, dtype=np.int32)),
        pa.repeat(is_new, buckets),
        pa.array([part.tobytes() for part in parts]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_KEYS)


def _octets(beginnings: npt.NDArray[np.uint64]) -> pa.BinaryArray:
    fixed = pa.Array.from_buffers(pa.binary(BEGINNING_OCTETS), len(beginnings), [None, pa.py_buffer(beginnings.tobytes())])
    return fixed.cast(pa.binary())


def _rows_at(lake: Lake, table: Table, found: DataFrame, files: int) -> DataFrame:
    """Rows of data files at some places, with their ``data_file`` and ``row_index``.

    Spark reads the keys of every row to find them; whole rows it would take several times as long to read as Arrow.
    """
    place = lake.path(table)
    schema = pa.schema([*table.arrow_schema, ("data_file", pa.string()), ("row_index", pa.int64())])

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for address, places in _by_file(batches):
            for rows, here, at in _beside(place, _path_of(place, address), table, places):
                carried = [here[name].combine_chunks() for name in _CARRIED]
                yield pa.RecordBatch.from_arrays([*rows.take(pa.array(at)), *carried], schema=schema)

    places = found.select(*_CARRIED).repartition(files, "data_file")
    return places.mapInArrow(read, from_arrow_schema(schema))


def _by_file(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of a task that are of each data file."""
    some = list(batches)
    if some:
        rows = pa.Table.from_batches(some)
        for address in pc.unique(rows["data_file"]).to_pylist():
            yield address, rows.filter(pc.equal(rows["data_file"], address)).sort_by("row_index").combine_chunks()


def _beside(
    place: str, path: str, table: Table, places: pa.Table
) -> Iterator[tuple[pa.RecordBatch, pa.Table, npt.NDArray[np.int64]]]:
    """Rows of a data file, some at a time, with the places that lie among them, and where."""
    indices, begin = places["row_index"].to_numpy(), 0
    for rows in data_file_batches(place, path, table):
        first, last = np.searchsorted(indices, [begin, begin + len(rows)])
        yield rows, places.slice(first, last - first), indices[first:last] - begin
        begin += len(rows)


def _path_of(place: str, address: str) -> str:
    """Path under the table of a data file that Spark names by its address."""
    return unquote(address).partition(place.removeprefix("file://").rstrip("/") + "/")[2]


def _rewritten(lake: Lake, table: Table, repeats: DataFrame, rejected: str, files: int) -> Iterator[dict[str, Any]]:
    place = lake.path(table)

    def rewrite(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for address, of_file in _by_file(batches):
            writers = TableWriter(table, place), TableWriter(REJECTED, rejected)
            found = _without_duplicates(table, _path_of(place, address), of_file, *writers)
            yield pa.RecordBatch.from_pylist([{"found": json.dumps(found)}], FOUND)

    columns = (*_CARRIED, *[f"duplicate_of_{name}" for name in _FIRST], "is_conflicting")
    by_file = repeats.select(*columns, is_first_row(table).alias("is_first")).repartition(files, "data_file")
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
