"""The copy that billing and the portal read: a month is replaced in PostgreSQL in one transaction, with its ledger row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import sql
from psycopg.rows import dict_row

from jobs.postgres import connect, speaking, start_embedded, url
from jobs.run import CallError, Refused, Settings
from jobs.serving_schema import PARTED_BY, SCHEMA, prepare
from schemas.table import Table
from schemas.tables import CORRECTIONS, PUBLICATIONS, PUBLISHED, REVISIONS

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Beside:
    """What comes with the rows of a publication.

    Args:
        rows: tables of ``BESIDE`` with their rows.
        corrections: batches in the columns of CORRECTIONS.
        method_texts: text by method and language.
    """

    rows: Sequence[tuple[Table, Sequence[Mapping[str, Any]]]] = ()
    corrections: Iterable[pa.RecordBatch] = ()
    method_texts: Mapping[tuple[str, str], str] = field(default_factory=dict)


_NOTHING_BESIDE = Beside()

_OF_REVISIONS = (
    "INSERT INTO {part} ({columns}) SELECT {columns} FROM footprint.revisions WHERE publication_id = %(publication_id)s"
)
_PART = """
SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = whole.oid AND relname = %(part)s),
       pg_get_userbyid(relowner)::text
FROM pg_class AS whole WHERE oid = %(whole)s::regclass
"""
_TOTALS = """
SELECT count(*), coalesce(sum(data_volume_bytes), 0), coalesce(sum(footprint_gco2e), 0) FROM footprint.revisions
WHERE publication_id = %(publication_id)s AND usage_month = %(usage_month)s AND revision = %(revision)s
"""
_SAVE_TEXT = """
INSERT INTO footprint.method_texts AS saved (method_id, language, text) VALUES (%s, %s, %s)
ON CONFLICT (method_id, language) DO UPDATE SET text = excluded.text WHERE saved.text <> excluded.text
"""


def start(settings: Settings) -> str:
    """Start the embedded server, prepare it, and give its URL. Raises CallError if FOOTPRINT_SERVING_URL names another."""
    start_embedded(settings)
    with connect(settings) as connection:
        prepare(connection)
    return url(settings)


def load_publication(
    connection: psycopg.Connection,
    publication: Mapping[str, Any],
    rows: Iterable[pa.RecordBatch],
    beside: Beside = _NOTHING_BESIDE,
    left: Mapping[str, Any] | None = None,
    awaited: Callable[[], tuple[Mapping[str, Any], Beside]] | None = None,
) -> bool:
    """Copy a publication in one transaction: to revisions, to the ledger and, if it is the latest of its month, to published.

    Args:
        connection: a prepared one outside any transaction.
        publication: its row of PUBLICATIONS; the number and the month are enough of one that is awaited.
        rows: its rows in the columns of PUBLISHED; not read if it was loaded before.
        beside: what comes with it.
        left: totals of the rows that are left of it, if figures of its month were erased.
        awaited: waits until the publication is in the ledger, while its rows are copied, and gives it with what comes with it;
            whatever it raises ends the transaction as if nothing had been copied.

    Returns:
        Whether it was loaded; False if it was there.

    Raises:
        Refused: rows, bytes or grams differ from the publication, or PostgreSQL refused a row; nothing is changed.
        CallError: the same publication number is there with other content, or PostgreSQL failed; nothing is changed.
    """
    with speaking(f"loading publication {publication['publication_id']}"), connection.transaction():
        connection.execute("LOCK TABLE footprint.publications IN SHARE ROW EXCLUSIVE MODE")  # readers go on
        if awaited is not None:
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        if _is_loaded(connection, publication):
            return False
        with _part(connection, REVISIONS, publication) as part:
            copied = _copy(connection, REVISIONS, rows, part)
        if _is_latest(connection, publication):
            with _part(connection, PUBLISHED, publication) as part:
                of_revisions = sql.SQL(_OF_REVISIONS).format(part=part, columns=_columns(PUBLISHED))
                connection.execute(of_revisions, publication)
        if awaited is not None:
            publication, beside = awaited()
        _check(connection, {**publication, **(left or {})}, copied)
        _copy(connection, CORRECTIONS, beside.corrections, sql.Identifier(SCHEMA, CORRECTIONS.name))
        for table, few in beside.rows:
            _insert(connection, table, few)
        _insert(connection, PUBLICATIONS, [publication])
        for (method_id, language), text in sorted(beside.method_texts.items()):
            connection.execute(_SAVE_TEXT, (method_id, language, text))
    return True


def erase(connection: psycopg.Connection, months: Sequence[date], subscription_key: str | None = None) -> None:
    """Delete the figures of months, all or those of one subscription. The ledger stays."""
    with speaking("erasing figures"), connection.transaction():
        for table in (PUBLISHED, REVISIONS, CORRECTIONS):
            statement = sql.SQL("DELETE FROM {} WHERE usage_month = ANY(%s) AND (%s::text IS NULL OR subscription_key = %s)")
            named = sql.Identifier(SCHEMA, table.name)
            connection.execute(statement.format(named), (list(months), subscription_key, subscription_key))


def publication_ids(connection: psycopg.Connection) -> dict[date, int]:
    """The publication that PostgreSQL serves for each month."""
    statement = "SELECT usage_month, max(publication_id) FROM footprint.publications GROUP BY usage_month ORDER BY usage_month"
    with speaking("reading publications"):
        return dict(connection.execute(statement).fetchall())


def missing(connection: psycopg.Connection, ledger_ids: Iterable[int]) -> list[int]:
    """The publications of the lake's ledger that PostgreSQL lacks, in the order to load them.

    Raises:
        CallError: PostgreSQL holds a publication that the ledger does not: it serves another lake, or a lake was restored.
    """
    with speaking("reading publications"):
        held = {row[0] for row in connection.execute("SELECT publication_id FROM footprint.publications").fetchall()}
    ledger = set(ledger_ids)
    if held - ledger:
        raise CallError(
            f"PostgreSQL serves publication {min(held - ledger)}, which is not in the ledger of this lake: "
            f"check FOOTPRINT_LAKE and FOOTPRINT_SERVING_URL, or drop schema {SCHEMA} to load this lake anew"
        )
    return sorted(ledger - held)


def published_row(connection: psycopg.Connection, subscription_key: str, usage_month: date) -> dict[str, Any] | None:
    """What the portal shows of a subscription and month; None if nothing was published."""
    statement = sql.SQL("SELECT {} FROM footprint.published WHERE subscription_key = %s AND usage_month = %s")
    with speaking("reading published"), connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.format(_columns(PUBLISHED)), (subscription_key, usage_month)).fetchone()


def change_of(connection: psycopg.Connection, row: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Why a published row's revision was published, and the row before it; None if the subscription had none."""
    statement = sql.SQL(
        "SELECT ledger.reason, {} FROM footprint.publications AS ledger LEFT JOIN footprint.revisions AS was"
        " ON was.publication_id = ledger.supersedes_publication_id AND was.subscription_key = %(subscription_key)s"
        " WHERE ledger.publication_id = %(publication_id)s"
    )
    columns = sql.SQL(", ").join(sql.Identifier("was", name) for name in PUBLISHED.names)
    with speaking("reading revisions"), connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(statement.format(columns), row).fetchone()
    assert found is not None, "a row is served in one transaction with its publication"
    earlier = {name: found[name] for name in PUBLISHED.names}
    return str(found["reason"]), earlier if earlier["publication_id"] is not None else None


def method_text(connection: psycopg.Connection, method_id: str, language: str) -> str:
    """The summary of a method that was published with a month. Raises CallError if it is not there."""
    statement = "SELECT text FROM footprint.method_texts WHERE method_id = %s AND language = %s"
    with speaking("reading method_texts"):
        found = connection.execute(statement, (method_id, language)).fetchone()
    if found is None:
        raise CallError(f"the text of method {method_id} in {language} is not in PostgreSQL: run publish again")
    return str(found[0])


def _is_loaded(connection: psycopg.Connection, publication: Mapping[str, Any]) -> bool:
    statement = "SELECT usage_month, rows_hash FROM footprint.publications WHERE publication_id = %(publication_id)s"
    there = connection.execute(statement, publication).fetchone()
    if there and there != (publication["usage_month"], publication.get("rows_hash")):
        raise CallError(
            f"publication {publication['publication_id']} is in PostgreSQL with other content: another lake publishes there"
        )
    return there is not None


def _is_latest(connection: psycopg.Connection, publication: Mapping[str, Any]) -> bool:
    statement = """
        SELECT NOT EXISTS (
            SELECT FROM footprint.publications WHERE usage_month = %(usage_month)s AND publication_id > %(publication_id)s
        )"""
    answer = connection.execute(statement, publication).fetchone()
    return answer is not None and bool(answer[0])


@contextmanager
def _part(connection: psycopg.Connection, table: Table, publication: Mapping[str, Any]) -> Iterator[sql.Identifier]:
    """Where rows of a publication are put: into a new part of the table, which joins it when they are in.

    To find the places of so many rows in an index one by one takes as long as the rows; of a new part it is made of them all at
    the end. Where the table has the part, its rows are replaced in it: to take it out of the table would wait for its readers.
    """
    column, whole = PARTED_BY[table.name], sql.Identifier(SCHEMA, table.name)
    name = f"{table.name}_{publication[column]}".replace("-", "_")
    part, value = sql.Identifier(SCHEMA, name), sql.Literal(publication[column])
    there, owner = connection.execute(_PART, {"whole": f"{SCHEMA}.{table.name}", "part": name}).fetchone() or (False, "")
    if there:
        connection.execute(sql.SQL("DELETE FROM {} WHERE {} = {}").format(whole, sql.Identifier(column), value))
        yield whole
        return
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING CONSTRAINTS)").format(part, whole))
    # Whoever reads the table has its rights and policies; the part itself is for the owner of the table alone.
    connection.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(part))
    yield part
    key = sql.SQL(", ").join(map(sql.Identifier, table.key))
    connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(part, key))
    connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(part, sql.Identifier(owner)))
    attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})")  # readers go on
    connection.execute(attach.format(whole, part, value))


def _copy(connection: psycopg.Connection, table: Table, rows: Iterable[pa.RecordBatch], place: sql.Identifier) -> int:
    """Stream the rows into a table, or a part of it, and count them."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(place, _columns(table))
    copied = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in _bounded(table, rows):
            buffer = pa.BufferOutputStream()
            pa_csv.write_csv(batch, buffer, pa_csv.WriteOptions(include_header=False))  # null is empty, "" is quoted
            copy.write(memoryview(buffer.getvalue()))
            copied += batch.num_rows
    return copied


def _bounded(table: Table, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in rows:
        found = pa.Table.from_batches([batch]).select(table.names)
        for offset in range(0, found.num_rows, _BATCH_ROWS):
            yield _declared(table, found.slice(offset, _BATCH_ROWS))


def _declared(table: Table, rows: pa.Table) -> pa.Table:
    schema = table.arrow_schema
    try:
        return rows.cast(schema)
    except (pa.ArrowException, ValueError):  # its message may quote a value
        wrong = [f.name for f in schema if rows[f.name].type != f.type or (rows[f.name].null_count and not f.nullable)]
        # Revisions are declared as published is, which is the name that whoever reads this knows.
        name = PUBLISHED.name if table is REVISIONS else table.name
        raise Refused(f"rows for PostgreSQL are not as {name} is declared, in columns {', '.join(wrong)}") from None


def _check(connection: psycopg.Connection, publication: Mapping[str, Any], copied: int) -> None:
    found = connection.execute(_TOTALS, publication).fetchone()
    names = ("subscriptions", "data_volume_bytes", "footprint_gco2e")
    expected = tuple(Decimal(publication[name]) for name in names)
    if found != expected or copied != expected[0]:
        raise Refused(
            f"publication {publication['publication_id']} was not loaded into PostgreSQL: its rows should be "
            f"{_amounts(expected)}; {copied} rows came, of which its own are {_amounts(found or ())}"
        )


def _amounts(totals: Iterable[Any]) -> str:
    units = ("rows", "bytes", "gCO2e")
    return ", ".join(f"{total} {unit}" for total, unit in zip(totals, units, strict=False))


def _insert(connection: psycopg.Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows; one that is there stays."""
    values = sql.SQL(", ").join(sql.Placeholder(name) for name in table.names)
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING")
    with connection.cursor() as cursor:
        cursor.executemany(statement.format(sql.Identifier(SCHEMA, table.name), _columns(table), values), rows)


def _columns(table: Table) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.names))
