"""Where a subscription's volume came from: files, records, what was rejected, estimated and prorated, while records are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from jobs.lake_reader import Row, rows
from jobs.legal_calendar import bounds
from jobs.run import Settings
from schemas.tables import ACCEPTED, DELTAS, FILE_BALANCES, KEYS, LANDED, REJECTED, SUBSCRIPTIONS
from schemas.views import visible

_SETTLED = """
    SELECT * FROM {rows} WHERE NOT is_conflicting OR (file_number, record_ordinal) IN (
        SELECT (file_number, record_ordinal) FROM (
            SELECT file_number, record_ordinal, max((coalesce(sequence, -1), file_hash, of_ordinal)) AS last,
                max(last) OVER (PARTITION BY record_key) AS latest
            FROM (
                SELECT record_key, file_number, record_ordinal, file_number AS of_file, record_ordinal AS of_ordinal
                FROM {rows} WHERE is_conflicting
                UNION ALL
                SELECT record_key, duplicate_of_file_number, duplicate_of_record_ordinal, file_number, record_ordinal
                FROM {rejected} WHERE reason = 'duplicate'
            )
            JOIN (
                SELECT file_number AS of_file, file_hash, max(file_sequence) OVER (PARTITION BY file_hash) AS sequence
                FROM {landed}
            ) USING (of_file)
            GROUP BY record_key, file_number, record_ordinal
        ) WHERE last = latest
    )"""
"""Of records with one key and different content, those whose content was delivered last; conflicts are rare."""

_HELD = """
CREATE OR REPLACE TEMP TABLE held AS
SELECT DISTINCT identifier_type, identifier_key, assigned_from, coalesce(assigned_to, TIMESTAMPTZ '9999-01-01') AS assigned_until
FROM ({assignments}) WHERE subscription_key = ?
"""

_USED = """
CREATE OR REPLACE TEMP TABLE used AS
SELECT source, file_number, record_ordinal, month_part, interval_index, access_technology, roaming_zone, octets_up, octets_down,
    is_prorated, is_estimated
FROM ({accepted}) AS record SEMI JOIN held ON {held}
UNION ALL
SELECT source, file_number, record_ordinal, month_part, 0, access_technology, roaming_zone, octets_up, octets_down,
    is_prorated, is_estimated
FROM ({deltas}) AS record SEMI JOIN held ON {held}
"""
_IS_HELD = """record.identifier_type = held.identifier_type AND record.identifier_key = held.identifier_key
    AND closed_at >= held.assigned_from AND closed_at < held.assigned_until"""

_SUMS = """
    count(DISTINCT (file_number, record_ordinal)) AS records,
    count(*) FILTER (is_prorated) AS prorated, count(*) FILTER (is_estimated) AS estimated,
    sum(octets_up)::HUGEINT AS octets_up, sum(octets_down)::HUGEINT AS octets_down"""


def provenance(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    published: Mapping[str, Any],
    subscription_key: bytes,
    metered: Sequence[Row],
) -> dict[str, Any]:
    """Files and records of a subscription in a month, and whether they add up to its metered volume.

    Returns:
        ``records_kept``; while they are: ``files``, ``usage``, ``rejected``, ``octets_of_records``, ``octets_metered``; else
        ``sources``: what was received of each source in the month.
    """
    month, cutoff = published["usage_month"], published["batch_cutoff"]
    of_month = f"usage_month = DATE '{month}'"
    kept = connection.execute(
        f"""SELECT EXISTS (SELECT 1 FROM {ACCEPTED.name} WHERE {of_month})
            OR EXISTS (SELECT 1 FROM {DELTAS.name} WHERE {of_month})"""
    ).fetchone()
    if not kept or not kept[0]:
        return {"records_kept": False, "sources": _sources(connection, settings, published)}
    _find(connection, settings, published, subscription_key)
    octets = connection.execute("SELECT coalesce(sum(octets_up::HUGEINT + octets_down), 0)::HUGEINT FROM used").fetchone()
    return {
        "records_kept": True,
        "files": rows(connection, f"{_FILES} ORDER BY source, file_name"),
        "usage": rows(connection, f"SELECT source, access_technology, roaming_zone, {_SUMS} FROM used GROUP BY ALL ORDER BY ALL"),
        "rejected": rows(connection, _rejected(cutoff, of_month)),
        "octets_of_records": octets[0] if octets else 0,
        "octets_metered": sum(row["octets_up"] + row["octets_down"] for row in metered),
    }


_FILES = f"""
SELECT landed.source, file_name, file_hash, size_octets, {_SUMS}
FROM used JOIN {LANDED.name} AS landed USING (file_number) GROUP BY landed.source, file_name, file_hash, size_octets
"""


def _find(connection: duckdb.DuckDBPyConnection, settings: Settings, published: Mapping[str, Any], key: bytes) -> None:
    """Fill ``held`` with what the subscription held, and ``used`` with the intervals of the month that closed meanwhile."""
    month, cutoff = published["usage_month"], published["batch_cutoff"]
    query = f"SELECT max(serves_from) FROM {KEYS.name} WHERE serves_from <= ?"
    found = connection.execute(query, [month]).fetchone()
    keys_from = found[0] if found else None
    rejected = visible(REJECTED.name, cutoff)
    of_keys = f"(SELECT * FROM {visible(SUBSCRIPTIONS.name, cutoff)} WHERE keys_from = DATE '{keys_from}')"
    mine = f"(SELECT * FROM {of_keys} WHERE record_key IN (SELECT record_key FROM {of_keys} WHERE subscription_key = ?))"
    connection.execute("CREATE OR REPLACE TEMP TABLE assignment AS " + f"SELECT * FROM {mine}", [key])
    assignments = _SETTLED.format(rows="assignment", rejected=rejected, landed=LANDED.name)
    connection.execute(_HELD.format(assignments=assignments), [key])
    of_month = f"usage_month = DATE '{month}' AND identifier_key IN (SELECT identifier_key FROM held)"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE record AS SELECT * FROM {visible(ACCEPTED.name, cutoff)} WHERE {of_month}")
    accepted = _SETTLED.format(rows="record", rejected=rejected, landed=LANDED.name)
    deltas = f"SELECT * FROM {DELTAS.name} WHERE {of_month} AND revision = {int(published['revision'])}"
    connection.execute(_USED.format(accepted=accepted, deltas=deltas, held=_IS_HELD))


def _rejected(cutoff: int, of_month: str) -> str:
    """Rejections of the month that are known to be of what the subscription held; duplicates are among them."""
    return f"""
        SELECT source, reason, count(*) AS records
        FROM (SELECT * FROM {visible(REJECTED.name, cutoff)} WHERE {of_month}) AS record SEMI JOIN held ON {_IS_HELD}
        GROUP BY ALL ORDER BY ALL"""


def _sources(connection: duckdb.DuckDBPyConnection, settings: Settings, published: Mapping[str, Any]) -> list[Row]:
    """What was received of each source in files that touch the month: all that stays once the records are gone."""
    begin, end = bounds(published["usage_month"], settings.legal_timezone)
    counts = ("received", "accepted", "duplicate", "rejected", "out_of_scope")
    sums = ", ".join(f"sum(records_{name})::HUGEINT AS records_{name}" for name in counts)
    query = f"""
        SELECT source, count(*) AS files, {sums}, sum(volume_accepted_octets)::HUGEINT AS volume_accepted_octets
        FROM {visible(FILE_BALANCES.name, published["batch_cutoff"])} WHERE last_closed_at >= ? AND first_closed_at < ?
        GROUP BY source ORDER BY source"""
    return rows(connection, query, [begin, end])
