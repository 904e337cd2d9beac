"""How a month stands: its verdict, its revisions and what changed them, what its figures rest on, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb

from factors.catalogue import Citation
from factors.expression import compiled
from factors.hypotheses import Hypothesis, hypotheses_of
from factors.registry import Registry
from factors.values import Parameter, Stated
from jobs.lake_reader import Row, rows, stage_rows
from jobs.launch import STAGES
from jobs.report.cells import is_small
from jobs.run import Settings
from schemas.tables import ESTIMATED, EVIDENCE, PUBLICATIONS, RESTATEMENTS, STAGE_RUNS, VERDICTS


@dataclass(frozen=True)
class Verdict:
    """A judgement, and what was measured for it; of the month as a whole only, where a network is too small to be told of."""

    row: Row
    evidence: Sequence[Row]
    is_whole: bool


def verdict(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any], networks_are_told: bool) -> Verdict:
    """The verdict that let a publication pass."""
    number = [published["verdict_id"]]
    (judged,) = rows(connection, f"SELECT * FROM {VERDICTS.name} WHERE verdict_id = ?", number)
    evidence = rows(connection, f"SELECT * FROM {EVIDENCE.name} WHERE verdict_id = ? ORDER BY passed, rule, network", number)
    told = [row for row in evidence if networks_are_told or row["network"] == "all"]
    return Verdict(judged, told, len(told) == len(evidence))


@dataclass(frozen=True)
class Restatement:
    """A later revision of a month: its ledger row, and its causes; one that touches few subscriptions is without amounts."""

    publication: Row
    causes: Sequence[Row]


def revisions(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any], first: date) -> list[Row]:
    """The ledger from a month on, up to the publication, by month and revision."""
    return rows(
        connection,
        f"""SELECT * FROM {PUBLICATIONS.name} WHERE usage_month BETWEEN ? AND ?
            AND (usage_month <> ? OR revision <= ?) ORDER BY usage_month, revision""",
        [first, published["usage_month"], published["usage_month"], published["revision"]],
    )


def restatements(connection: duckdb.DuckDBPyConnection, ledger: Sequence[Row]) -> list[Restatement]:
    """What changed with each later revision of the ledger's months, by network and cause."""
    found = []
    for each in ledger:
        if each["revision"] > 1:
            query = f"SELECT * FROM {RESTATEMENTS.name} WHERE publication_id = ? AND (octets <> 0 OR gco2e <> 0) ORDER BY ALL"
            causes = rows(connection, query, [each["publication_id"]])
            withheld = {"octets": None, "gco2e": None, "subscriptions": None}
            found.append(Restatement(each, [row | (withheld if is_small(row["subscriptions"]) else {}) for row in causes]))
    return found


@dataclass(frozen=True)
class Applied:
    """A factor that was applied to a network's component, what it is made of, and where that comes from."""

    network: str
    component: str
    factor_id: str
    gco2e_per_unit: Decimal
    value: Stated
    parts: Sequence[tuple[str, Parameter]]
    perimeter: str
    method_id: str


def factors_applied(
    connection: duckdb.DuckDBPyConnection, registry: Registry, published: Mapping[str, Any]
) -> tuple[list[Applied], dict[str, Citation]]:
    """The factors of a publication, and the sources of all they are made of by key."""
    query = f"""
        SELECT DISTINCT network, component, factor_id, gco2e_per_unit, factor_set, method_id
        FROM {stage_rows(ESTIMATED, published)} ORDER BY ALL"""
    applied = []
    for row in rows(connection, query):
        factor_set = registry.sets[row["factor_set"]]
        identity = row["factor_id"].partition("#")[0]
        value = next(each for each in factor_set.value if factor_set.identity(each) == identity)
        parts = compiled(factor_set, value, published["usage_month"], registry.known_on).parts
        named = [(factor_set.identity(part), part) for part in parts]
        names = ("network", "component", "factor_id", "gco2e_per_unit")
        applied.append(
            Applied(
                **{name: row[name] for name in names},
                value=value,
                parts=named,
                perimeter=factor_set.perimeter,
                method_id=row["method_id"],
            )
        )
    keys = {each.value.source for each in applied} | {part.source for each in applied for _, part in each.parts}
    return applied, {key: registry.citations[key] for key in sorted(keys)}


def hypotheses(settings: Settings, published: Mapping[str, Any]) -> tuple[Hypothesis, ...]:
    """What the month's figures take for granted."""
    return hypotheses_of(settings.factors, published["usage_month"])


@dataclass(frozen=True)
class StageTime:
    """How long the work of a stage took that led to a publication."""

    stage: str
    seconds: float
    code_version: str


def stage_times(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> list[StageTime]:
    """The last run of each stage that began before the publication and after the one before it, in the order of the stages."""
    query = f"""
        SELECT stage, (epoch_us(ended_at) - epoch_us(began_at)) / 1e6 AS seconds, code_version FROM {STAGE_RUNS.name}
        WHERE usage_month = ? AND began_at <= ? AND began_at > coalesce(
            (SELECT published_at FROM {PUBLICATIONS.name} WHERE publication_id = ?), TIMESTAMPTZ '1970-01-01 00:00:00+00')
        QUALIFY row_number() OVER (PARTITION BY stage ORDER BY began_at DESC) = 1"""
    parameters = [published["usage_month"], published["published_at"], published["supersedes_publication_id"]]
    found = {row["stage"]: StageTime(**row) for row in rows(connection, query, parameters)}
    return [found[stage] for stage in (*STAGES, "restate") if stage in found]
