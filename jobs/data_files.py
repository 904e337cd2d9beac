"""Data files of a table, written by Arrow where their rows are made; ``Lake.commit`` adds them to the table in one transaction.

A row that a worker hands to Spark is copied into the JVM, turned into a row, kept, and written from there: several times the cost
of reading the record. What a worker writes itself stays columns from the reader to the file.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from jobs.places import filesystem
from schemas.table import Table

_LONGEST_STATISTIC = 32
"""Characters of a text that Delta keeps in statistics; a longer one is left out."""
_ROW_GROUP_ROWS, _READ_ROWS = 1 << 19, 1 << 16
FOUND = pa.schema([("found", pa.string())])
"""What a task says of the data files it wrote: JSON."""
_ENCODED = pa.dictionary(pa.int32(), pa.string())
_PACKED = ("BIGINT", "INT", "TIMESTAMP", "DATE")
"""Types whose neighbours differ little."""
_FOLDER_STORES = ("local", "hdfs")
"""File systems in which a folder must be there before a file."""


@dataclass(frozen=True)
class DataFile:
    """A data file that is written but not yet part of its table.

    ``path`` is relative to the table, ``statistics`` what Delta keeps of the file: minima, maxima and counts of nulls.
    """

    path: str
    partition: Mapping[str, str]
    size_octets: int
    rows: int
    statistics: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For a row of text; ``DataFile(**…)`` reads it."""
        return asdict(self)

    @property
    def add(self) -> AddAction:
        """The action that adds the file."""
        stated = json.dumps({"numRecords": self.rows, **self.statistics})
        return AddAction(self.path, self.size_octets, self.partition, int(time.time() * 1000), True, stated)


@dataclass
class TableWriter:
    """Writes rows of a table: one file for each of its partitions. Closed without error, or its files are of no use.

    Args:
        table: the table.
        root: where the table lies.
        apart: of rows that would fill a row group, those that are to lie in a file of their own.
    """

    table: Table
    root: str
    apart: Callable[[Sequence[pa.RecordBatch]], npt.NDArray[np.bool_]] | None = None
    _open: dict[tuple[str, bool], tuple[str, pq.ParquetWriter, list[Any]]] = field(default_factory=dict)
    """Files by partition, and whether their rows lie apart."""
    _held: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    """Rows of each partition that do not fill a row group yet."""

    def write(self, columns: Mapping[str, Any]) -> None:
        """Write rows given as columns, or as one value for all rows; a column that is not given is null.

        Raises:
            ValueError: a required column has nulls; the message names table and column.
        """
        batch = rows_of(self.table, columns)
        if not batch.num_rows:
            return
        for partition, part in _partitions(self.table, batch):
            held = self._held.setdefault(partition, [])
            held.append(part)
            if sum(len(batch) for batch in held) >= _ROW_GROUP_ROWS:
                self._write_held(partition)

    def close(self) -> list[DataFile]:
        """Finish the files and describe them."""
        for partition in list(self._held):
            self._write_held(partition)
        found = []
        files, root = filesystem(self.root)
        for path, writer, metadata in self._open.values():
            writer.close()
            described = _statistics(self.table, metadata[0])
            size = files.get_file_info(f"{root}/{path}").size
            found.append(DataFile(path, _values_of(path), size, metadata[0].num_rows, described))
        self._open.clear()
        return found

    def _write_held(self, partition: str) -> None:
        """Write the rows of a partition that wait: what readers skip, and open, is a row group."""
        together = self._held.pop(partition, [])
        if self.apart is None:
            parts = {False: together}
        else:
            is_apart = self.apart(together)
            parts = dict(zip((False, True), _split(together, is_apart), strict=True))
        for lies_apart, held in parts.items():
            if any(map(len, held)):
                self._writer(partition, lies_apart, held[0].schema).write_table(pa.Table.from_batches(held), sum(map(len, held)))

    def _writer(self, partition: str, lies_apart: bool, schema: pa.Schema) -> pq.ParquetWriter:
        if (partition, lies_apart) not in self._open:
            path = f"{partition}part-{uuid.uuid4()}.zstd.parquet"
            files, root = filesystem(self.root)
            if files.type_name in _FOLDER_STORES:
                files.create_dir(f"{root}/{partition}", recursive=True)
            metadata: list[Any] = []
            types = {c.name: c.sql_type for c in self.table.columns if c.name in schema.names}
            writer = pq.ParquetWriter(
                f"{root}/{path}",
                schema,
                filesystem=files,
                # Pseudonyms are noise: compressing them, or looking for repeats, only costs. Measured in docs/performance.md.
                compression={name: "none" if kind == "BINARY" else "zstd" for name, kind in types.items()},
                compression_level={name: 1 for name, kind in types.items() if kind != "BINARY"},
                use_dictionary=[name for name, kind in types.items() if kind in ("STRING", "BOOLEAN")],
                column_encoding={name: "DELTA_BINARY_PACKED" for name, kind in types.items() if kind in _PACKED},
                # Whole row groups are left out by these when few rows are looked for, such as conflicts.
                write_statistics=[name for name, kind in types.items() if kind != "BINARY"],
                store_decimal_as_integer=True,
                store_schema=False,  # that a text came by a dictionary is nothing to its readers
                metadata_collector=metadata,
            )
            self._open[partition, lies_apart] = (path, writer, metadata)
        return self._open[partition, lies_apart][1]


def _split(batches: Sequence[pa.RecordBatch], chosen: npt.NDArray[np.bool_]) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """Rows that are not chosen, and those that are. Batches of which none is are not copied."""
    others, those, begin = [], [], 0
    for batch in batches:
        here = pa.array(chosen[begin : begin + len(batch)])
        begin += len(batch)
        if here.true_count:
            those.append(batch.filter(here))
            others.append(batch.filter(pc.invert(here)))
        else:
            others.append(batch)
    return others, those


def rows_of(table: Table, columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Rows of a table given as columns, or as one value for all rows; a column that is not given is null.

    Raises:
        ValueError: a required column has nulls; the message names table and column.
    """
    rows = next(len(values) for values in columns.values() if isinstance(values, (pa.Array, np.ndarray, list)))
    arrays = [_column(table, declared, columns.get(declared.name), rows) for declared in table.arrow_schema]
    fields = [declared.with_type(values.type) for declared, values in zip(table.arrow_schema, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _column(table: Table, declared: pa.Field, values: Any, rows: int) -> pa.Array:
    if values is None:
        values = pa.nulls(rows, declared.type)
    elif isinstance(values, (np.ndarray, list)):
        values = pa.array(values, declared.type)
    elif not isinstance(values, pa.Array):
        values = pa.repeat(pa.scalar(values, declared.type), rows)
    if not declared.nullable and values.null_count:
        raise ValueError(f"{table.name}: null in {declared.name}")
    return values if declared.type in (values.type, getattr(values.type, "value_type", None)) else values.cast(declared.type)


def data_file_batches(
    root: str,
    path: str,
    table: Table,
    columns: Sequence[str] | None = None,
    encoded: Sequence[str] = (),
    true_in: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows of a data file in their order, in the columns of its table, partition columns too, some at a time.

    Args:
        root: where the table lies.
        path: the file, under it.
        table: the table.
        columns: those wanted; all by default. Of partition columns only days can be.
        encoded: texts that come as numbers into a dictionary, as they lie in the file.
        true_in: a column: row groups in which it is true of no row may be left out.
    """
    files, place = filesystem(root)
    wanted = [field for field in table.arrow_schema if columns is None or field.name in columns]
    schema = pa.schema([field.with_type(_ENCODED) if field.name in encoded else field for field in wanted])
    in_path = {name: date.fromisoformat(day) for name, day in _values_of(path).items() if name in schema.names}
    with files.open_input_file(f"{place}/{path}") as file:
        yield from parquet_batches(file, schema, in_path, _READ_ROWS, true_in=true_in)


def parquet_batches(
    source: pa.NativeFile,
    schema: pa.Schema,
    in_path: Mapping[str, Any],
    rows: int,
    buffer_octets: int = 0,
    true_in: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows of a Parquet file in their order, some at a time; pages of memory never touched before cost more than reading.

    Args:
        source: the file.
        schema: the columns wanted; one that neither the file nor its path has is null.
        in_path: values of partition columns.
        rows: how many at a time.
        buffer_octets: how much of a column is read ahead; 0 for all of it in a row group.
        true_in: a column: row groups in which it is true of no row, by their statistics, are left out.
    """
    encoded = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    file = pq.ParquetFile(source, buffer_size=buffer_octets, pre_buffer=False, read_dictionary=encoded)
    there = [name for name in schema.names if name in file.schema_arrow.names]
    groups = None if true_in is None else _groups_with(file, true_in)
    for batch in file.iter_batches(rows, row_groups=groups, columns=there, use_threads=False):
        columns = [
            batch[field.name].cast(field.type)
            if field.name in there
            else pa.repeat(pa.scalar(in_path.get(field.name), field.type), batch.num_rows)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _groups_with(file: pq.ParquetFile, flag: str) -> list[int]:
    """Row groups in which a flag may be true."""
    at = file.schema_arrow.names.index(flag)
    found = [file.metadata.row_group(group).column(at).statistics for group in range(file.num_row_groups)]
    return [group for group, of in enumerate(found) if of is None or not of.has_min_max or of.max]


def remove_data_files(root: str, paths: Sequence[str]) -> None:
    """Delete files that belong to no table."""
    files, place = filesystem(root)
    for path in paths:
        files.delete_file(f"{place}/{path}")


def _partitions(table: Table, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Rows by the folder of their partition, without the partition column."""
    if not table.partitioned_by:
        yield "", batch
        return
    names = list(table.partitioned_by)
    rest = batch.drop_columns(names)
    distinct = pa.Table.from_batches([batch.select(names)]).group_by(names).aggregate([]).to_pylist()
    for values in distinct:
        folder = "".join(f"{name}={value}/" for name, value in values.items())
        if len(distinct) == 1:
            yield folder, rest
        else:
            yield folder, rest.filter(reduce(pc.and_, [pc.equal(batch[name], value) for name, value in values.items()]))


def _values_of(path: str) -> dict[str, str]:
    """Partition values, from the folders of a path."""
    return dict(folder.split("=", 1) for folder in path.split("/")[:-1])


def _statistics(table: Table, metadata: Any) -> dict[str, Any]:
    """Minima, maxima and counts of nulls of the declared columns, as Delta writes them."""
    columns = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in table.statistics:
        if name not in columns:
            continue
        found = [metadata.row_group(group).column(columns[name]).statistics for group in range(metadata.num_row_groups)]
        if not found or any(s is None for s in found):
            continue
        nulls[name] = sum(s.null_count for s in found)
        bounded = [s for s in found if s.has_min_max]
        if bounded:
            least[name] = _as_delta(min(s.min for s in bounded), 0)
            most[name] = _as_delta(max(s.max for s in bounded), 999)
    known = {name for name in least if least[name] is not None and most[name] is not None}
    return {
        "minValues": {name: least[name] for name in least if name in known},
        "maxValues": {name: most[name] for name in most if name in known},
        "nullCount": nulls,
    }


def _as_delta(value: Any, up_to: int) -> Any:
    """A statistic as Delta writes it: instants in whole milliseconds, a maximum never below the value. None for a long text."""
    if isinstance(value, datetime):
        microseconds = int(value.replace(tzinfo=UTC).timestamp()) * 1_000_000 + value.microsecond + up_to
        instant = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
        return f"{instant:%Y-%m-%dT%H:%M:%S}.{microseconds // 1000 % 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        value = value.decode()
    return None if isinstance(value, str) and len(value) > _LONGEST_STATISTIC else value
