"""benchmark: a published month's own ratios beside the plausible bands and beside what others published. No Spark."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from data_quality.benchmarks import read_benchmarks
from data_quality.ratios import ratios
from data_quality.rules import MARKS, Rule, read_rules, rule_for
from factors.expression import DECIMAL_GIGABYTE
from jobs.lake_reader import publication, reading, rows
from jobs.run import Refused, Settings
from schemas.tables import PUBLICATIONS, REVISIONS

_WORDS = {
    "mean_gigabytes_per_subscription": "volume of a subscription",
    "volume_gco2e_per_gigabyte": "A: grams of the volume for each GB",
    "subscription_gco2e_per_subscription": "B: grams of the subscription",
    "mean_gco2e_per_subscription": "footprint of a subscription",
}


def benchmark(settings: Settings, usage_month: date, revision: int | None = None) -> Iterator[str]:
    """Lines of a table. Raises Refused where nothing is published."""
    with reading(settings.lake, (REVISIONS, PUBLICATIONS)) as connection:
        published = publication(connection, usage_month, revision)
        sums = rows(
            connection,
            f"""SELECT network, count(*) AS subscriptions, sum(data_volume_bytes)::DECIMAL(38,0) AS octets,
                sum(volume_gco2e) AS volume, sum(footprint_gco2e) AS grams
                FROM {REVISIONS.name} WHERE usage_month = ? AND publication_id = ? GROUP BY network ORDER BY network""",
            [usage_month, published["publication_id"]],
        )
    if not sums:
        raise Refused(f"revision {published['revision']} of {usage_month:%Y-%m} has no figures any more: they were erased")
    yield f"{usage_month:%Y-%m} revision {published['revision']}, factors {published['factor_sets']}"
    rules, others = read_rules(), read_benchmarks()
    for row in sums:
        network, gigabytes = row["network"], row["octets"] / DECIMAL_GIGABYTE
        own = ratios(row["subscriptions"], gigabytes, row["volume"], row["grams"])
        each = f", {row['grams'] / gigabytes:,.1f} gCO2e for each GB in all" if gigabytes else ""
        yield ""
        tonnes = row["grams"] / 1_000_000
        yield f"{network}: {row['subscriptions']:,} subscriptions, {gigabytes:,.1f} GB, {tonnes:,.3f} tCO2e{each}"
        yield f"  {'':<38}{'own':>10}{'band':>18}"
        for measure, words in _WORDS.items():
            value = own[measure]
            rule = rule_for(rules, measure, network)
            yield f"  {words:<38}{_said(value):>10}{_band(rule):>18}  {rule.unit}: {_judged(rule, value)}"
            for other in others:
                if value is not None and (other.measure, other.network) == (measure, network):
                    beside = f"own is {value / other.value:.2f} of it; {MARKS[other.mark]}: {other.source}"
                    yield f"    {other.of:<66}{_said(other.value):>8}  {beside}"
    yield ""
    yield "where the bands come from"
    for rule in rules.values():
        if rule.mark and rule.name in _WORDS:
            yield f"  {rule.network}, {_WORDS[rule.name]}: {rule.source} ({MARKS[rule.mark]})"
    yield "No energy for each GB is shown: the pipeline knows grams, not kilowatt-hours."


def _said(value: Decimal | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _band(rule: Rule) -> str:
    limits = [f"{limit:,}" for limit in (rule.lowest, rule.highest) if limit is not None]
    return f"{'up to ' if rule.lowest is None else ''}{' to '.join(limits)}"


def _judged(rule: Rule, value: Decimal | None) -> str:
    if value is None:
        return "nothing was used"
    if rule.passes(value):
        return "within"
    slip = rule.slip(value)
    side = "above" if rule.highest is not None and value > rule.highest else "below"
    return f"{side} the band{f', {slip}' if slip else ''}"
