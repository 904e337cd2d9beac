"""The lake read without Spark: a start of Spark takes longer than any question an auditor asks of one month.

DuckDB holds nothing of its own here: each Delta table is an Arrow dataset of its current version, so the lake cannot be written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
from deltalake import DeltaTable

from jobs.data_files import parquet_batches
from jobs.delta_log import log_of
from jobs.places import filesystem
from jobs.run import Refused
from schemas.table import Table
from schemas.tables import METERED, PUBLICATIONS, SUBSCRIBED

Row = dict[str, Any]

_BATCH_ROWS, _BUFFER_OCTETS = 1 << 14, 1 << 20


@contextmanager
def reading(root: str, tables: Iterable[Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with tables of a lake under their names; one that was never written has no rows. Instants are in UTC."""
    with in_memory() as connection:
        for table in tables:
            connection.register(table.name, dataset(root, table))
        yield connection


@contextmanager
def in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB without a database. What does not fit into memory goes to a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="footprint-duckdb-") as spill, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET python_enable_replacements = false")
        connection.execute(f"SET temp_directory = '{spill}'")
        yield connection


def dataset(root: str, table: Table) -> Any:
    """The current version of a table as an Arrow dataset; one that was never written has no rows."""
    log = log_of(f"{root}/{table.name}")
    return pa.dataset.dataset(pa.Table.from_pylist([], schema=table.arrow_schema)) if log is None else _opened(log)


def _opened(log: DeltaTable) -> Any:
    # Arrow's own file system: through that of deltalake, which is written in Python, Arrow's threads now and then abort a process
    # that ends (seen in 2 of 100).
    files, path = filesystem(log.table_uri)
    return log.to_pyarrow_dataset(filesystem=pa.fs.SubTreeFileSystem(path, files))


def streamed(root: str, table: Table, usage_month: date | None) -> pa.RecordBatchReader:
    """A table's rows, of a month or all, to be read once: in memory is a small batch, never a row group, which may hold millions.

    Columns as declared; a column that the files lack, as those do that were written before it was added, is null.
    """
    log = log_of(f"{root}/{table.name}")
    if log is None:
        return pa.RecordBatchReader.from_batches(table.arrow_schema, [])
    of_month = None if usage_month is None else pa.dataset.field("usage_month") == pa.scalar(usage_month)
    fragments = _opened(log).get_fragments(of_month)
    return pa.RecordBatchReader.from_batches(table.arrow_schema, _batches(fragments, table.arrow_schema))


def _batches(fragments: Iterable[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    # A scan of Arrow's datasets holds whole row groups, decoded, and reads some ahead.
    for fragment in fragments:
        in_path = pa.dataset.get_partition_keys(fragment.partition_expression)
        with fragment.filesystem.open_input_file(fragment.path) as source:
            yield from parquet_batches(source, schema, in_path, _BATCH_ROWS, _BUFFER_OCTETS)


def rows(connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """Rows of a query by column name."""
    found = connection.execute(query, list(parameters))
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def publication(connection: duckdb.DuckDBPyConnection, usage_month: date, revision: int | None) -> Row:
    """The publication of a month: the one that counts, or that of a revision. Raises Refused, naming what there is."""
    ledger = f"SELECT * FROM {PUBLICATIONS.name} WHERE usage_month = ? ORDER BY publication_id"
    found = rows(connection, ledger, [usage_month])
    if not found:
        raise Refused(f"nothing is published for {usage_month:%Y-%m}")
    if revision is None:
        return found[-1]
    for row in found:
        if row["revision"] == revision:
            return row
    there = ", ".join(str(row["revision"]) for row in found)
    raise Refused(f"{usage_month:%Y-%m} has no revision {revision}: published are {there}")


def stage_rows(table: Table, published: Mapping[str, Any]) -> str:
    """A query in parentheses: the rows of ``metered``, ``subscribed`` or ``estimated`` that a publication was made of."""
    of_month = f"usage_month = DATE '{published['usage_month']}'"
    return f"(SELECT * FROM {table.name} WHERE {of_month} AND revision = {int(published['revision'])})"


def inputs(
    connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any], subscription_key: bytes
) -> tuple[Row | None, list[Row]]:
    """What a subscription's figure was worked out from: its row of ``subscribed``, and its rows of ``metered`` in their order."""
    subscribed = f"SELECT * FROM {stage_rows(SUBSCRIBED, published)} WHERE subscription_key = ?"
    metered = f"""
        SELECT * FROM {stage_rows(METERED, published)} WHERE attribution = 'holder' AND subscription_key = ?
        ORDER BY access_technology, roaming_zone"""
    found = rows(connection, subscribed, [subscription_key])
    return (found[0] if found else None), rows(connection, metered, [subscription_key])
