"""scenario: a month's estimate with other factors or hypotheses, beside what is published or estimated; never published itself.

It reads the month's ``metered`` and ``subscribed`` and writes a table ``estimated`` of its own under ``var/scenarios/``, where no
ledger, verdict or publication is, and which is refused as a lake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from itertools import chain
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType

from factors.catalogue import FactorSet
from factors.hypotheses import Alternative, hypotheses_of
from factors.registry import Factor, check_volume_basis, factors_id, load, of_sets
from jobs import ledger
from jobs.estimate import estimate, gco2e
from jobs.lake import Lake, in_month
from jobs.run import CallError, Refused
from jobs.workplace import Workplace
from schemas.tables import ESTIMATED, FACTORS, METERED, PUBLISHED, SUBSCRIBED

_BINARY_GIGABYTE = 2**30
_PERCENT = Decimal("0.01")
Sums = dict[tuple[str, str], Decimal]


@dataclass(frozen=True)
class Scenario:
    """What is asked: another folder of factors, or one set for every brand, or neither; and hypotheses done otherwise."""

    folder: Path | None
    factor_set: str | None
    hypotheses: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name fit for a folder."""
        given = self.factor_set or (self.folder.name if self.folder else "as-assigned")
        return re.sub(r"[^A-Za-z0-9._-]", "_", "+".join([given, *self.hypotheses]))

    def check(self, factors: Path, usage_month: date) -> tuple[Alternative, ...]:
        """The alternatives asked for. Raises CallError where nothing, or nothing possible, is asked, and FactorError."""
        if not (self.folder or self.factor_set or self.hypotheses):
            raise CallError("a scenario needs --factors, --set or --hypothesis")
        if self.folder and not self.folder.is_dir():
            raise CallError(f"--factors: {self.folder} is not a folder")
        if self.factor_set and self.factor_set not in (sets := load(factors).sets):
            raise CallError(f"--set: {factors / 'sets'} holds {', '.join(sorted(sets))}, not {self.factor_set}")
        possible = {h.id: h.alternative for h in hypotheses_of(factors, usage_month) if h.alternative}
        unknown = [name for name in self.hypotheses if name not in possible]
        if unknown:
            raise CallError(f"--hypothesis: {unknown[0]} has no alternative in {usage_month:%Y-%m}; {', '.join(possible)} have")
        return tuple(possible[asked] for asked in self.hypotheses)

    def serving(self, factors: Path, usage_month: date, brands: list[str]) -> dict[str, FactorSet]:
        """The set of each brand. Raises FactorError."""
        registry = load(self.folder or factors)
        if self.factor_set:
            return dict.fromkeys(brands, registry.sets[self.factor_set])
        return {brand: registry.assigned(brand, usage_month) for brand in brands}


def run(workplace: Workplace, usage_month: date, asked: Scenario) -> dict[str, Any]:
    """Estimate a month as the scenario asks, keep it apart, and compare it by network and component.

    Raises:
        Refused: the month is not metered or not estimated, or no set leaves open what the alternative asks.
        FactorError: a factor is missing, or a set counts volume otherwise than a source does.
    """
    alternatives = asked.check(workplace.settings.factors, usage_month)
    revision = _revision(workplace, usage_month)
    subscribed = workplace.lake.read(SUBSCRIBED, in_month(usage_month, revision=revision))
    metered = workplace.lake.read(METERED, in_month(usage_month, revision=revision))
    brands = sorted(row.brand for row in subscribed.select("brand").distinct().collect())
    if not brands:
        raise Refused(f"{usage_month:%Y-%m} has no subscription: run meter first")
    factors = _factors(asked.serving(workplace.settings.factors, usage_month, brands), usage_month, alternatives)
    check_volume_basis(factors, workplace.sources)
    rows = workplace.lake.rows(FACTORS, [asdict(factor) for factor in factors])
    if "roaming_excluded" in alternatives:
        metered = metered.where("roaming_zone <> 'roaming'")
    estimated = estimate(metered, subscribed, rows, f"scenario-{factors_id(factors)}").withColumn("revision", F.lit(revision))
    if "prorated_by_active_days" in alternatives:
        estimated = prorated(estimated, subscribed, rows, workplace.month(usage_month).days)
    scratch = scratch_lake(workplace, usage_month, f"{asked.name}-{factors_id(factors)[:8]}")
    scratch.replace_month(ESTIMATED, estimated, usage_month, revision=revision)
    beside, figures = _beside(workplace, usage_month)
    return {
        "month": f"{usage_month:%Y-%m}",
        "beside": beside,
        "factor_sets": sorted({factor.factor_set for factor in factors}),
        "hypotheses": [f"{name}: {what}" for name, what in zip(asked.hypotheses, alternatives, strict=True)],
        "place": scratch.path(ESTIMATED),
        "components": compared(figures, by_component(scratch.read(ESTIMATED, in_month(usage_month, revision=revision)))),
        "intervals": intervals(scratch.read(ESTIMATED, in_month(usage_month, revision=revision))),
    }


def _revision(workplace: Workplace, usage_month: date) -> int:
    """The revision that is published, else the first: what the scenario starts from, and is compared with."""
    published = ledger.current(workplace.lake, usage_month)
    return int(published.revision) if published else 1


def scratch_lake(workplace: Workplace, usage_month: date, name: str) -> Lake:
    """A place of a scenario's own under ``var/scenarios``."""
    place = workplace.settings.scenarios / f"{usage_month:%Y-%m}" / name
    return Lake(workplace.lake.session, str(place), workplace.lake.fence)


def prorated(estimated: DataFrame, subscribed: DataFrame, factors: DataFrame, days: int) -> DataFrame:
    """B by active days: the quantity is the share of the month's days, half up to the places of ``quantity``.

    Args:
        estimated: rows of ``estimated`` with whole subscription-months.
        subscribed: rows of ``subscribed`` of the month, for the active days.
        factors: rows of ``factors`` they were estimated with.
        days: days of the month.
    """
    active = subscribed.select("subscription_key", "active_days")
    of_factor = [f"gco2e_per_unit{end}" for end in ("_low", "_high")]
    ends = F.broadcast(factors.select("brand", "network", "component", *of_factor))
    is_subscription = F.col("component") == "subscription"
    quantity = F.when(is_subscription, _share_of_month(days)).otherwise(F.col("quantity"))
    joined = estimated.join(active, "subscription_key").join(ends, ["brand", "network", "component"])
    return joined.withColumns(
        {
            "quantity": quantity,
            "gco2e": gco2e(quantity, "gco2e_per_unit"),
            "gco2e_low": gco2e(quantity, "gco2e_per_unit_low"),
            "gco2e_high": gco2e(quantity, "gco2e_per_unit_high"),
        }
    ).select(*ESTIMATED.names)


def _share_of_month(days: int) -> Column:
    """Active days as a share of the month. Divided here, not in Spark, whose decimal division loses places."""
    precision, scale = ESTIMATED.column("quantity").decimal or (0, 0)
    shares = {n: (Decimal(n) / days).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP) for n in range(1, days + 1)}
    known = F.create_map(*chain.from_iterable((F.lit(n), F.lit(share)) for n, share in shares.items()))
    return known[F.col("active_days")].cast(DecimalType(precision, scale))


def by_component(estimated: DataFrame) -> Sums:
    """Grams by network and component."""
    rows = estimated.groupBy("network", "component").agg(F.sum("gco2e").alias("gco2e")).collect()
    return {(row.network, row.component): row.gco2e for row in rows}


def intervals(estimated: DataFrame) -> list[dict[str, Any]]:
    """The interval of each network: the sum of all lows, the sum of all highs; null where any component has none.

    The uncertainty is the factor's, and all subscriptions share it: it does not average out over them.
    """
    rows = estimated.groupBy("network").agg(
        F.sum("gco2e").alias("gco2e"),
        *[F.when(F.count(end) == F.count("*"), F.sum(end)).alias(end) for end in ("gco2e_low", "gco2e_high")],
    )
    return sorted((row.asDict() for row in rows.collect()), key=lambda row: str(row["network"]))


def compared(beside: Mapping[tuple[str, str], Decimal], scenario: Mapping[tuple[str, str], Decimal]) -> list[dict[str, Any]]:
    """The difference by network and component; null per cent of nothing."""
    found = []
    for network, component in sorted(beside.keys() | scenario.keys()):
        before, after = (sums.get((network, component), Decimal(0)) for sums in (beside, scenario))
        share = ((after - before) * 100 / before).quantize(_PERCENT, ROUND_HALF_UP) if before else None
        found.append(
            {
                "network": network,
                "component": component,
                "beside_gco2e": before,
                "scenario_gco2e": after,
                "difference_gco2e": after - before,
                "difference_percent": share,
            }
        )
    return found


def in_words(found: Mapping[str, Any]) -> list[str]:
    """The comparison as a table in grams."""
    asked = ", ".join([*found["factor_sets"], *found["hypotheses"]])
    lines = [f"{found['month']} with {asked}, beside what is {found['beside']}; grams of CO2 equivalent; nothing is published"]
    lines.append(f"{'network':<9}{'component':<14}{found['beside'].split()[0]:>24}{'scenario':>24}{'difference':>24}{'%':>10}")
    for row in found["components"]:
        amounts = "".join(f"{row[name]:>24,.3f}" for name in ("beside_gco2e", "scenario_gco2e", "difference_gco2e"))
        percent = "-" if row["difference_percent"] is None else f"{row['difference_percent']:+}"
        lines.append(f"{row['network']:<9}{row['component']:<14}{amounts}{percent:>10}")
    told = [row for row in found["intervals"] if row["gco2e_low"] is not None and row["gco2e_high"] is not None]
    lines += [f"{row['network']:<9}{'interval':<14}{row['gco2e_low']:,.3f} to {row['gco2e_high']:,.3f}" for row in told]
    return [*lines, f"kept in {found['place']}"]


def _factors(served: Mapping[str, FactorSet], usage_month: date, alternatives: tuple[Alternative, ...]) -> list[Factor]:
    if "binary_gigabytes" in alternatives:
        if not any(factor_set.gb_basis_mark == "hypothesis" for factor_set in served.values()):
            raise Refused(f"{usage_month:%Y-%m}: the sources of every set state what a gigabyte is: there is no alternative")
        served = {brand: _in_binary_gigabytes(factor_set) for brand, factor_set in served.items()}
    return of_sets(served, usage_month)


def _in_binary_gigabytes(factor_set: FactorSet) -> FactorSet:
    """The set as if its source had meant 2^30 octets, unless it says what it means; converted and rounded once like any other."""
    is_open = factor_set.gb_basis_mark == "hypothesis"
    return factor_set.model_copy(update={"gb_basis": _BINARY_GIGABYTE}) if is_open else factor_set


def _beside(workplace: Workplace, usage_month: date) -> tuple[str, Sums]:
    """What the scenario is compared with: what is published, else what is estimated. Raises Refused if there is neither."""
    published = ledger.current(workplace.lake, usage_month)
    if published is None:
        estimated = by_component(workplace.lake.read(ESTIMATED, in_month(usage_month, revision=1)))
        if not estimated:
            raise Refused(f"{usage_month:%Y-%m} is not estimated: run estimate first")
        return "estimated", estimated
    sums = [F.sum(f"{component}_gco2e").alias(component) for component in ("volume", "subscription")]
    rows = workplace.lake.read(PUBLISHED, in_month(usage_month)).groupBy("network").agg(*sums).collect()
    figures = {(row.network, component): row[component] for row in rows for component in ("volume", "subscription")}
    return f"published as revision {published.revision}", figures
