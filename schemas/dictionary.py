"""The data dictionary: every table and view with its columns, types, units and meaning, written from the declarations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.table import Column, Table
from schemas.tables import FACTORS, TABLES
from schemas.views import VIEWS, View

_UNITS = (
    ("_per_unit", "gCO2e per GB or subscription-month"),
    ("_per_unit_low", "gCO2e per GB or subscription-month"),
    ("_per_unit_high", "gCO2e per GB or subscription-month"),
    ("_gb_displayed", "GB (10⁹ bytes)"),
    ("gco2e_displayed", "gCO2e"),
    ("gco2e", "gCO2e"),
    ("gco2e_low", "gCO2e"),
    ("gco2e_high", "gCO2e"),
    ("gco2e_change", "gCO2e"),
    ("_bytes", "bytes"),
    ("_bytes_change", "bytes"),
    ("octets", "octets"),
    ("octets_up", "octets"),
    ("octets_down", "octets"),
    ("_days", "days"),
    ("elapsed_s", "seconds"),
    ("_bits", "bits"),
)


def unit(column: Column) -> str:
    """Unit of a column, from its name; empty for what has none."""
    is_number = column.decimal is not None or column.sql_type in ("INT", "BIGINT")
    if not is_number:
        return "UTC" if column.sql_type == "TIMESTAMP" else ""
    if column.name.startswith("octets_") and not column.name.endswith("_share_of_median"):
        return "octets"
    return next((name for end, name in _UNITS if column.name.endswith(end)), "")


def dictionary() -> str:
    """The dictionary as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Data dictionary"
    yield ""
    yield "Generated from `schemas/tables.py` and `schemas/views.py` by `python -m schemas dictionary`; do not edit."
    yield "Types are SQL's; instants are UTC; a gigabyte (GB) is 10⁹ bytes; pseudonyms are keyed hashes, never identifiers."
    yield ""
    yield "## Tables of the lake"
    for table in (*TABLES, FACTORS):
        yield from _described(table, table.columns)
        if table is FACTORS:
            yield "Not stored: the factors in force come from `factors/`."
        yield f"Key: {', '.join(f'`{name}`' for name in table.key)}."
        if table.checks:
            rules = "; ".join(f"{name.replace('_', ' ')} (`{rule}`)" for name, rule in table.checks.items())
            yield f"Every row: {rules}."
    yield ""
    yield "## Audit views"
    yield ""
    yield (
        "`footprint sql` opens them over the lake. PostgreSQL has all but `files_received`, for `footprint_auditor`, and the "
        "tables `restatements`, `published_totals` and `evidence`: of a published month the same rows."
    )
    for view in VIEWS:
        yield from _of_view(view)


def _of_view(view: View) -> Iterator[str]:
    yield from _described(view.columns_of, view.columns)
    yield f"Reads {', '.join(f'`{table.name}`' for table in view.reads)}."


def _described(table: Table, columns: Sequence[Column]) -> Iterator[str]:
    yield ""
    yield f"### {table.name}"
    yield ""
    yield table.comment
    yield ""
    yield "| column | type | unit | meaning |"
    yield "|---|---|---|---|"
    for column in columns:
        kind = column.sql_type + ("" if column.is_required else ", null")
        yield f"| `{column.name}` | {kind} | {unit(column)} | {column.comment.replace('|', chr(92) + '|')} |"
    yield ""
