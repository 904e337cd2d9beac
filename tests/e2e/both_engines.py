"""What an auditor reads of published months, in DuckDB over the lake and in PostgreSQL, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobs.run import Settings

BY_NAME = ("received_balance", "published_history", "factor_use", "restatements", "completeness")
BESIDE = ("publication_history", "published_totals", "publications", "corrections")
Answer = tuple[list[str], list[tuple[Any, ...]]]


def in_both(settings: Settings, name: str) -> tuple[Answer, Answer]:
    """Columns and sorted rows of a view or table, in the lake and as the auditor reads them in PostgreSQL."""
    import psycopg

    from jobs.audit_sql import opened
    from jobs.postgres import url

    with opened(settings) as connection:
        found = connection.execute(f"SELECT * FROM {name}")
        ours = _answer([column[0] for column in found.description or ()], found.fetchall())
    with psycopg.connect(url(settings, "footprint_auditor")) as served:
        answer = served.execute(f"SELECT * FROM footprint.{name}".encode())
        theirs = _answer([column.name for column in answer.description or ()], answer.fetchall())
    return ours, theirs


def _answer(columns: list[str], rows: Sequence[tuple[Any, ...]]) -> Answer:
    """Instants in UTC, whatever zone an engine tells them in; everything else as it is."""
    said = [tuple(value.astimezone(UTC) if isinstance(value, datetime) else value for value in row) for row in rows]
    return columns, sorted(said, key=repr)
