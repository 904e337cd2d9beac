"""export: published rows and audit views as files that others read: Parquet, CSV that no spreadsheet runs, TMF677 reports.

Rows come in the order of their key, in batches, straight from the lake; what has to be sorted goes to disk, so memory does not
grow with the month. A file is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO

import duckdb
import pyarrow as pa
import pyarrow.parquet

from jobs.lake_reader import publication, reading, streamed
from jobs.run import CallError, Refused, Settings
from schemas.dictionary import unit
from schemas.odcs import CONTRACT_OF
from schemas.table import Column, Table
from schemas.tables import CORRECTIONS, PUBLICATIONS, PUBLISHED, REVISIONS
from schemas.views import VIEWS

_VIEWS = {view.name: view for view in VIEWS}
TABLES: dict[str, Table] = {table.name: table for table in (PUBLISHED, PUBLICATIONS, CORRECTIONS)} | {
    name: view.columns_of for name, view in _VIEWS.items()
}
"""What can be exported, by name: what billing reads, and the audit views."""
BATCH_ROWS = 1 << 14
_MEMORY = "192MB"
"""What DuckDB may hold; beyond it, it sorts on disk."""

FORMULA_STARTS = "=+-@\t\r\n＝＋－＠"
"""What a spreadsheet takes for the start of a formula (OWASP, CSV injection), full-width signs included."""
_INERT = "'"


@dataclass(frozen=True)
class Rows:
    """The rows of a table that an export writes: the table as declared, and a query for them in the order of its key."""

    table: Table
    connection: duckdb.DuckDBPyConnection
    query: str

    def batches(self, selected: str = "*") -> Iterator[pa.RecordBatch]:
        """The rows in Arrow batches, streamed. Raises Refused if there are none."""
        reader = self.connection.execute(f"SELECT {selected} FROM ({self.query})").to_arrow_reader(BATCH_ROWS)
        count = 0
        for batch in reader:
            count += batch.num_rows
            yield batch
        if not count:
            raise Refused(f"{self.table.name} has no such row: nothing is written")


@contextmanager
def opened(settings: Settings, name: str, usage_month: date | None, subscription_key: str | None = None) -> Iterator[Rows]:
    """The rows of a table or an audit view: those of a month, or all; of ``published``, what is published now.

    Raises:
        Refused: nothing is published for the month.
        CallError: a month is named, and the rows of the view belong to none.
    """
    table, view = TABLES[name], _VIEWS.get(name)
    conditions = [_of_month(table, usage_month)] if usage_month else []
    with reading(settings.lake, view.reads if view else (REVISIONS, PUBLICATIONS, CORRECTIONS)) as connection:
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        for large in (REVISIONS, CORRECTIONS):
            if view is None or large in view.reads:
                connection.register(large.name, streamed(settings.lake, large, usage_month))
        if view:
            source = f"({view.sql()})"
        elif table is PUBLISHED:
            # What the ledger says is published: the table `published` follows it, after a moment.
            source = REVISIONS.name
            conditions.append(f"publication_id IN ({_current(connection, usage_month)})")
        else:
            source = table.name
            conditions.append(f"publication_id IN (SELECT publication_id FROM {PUBLICATIONS.name})")
        if subscription_key:
            conditions.append(f"subscription_key = '{int(subscription_key, 16):032x}'")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        columns, order = ", ".join(table.names), ", ".join(f"{name} NULLS FIRST" for name in table.key)
        yield Rows(table, connection, f"SELECT {columns} FROM {source} AS exported {where} ORDER BY {order}")


def _current(connection: duckdb.DuckDBPyConnection, usage_month: date | None) -> str:
    if usage_month:
        return str(int(publication(connection, usage_month, None)["publication_id"]))
    return f"SELECT max(publication_id) FROM {PUBLICATIONS.name} GROUP BY usage_month"


def _of_month(table: Table, usage_month: date) -> str:
    if "usage_month" in table.names:
        return f"usage_month = DATE '{usage_month}'"
    raise CallError(f"--month: the rows of {table.name} belong to no month; leave it out, and all are written")


@contextmanager
def whole(out: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes its name once it is complete. Raises CallError if it cannot be written."""
    partial = out.with_name(f"{out.name}.partial")
    try:
        file = partial.open("wb")
    except OSError as error:
        raise CallError(f"--out: {out} cannot be written ({error.strerror})") from None
    try:
        with file:
            yield file
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def write_parquet(rows: Rows, out: Path) -> int:
    """Write Parquet: the declared types, and the unit and meaning of each column in its metadata. Returns how many rows."""
    schema, count = described(rows.table), 0
    with whole(out) as file, pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in rows.batches():
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
            count += batch.num_rows
    return count


def described(table: Table) -> pa.Schema:
    """The table's Arrow schema with the meaning and unit of every column, and the version of the contract."""
    fields = [
        field.with_metadata({"meaning": column.comment} | ({"unit": unit(column)} if unit(column) else {}))
        for field, column in zip(table.arrow_schema, table.columns, strict=True)
    ]
    contract = CONTRACT_OF[table.name]
    return pa.schema(fields, {"table": table.name, "meaning": table.comment, "contract": f"{contract.name} {contract.version}"})


def write_csv(rows: Rows, out: Path) -> int:
    """Write CSV (RFC 4180, UTF-8, a header): text in quotes and inert in a spreadsheet, numbers as they are.

    Text that begins as a formula does, or with an apostrophe, has an apostrophe before it: taking one away gives it back. Null is
    nothing, empty text is ``""``. Numbers have all their digits, days and instants are ISO 8601, instants in UTC.
    Returns how many rows.
    """
    line = " || ',' || ".join(_cell(column) for column in rows.table.columns)
    count = 0
    with whole(out) as file:
        file.write((",".join(f'"{name}"' for name in rows.table.names) + "\r\n").encode())
        for batch in rows.batches(f"{line} || chr(13) || chr(10) AS line"):
            file.write("".join(batch.column(0).to_pylist()).encode())
            count += batch.num_rows
    return count


def inert(text: str) -> str:
    """Text as no spreadsheet takes it for a formula. One apostrophe less, where it begins with one, gives the text back.

    >>> inert("=1+1"), inert("-"), inert("Alpha"), inert("'t Hof")
    ("'=1+1", "'-", 'Alpha', "''t Hof")
    """
    return f"{_INERT}{text}" if text.startswith((*FORMULA_STARTS, _INERT)) else text


def _cell(column: Column) -> str:
    """An SQL expression: a value of the column as a cell."""
    name = column.name
    if column.sql_type == "TIMESTAMP":
        text = f"strftime(timezone('UTC', {name}), '%Y-%m-%dT%H:%M:%S.%fZ')"
    elif column.sql_type == "STRING":
        starts = ", ".join(f"chr({ord(sign)})" for sign in FORMULA_STARTS + _INERT)
        quote = f"CASE WHEN left({name}, 1) IN ({starts}) THEN chr({ord(_INERT)}) ELSE '' END"
        text = f"""'"' || {quote} || replace({name}, '"', '""') || '"'"""
    else:
        text = f"CAST({name} AS VARCHAR)"
    return text if column.is_required else f"coalesce({text}, '')"
