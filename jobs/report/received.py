"""What was received for a month and what became of it, as of the batch that its publication counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import duckdb

from jobs.completeness import gaps
from jobs.lake_reader import Row, rows, stage_rows
from jobs.legal_calendar import days_of
from jobs.report.cells import Networks, named, tone
from jobs.report.flow import Flow, Node
from schemas.tables import COUNTER_BALANCES, EVIDENCE_DAYS, EVIDENCE_RECEIVED, FILE_BALANCES, METERED, REJECTED, SEQUENCES
from schemas.views import visible

OUTCOMES = ("accepted", "duplicate", "rejected", "out_of_scope")


@dataclass(frozen=True)
class Received:
    """What came of each source in files whose last record closed in the month, and why records do not count."""

    sources: Sequence[Row]
    reasons: Mapping[str, Mapping[str, int]]
    without_time: Row

    def total(self, column: str) -> int:
        """Sum of a column over the sources."""
        return sum(int(row[column]) for row in self.sources)


def received(
    connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any], zone: str, other_kinds: Sequence[str]
) -> Received:
    """The balance of a month's files, as verify kept it of the month it judged, and why records do not count.

    Args:
        connection: DuckDB with the lake's tables.
        published: the publication.
        zone: the legal time zone.
        other_kinds: sources that hold no usage.
    """
    counted = visible(FILE_BALANCES.name, published["batch_cutoff"])
    month = f"CAST(date_trunc('month', timezone('{zone}', last_closed_at)) AS DATE)"
    of_usage = f"SELECT *, {month} AS usage_month FROM {counted} AS b WHERE NOT list_contains(?, source)"
    parameters = [list(other_kinds), published["usage_month"]]
    of_month = f"FROM ({of_usage}) WHERE usage_month = ?"
    judged = f"FROM {EVIDENCE_RECEIVED.name} WHERE verdict_id = ? AND NOT list_contains(?, source)"
    by_source = f"SELECT * {judged} AND NOT is_without_time ORDER BY source"
    nowhere = f"SELECT sum(files) AS files, sum(records_received) AS records_received {judged} AND is_without_time"
    kept = [published["verdict_id"], list(other_kinds)]
    out_of_scope: Counter[str] = Counter()
    for row in rows(connection, f"SELECT out_of_scope_reasons {of_month}", parameters):
        out_of_scope.update(json.loads(row["out_of_scope_reasons"]))
    rejected = rows(
        connection,
        f"""SELECT reason, count(*) AS records FROM {visible(REJECTED.name, published["batch_cutoff"])} AS r
            WHERE reason <> 'duplicate' AND file_number IN (SELECT file_number {of_month}) GROUP BY reason""",
        parameters,
    )
    reasons = {
        "rejected": {row["reason"]: row["records"] for row in rejected},
        "out_of_scope": dict(out_of_scope),
    }
    return Received(rows(connection, by_source, kept), reasons, rows(connection, nowhere, kept)[0])


def record_flow(found: Received) -> Flow:
    """Records from their source to what became of them."""
    nodes = [Node(row["source"], 0, "source") for row in found.sources]
    nodes += [Node(outcome.replace("_", " "), 1, outcome) for outcome in OUTCOMES]
    links = {
        (row["source"], outcome.replace("_", " ")): int(row[f"records_{outcome}"])
        for row in found.sources
        for outcome in OUTCOMES
    }
    return Flow(nodes, {link: records for link, records in links.items() if records})


def counted_between_readings(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> dict[str, int]:
    """Octets of the month by source of counters: their records are readings, and what was used lies between two."""
    query = f"""
        SELECT source, sum(octets_of_month)::HUGEINT AS octets FROM {COUNTER_BALANCES.name}
        WHERE usage_month = ? AND batch_cutoff = ? GROUP BY source ORDER BY source"""
    return {
        row["source"]: row["octets"] for row in rows(connection, query, [published["usage_month"], published["batch_cutoff"]])
    }


COUNTED, DUPLICATE, OUT_OF_SCOPE = "counted", "duplicate", "out of scope"
OTHER_MONTHS, FROM_OTHER_MONTHS = "other months", "other files"
UNATTRIBUTED, NOT_IN_FACTORS = "no active holder", "not in factors"


def volume_flow(
    connection: duckdb.DuckDBPyConnection,
    published: Mapping[str, Any],
    found: Received,
    volumes: Mapping[Networks, int],
) -> Flow:
    """Octets of subscribers from their source to what is published.

    A file belongs to the month of its last record and an interval to its own: what this shifts over the ends of the month is one
    amount, in or out.

    Args:
        connection: DuckDB with the lake's tables.
        published: the publication.
        found: what was received.
        volumes: octets published of the networks that are told of apart; where they are told of together, sources are, too.
    """
    counters = counted_between_readings(connection, published)
    links: Counter[tuple[str, str]] = Counter()
    together = any(len(networks) > 1 for networks in volumes)
    for row in found.sources:
        source = "all sources" if together else row["source"]
        links[source, COUNTED] += int(row["volume_accepted_octets"]) + counters.get(row["source"], 0)
        links[source, DUPLICATE] += int(row["volume_duplicate_octets"])
        links[source, OUT_OF_SCOPE] += int(row["volume_out_of_scope_octets"])
    for source in counters.keys() - {row["source"] for row in found.sources}:
        links["all sources" if together else source, COUNTED] += counters[source]
    holders = (
        f"SELECT attribution, sum(octets_up::HUGEINT + octets_down) AS octets FROM {stage_rows(METERED, published)} GROUP BY 1"
    )
    metered = {row["attribution"]: int(row["octets"]) for row in rows(connection, holders)}
    shifted = sum(amount for (_, to), amount in links.items() if to == COUNTED) - sum(metered.values())
    links[(COUNTED, OTHER_MONTHS) if shifted > 0 else (FROM_OTHER_MONTHS, COUNTED)] = abs(shifted)
    for networks, octets in volumes.items():
        links[COUNTED, named(networks)] = octets
    held = metered.pop("holder", 0)
    links[COUNTED, UNATTRIBUTED] = sum(metered.values())
    links[COUNTED, NOT_IN_FACTORS] = held - sum(volumes.values())
    sources = sorted({source for source, to in links if to == COUNTED} - {FROM_OTHER_MONTHS})
    nodes = [*(Node(source, 0, "source") for source in sources), Node(FROM_OTHER_MONTHS, 0, "out_of_scope")]
    nodes.append(Node(COUNTED, 1, "accepted"))
    nodes += [Node(named(networks), 2, tone(networks)) for networks in volumes]
    ends = ((UNATTRIBUTED, "rejected"), (NOT_IN_FACTORS, "out_of_scope"), (OTHER_MONTHS, "out_of_scope"))
    nodes += [Node(name, 2, colour) for name, colour in (*ends, (DUPLICATE, "duplicate"), (OUT_OF_SCOPE, "out_of_scope"))]
    return Flow(nodes, {link: octets for link, octets in sorted(links.items()) if octets})


@dataclass(frozen=True)
class Completeness:
    """Of each network element and day, records that came and numbers that never did; of each source and day, its octets."""

    days: Sequence[date]
    nodes: Mapping[tuple[str, str], Mapping[date, tuple[int, int]]]
    """(records, missing) by day, of (source, node)."""
    sources: Mapping[str, Mapping[date, float | None]]
    """Octets over the source's median day; None on a day without any."""

    def of_node(self, node: tuple[str, str]) -> tuple[int, int]:
        """Records and missing numbers of an element in the month."""
        by_day = self.nodes[node].values()
        return sum(came for came, _ in by_day), sum(missing for _, missing in by_day)


def completeness(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> Completeness:
    """The month by network element (days in UTC) and by source (legal days), day by day, as verify saw it."""
    first, cutoff = published["usage_month"], published["batch_cutoff"]
    days = days_of(first)
    numbered = rows(
        connection,
        f"""SELECT source, node, day, records, first_sequence, last_sequence FROM {visible(SEQUENCES.name, cutoff)} AS c
            WHERE day BETWEEN ? AND ? ORDER BY ALL""",
        [first - timedelta(days=1), days[-1] + timedelta(days=1)],
    )
    nodes: dict[tuple[str, str], dict[date, tuple[int, int]]] = {}
    for row in numbered:
        by_day = nodes.setdefault((row["source"], row["node"]), {})
        came, missing = by_day.get(row["day"], (0, 0))
        by_day[row["day"]] = (came + row["records"], missing)
    for gap in gaps(SimpleNamespace(**row) for row in numbered):
        by_day = nodes[gap.source, gap.node]
        by_day[gap.day] = (by_day[gap.day][0], gap.missing + by_day[gap.day][1])
    inside = {node: {day: by_day[day] for day in days if day in by_day} for node, by_day in sorted(nodes.items())}
    sources = _over_median(connection, published, days)
    return Completeness(days, {node: by_day for node, by_day in inside.items() if by_day}, sources)


def _over_median(
    connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any], days: Sequence[date]
) -> dict[str, dict[date, float | None]]:
    """As the verdict that let the month pass saw it: the records themselves are too many to look at, and go."""
    seen = rows(
        connection,
        f"""SELECT source, day, octets_share_of_median AS share FROM {EVIDENCE_DAYS.name}
            WHERE verdict_id = ? AND octets_share_of_median IS NOT NULL ORDER BY ALL""",
        [published["verdict_id"]],
    )
    found: dict[str, dict[date, float | None]] = {row["source"]: dict.fromkeys(days) for row in seen}
    for row in seen:
        found[row["source"]][row["day"]] = float(row["share"]) or None
    return found
