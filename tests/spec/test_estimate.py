"""The formula: a component is quantity × factor, exact, and rounded once; with the decree's rows as a reader can check them."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

import factors
from factors.arithmetic import GIGABYTES_PER_OCTET, Digits, declared
from factors.registry import Factor, in_force
from schemas.tables import ESTIMATED, FACTORS, METERED, SUBSCRIBED
from tests.composed import composed
from tests.conftest import key, rows

pytestmark = pytest.mark.spark

SHIPPED = Path(factors.__file__).parent
QUANTITY, FACTOR, GRAMS = declared(ESTIMATED, "quantity"), declared(FACTORS, "gco2e_per_unit"), declared(ESTIMATED, "gco2e")
A_AND_B = """
    | factor_id | brand | network | component    | gco2e_per_unit | gco2e_per_unit_low | gco2e_per_unit_high | volume_basis |
    | A         | -     | mobile  | volume       | 10             | 9                  | 12                  | up_and_down  |
    | B         | -     | mobile  | subscription | 500            | 400                | 700                 | up_and_down  |
    | A         | one   | mobile  | volume       | 10             | 9                  | 12                  | down_only    |
    | B         | one   | mobile  | subscription | 500            |                    | 700                 | down_only    |
"""


def name(pseudonym: bytes) -> str:
    """The name that ``key`` made a pseudonym of."""
    return bytes(pseudonym).rstrip(b"\0").decode()


def factor_rows(spark, found: list[Factor]):
    """A frame of factors, as the stage makes it."""
    return spark.createDataFrame(
        pa.Table.from_pylist([asdict(f) for f in found], schema=FACTORS.arrow_schema), FACTORS.spark_schema
    )


def estimated(spark, metered: str, subscribed: str, in_use=A_AND_B):
    """Rows of ``estimated`` for usage and subscriptions written as tables."""
    from jobs.estimate import estimate

    applied = rows(spark, FACTORS, in_use) if isinstance(in_use, str) else factor_rows(spark, in_use)
    return estimate(rows(spark, METERED, metered), rows(spark, SUBSCRIBED, subscribed), applied, "factors-1")


def displayed(spark, month: date, metered: str, subscribed: str) -> dict[str, tuple[int, int]]:
    """Gigabytes and grams as the decree shows them, with the factors that the project ships for a month."""
    published = composed(spark, estimated(spark, metered, subscribed, in_force(SHIPPED, month, ["-"])), usage_month=month)
    return {
        name(bytes.fromhex(row["subscription_key"])): (row["data_volume_gb_displayed"], row["footprint_gco2e_displayed"])
        for row in published.to_pylist()
    }


# The figures that a reader of the decree expects


def test_in_2022_mobile_counts_by_volume_and_fixed_by_subscription(spark):
    found = displayed(
        spark,
        date(2022, 6, 1),
        """
        | subscription_key | attribution | network | octets_up     | octets_down    |
        | much             | holder      | mobile  | 1_300_000_000 | 13_000_000_000 |
        | little           | holder      | mobile  | 0             | 400_000_000    |
        | line             | holder      | fixed   | 0             | 250_000_000_000 |
        """,
        """
        | usage_month | subscription_key | network |
        | 2022-06-01  | much             | mobile  |
        | 2022-06-01  | little           | mobile  |
        | 2022-06-01  | line             | fixed   |
        | 2022-06-01  | unused line      | fixed   |
        """,
    )

    assert found == {
        "much": (14, 706),  # 14.3 x 49.4 = 706.42, not 14 x 49.4 = 691.6
        "little": (0, 20),  # 0.4 x 49.4 = 19.76
        "line": (250, 4100),
        "unused line": (0, 4100),
    }


def test_from_2024_both_networks_count_by_volume_and_subscription(spark):
    found = displayed(
        spark,
        date(2026, 10, 1),
        """
        | subscription_key | attribution | network | octets_up     | octets_down     |
        | mobile           | holder      | mobile  | 1_000_000_000 | 9_000_000_000   |
        | fixed            | holder      | fixed   | 0             | 200_000_000_000 |
        """,
        """
        | subscription_key | network |
        | mobile           | mobile  |
        | unused mobile    | mobile  |
        | fixed            | fixed   |
        | unused fixed     | fixed   |
        """,
    )

    assert found == {
        "mobile": (10, 598),  # 475 + 10 x 12.3
        "unused mobile": (0, 475),
        "fixed": (200, 4525),  # 4175 + 200 x 1.75
        "unused fixed": (0, 4175),
    }


# Components


def test_the_subscription_component_is_charged_whole_and_once_whatever_was_used(spark):
    frame = estimated(
        spark,
        """
        | subscription_key | attribution        | network | access_technology | roaming_zone | octets_up     | octets_down   | is_estimated |
        | ana              | holder             | mobile  | 4G                | home         | 1_000_000_000 | 2_000_000_000 | false        |
        | ana              | holder             | mobile  | 4G                | roaming      | 0             | 100_000_000   | false        |
        | ana              | holder             | mobile  | 5G                | home         | 1             | 0             | true         |
        |                  | unknown_identifier | mobile  | 4G                | home         | 7_000_000_000 | 7_000_000_000 | false        |
        """,
        """
        | subscription_key | network | active_days | is_estimated |
        | ana              | mobile  | 31          | false        |
        | a day            | mobile  | 1           | false        |
        | lost             | mobile  | 31          | true         |
        """,
    )
    found = {
        (name(row.subscription_key), row.component, row.access_technology, row.roaming_zone): (
            row.quantity,
            row.quantity_unit,
            row.factor_id,
            row.gco2e,
            row.is_estimated,
        )
        for row in frame.collect()
    }

    one = (Decimal(1), "subscription-month", "B", Decimal(500))
    assert found == {
        ("ana", "volume", "4G", "home"): (Decimal(3), "GB", "A", Decimal(30), False),
        ("ana", "volume", "4G", "roaming"): (Decimal("0.1"), "GB", "A", Decimal(1), False),
        ("ana", "volume", "5G", "home"): (Decimal("0.000000001"), "GB", "A", Decimal("0.00000001"), True),
        ("ana", "subscription", None, None): (*one, False),
        ("a day", "subscription", None, None): (*one, False),
        ("lost", "subscription", None, None): (*one, True),
    }
    assert {f.name: f.dataType for f in frame.schema} == {
        f.name: f.dataType for f in ESTIMATED.spark_schema if f.name != "revision"
    }


def test_only_what_the_factors_volume_basis_says_counts_and_an_interval_is_whole_or_absent(spark):
    frame = estimated(
        spark,
        """
        | subscription_key | attribution | network | octets_up     | octets_down   |
        | both             | holder      | mobile  | 1_000_000_000 | 2_000_000_000 |
        | down             | holder      | mobile  | 1_000_000_000 | 2_000_000_000 |
        """,
        """
        | subscription_key | network | brand |
        | both             | mobile  | -     |
        | down             | mobile  | one   |
        """,
    )
    rows_of = composed(spark, frame).to_pylist()
    found = {name(bytes.fromhex(row["subscription_key"])): SimpleNamespace(**row) for row in rows_of}

    both, down = found["both"], found["down"]
    assert (both.data_volume_bytes, both.footprint_gco2e) == (3_000_000_000, 3 * 10 + 500)
    assert (both.footprint_gco2e_low, both.footprint_gco2e_high) == (3 * 9 + 400, 3 * 12 + 700)
    assert (down.data_volume_bytes, down.footprint_gco2e) == (2_000_000_000, 2 * 10 + 500)
    # B of this brand has no lower end: the interval of the sum has none either.
    assert (down.footprint_gco2e_low, down.footprint_gco2e_high) == (None, 2 * 12 + 700)


@pytest.mark.parametrize("number", [1, 40])
def test_the_interval_of_a_sum_over_subscribers_does_not_shrink_with_their_number(spark, number):
    from jobs.scenario import intervals

    names = [f"{brand} {n}" for brand in ("-", "one") for n in range(number)]
    usage = "\n".join(f"| {name} | holder | mobile | 10_000_000_000 |" for name in names)
    active = "\n".join(f"| {name} | mobile | {name.split()[0]} |" for name in names)
    frame = estimated(
        spark,
        f"| subscription_key | attribution | network | octets_down |\n{usage}",
        f"| subscription_key | network | brand |\n{active}",
    )
    (shared,), (without_low,) = (intervals(frame.where(f"brand = '{brand}'")) for brand in ("-", "one"))

    # All share one factor, so it errs alike for each: all lows together, all highs together, never their root of a sum of squares.
    assert shared["gco2e_low"] == number * (10 * 9 + 400)
    assert shared["gco2e"] == number * (10 * 10 + 500)
    assert shared["gco2e_high"] == number * (10 * 12 + 700)
    # B of this brand has no lower end: a sum of the lows of some components would be none of the whole.
    assert (without_low["gco2e_low"], without_low["gco2e_high"]) == (None, number * (10 * 12 + 700))


def test_a_subscription_without_a_factor_stays_with_nulls_that_the_table_refuses(spark):
    frame = estimated(
        spark,
        """
        | subscription_key | attribution | network | octets_down   |
        | ana              | holder      | mobile  | 1_000_000_000 |
        """,
        """
        | subscription_key | network | brand   |
        | ana              | mobile  | unknown |
        """,
    )
    found = {row.component: (row.factor_id, row.gco2e_per_unit, row.gco2e, row.gco2e_low) for row in frame.collect()}

    # That `estimated` refuses them is in test_lake.
    assert found == {"volume": (None, None, None, None), "subscription": (None, None, None, None)}
    assert all(ESTIMATED.column(column).is_required for column in ("factor_id", "gco2e_per_unit", "gco2e"))


# Exactness


def some_octets(chance: random.Random) -> int:
    """An amount of any size that the column holds, the ends included."""
    return min(10 ** chance.randint(0, 17) + chance.randint(-1, 1), 10**17 - 1)


def some_factor(chance: random.Random) -> Decimal:
    return Decimal(min(chance.randint(0, 10 ** chance.randint(0, 18)), 10**18 - 1)).scaleb(-14)


def rounded_half_up(exact: Fraction) -> Fraction:
    return Fraction((exact * 10**12 * 2 + 1) // 2, 10**12)


def test_grams_are_exact_fractions_rounded_half_up_once_at_twelve_places(spark):
    from jobs.estimate import estimate

    chance = random.Random(20261001)
    cases = [(some_octets(chance), *sorted(some_factor(chance) for _ in range(3))) for _ in range(300)]
    ends = [Decimal(n).scaleb(-14) for n in (0, 1, 10**18 - 1)]
    cases += [(octets, *[end] * 3) for octets in (0, 1, 10**17 - 1) for end in ends]
    # 1 octet x 0.0005, 0.0015 and 0.00049999999999 g/GB: half of the last place goes up, whatever the digit before it.
    cases += [(1, Decimal("0.00049999999999"), Decimal("0.0005"), Decimal("0.0015"))]
    usage, active, applied = [], [], []
    for number, (octets, low, middle, high) in enumerate(cases):
        brand, who = f"brand {number}", key(f"k{number}")
        up = octets // 3
        usage.append({"subscription_key": who, "attribution": "holder", "octets_up": up, "octets_down": octets - up})
        active.append({"subscription_key": who, "brand": brand, "network": "mobile"})
        shared = {"factor_set": "test", "brand": brand, "network": "mobile", "volume_basis": "up_and_down"}
        shared |= {"gco2e_per_unit": middle, "gco2e_per_unit_low": low, "gco2e_per_unit_high": high}
        shared |= {"is_national_default": False, "method_id": "test"}
        applied += [Factor(factor_id=part, component=part, **shared) for part in ("volume", "subscription")]
    common = {"usage_month": date(2026, 10, 1), "revision": 1, "batch_cutoff": 1, "is_estimated": False}
    metered = [
        {"network": "mobile", "access_technology": "4G", "roaming_zone": "home", "intervals": 1} | r | common for r in usage
    ]
    subscribed = [{"segment": "-", "active_days": 31} | r | common for r in active]

    found = estimate(
        spark.createDataFrame(pa.Table.from_pylist(metered, schema=METERED.arrow_schema), METERED.spark_schema),
        spark.createDataFrame(pa.Table.from_pylist(subscribed, schema=SUBSCRIBED.arrow_schema), SUBSCRIBED.spark_schema),
        factor_rows(spark, applied),
        "f",
    ).collect()

    assert len(found) == 2 * len(cases)
    by_place = {(int(name(row.subscription_key)[1:]), row.component): row for row in found}
    for number, (octets, *amounts) in enumerate(cases):
        for component, quantity in (("volume", Fraction(octets, 10**9)), ("subscription", Fraction(1))):
            row = by_place[number, component]
            grams = [Fraction(row[column]) for column in ("gco2e_low", "gco2e", "gco2e_high")]
            assert Fraction(row.quantity) == quantity
            assert grams == [rounded_half_up(quantity * Fraction(amount)) for amount in amounts]
            assert all(GRAMS.holds(amount) for amount in grams)


def test_a_volume_beyond_the_column_stops_the_run_instead_of_vanishing(spark):
    from pyspark.errors import PySparkException

    frame = estimated(
        spark,
        f"| subscription_key | attribution | octets_down |\n| ana | holder | {10**17} |",
        "| subscription_key | network |\n| ana | mobile |",
    )

    with pytest.raises(PySparkException, match="NUMERIC_VALUE_OUT_OF_RANGE"):
        frame.collect()


def test_sparks_own_decimal_types_are_those_that_the_proof_of_exactness_assumes(spark):
    from pyspark.sql import functions as F
    from pyspark.sql.types import DecimalType

    def column(digits: Digits, place: str):
        return F.lit(0).cast(DecimalType(digits.precision, digits.scale)).alias(place)

    octets = Digits(QUANTITY.precision, 0)
    frame = spark.range(1).select(
        column(octets, "octets"), column(QUANTITY, "quantity"), column(FACTOR, "factor"), column(GRAMS, "grams")
    )
    product = F.col("quantity") * F.col("factor")
    seen = frame.select(
        (F.col("octets") * F.lit(GIGABYTES_PER_OCTET)).alias("gigabytes"),
        product.alias("product"),
        F.round(product, GRAMS.scale).alias("rounded"),
    ).schema
    summed = frame.agg(F.sum("grams").alias("summed")).schema

    assert {field.name: field.dataType.simpleString() for field in [*seen, *summed]} == {
        "gigabytes": str(octets.times(Digits(9, 9))),
        "product": str(QUANTITY.times(FACTOR)),
        "rounded": str(QUANTITY.times(FACTOR).rounded(GRAMS.scale)),
        "summed": str(GRAMS.summed()),
    }
    assert [field.dataType.simpleString() for field in [*seen, *summed]] == [
        "decimal(27,9)",
        "decimal(36,23)",
        "decimal(26,12)",
        "decimal(34,12)",
    ]


def test_the_formula_runs_in_spark_itself_with_the_factors_broadcast(spark):
    frame = estimated(
        spark,
        "| subscription_key | attribution | octets_down |\n| ana | holder | 1 |",
        "| subscription_key | network |\n| ana | mobile |",
    )
    plan = frame._jdf.queryExecution().executedPlan().toString()

    assert "BroadcastHashJoin [brand" in plan
    assert "Python" not in plan
    assert "Arrow" not in plan.replace("ArrowRDD", "")
    assert "Cartesian" not in plan
    assert "NestedLoop" not in plan
