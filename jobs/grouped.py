"""Amounts of rows by a few values, added up by DuckDB where the rows are read, and what is distinct among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any

import pyarrow as pa

from jobs.pieces import PIECES, in_one, tables_of
from jobs.steps import Streamed, are_few, asked
from jobs.table_rows import TableRows

Amounts = Mapping[str, tuple[str, str]]
"""By name: how it adds up over rows (``sum``, ``min``, ``max`` or ``bool_or``), and its expression of a row, as SQL of DuckDB."""
_FOUND = "found"


def added_up(rows: TableRows, by: Sequence[str], amounts: Amounts) -> list[dict[str, Any]]:
    """Amounts by the values of some columns, of which few are different. Sums are decimals, exact.

    Args:
        rows: the rows.
        by: columns; none for amounts of all rows together, if there are any.
        amounts: what is asked of them.
    """
    query = sums_of(by, amounts)

    def add(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        some = iter(batches)
        if first := next((batch for batch in some if len(batch)), None):
            yield from in_one(_FOUND, asked(query, rows=Streamed(first.schema, chain([first], some))))

    return together(rows.mapped(add, PIECES, are_few(rows.counts)).rows(), by, amounts)


def sums_of(by: Sequence[str], amounts: Amounts) -> str:
    """Amounts of a table ``rows``, as SQL; of those of several tables ``together`` makes one."""
    chosen = ", ".join([*by, *(f'{how}({of_row}) AS "{name}"' for name, (how, of_row) in amounts.items())])
    return f"SELECT {chosen} FROM rows GROUP BY ALL"


def together(found: pa.Table, by: Sequence[str], amounts: Amounts, kind: str = _FOUND) -> list[dict[str, Any]]:
    """What several tasks have added up, rows of PIECES of a kind, as one; a sum of whole numbers is one."""
    tables = tables_of(found.to_batches(), [kind])[kind]
    if not tables:
        return []
    again = {name: (how, f'"{name}"') for name, (how, _) in amounts.items()}
    rows = asked(sums_of(by, again), rows=pa.concat_tables(tables)).to_pylist()
    return [{name: _whole(value) for name, value in row.items()} for row in rows]


def distinct(rows: TableRows, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The values that rows have in some columns, each once."""
    return added_up(rows, columns, {})


def _whole(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return int(value) if isinstance(value, Decimal) and value.as_tuple().exponent == 0 else value
