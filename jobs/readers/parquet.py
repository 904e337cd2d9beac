"""Parquet: records in their own types; the footer's row count is the independent count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from jobs.readers.block import Block, ReadFault, Tally, no_faults

BLOCK_RECORDS = 1 << 16


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
        tally.octets_header = parquet.metadata.serialized_size + 12
        tally.octets_records = tally.octets - tally.octets_header
        yield from _row_groups(parquet, columns, tally)
    except (pa.ArrowInvalid, OSError):
        tally.octets_header = tally.octets_records = 0
        raise ReadFault("not a Parquet file, or damaged") from None


def _row_groups(parquet: pyarrow.parquet.ParquetFile, columns: Sequence[str], tally: Tally) -> Iterator[Block]:
    tally.records = parquet.metadata.num_rows
    first = 1
    for group in range(parquet.num_row_groups):
        column = parquet.metadata.row_group(group).column(0)
        offset = column.dictionary_page_offset or column.data_page_offset
        for batch in parquet.iter_batches(BLOCK_RECORDS, row_groups=[group], columns=list(columns), use_threads=False):
            rows = batch.num_rows
            ordinals = np.arange(first, first + rows, dtype=np.int64)
            yield Block(batch, ordinals, np.full(rows, offset, np.int64), no_faults(rows))
            first += rows
