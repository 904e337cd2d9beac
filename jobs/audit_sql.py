"""sql: questions of an auditor to the lake, in DuckDB: every table, the audit views, and the dictionary; nothing can be written.

DuckDB holds only views of the lake's files in memory, and is shut off from files and network before the first question.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, TextIO

import duckdb
import pyarrow as pa

from jobs.export import inert
from jobs.lake_reader import reading
from jobs.run import CallError, Settings
from schemas.tables import PUBLICATIONS, TABLES
from schemas.views import OF_PUBLICATIONS, VIEWS

_MOST_ROWS = 10_000
"""Rows that are laid out as a table; all go out as CSV."""
_PROMPT, _MORE = "footprint> ", "        -> "
_HELP = """\
One statement ends with a semicolon. SELECT * FROM dictionary says what each table, view and column means.
.tables lists tables and views, .quit ends."""


@contextmanager
def opened(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the lake's tables, the audit views and ``dictionary``, which says what each column means."""
    with reading(settings.lake, TABLES) as connection:
        connection.register("dictionary", _dictionary())
        for table in OF_PUBLICATIONS:
            _show_published(connection, table.name)
        for view in VIEWS:
            connection.execute(f"CREATE TEMP VIEW {view.name} AS {view.sql()}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def _show_published(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Leave out rows that a run wrote and was cut short before the ledger had their publication: they were never published."""
    connection.execute(f"ALTER VIEW {name} RENAME TO written_{name}")
    ledger = f"SELECT publication_id FROM {PUBLICATIONS.name}"
    connection.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM written_{name} WHERE publication_id IN ({ledger})")


def _dictionary() -> pa.Table:
    described = [
        {"name": of.name, "kind": kind, "column_name": c.name, "type": c.sql_type, "meaning": c.comment}
        for kind, some in (("table", TABLES), ("view", VIEWS))
        for of in some
        for c in of.columns
    ]
    return pa.Table.from_pylist(described)


def answer(connection: duckdb.DuckDBPyConnection, query: str, out: TextIO, as_csv: bool) -> None:
    """Write what a query gives. Raises CallError with DuckDB's message where it cannot be answered."""
    try:
        found = connection.execute(query)
        names = [column[0] for column in found.description or ()]
        if as_csv:
            _write_csv(found, names, out)
        else:
            rows = found.fetchmany(_MOST_ROWS + 1) if names else []
            _write_table(names, rows[:_MOST_ROWS], out)
            if len(rows) > _MOST_ROWS:
                out.write(f"… the first {_MOST_ROWS:,} rows; --csv gives all\n")
    except duckdb.Error as error:
        raise CallError(str(error)) from None


def converse(connection: duckdb.DuckDBPyConnection, lines: TextIO, out: TextIO, as_csv: bool) -> None:
    """Answer statement after statement, each up to its semicolon; with prompts on a terminal."""
    is_terminal = lines.isatty()
    if is_terminal:
        import readline  # noqa: F401 - it gives input() its history and editing

        out.write(f"{_HELP}\n")
    ask: Callable[[str], str] = input if is_terminal else lambda _: _next(lines)
    held = ""
    while True:
        try:
            line = ask(_MORE if held else _PROMPT)
        except EOFError:
            break
        if not held and line.strip() in (".quit", ".exit"):
            return
        if not held and line.strip() == ".tables":
            line = "SELECT name, kind, count(*) AS columns FROM dictionary GROUP BY ALL ORDER BY kind, name;"
        held = f"{held}\n{line}".strip()
        if held.endswith(";"):
            _try(connection, held, out, as_csv, is_terminal)
            held = ""
    if held:
        _try(connection, held, out, as_csv, is_terminal)


def _try(connection: duckdb.DuckDBPyConnection, query: str, out: TextIO, as_csv: bool, is_terminal: bool) -> None:
    try:
        answer(connection, query, out, as_csv)
    except CallError as error:
        if not is_terminal:
            raise
        sys.stderr.write(f"{error}\n")


def _next(lines: TextIO) -> str:
    line = lines.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _write_csv(found: duckdb.DuckDBPyConnection, names: Sequence[str], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    while rows := found.fetchmany(_MOST_ROWS):
        writer.writerows([inert(value) if isinstance(value, str) else _said(value, "") for value in row] for row in rows)


def _write_table(names: Sequence[str], rows: Sequence[Sequence[Any]], out: TextIO) -> None:
    """Columns beside each other, numbers to the right."""
    cells = [[_said(value, "null") for value in row] for row in rows]
    widths = [max([len(name), *[len(row[n]) for row in cells]]) for n, name in enumerate(names)]
    to_right = [all(isinstance(row[n], int | float) or hasattr(row[n], "as_tuple") for row in rows) for n in range(len(names))]

    def line(texts: Sequence[str]) -> str:
        placed = (text.rjust(w) if right else text.ljust(w) for text, w, right in zip(texts, widths, to_right, strict=True))
        return "  ".join(placed).rstrip() + "\n"

    if names:
        out.write(line(names) + line(["-" * width for width in widths]))
    for row in cells:
        out.write(line(row))


def _said(value: Any, null: str) -> str:
    if value is None:
        return null
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)
