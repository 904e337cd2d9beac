"""What PostgreSQL holds: the tables, views, roles and rights of the copy, made once and checked against their declaration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import psycopg
from psycopg import sql

from jobs.postgres import speaking
from jobs.run import CallError
from schemas.readers import PORTAL, READERS
from schemas.table import Table
from schemas.tables import (
    CORRECTIONS,
    EVIDENCE,
    EVIDENCE_DAYS,
    EVIDENCE_FACTORS,
    EVIDENCE_RECEIVED,
    METHOD_TEXTS,
    PUBLICATIONS,
    PUBLISHED,
    PUBLISHED_TOTALS,
    RESTATEMENTS,
    REVISIONS,
    VERDICTS,
)
from schemas.views import VIEWS as AUDIT_VIEWS

SCHEMA = "footprint"

WRITERS = Table(
    name="writers",
    comment="The latest writer of each lake. Whoever holds an earlier fence must not commit.",
    text="""
        lake_key         BIGINT    NOT NULL COMMENT 'First 64 bits of the SHA-256 of the place of the lake, as in pg_locks.'
        fence            BIGINT    NOT NULL COMMENT 'Number of the writer, from 1, ever increasing.'
        holder           STRING    NOT NULL COMMENT 'Stage, process and host of the writer.'
        since            TIMESTAMP NOT NULL COMMENT 'When it took the lock.'
    """,
    key=("lake_key",),
)

FEEDBACK_REASONS = ("clear", "figure_unclear", "method_unclear", "actions_missing")

FEEDBACK = Table(
    name="feedback",
    comment="Answers to « Does this page help you? ». Nothing says whose: no key, no address, no time of day.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the month that was shown.'
        answer           STRING    NOT NULL COMMENT 'yes or no.'
        reason           STRING             COMMENT 'Reason chosen from the list of the page; null if none was.'
        language         STRING    NOT NULL COMMENT 'Language of the page, ISO 639-1.'
        day              DATE      NOT NULL COMMENT 'Day of the answer in the legal time zone.'
    """,
    key=(),
    checks={
        "answer_is_known": "answer IN ('yes', 'no')",
        "reason_is_known": f"reason IN {FEEDBACK_REASONS}",
        "language_is_known": "language IN ('fr', 'en')",
    },
)

BESIDE = (VERDICTS, EVIDENCE, EVIDENCE_RECEIVED, EVIDENCE_DAYS, EVIDENCE_FACTORS, PUBLISHED_TOTALS, RESTATEMENTS)
"""Small tables whose rows of a publication, or of its verdict, come with it."""

TABLES = (PUBLISHED, PUBLICATIONS, REVISIONS, *BESIDE, CORRECTIONS, METHOD_TEXTS, WRITERS, FEEDBACK)

VIEWS = tuple(view for view in AUDIT_VIEWS if all(table in TABLES for table in view.reads))
"""The audit views whose tables are copied. The others read what stays in the lake: ``footprint sql``."""

_OWN_ROW = "subscription_key = current_setting('footprint.subscription_key', true)"
"""The portal reaches the row it names, for a transaction, by a key that nobody can list: no key named, no row."""

PARTED_BY = {PUBLISHED.name: "usage_month", REVISIONS.name: "publication_id"}
"""Tables in parts, by column: billing reads a month, and a publication comes as a whole, its index made when its rows are in."""

_STATE = """
SELECT (SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %(schema)s),
       ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY(%(roles)s)),
       EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s),
       current_setting('footprint.is_embedded', true) IS NOT DISTINCT FROM 'on'
"""

_FOUND = """
SELECT relname::text, attname::text, format_type(atttypid, atttypmod), attnotnull, pg_get_partkeydef(pg_class.oid)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
"""


def prepare(connection: psycopg.Connection) -> None:
    """Make the schema, its tables, views, roles and rights if they are not yet as declared; one query if they are.

    Raises:
        CallError: the user may not make them (the message holds the SQL for an administrator), or a table has other columns.
    """
    with speaking("preparing PostgreSQL"):
        if _is_prepared(connection):
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('footprint.prepare', 0))")
            if not _is_prepared(connection):
                _make_outer(connection)
                _make_inner(connection)
                _compare(connection)


def _is_prepared(connection: psycopg.Connection) -> bool:
    comment, roles, _, _ = _state(connection)
    return comment == _comment() and len(roles) == len(READERS)


def _state(connection: psycopg.Connection) -> tuple[str | None, list[str], bool, bool]:
    found = connection.execute(_STATE, {"schema": SCHEMA, "roles": list(READERS)}).fetchone()
    assert found is not None
    return found


def _make_outer(connection: psycopg.Connection) -> None:
    """Roles and schema: what an administrator may have to make."""
    _, roles, has_schema, is_embedded = _state(connection)
    login = "LOGIN" if is_embedded else "NOLOGIN"
    needed = [f"CREATE ROLE {role} {login};" for role in READERS if role not in roles]
    if not has_schema:
        needed.append(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {_quoted(connection, connection.info.user)};")
    if is_embedded:
        needed.append("REVOKE ALL ON DATABASE postgres FROM PUBLIC;")
        needed.append(f"GRANT CONNECT ON DATABASE postgres TO {', '.join(READERS)};")
    try:
        for statement in needed:
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        user = connection.info.user
        raise CallError(f"PostgreSQL user {user} lacks a right; ask an administrator to run: {' '.join(needed)}") from None


def _make_inner(connection: psycopg.Connection) -> None:
    for statement in _declared():
        connection.execute(statement.encode())
    comment = sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(SCHEMA), sql.Literal(_comment()))
    connection.execute(comment)


def _declared() -> list[str]:
    return [
        *(table.postgres_ddl(SCHEMA, PARTED_BY.get(table.name)) for table in TABLES),
        *(view.postgres_ddl(SCHEMA) for view in VIEWS),
        *_rights(),
        *_policies(),
    ]


def _rights() -> Iterable[str]:
    everyone = ", ".join(["PUBLIC", *READERS])
    yield f"REVOKE ALL ON SCHEMA {SCHEMA} FROM {everyone}"
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM {everyone}"
    for role, names in READERS.items():
        yield f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}"
        yield f"GRANT SELECT ON {', '.join(f'{SCHEMA}.{name}' for name in names)} TO {role}"

    yield f"GRANT INSERT ON {SCHEMA}.{FEEDBACK.name} TO {PORTAL}"


def _policies() -> Iterable[str]:
    """Rows of ``published`` by reader. The owner, who loads them, passes; so do the views, which are the owner's."""
    table = f"{SCHEMA}.{PUBLISHED.name}"
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    for role, names in READERS.items():
        if PUBLISHED.name in names:
            rows = _OWN_ROW if role == PORTAL else "true"
            yield f"DROP POLICY IF EXISTS {role}_reads ON {table}"
            yield f"CREATE POLICY {role}_reads ON {table} FOR SELECT TO {role} USING ({rows})"


def _comment() -> str:
    digest = hashlib.sha256("\n".join(_declared()).encode()).hexdigest()[:16]
    return f"Copy of what the lake has published, with its ledger and history. Declaration {digest}."


def _quoted(connection: psycopg.Connection, name: str) -> str:
    return sql.Identifier(name).as_string(connection)


def _compare(connection: psycopg.Connection) -> None:
    rows = connection.execute(_FOUND, {"schema": SCHEMA}).fetchall()
    found = {(table, column): of for table, column, *of in rows}
    for table in TABLES:
        declared = {
            (table.name, c.name): [
                c.postgres_type.replace("timestamptz", "timestamp with time zone"),
                c.is_required or c.name in table.key,
                f"LIST ({PARTED_BY[table.name]})" if table.name in PARTED_BY else None,
            ]
            for c in table.columns
        }
        existing = {place: kind for place, kind in found.items() if place[0] == table.name}
        if declared != existing:
            places = sorted(declared.keys() | existing.keys())
            wrong = [place[1] for place in places if declared.get(place, [])[:2] != existing.get(place, [])[:2]]
            said = f"columns {', '.join(wrong)}" if wrong else "it is in other parts"
            raise CallError(
                f"{SCHEMA}.{table.name} in PostgreSQL was made for another declaration ({said}): "
                f"drop schema {SCHEMA}; it is a copy, and the next publication loads it again from the lake"
            )
