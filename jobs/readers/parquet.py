"""Parquet: records in their own types; the footer's row count is the independent count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from jobs.readers.block import Block, ReadFault, Tally, no_faults

BLOCK_RECORDS = 1 << 16
_DAMAGE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError, pa.ArrowIndexError)


def read_parquet(file: pa.NativeFile, columns: Sequence[str], tally: Tally) -> Iterator[Block]:
    """Yield the records of a Parquet file; the offset of a record is that of its row group.

    Raises:
        ReadFault: the file is not Parquet, is damaged, or lacks a column that is needed.
    """
    tally.octets = file.size()
    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        missing = [name for name in columns if name not in parquet.schema_arrow.names]
        if missing:
            raise ReadFault(f"the schema lacks {', '.join(missing)}")
        nested = [name for name in columns if pa.types.is_nested(parquet.schema_arrow.field(name).type)]
        if nested:
            raise ReadFault(f"the schema nests {', '.join(nested)}")
        yield from _row_groups(parquet, columns, tally)
        counted = parquet.metadata.num_rows
        if tally.records != counted:
            raise ReadFault(f"the footer counts {counted} records, the row groups hold {tally.records}")
        tally.octets_header = parquet.metadata.serialized_size + 12
        tally.octets_records = tally.octets - tally.octets_header
    except (*_DAMAGE, OSError, UnicodeDecodeError):
        raise ReadFault("not a Parquet file, or damaged") from None


def _row_groups(parquet: pyarrow.parquet.ParquetFile, columns: Sequence[str], tally: Tally) -> Iterator[Block]:
    for group in range(parquet.num_row_groups):
        for batch in parquet.iter_batches(BLOCK_RECORDS, row_groups=[group], columns=list(columns), use_threads=False):
            records, faults = _with_sound_texts(batch)
            rows, first = batch.num_rows, tally.records + 1
            tally.records += rows
            ordinals = np.arange(first, first + rows, dtype=np.int64)
            yield Block(records, ordinals, np.full(rows, _offset(parquet, group, columns), np.int64), faults)


def _with_sound_texts(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.StringArray]:
    """The batch with texts that are UTF-8 or null, which Parquet does not promise, and which records had others."""
    columns, faults = [], no_faults(batch.num_rows)
    for values in batch.columns:
        sound = _are_text(values)
        if not pc.all(sound).as_py():
            octets = values.cast(pa.binary())
            values = pc.if_else(sound, octets, pa.scalar(None, pa.binary())).cast(pa.string())
            faults = pc.if_else(sound, faults, "not_utf_8")
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names), faults


def _are_text(values: pa.Array) -> pa.BooleanArray:
    if not pa.types.is_primitive(values.type):
        try:
            values.cast(pa.string()).validate(full=True)
        except pa.ArrowInvalid:
            return pa.array([octets is None or _is_text(octets) for octets in values.cast(pa.binary()).to_pylist()])
    return pa.repeat(True, len(values))


def _is_text(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _offset(parquet: pyarrow.parquet.ParquetFile, group: int, columns: Sequence[str]) -> int:
    """Octet at which the records of a row group start.

    Asked of a column whose pages have been read: of a damaged description of another, pyarrow ends the whole process.
    """
    chunks = parquet.metadata.row_group(group)
    read = [chunks.column(at) for at, name in enumerate(parquet.schema.names) if name in columns]
    return int(min(chunk.dictionary_page_offset or chunk.data_page_offset for chunk in read))
