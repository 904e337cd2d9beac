"""benchmark: a published month's own ratios beside the plausible bands and beside what others published. No Spark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from math import prod

from data_quality.benchmarks import Benchmark, read_benchmarks
from data_quality.ratios import ratios
from data_quality.rules import MARKS, Rule, read_rules, rule_for
from factors.catalogue import FactorSet
from factors.expression import DECIMAL_GIGABYTE, per_decimal_gigabyte
from factors.reading import FactorError
from factors.registry import load
from jobs.lake_reader import Row, publication, reading, rows
from jobs.run import Refused, Settings
from schemas.source import Network
from schemas.tables import PUBLICATIONS, REVISIONS

_WORDS = {
    "mean_gigabytes_per_subscription": "volume of a subscription",
    "volume_gco2e_per_gigabyte": "A: grams of the volume for each GB",
    "subscription_gco2e_per_subscription": "B: grams of the subscription",
    "mean_gco2e_per_subscription": "footprint of a subscription",
}
_ENERGY = "kWh/GB"


@dataclass(frozen=True)
class Own:
    """One of a network's own ratios: what it is judged by, and what others published of the same."""

    words: str
    value: Decimal | None
    rule: Rule
    others: Sequence[Benchmark]

    @property
    def said(self) -> str:
        """The value."""
        return said(self.value)

    @property
    def band(self) -> str:
        """What is plausible."""
        limits = [f"{limit:,}" for limit in (self.rule.lowest, self.rule.highest) if limit is not None]
        return f"{'up to ' if self.rule.lowest is None else ''}{' to '.join(limits)}"

    @property
    def beside(self) -> list[tuple[Benchmark, Decimal]]:
        """What others published, with the own value over it; nothing without an own value."""
        return [] if self.value is None else [(other, self.value / other.value) for other in self.others]

    @property
    def judged(self) -> str:
        """How the value lies to its band, with the slip of a unit that would explain it."""
        if self.value is None:
            return "nothing was used"
        if self.rule.passes(self.value):
            return "within"
        slip = self.rule.slip(self.value)
        side = "above" if self.rule.highest is not None and self.value > self.rule.highest else "below"
        return f"{side} the band{f', {slip}' if slip else ''}"


def own_ratios(network: str, subscriptions: int, octets: int, volume_gco2e: Decimal, gco2e: Decimal) -> list[Own]:
    """The ratios of a network in a month, in the order in which they are told."""
    rules, others = read_rules(), read_benchmarks()
    found = ratios(subscriptions, Decimal(octets) / DECIMAL_GIGABYTE, volume_gco2e, gco2e)
    return [
        Own(words, found[name], rule_for(rules, name, network), [o for o in others if (o.measure, o.network) == (name, network)])
        for name, words in _WORDS.items()
    ]


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
    for row in sums:
        network, gigabytes = row["network"], row["octets"] / DECIMAL_GIGABYTE
        each = f", {row['grams'] / gigabytes:,.1f} gCO2e for each GB in all" if gigabytes else ""
        yield ""
        tonnes = row["grams"] / 1_000_000
        yield f"{network}: {row['subscriptions']:,} subscriptions, {gigabytes:,.1f} GB, {tonnes:,.3f} tCO2e{each}"
        yield f"  {'':<38}{'own':>10}{'band':>18}"
        for own in own_ratios(network, row["subscriptions"], row["octets"], row["volume"], row["grams"]):
            yield f"  {own.words:<38}{own.said:>10}{own.band:>18}  {own.rule.unit}: {own.judged}"
            for other, share in own.beside:
                beside = f"own is {share:.2f} of it; {MARKS[other.mark]}: {other.source}"
                yield f"    {other.of:<66}{said(other.value):>8}  {beside}"
    yield from _energy(settings, published, [row["network"] for row in sums])
    yield from _sector(sums)
    yield ""
    yield "where the bands come from"
    for rule in read_rules().values():
        if rule.mark and rule.name in _WORDS:
            yield f"  {rule.network}, {_WORDS[rule.name]}: {rule.source} ({MARKS[rule.mark]})"


def _energy(settings: Settings, published: Row, networks: Sequence[Network]) -> Iterator[str]:
    """Electricity for each gigabyte: what the factors in force state, if they do, beside what others published."""
    month, known_on = published["usage_month"], published["published_at"].date()
    try:
        sets = load(settings.factors).sets
    except FactorError as error:
        raise Refused(str(error)) from None
    yield ""
    yield "electricity for each GB, use phase only"
    for network in networks:
        stated = None
        for name in published["factor_sets"].split(", "):
            stated = energy_per_gigabyte(sets[name], network, month, known_on) if name in sets else None
            if stated is None:
                yield f"  {network}, own: not known. {name} states grams, not electricity"
            else:
                yield (
                    f"  {network}, as {name} states it of the volume: {said(stated.kilowatt_hours)} kWh/GB, "
                    f"{said(stated.gco2e)} gCO2e/GB (network carbon intensity of ITU-T L.1333)"
                )
        for other in (other for other in read_benchmarks("energy") if other.network == network):
            beside = f"own is {stated.kilowatt_hours / other.value:.2f} of it; " if stated else ""
            yield f"    {other.of:<74}{other.value:>8}  {other.unit}; {beside}{MARKS[other.mark]}: {other.source}"
    yield "  ITU-T L.1333 divides the carbon of the network's operation by its traffic. An own figure needs the electricity that"
    yield "  the network was metered to use, which no usage record holds. No operator's figure by that definition was found."


@dataclass(frozen=True)
class Energy:
    """Electricity for each gigabyte, and the grams of it."""

    kilowatt_hours: Decimal
    gco2e: Decimal


def energy_per_gigabyte(factor_set: FactorSet, network: Network, month: date, as_of: date) -> Energy | None:
    """The electricity of 10^9 octets that a set's volume factor states, and its carbon; None where it states grams alone."""
    value = factor_set.in_force(network, "volume", month, as_of)
    kilowatt_hours, gco2e = Decimal(0), Decimal(0)
    for term in value.term if value else ():
        parts = [part for part in (factor_set.parameter_in_force(name, month, as_of) for name in term.times) if part]
        if energy := [part.amount for part in parts if part.unit == _ENERGY]:
            kilowatt_hours += prod(energy, start=Decimal(1))
            gco2e += prod((part.amount for part in parts), start=Decimal(1))
    if not kilowatt_hours:
        return None
    return Energy(*(per_decimal_gigabyte(each, factor_set.gb_basis) for each in (kilowatt_hours, gco2e)))


def _sector(sums: Sequence[Row]) -> Iterator[str]:
    """Twelve times the month beside totals of the sector."""
    kilotonnes = 12 * sum((row["grams"] for row in sums), Decimal(0)) / 10**9
    yield ""
    yield f"totals of the French sector in a year; twelve times the own month is {_short(kilotonnes)} ktCO2e"
    for other in read_benchmarks("sector"):
        beside = f"own is {_short(100 * kilotonnes / other.value)} % of it; " if other.unit == "ktCO2e" else "own is not known; "
        yield f"    {other.of:<74}{other.value:>8,}  {other.unit}; {beside}{MARKS[other.mark]}: {other.source}"
    yield "  They do not reconcile: 4.1 kg a month on 30.6 million fixed lines alone would be 1,505 kt, more than the life cycle"
    yield "  of all networks; and scope 1 and 2 leave out what a life cycle counts. Orders of magnitude, not limits."


def _short(value: Decimal) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2g}"


def said(value: Decimal | None) -> str:
    """A ratio to as many digits as it is told with."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"
