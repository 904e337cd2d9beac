"""What the page reads of the PostgreSQL copy, and the one thing it adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from jobs import postgres, serving
from jobs.portal.page import Account
from jobs.postgres import speaking
from jobs.run import CallError, Settings
from schemas.readers import PORTAL
from schemas.tables import PUBLISHED

_NAME_KEY = "SELECT set_config('footprint.subscription_key', %s, true)"
_ROWS = sql.SQL("SELECT {} FROM footprint.published WHERE subscription_key = %s").format(
    sql.SQL(", ").join(map(sql.Identifier, PUBLISHED.names))
)
_ANSWER = "INSERT INTO footprint.feedback (usage_month, answer, reason, language, day) VALUES (%s, %s, %s, %s, %s)"


def connect(settings: Settings) -> psycopg.Connection:
    """Connect as the portal: to the embedded server as its role, to another as the user that FOOTPRINT_SERVING_URL names.

    Raises:
        CallError: no server answers, or the user is not held to one subscription by row-level security.
    """
    place = settings if settings.serving_url else replace(settings, serving_url=postgres.url(settings, PORTAL))
    connection = postgres.connect(place, "footprint portal")
    with speaking("asking for the portal's rights"):
        statement = "SELECT row_security_active('footprint.published'), EXISTS (SELECT FROM footprint.published)"
        is_held, sees_rows = connection.execute(statement).fetchone() or (False, True)
    if not is_held or sees_rows:
        connection.close()
        raise CallError(f"this PostgreSQL user may read every subscription: name one that is granted {PORTAL} and nothing else")
    return connection


def account(
    connection: psycopg.Connection, subscription_keys: Sequence[str], month: date | None, language: str
) -> Account | None:
    """What is published of a subscription; None if nothing is, or not in the month asked for.

    Args:
        connection: in autocommit mode, as the portal or as a user that may read all.
        subscription_keys: one for each serving key that its months were published under.
        month: to show; the latest if none is named.
        language: of the method's text.
    """
    rows: dict[date, dict[str, Any]] = {}
    with speaking("reading published"), connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        for key in subscription_keys:
            cursor.execute(_NAME_KEY, (key,))  # for this transaction only
            rows |= {row["usage_month"]: row for row in cursor.execute(_ROWS, (key,)).fetchall()}
    shown = month or max(rows, default=None)
    if shown not in rows or shown is None:
        return None
    return Account(rows, shown, serving.method_text(connection, rows[shown]["method_id"], language))


def answer(connection: psycopg.Connection, month: date, given: tuple[str, str | None], language: str, day: date) -> None:
    """Keep an answer and its reason, without anything of who gave it. Raises Refused if it is not one of the list."""
    with speaking("keeping an answer"):
        connection.execute(_ANSWER, (month, *given, language, day))
