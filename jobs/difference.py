"""What a restatement changed, exactly: the difference of two revisions split into its causes, and who is told of it.

Both revisions are sums of components, quantity × factor. Of one component the change is split evenly between the two:

    V₁·A₁ - V₀·A₀ = (A₁ - A₀)·(V₀ + V₁)/2 + (V₁ - V₀)·(A₀ + A₁)/2

so no cause comes first, and the order in which changes arrived does not matter. The change of a quantity is split over what
caused it: records that count now and did not, records that no longer count, the octets that a factor counts; the rest are the
records that count in both, for another holder, activity, network or brand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from factors.expression import DECIMAL_GIGABYTE
from schemas.tables import CORRECTIONS, ESTIMATED

CAUSES = ("late_usage", "withdrawn", "subscriptions", "factors", "hypotheses", "code", "rounding")
"""Causes in the order in which they are told; ``restatements`` says what each is."""
_KEY = ("subscription_key", "network", "brand", "component", "access_technology", "roaming_zone")
_OF_FACTOR = ("brand", "network", "component")
_QUANTITY, _GCO2E = (ESTIMATED.column(name).sql_type.lower() for name in ("quantity", "gco2e"))
_MEASURES = {
    **dict.fromkeys(("published_quantity", "old_quantity", "new_quantity"), _QUANTITY),
    **dict.fromkeys(("late_quantity", "withdrawn_quantity", "hypotheses_quantity"), _QUANTITY),
    **dict.fromkeys(("published_gco2e", "old_gco2e", "new_gco2e"), _GCO2E),
}
_DOUBLED = "decimal(38,23)"
"""Twice an effect: quantities of 9 places times a sum of factors of 14. Halved on the driver, where digits cost nothing."""
_ROUNDING = Decimal("1e-12")
"""A product is rounded by half of this at most, so the difference of two by this."""


@dataclass(frozen=True)
class Moved:
    """Components of usage, rows of ``estimated``, whose quantities say what moved the volume.

    Args:
        late: usage that counts now and did not, as it is attributed now.
        withdrawn: usage that counted and no longer does, as it was attributed.
        hypotheses: usage of now that counts only under the factors of now, and with a negative quantity what only counted under
            those of before.
    """

    late: DataFrame
    withdrawn: DataFrame
    hypotheses: DataFrame | None = None


def split(published: DataFrame, recomputed: DataFrame, new: DataFrame, moved: Moved) -> list[dict[str, Any]]:
    """The difference of two revisions by network and cause.

    Args:
        published: rows of ``estimated`` of the revision that is restated.
        recomputed: the same inputs and factors under the code of now.
        new: rows of ``estimated`` of the revision that it becomes.
        moved: what moved the volume.

    Returns:
        ``network, cause, octets, gco2e, subscriptions``, a row for each network and cause.

    Raises:
        ArithmeticError: the causes do not add up to the difference: what moved is not what was counted.
    """
    effects = _effects(_with_factors(_side_by_side(published, recomputed, new, moved), recomputed, new))
    totals = (F.sum("new_gco2e").alias("new"), F.sum("published_gco2e").alias("before"), F.sum("components").alias("components"))
    touched = [F.count_if(f"touched_{cause}").alias(f"touched_{cause}") for cause in CAUSES]
    by_network = _by_subscription(effects).groupBy("network").agg(*_sums(), *touched, *totals)
    return [row for found in sorted(by_network.collect(), key=lambda f: str(f.network)) for row in _causes(found)]


def total(rows: Sequence[Mapping[str, Any]]) -> Decimal:
    """The grams of rows of ``split`` together, without rounding."""
    with localcontext() as exact:
        exact.prec = 60
        return sum((row["gco2e"] for row in rows), Decimal(0))


def corrections(before: DataFrame, after: DataFrame, reason: str, materiality_gco2e: Decimal | None) -> DataFrame:
    """What billing is told: subscriptions whose figures changed enough, or that are published only before or only after.

    Args:
        before: rows of ``published`` of the revision that is restated.
        after: rows of ``published`` of the revision that it becomes.
        reason: why it is restated.
        materiality_gco2e: the least change of the unrounded grams that is told; None: any change of a displayed figure.

    Returns:
        Rows of ``corrections``.
    """
    figures = ("data_volume_bytes", "data_volume_gb_displayed", "footprint_gco2e", "footprint_gco2e_displayed")
    sides = [
        side.select(
            *("subscription_key", "usage_month", "revision", "publication_id"),
            *[F.col(name).alias(f"{name}_{when}") for name in figures],
        )
        for side, when in ((before, "before"), (after, "after"))
    ]
    was, now = (side.alias(name) for side, name in zip(sides, ("was", "now"), strict=True))
    joined = was.join(now, on=F.col("was.subscription_key") == F.col("now.subscription_key"), how="full_outer")
    # Of a subscription that is on one side only, the other side's revision is that of all its rows.
    last = (F.max("revision"), F.max("publication_id"))
    revision = {name: side.agg(*last).collect()[0] for name, side in (("was", was), ("now", now))}
    return joined.where(_is_material(materiality_gco2e)).select(
        F.coalesce("was.subscription_key", "now.subscription_key").alias("subscription_key"),
        F.coalesce("was.usage_month", "now.usage_month").alias("usage_month"),
        F.lit(revision["was"][0]).cast("int").alias("from_revision"),
        F.lit(revision["now"][0]).cast("int").alias("to_revision"),
        F.lit(revision["now"][1]).cast("bigint").alias("publication_id"),
        F.lit(reason).alias("reason"),
        *[name for name in CORRECTIONS.names if name.endswith(("_before", "_after"))],
    )


def _is_material(materiality_gco2e: Decimal | None) -> Column:
    is_on_one_side = F.col("was.subscription_key").isNull() | F.col("now.subscription_key").isNull()
    if materiality_gco2e is None:
        shown = ("data_volume_gb_displayed", "footprint_gco2e_displayed")
        differs = reduce(Column.__or__, [F.col(f"{name}_before") != F.col(f"{name}_after") for name in shown])
    else:
        change = F.abs(F.col("footprint_gco2e_after") - F.col("footprint_gco2e_before"))
        differs = (change > 0) & (change >= F.lit(materiality_gco2e))
    return is_on_one_side | differs


def _side_by_side(published: DataFrame, recomputed: DataFrame, new: DataFrame, moved: Moved) -> DataFrame:
    """One row per component of any of them, with the quantities and grams of each; 0 where it has none."""
    sides = [
        _measured(side, **{f"{name}_quantity": "quantity", f"{name}_gco2e": "gco2e"})
        for side, name in ((published, "published"), (recomputed, "old"), (new, "new"))
    ]
    tagged = {"late": moved.late, "withdrawn": moved.withdrawn, "hypotheses": moved.hypotheses}
    sides += [_measured(usage, **{f"{name}_quantity": "quantity"}) for name, usage in tagged.items() if usage is not None]
    together = reduce(DataFrame.unionByName, sides).groupBy(*_KEY)
    return together.agg(*[F.sum(name).cast(sql_type).alias(name) for name, sql_type in _MEASURES.items()])


def _measured(rows: DataFrame, **measures: str) -> DataFrame:
    zero = F.lit(Decimal(0))
    columns = [
        (F.col(measures[name]) if name in measures else zero).cast(sql_type).alias(name) for name, sql_type in _MEASURES.items()
    ]
    return rows.select(*_KEY, *columns)


def _with_factors(components: DataFrame, recomputed: DataFrame, new: DataFrame) -> DataFrame:
    """Components with the factors of before and of now. Where a revision has no such component, its factor did not change."""
    old, now = (_factors(rows, name) for rows, name in ((recomputed, "factor_before"), (new, "factor_now")))
    joined = components.join(F.broadcast(old), on=list(_OF_FACTOR), how="left").join(
        F.broadcast(now), on=list(_OF_FACTOR), how="left"
    )
    return joined.withColumns(
        {"old_factor": F.coalesce("factor_before", "factor_now"), "new_factor": F.coalesce("factor_now", "factor_before")}
    )


def _factors(rows: DataFrame, name: str) -> DataFrame:
    return rows.select(*_OF_FACTOR, F.col("gco2e_per_unit").alias(name)).distinct()


def _effects(components: DataFrame) -> DataFrame:
    """Per component and cause twice the grams, the quantity that moved, and whether it did anything."""
    old, new = F.col("old_quantity"), F.col("new_quantity")
    tagged = F.col("late_quantity") - F.col("withdrawn_quantity") + F.col("hypotheses_quantity")
    nothing = F.lit(Decimal(0)).cast("decimal(18,9)")
    quantities = {
        "late_usage": F.col("late_quantity"),
        "withdrawn": -F.col("withdrawn_quantity"),
        "hypotheses": F.col("hypotheses_quantity"),
        "subscriptions": new - old - tagged,
        "code": old - F.col("published_quantity"),
        "factors": nothing,
        "rounding": nothing,
    }
    both_factors = F.col("old_factor") + F.col("new_factor")
    doubled = {
        cause: _half_of_the_change(quantities[cause], both_factors)
        for cause in ("late_usage", "withdrawn", "hypotheses", "subscriptions")
    }
    doubled["factors"] = _half_of_the_change(old + new, F.col("new_factor") - F.col("old_factor"))
    doubled["code"] = _twice(F.col("old_gco2e") - F.col("published_gco2e"))
    residue = {side: F.col(f"{side}_gco2e") - F.col(f"{side}_quantity") * F.col(f"{side}_factor") for side in ("old", "new")}
    doubled["rounding"] = _twice(residue["new"] - residue["old"])
    is_volume = F.col("component") == "volume"
    moved = {
        cause: F.when(is_volume, quantity).otherwise(nothing).cast("decimal(18,9)") for cause, quantity in quantities.items()
    }
    return components.select(
        *("network", "subscription_key", "new_gco2e", "published_gco2e"),
        *[amount.cast(_DOUBLED).alias(f"doubled_{cause}") for cause, amount in doubled.items()],
        *[quantity.alias(f"moved_{cause}") for cause, quantity in moved.items()],
        *[((doubled[cause] != 0) | (quantities[cause] != 0)).alias(f"touched_{cause}") for cause in CAUSES],
    )


def _half_of_the_change(quantity: Column, factor: Column) -> Column:
    """Quantity times factor, each a sum or difference of two: 18 and 19 digits, of which a product is exact in 38."""
    return quantity.cast("decimal(18,9)") * factor.cast("decimal(19,14)")


def _twice(amount: Column) -> Column:
    # Cast first: the sum of two decimals of 38 digits would give up a place.
    return amount.cast("decimal(37,23)") + amount.cast("decimal(37,23)")


def _by_subscription(effects: DataFrame) -> DataFrame:
    return effects.groupBy("network", "subscription_key").agg(
        *_sums(),
        *[F.bool_or(f"touched_{cause}").alias(f"touched_{cause}") for cause in CAUSES],
        *[F.sum(name).alias(name) for name in ("new_gco2e", "published_gco2e")],
        F.count("*").alias("components"),
    )


def _sums() -> list[Column]:
    return [F.sum(f"{amount}_{cause}").alias(f"{amount}_{cause}") for cause in CAUSES for amount in ("doubled", "moved")]


def _causes(found: Row) -> Iterator[dict[str, Any]]:
    with localcontext() as exact:
        exact.prec = 60
        grams = {cause: found[f"doubled_{cause}"] / 2 for cause in CAUSES}
        difference = sum(grams.values(), Decimal(0)) - (found.new - found.before)
        if difference != 0 or abs(grams["rounding"]) > found.components * _ROUNDING:
            raise ArithmeticError(f"{found.network}: the causes miss the difference of the revisions by {difference} gCO2e")
        for cause in CAUSES:
            yield {
                "network": found.network,
                "cause": cause,
                "octets": int(found[f"moved_{cause}"] * DECIMAL_GIGABYTE),
                "gco2e": grams[cause],
                "subscriptions": found[f"touched_{cause}"],
            }
