"""explain: what was published of a subscription and month, from what and why, and whether a second calculation agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import duckdb

from factors.hypotheses import hypotheses_of
from factors.reading import FactorError
from factors.registry import Registry, factors_id, in_force, load
from jobs import recompute
from jobs.lake_reader import Row, inputs, publication, reading, rows, stage_rows
from jobs.provenance import provenance
from jobs.restated import Restatement, restatement
from jobs.run import Refused, Settings
from schemas.tables import (
    ACCEPTED,
    BATCHES,
    DELTAS,
    ERASURES,
    ESTIMATED,
    EVIDENCE_FACTORS,
    FILE_BALANCES,
    KEYS,
    LANDED,
    METERED,
    PUBLICATIONS,
    REJECTED,
    RESTATEMENTS,
    REVISIONS,
    SUBSCRIBED,
    SUBSCRIPTIONS,
    VERDICTS,
)

TABLES = (
    *(LANDED, BATCHES, ACCEPTED, DELTAS, REJECTED, SUBSCRIPTIONS, FILE_BALANCES, METERED, SUBSCRIBED, ESTIMATED),
    *(VERDICTS, EVIDENCE_FACTORS, REVISIONS, PUBLICATIONS, RESTATEMENTS, KEYS, ERASURES),
)
_COMPARED = ("quantity", "factor_id", "gco2e_per_unit", "gco2e", "gco2e_low", "gco2e_high", "factor_set", "method_id")


@dataclass(frozen=True)
class Explanation:
    """Everything that is known of one published row. Nothing in it names a subscriber; its key is the published pseudonym."""

    row: Row
    publication: Row
    verdict: Row
    components: Sequence[Row]
    usage: Sequence[Row]
    subscribed: Row
    provenance: Mapping[str, Any]
    hypotheses: Sequence[Row]
    restatement: Restatement | None
    earlier: Row | None
    """Its row of the revision before; None of the first, or if it had none there."""
    differences: Sequence[str]

    @property
    def agrees(self) -> bool:
        """The second calculation gives the published row to the last decimal."""
        return not self.differences


def explain(settings: Settings, usage_month: date, subscription_key: str, revision: int | None = None) -> Explanation:
    """Explain a published row.

    Args:
        settings: where lake and factors are.
        usage_month: the month.
        subscription_key: the published pseudonym, 32 hexadecimal digits.
        revision: revision of the month; None for the one that counts.

    Raises:
        Refused: nothing is published for it, or what it was worked out from is no longer kept.
    """
    with reading(settings.lake, TABLES) as connection:
        published = publication(connection, usage_month, revision)
        registry = catalogue(settings, connection, published)
        return of_row(connection, settings, registry, published, subscription_key)


def catalogue(settings: Settings, connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> Registry:
    """The factors a publication was worked out with: those of the folder now, else those it knew when the month was published.

    Raises:
        Refused: the folder of factors says something else, now and as of that day.
    """
    rows = connection.execute(f"SELECT DISTINCT brand FROM {stage_rows(SUBSCRIBED, published)}").fetchall()
    brands, month, day = [brand for (brand,) in rows], published["usage_month"], published["published_at"].date()
    try:
        registry = load(settings.factors)
        now = factors_id(in_force(settings.factors, month, brands))
    except FactorError as error:
        raise Refused(str(error)) from None
    if not brands or now == published["factors_id"]:
        return registry
    # A correction, or another set, may have become known on the day itself, before or after.
    for known_on in (day, day - timedelta(days=1)):
        with suppress(FactorError):
            if factors_id(in_force(settings.factors, month, brands, known_on)) == published["factors_id"]:
                return replace(registry, known_on=known_on)
    raise Refused(
        f"{settings.factors} gives other factors for {month:%Y-%m} than revision {published['revision']} was worked out with "
        f"({now}, not {published['factors_id']}): set FOOTPRINT_FACTORS to those of code version {published['code_version']}"
    )


@dataclass(frozen=True)
class Again:
    """A published row, what it was worked out from, and how the second calculation went."""

    row: Row
    subscribed: Row
    metered: Sequence[Row]
    parts: Sequence[recompute.Component]
    differences: Sequence[str]


def again(
    connection: duckdb.DuckDBPyConnection, registry: Registry, published: Mapping[str, Any], subscription_key: str
) -> Again:
    """Work a row of a publication out a second time, with its components. Raises Refused as ``explain`` does."""
    month = published["usage_month"]
    row = _row_of(connection, month, published["publication_id"], subscription_key)
    if row is None:
        raise Refused(_nothing(connection, published))
    key = bytes.fromhex(subscription_key)
    subscribed, metered = inputs(connection, published, key)
    if subscribed is None:
        raise Refused(f"{month:%Y-%m}: the subscription is published but not in {SUBSCRIBED.name}: it cannot be explained")
    parts = recompute.components(subscribed, metered, registry, month)
    estimated = f"SELECT * FROM {stage_rows(ESTIMATED, published)} WHERE subscription_key = ?"
    wrong = recompute.differences(row, recompute.published(subscribed, metered, parts))
    wrong += _component_differences(rows(connection, estimated, [key]), parts)
    return Again(row, subscribed, metered, parts, wrong)


def of_row(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    registry: Registry,
    published: Mapping[str, Any],
    subscription_key: str,
) -> Explanation:
    """Explain a row of a publication, with the factors it was worked out with. Raises Refused as ``explain`` does."""
    found = again(connection, registry, published, subscription_key)
    (verdict,) = rows(connection, f"SELECT * FROM {VERDICTS.name} WHERE verdict_id = ?", [published["verdict_id"]])
    return Explanation(
        found.row,
        dict(published),
        verdict,
        [_component(registry, part) for part in found.parts],
        found.metered,
        found.subscribed,
        provenance(connection, settings, published, bytes.fromhex(subscription_key), found.metered),
        _taken_for_granted(settings, published["usage_month"]),
        restatement(connection, published),
        _row_of(connection, published["usage_month"], published["supersedes_publication_id"], subscription_key),
        found.differences,
    )


def _row_of(connection: duckdb.DuckDBPyConnection, usage_month: date, publication_id: int | None, key: str) -> Row | None:
    """What a publication said of a subscription; None if it said nothing, or there was none."""
    query = f"SELECT * FROM {REVISIONS.name} WHERE usage_month = ? AND publication_id = ? AND subscription_key = ?"
    found = rows(connection, query, [usage_month, publication_id, key])
    return found[0] if found else None


def _taken_for_granted(settings: Settings, usage_month: date) -> list[Row]:
    """The hypotheses in force for the month."""
    told = {"id", "text", "owner", "owner_is_placeholder", "expires"}
    return [hypothesis.model_dump(mode="json", include=told) for hypothesis in hypotheses_of(settings.factors, usage_month)]


def _nothing(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> str:
    month, revision = published["usage_month"], published["revision"]
    query = f"SELECT DISTINCT kind FROM {ERASURES.name} WHERE usage_month = ? AND kind <> 'records'"
    erased = connection.execute(query, [month]).fetchall()
    also = "; figures of the month were erased, perhaps its own" if erased else ""
    return f"nothing is published for this subscription in {month:%Y-%m}, revision {revision}{also}"


def _component(registry: Registry, part: recompute.Component) -> Row:
    """A component with the words of its factor."""
    factor_set = registry.sets[part.coefficient.factor_set]
    # Of an expression the identity ends with a hash of its parts'.
    identity = part.coefficient.factor_id.partition("#")[0]
    value = next(v for v in factor_set.value if f"{factor_set.name}/{v.name}" == identity)
    source = registry.citations[value.source]
    return {
        "component": part.name,
        "access_technology": part.access_technology,
        "roaming_zone": part.roaming_zone,
        "quantity": part.quantity,
        "quantity_unit": "GB" if part.name == "volume" else "subscription-month",
        "factor_id": part.coefficient.factor_id,
        "factor": part.coefficient.gco2e,
        "factor_unit": value.unit,
        "gco2e": part.gco2e,
        "gco2e_low": part.gco2e_low,
        "gco2e_high": part.gco2e_high,
        "factor_set": factor_set.name,
        "perimeter": factor_set.perimeter,
        "status": value.status,
        "mark": value.mark,
        "note": value.note,
        "citation": {"key": value.source, "page": value.page, **source.model_dump(mode="json")},
    }


def _component_differences(stored: Sequence[Row], parts: Sequence[recompute.Component]) -> list[str]:
    """Where the stored components are not those recomputed."""
    kept = {(r["component"], r["access_technology"] or "", r["roaming_zone"] or ""): r for r in stored}
    found = {part.place: part for part in parts}
    wrong = [f"component {_named(place)} is stored and cannot be recomputed" for place in sorted(kept.keys() - found.keys())]
    wrong += [f"component {_named(place)} is recomputed and not stored" for place in sorted(found.keys() - kept.keys())]
    for place in sorted(kept.keys() & found.keys()):
        again = _as_stored(found[place])
        wrong += [f"component {_named(place)}: {said}" for said in recompute.differences(kept[place], again)]
    return wrong


def _as_stored(part: recompute.Component) -> Row:
    used = part.coefficient
    values = (part.quantity, used.factor_id, used.gco2e, part.gco2e, part.gco2e_low, part.gco2e_high)
    return dict(zip(_COMPARED, (*values, used.factor_set, used.method_id), strict=True))


def _named(place: tuple[str, str, str]) -> str:
    return " ".join(filter(None, place))
