"""estimate: the formula. A footprint is a sum of components, each quantity × factor, kept exact and rounded once.

E = A · V + B per subscription and month (ADEME's sectoral rules for internet access, RCP FAI v2; the linear ratios of 2022 are
the cases B = 0 for mobile and A = 0 for fixed). A is in gCO2e per decimal gigabyte, B in gCO2e per subscription and month. In
this version the whole B is charged for any active day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType

from factors.arithmetic import GIGABYTES_PER_OCTET
from schemas.tables import ESTIMATED

UNITS = {"volume": "GB", "subscription": "subscription-month"}
"""Unit of the quantity of each component."""
_GRAMS = {"gco2e": "gco2e_per_unit", "gco2e_low": "gco2e_per_unit_low", "gco2e_high": "gco2e_per_unit_high"}
"""Grams of a component, and the column of its factor that they are worked out with."""
_OF_ONE = ("quantity", *_GRAMS)
GCO2E_PLACES = 12
"""Half-up rounding of every component, part of the method."""


def estimate(metered: DataFrame, subscribed: DataFrame, factors: DataFrame, factors_id: str, *kept: str) -> DataFrame:
    """Apply the factors in force to a month's volumes and subscriptions.

    Args:
        metered: rows of ``metered``; only usage that a subscription holds is estimated.
        subscribed: rows of ``subscribed``.
        factors: rows of ``factors``, one per brand, network and component.
        factors_id: hash of the factors.
        kept: columns of ``factors`` that the caller has added, and finds again.

    Returns:
        Rows of ``estimated``, of which revision the caller says: per subscription one ``volume`` component per access technology
        and roaming zone, and one ``subscription`` component. A subscription or volume without a factor has a null factor, which
        the table refuses.
    """
    of_volume, of_subscription = parts(metered, subscribed, factors, factors_id, *kept)
    return of_volume.unionByName(of_subscription)


def parts(
    metered: DataFrame, subscribed: DataFrame, factors: DataFrame, factors_id: str, *kept: str
) -> tuple[DataFrame, DataFrame]:
    """The rows of ``estimate`` by component: of volume, and of subscription, which have all but their key from ``of_one``."""
    quantity = gigabytes()
    grams = {name: gco2e(quantity, f"factor.{of_unit}") for name, of_unit in _GRAMS.items()}
    told = {name: F.col(f"factor.{name}") for name in _OF_ONE}
    return (
        _applied(volumes(metered, subscribed), factors, factors_id, {"quantity": quantity, **grams}, kept),
        _applied(subscription_months(subscribed), of_one(factors), factors_id, told, kept),
    )


def of_one(factors: DataFrame) -> DataFrame:
    """Factors with the ``quantity`` 1 and its grams: those of a subscription-month, once for however many there are."""
    one = F.lit(1).cast(_type("quantity"))
    return factors.withColumns({"quantity": one, **{name: gco2e(one, of_unit) for name, of_unit in _GRAMS.items()}})


def _applied(
    components: DataFrame, factors: DataFrame, factors_id: str, amounts: Mapping[str, Column], kept: Sequence[str]
) -> DataFrame:
    applied = components.alias("component").join(F.broadcast(factors).alias("factor"), on=is_applicable(), how="left")
    return applied.select(
        *[f"component.{name}" for name in ("usage_month", "batch_cutoff", "subscription_key", "component")],
        *[
            f"component.{name}"
            for name in ("access_technology", "roaming_zone", "network", "brand", "is_estimated", "quantity_unit")
        ],
        *[f"factor.{name}" for name in OF_FACTOR],
        F.lit(factors_id).alias("factors_id"),
        *[amount.alias(name) for name, amount in amounts.items()],
        *[f"factor.{name}" for name in kept],
    )


def volumes(metered: DataFrame, subscribed: DataFrame) -> DataFrame:
    """One volume component per subscription, access technology and roaming zone, in octets up and down."""
    usage = metered.where("attribution = 'holder'").withColumnRenamed("is_estimated", "is_partly_estimated")
    held = usage.drop("network", "batch_cutoff", "revision", "usage_month").join(subscribed, on="subscription_key", how="inner")
    flagged = held.withColumn("is_estimated", F.col("is_estimated") | F.col("is_partly_estimated"))
    return flagged.select(*_SHARED, *_component("volume"), "access_technology", "roaming_zone", "octets_up", "octets_down")


def subscription_months(subscribed: DataFrame) -> DataFrame:
    """One subscription component per subscription, whatever the number of its usage rows."""
    nothing = {name: F.lit(None).cast("string") for name in ("access_technology", "roaming_zone")}
    return subscribed.withColumns(nothing).select(*_SHARED, *_component("subscription"), *nothing)


def is_applicable() -> Column:
    """The factor is for the brand, the network and the component."""
    same_brand = F.col("factor.brand") == F.col("component.brand")
    same_network = F.col("factor.network") == F.col("component.network")
    return same_brand & same_network & (F.col("factor.component") == F.col("component.component"))


def gigabytes() -> Column:
    """Gigabytes of the octets that the factor counts, exact to the octet."""
    counts_both = F.col("factor.volume_basis") == "up_and_down"
    octets = F.col("component.octets_down") + F.when(counts_both, F.col("component.octets_up")).otherwise(F.lit(0))
    # Multiplied, not divided: Spark's decimal division loses digits without a word. 17 digits hold 100 petabytes.
    return (octets.cast(DecimalType(17, 0)) * F.lit(GIGABYTES_PER_OCTET)).cast(_type("quantity"))


def gco2e(quantity: Column, factor: str) -> Column:
    """Quantity × factor, exact in 36 digits, then rounded half up once; null where the factor is."""
    return F.round(quantity * F.col(factor), GCO2E_PLACES).cast(_type("gco2e"))


def _component(name: str) -> tuple[Column, Column]:
    return F.lit(name).alias("component"), F.lit(UNITS[name]).alias("quantity_unit")


def _type(column: str) -> DecimalType:
    return DecimalType(*(ESTIMATED.column(column).decimal or ()))


_SHARED = ("usage_month", "batch_cutoff", "subscription_key", "network", "brand", "is_estimated")
OF_FACTOR = ("factor_id", "factor_set", "gco2e_per_unit", "volume_basis", "is_national_default", "method_id")
