"""A month worked out a second time, all rows at once: whole numbers in DuckDB, and the factor catalogue.

The vectorised twin of ``recompute``: nothing here is a floating-point number, and every overflow raises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import duckdb

from factors.registry import Registry
from jobs.recompute import coefficient
from schemas.tables import PUBLISHED

NOT_FIGURES = ("subscription_key", "revision", "publication_id")
"""Columns of a published row that ``figures_hash`` leaves out."""
FIGURES = tuple(name for name in PUBLISHED.names if name not in NOT_FIGURES)
_GRAMS = tuple(c.name for c in PUBLISHED.columns if c.decimal)

_COEFFICIENTS = """
CREATE OR REPLACE TABLE coefficient (
    brand VARCHAR, network VARCHAR, component VARCHAR, factor_set VARCHAR, method_id VARCHAR,
    is_national_default BOOLEAN, counts_up BOOLEAN, units HUGEINT, units_low HUGEINT, units_high HUGEINT
)"""
"""Units are 10⁻¹⁴ g per octet and 10⁹, or per subscription-month."""

_PARTS = """
CREATE OR REPLACE TABLE part AS
WITH volume AS (
    SELECT s.row, c.*, m.octets_down::HUGEINT + CASE WHEN c.counts_up THEN m.octets_up ELSE 0 END AS octets
    FROM metered AS m JOIN subscribed AS s ON s.row = m.row
    JOIN coefficient AS c ON c.brand = s.brand AND c.network = s.network AND c.component = 'volume'
), month AS (
    SELECT s.row, c.* FROM subscribed AS s
    JOIN coefficient AS c ON c.brand = s.brand AND c.network = s.network AND c.component = 'subscription'
)
SELECT row, factor_set, method_id, is_national_default, octets,
    {half_up_volume} AS volume, 0::HUGEINT AS fixed, {half_up_volume_low} AS low, {half_up_volume_high} AS high
FROM volume
UNION ALL
SELECT row, factor_set, method_id, is_national_default, 0::HUGEINT, 0::HUGEINT,
    {half_up_month}, {half_up_month_low}, {half_up_month_high}
FROM month
"""
"""Octets × 10⁻¹⁴ g a gigabyte are 10⁻²³ g; 10⁻¹² g are published."""

_RECOMPUTED = """
CREATE OR REPLACE TABLE recomputed AS
WITH added AS (
    SELECT row, sum(octets) AS octets, sum(volume) AS volume, sum(fixed) AS fixed, sum(volume + fixed) AS grams,
        CASE WHEN count(low) = count(*) THEN sum(low) END AS low, CASE WHEN count(high) = count(*) THEN sum(high) END AS high,
        max(factor_set) AS factor_set, max(method_id) AS method_id, bool_or(is_national_default) AS is_national_default
    FROM part GROUP BY row
), lost AS (
    SELECT row, bool_or(is_estimated) AS is_estimated FROM metered WHERE row IS NOT NULL GROUP BY row
)
SELECT s.row, s.segment, ?::DATE AS usage_month, s.network, s.brand, a.octets AS data_volume_bytes,
    (a.octets + 500000000) // 1000000000 AS data_volume_gb_displayed,
    s.is_estimated OR coalesce(lost.is_estimated, false) AS is_estimated,
    a.volume AS volume_gco2e, a.fixed AS subscription_gco2e, a.grams AS footprint_gco2e,
    a.low AS footprint_gco2e_low, a.high AS footprint_gco2e_high,
    (a.grams + 500000000000) // 1000000000000 AS footprint_gco2e_displayed,
    a.factor_set, a.is_national_default, a.method_id
FROM subscribed AS s LEFT JOIN added AS a ON a.row = s.row LEFT JOIN lost ON lost.row = s.row
"""
"""Grams are in 10⁻¹² here. All amounts are positive, so half up is: add half, and divide whole numbers."""


def recompute_all(connection: duckdb.DuckDBPyConnection, registry: Registry, month: date) -> None:
    """Fill ``recomputed`` from the tables ``subscribed`` and ``metered``, whose rows have a ``row`` instead of a key."""
    connection.execute(_COEFFICIENTS)
    pairs = connection.execute("SELECT DISTINCT brand, network FROM subscribed ORDER BY ALL").fetchall()
    for brand, network in pairs:
        for component in ("volume", "subscription"):
            used = coefficient(registry, brand, network, component, month)
            amounts = [None if amount is None else _units(amount) for amount in (used.gco2e, used.low, used.high)]
            values = (brand, network, component, used.factor_set, used.method_id, used.is_national_default, used.counts_up)
            connection.execute(f"INSERT INTO coefficient VALUES ({', '.join('?' * 10)})", [*values, *amounts])
    volume, month_of = "(octets * units{0} + 50000000000) // 100000000000", "(units{0} + 50) // 100"
    ends = ("", "_low", "_high")
    halves = {f"half_up_volume{end}": volume.format(end) for end in ends} | {
        f"half_up_month{e}": month_of.format(e) for e in ends
    }
    connection.execute(_PARTS.format(**halves))
    connection.execute(_RECOMPUTED, [month])


def _units(amount: Decimal) -> int:
    return int(amount.scaleb(14))


def compared(table: str, column: str) -> str:
    """An SQL expression: a column of published rows as ``recomputed`` writes it."""
    return f"CAST({table}.{column} * 1000000000000 AS HUGEINT)" if column in _GRAMS else f"{table}.{column}"


def said(column: str, value: object) -> str:
    """A value of ``recomputed`` as a published row writes it."""
    if column in _GRAMS and isinstance(value, int):
        return format(Decimal(value).scaleb(-12), "f")
    return str(value)


def figures_hash(connection: duckdb.DuckDBPyConnection, rows: str) -> str:
    """``figures_hash`` as the ledger has it: each row's columns as text, hashed, sorted, hashed in buckets.

    Args:
        connection: where the rows are.
        rows: a table with the columns of ``published``, or a query in parentheses.
    """
    return _hashed(connection, rows, FIGURES)


def _hashed(connection: duckdb.DuckDBPyConnection, rows: str, columns: Sequence[str]) -> str:
    written = ", ".join(f"coalesce(CAST({name} AS VARCHAR), 'null')" for name in columns)
    found = connection.execute(f"""
        SELECT sha256(string_agg(bucket_hash, '' ORDER BY bucket)) FROM (
            SELECT substr(row_hash, 1, 3) AS bucket, sha256(string_agg(row_hash, '' ORDER BY row_hash)) AS bucket_hash
            FROM (SELECT sha256(concat_ws(chr(31), {written})) AS row_hash FROM {rows}) GROUP BY bucket
        )""").fetchone()
    return str(found[0]) if found and found[0] else hashlib.sha256().hexdigest()
