"""What a restatement changed: causes that add up to the last decimal, whatever came first; and who is told of it."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from schemas.tables import CORRECTIONS, ESTIMATED, PUBLISHED
from tests.conftest import rows, table_of

pytestmark = pytest.mark.spark

COLUMNS = (
    "| subscription_key | network | brand | component | access_technology | roaming_zone | quantity | gco2e_per_unit | gco2e |"
)


def components(spark, text: str) -> Any:
    """Rows of ``estimated``; a subscription component has neither technology nor zone."""
    frame = table_of(f"{COLUMNS}\n{text}", ESTIMATED)
    return spark.createDataFrame(frame, ESTIMATED.spark_schema)


def causes(
    spark, before: str, after: str, late: str = "", withdrawn: str = "", recomputed: str | None = None
) -> dict[str, tuple]:
    """Grams, octets and subscriptions of each cause that did anything, of the network mobile."""
    from jobs.difference import CAUSES, Moved, split

    moved = Moved(components(spark, late), components(spark, withdrawn))
    published = components(spark, before)
    found = split(published, published if recomputed is None else components(spark, recomputed), components(spark, after), moved)
    assert [row["cause"] for row in found if row["network"] == "mobile"] == list(CAUSES)
    return {row["cause"]: (row["gco2e"], row["octets"], row["subscriptions"]) for row in found if row["subscriptions"]}


ANA = "| ana | mobile | one | volume | 4g | home |"


def test_what_did_not_change_has_no_cause(spark):
    assert causes(spark, f"{ANA} 2 | 10 | 20 |", f"{ANA} 2 | 10 | 20 |") == {}


def test_late_usage_is_volume_times_the_factor_that_did_not_change(spark):
    found = causes(spark, f"{ANA} 2 | 10 | 20 |", f"{ANA} 5 | 10 | 50 |", late=f"{ANA} 3 | 10 | 30 |")

    assert found == {"late_usage": (30, 3_000_000_000, 1)}


def test_a_withdrawn_record_takes_away_what_it_had_added(spark):
    found = causes(spark, f"{ANA} 5 | 10 | 50 |", f"{ANA} 2 | 10 | 20 |", withdrawn=f"{ANA} 3 | 10 | 30 |")

    assert found == {"withdrawn": (-30, -3_000_000_000, 1)}


def test_usage_that_goes_to_another_holder_is_a_corrected_subscription(spark):
    found = causes(
        spark,
        f"{ANA} 5 | 10 | 50 |",
        f"""{ANA} 2 | 10 | 20 |
        | ben | mobile | two | volume | 4g | home | 3 | 20 | 60 |
        | ben | mobile | two | subscription | | | 1 | 400 | 400 |""",
    )

    # 3 GB leave ana at 10 g and come to ben at 20 g, with the 400 g of a subscription more.
    assert found == {"subscriptions": (-30 + 60 + 400, 0, 2)}


def test_a_change_of_volume_and_factor_is_shared_evenly_between_both(spark):
    found = causes(spark, f"{ANA} 2 | 10 | 20 |", f"{ANA} 4 | 20 | 80 |", late=f"{ANA} 2 | 20 | 40 |")

    # 10 g/GB more on a mean of 3 GB, and 2 GB more at a mean of 15 g/GB.
    assert found == {"factors": (30, 0, 1), "late_usage": (30, 2_000_000_000, 1)}


def test_a_component_that_only_one_revision_has_takes_the_factor_of_others_like_it(spark):
    ben = "| ben | mobile | one | volume | 5g | home |"
    found = causes(spark, f"{ANA} 2 | 10 | 20 |", f"{ANA} 2 | 20 | 40 |\n{ben} 4 | 20 | 80 |", late=f"{ben} 4 | 20 | 80 |")

    # ben's 4 GB came late: at a mean of 15 g/GB, and 10 g/GB more on half of them.
    assert found == {"factors": (20 + 20, 0, 2), "late_usage": (60, 4_000_000_000, 1)}


def test_what_the_code_of_now_makes_of_the_old_inputs_is_a_cause_of_its_own(spark):
    found = causes(
        spark, f"{ANA} 2 | 10 | 20 |", f"{ANA} 5 | 10 | 50 |", late=f"{ANA} 2 | 10 | 20 |", recomputed=f"{ANA} 3 | 10 | 30 |"
    )

    assert found == {"code": (10, 1_000_000_000, 1), "late_usage": (20, 2_000_000_000, 1)}


def test_octets_that_count_under_other_hypotheses_are_a_cause_of_their_own(spark):
    from jobs.difference import Moved, split

    nothing = components(spark, "")
    before, after = components(spark, f"{ANA} 2 | 10 | 20 |"), components(spark, f"{ANA} 3 | 10 | 30 |")
    only_now = components(spark, f"{ANA} 3 | 10 | 30 |\n{ANA} -2 | 10 | 0 |")

    found = split(before, before, after, Moved(nothing, nothing, only_now))

    told = {row["cause"]: (row["gco2e"], row["octets"]) for row in found if row["subscriptions"]}
    assert told == {"hypotheses": (10, 1_000_000_000)}


def test_the_rounding_of_products_is_told_so_that_causes_add_up_to_the_last_place(spark):
    # 0.000000001 GB x 0.0005 g/GB is half of the last place of twelve: it is published as 1.
    found = causes(spark, "", f"{ANA} 0.000000001 | 0.0005 | 0.000000000001 |", late=f"{ANA} 0.000000001 | 0.0005 | 0 |")

    half = Decimal("0.0000000000005")
    assert found == {"late_usage": (half, 1, 1), "rounding": (half, 0, 1)}


def test_grams_that_no_cause_explains_stop_the_restatement(spark):
    with pytest.raises(ArithmeticError, match="mobile: the causes miss the difference of the revisions by"):
        causes(spark, f"{ANA} 2 | 10 | 20 |", f"{ANA} 2 | 10 | 21 |")


def test_networks_are_told_apart(spark):
    from jobs.difference import Moved, split

    nothing = components(spark, "")
    before = components(spark, f"{ANA} 2 | 10 | 20 |\n| eve | fixed | one | subscription | | | 1 | 4000 | 4000 |")
    after = components(spark, f"{ANA} 2 | 10 | 20 |\n| eve | fixed | one | subscription | | | 1 | 4100 | 4100 |")

    found = split(before, before, after, Moved(nothing, nothing))

    assert {(row["network"], row["cause"]): row["gco2e"] for row in found if row["gco2e"]} == {("fixed", "factors"): 100}


def test_any_two_revisions_are_split_as_the_exact_fractions_say_and_add_up(spark):
    from jobs.difference import Moved, split, total

    chance = Random(20261001)
    brands = ("one", "two", "three")
    factors = [
        {(b, c): Fraction(chance.randrange(10**16), 10**14) for b in brands for c in ("volume", "subscription")} for _ in "01"
    ]
    quantities = [
        {
            (f"s{n}", brands[n % 3], t): Fraction(chance.randrange(10**13), 10**9)
            for n in range(40)
            for t in ("4g", "5g")
            if chance.random() < 0.8
        }
        for _ in "01"
    ]
    late = {k: Fraction(chance.randrange(10**12), 10**9) for k in quantities[1]}
    withdrawn = {k: Fraction(chance.randrange(10**12), 10**9) for k in quantities[0]}

    def frame(amounts: dict, of: dict):
        text = "".join(
            f"| {who} | mobile | {brand} | volume | {technology} | home | {decimal(q)} | {decimal(of[brand, 'volume'])} | {rounded(q * of[brand, 'volume'])} |\n"
            for (who, brand, technology), q in amounts.items()
        )
        return components(spark, text)

    before, after = frame(quantities[0], factors[0]), frame(quantities[1], factors[1])
    found = split(before, before, after, Moved(frame(late, factors[1]), frame(withdrawn, factors[0])))

    expected = dict.fromkeys(("late_usage", "withdrawn", "subscriptions", "factors", "rounding"), Fraction(0))
    for k in {*quantities[0], *quantities[1]}:
        v, a = [side.get(k, Fraction(0)) for side in quantities], [side[k[1], "volume"] for side in factors]
        mean = (a[0] + a[1]) / 2
        expected["factors"] += (a[1] - a[0]) * (v[0] + v[1]) / 2
        expected["late_usage"] += late.get(k, 0) * mean
        expected["withdrawn"] -= withdrawn.get(k, 0) * mean
        expected["subscriptions"] += (v[1] - v[0] - late.get(k, 0) + withdrawn.get(k, 0)) * mean
        expected["rounding"] += (Fraction(rounded(v[1] * a[1])) - v[1] * a[1]) - (Fraction(rounded(v[0] * a[0])) - v[0] * a[0])
    assert {row["cause"]: Fraction(row["gco2e"]) for row in found if row["cause"] in expected} == expected
    sums = [sum(rounded(q * of[k[1], "volume"]) for k, q in side.items()) for side, of in zip(quantities, factors, strict=True)]
    assert total(found) == sums[1] - sums[0]


def decimal(value: Fraction) -> Decimal:
    """A fraction of a power of ten, exactly."""
    return Decimal(value.numerator * (10**23 // value.denominator)).scaleb(-23).normalize() + 0


def rounded(value: Fraction) -> Decimal:
    """Half up at twelve places."""
    return Decimal(int(value * 10**12 + Fraction(1, 2))).scaleb(-12)


# Corrections

FIGURES = "| subscription_key | revision | publication_id | data_volume_bytes | data_volume_gb_displayed | footprint_gco2e | footprint_gco2e_displayed |"
BEFORE = f"""{FIGURES}
    | ana  | 1 | 7 | 2000000000 | 2 | 20.4 | 20 |
    | ben  | 1 | 7 | 2000000000 | 2 | 20.4 | 20 |
    | cy   | 1 | 7 | 2400000000 | 2 | 24.4 | 24 |
    | dee  | 1 | 7 | 2000000000 | 2 | 20.0 | 20 |
    | gone | 1 | 7 | 0          | 0 | 0    | 0  |
"""
AFTER = f"""{FIGURES}
    | ana  | 2 | 9 | 3000000000 | 3 | 30.4 | 30 |
    | ben  | 2 | 9 | 2000000000 | 2 | 20.4 | 20 |
    | cy   | 2 | 9 | 2500000000 | 3 | 24.45 | 24 |
    | dee  | 2 | 9 | 2010000000 | 2 | 20.1 | 20 |
    | new  | 2 | 9 | 0          | 0 | 0    | 0  |
"""


def told(spark, materiality: str | None) -> dict[str, Any]:
    from jobs.difference import corrections

    frame = corrections(
        rows(spark, PUBLISHED, BEFORE),
        rows(spark, PUBLISHED, AFTER),
        "late file",
        None if materiality is None else Decimal(materiality),
    )
    assert {f.name: f.dataType for f in frame.schema} == {f.name: f.dataType for f in CORRECTIONS.spark_schema}
    found = {row.subscription_key: row for row in frame.collect()}
    assert {(r.from_revision, r.to_revision, r.publication_id, r.reason) for r in found.values()} == {(1, 2, 9, "late file")}
    return found


def test_billing_is_told_where_a_displayed_figure_changes_and_who_comes_or_goes(spark):
    found = told(spark, None)

    assert set(found) == {"ana", "cy", "gone", "new"}
    ana = found["ana"]
    assert (ana.footprint_gco2e_before, ana.footprint_gco2e_after) == (Decimal("20.4"), Decimal("30.4"))
    assert (ana.footprint_gco2e_displayed_before, ana.footprint_gco2e_displayed_after) == (20, 30)
    assert (ana.data_volume_bytes_before, ana.data_volume_bytes_after) == (2_000_000_000, 3_000_000_000)
    assert (ana.data_volume_gb_displayed_before, ana.data_volume_gb_displayed_after) == (2, 3)
    assert (found["gone"].footprint_gco2e_after, found["new"].footprint_gco2e_before) == (None, None)


@pytest.mark.parametrize(
    ("materiality", "expected"),
    [("0", {"ana", "cy", "dee"}), ("0.1", {"ana", "dee"}), ("0.11", {"ana"}), ("10.0", {"ana"}), ("10.1", set())],
)
def test_with_a_threshold_billing_is_told_of_changes_of_at_least_so_many_grams(spark, materiality, expected):
    assert set(told(spark, materiality)) == expected | {"gone", "new"}
