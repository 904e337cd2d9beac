"""Factors as sums of products: units come out, parts are in force in the month, and it is one exact decimal, as by hand."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from itertools import product as every
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import factors
from factors.arithmetic import EXACT_DIGITS, MOST_FACTORS, MOST_TERMS, PrecisionError, prove
from factors.catalogue import FactorSet
from factors.expression import compiled
from factors.registry import FactorError, in_force, load, of_sets
from factors.units import Unit, UnitError, product
from tests.spec.test_factors import ASSIGNMENT, ASSIGNMENTS, FIXED_A, FIXED_B, MOBILE_A, MOBILE_B, SET, SET_FILE, change, folder

__all__ = ["folder"]

SHIPPED = Path(factors.__file__).parent
EXAMPLE = "EXAMPLE-ENERGY-GRID"
PLACES = Decimal("1e-14")
PARAMETER = """
[[parameter]]
parameter = "{}"
amount = "{}"
unit = "{}"
valid_from = {}
known_from = 2025-12-15
source = "report"
mark = "V"
status = "transitional"
"""
ENERGY = PARAMETER.format("energy", "0.1", "kWh/GB", "2026-01-01")
MADE = PARAMETER.format("made", "3", "gCO2e/GB", "2026-01-01")
# A grid that changes by the month: each month is an entry, and ends.
GRID = "".join(
    PARAMETER.format("grid", amount, "gCO2e/kWh", f"2026-0{month}-01").replace(
        "known_from", f'zone = "{zone}"\nvalid_until = 2026-0{month + 1}-01\nknown_from'
    )
    for month, zone, amount in ((1, "FR", "50"), (1, "DE", "400"), (2, "FR", "60"))
)
TERMS = """
[[value.term]]
stage = "use"
times = ["energy", "grid@FR"]

[[value.term]]
stage = "manufacture"
times = ["made"]
"""
EXPRESSION = MOBILE_A.replace('amount = "10"\n', "") + TERMS


@pytest.fixture
def grid(folder: Path) -> Path:
    """A folder in which mobile data are energy times the grid of the month, plus a life-cycle stage."""
    change(folder, SET_FILE, MOBILE_A, ENERGY + MADE + GRID + EXPRESSION)
    return folder


def a_of(folder: Path, month: int, as_of: date | None = None):
    (found,) = [
        f for f in in_force(folder, date(2026, month, 1), ["ours"], as_of) if f.factor_id.startswith("TEST/mobile/volume")
    ]
    return found


# Units


@pytest.mark.parametrize(
    ("factors_of", "result"),
    [
        (("kWh/GB", "gCO2e/kWh"), "gCO2e/GB"),
        (("gCO2e/kWh", "kWh/GB"), "gCO2e/GB"),
        (("kWh/subscription-month", "gCO2e/kWh"), "gCO2e/subscription-month"),
        (("gCO2e/GB", "1"), "gCO2e/GB"),
        (("GB/subscription-month", "kWh/GB", "gCO2e/kWh"), "gCO2e/subscription-month"),
        (("GB", "1/GB"), "1"),
    ],
)
def test_units_multiply_as_fractions(factors_of, result):
    assert product(Unit.parse(unit) for unit in factors_of) == Unit.parse(result)
    assert Unit.parse(str(Unit.parse(result))) == Unit.parse(result)


@pytest.mark.parametrize("unit", ["kWh/Gb", "kgCO2e/GB", "gCO2e/Go", "Wh/GB", "GiB", "", "gCO2e/", "gCO2e per GB", "gco2e/gb"])
def test_a_unit_of_another_size_or_spelling_is_not_known(unit):
    with pytest.raises(UnitError, match="is not known here"):
        Unit.parse(unit)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"energy", "grid@FR"', '"energy"', "mobile/volume/2026-01: energy is in kWh/GB, not in gCO2e/GB"),
        ('"energy", "grid@FR"', '"energy", "grid@FR", "grid@FR"', "is in gCO2e·gCO2e/GB/kWh, not in gCO2e/GB"),
        ('"energy", "grid@FR"', '"made", "grid@FR"', "not in gCO2e/GB"),
        ('"energy", "grid@FR"', '"energy", "grid"', "there is no parameter 'grid'"),
        ('"energy", "grid@FR"', '"energy", "grid@ES"', "there is no parameter 'grid@ES'"),
        ('unit = "kWh/GB"', 'unit = "kWh/Gb"', "unit 'kWh/Gb': 'Gb' is not known here"),
        ('stage = "use"', 'stage = "magic"', "stage"),
        ('amount = "60"\nunit = "gCO2e/kWh"', 'amount = "60"\nunit = "kWh/GB"', "elsewhere 'kWh/GB'"),
        (TERMS, "", "a value has either an amount or terms"),
        (EXPRESSION, MOBILE_A + TERMS, "a value has either an amount or terms"),
        ('component = "volume"\n', 'component = "volume"\nlow = "1"\n', "follows from its parameters"),
    ],
)
def test_an_expression_that_does_not_come_out_in_its_unit_or_names_no_part_is_refused(grid, old, new, said):
    change(grid, SET_FILE, old, new)

    with pytest.raises(FactorError) as refused:
        load(grid)

    assert SET_FILE in str(refused.value)
    assert said in str(refused.value)


# What is in force


def test_an_expression_takes_the_grid_of_the_month_and_zone(grid):
    assert a_of(grid, 1).gco2e_per_unit == Decimal("0.1") * 50 + 3
    assert a_of(grid, 2).gco2e_per_unit == Decimal("0.1") * 60 + 3


def test_a_month_whose_grid_is_not_known_is_refused_and_not_given_the_month_before(grid):
    with pytest.raises(FactorError, match="TEST/mobile/volume/2026-01: no parameter grid@FR for 2026-03"):
        in_force(grid, date(2026, 3, 1), ["ours"])


def test_the_identity_of_a_compiled_factor_is_that_of_all_its_parts(grid):
    january, february = a_of(grid, 1).factor_id, a_of(grid, 2).factor_id
    assert january.startswith("TEST/mobile/volume/2026-01#")
    assert january != february

    corrected = GRID.split("\n[[parameter]]")[1].replace('"50"', '"55"').replace("2025-12-15", "2026-03-15\nversion = 2")
    change(grid, SET_FILE, ENERGY, "\n[[parameter]]" + corrected + ENERGY)

    assert (a_of(grid, 1, date(2026, 3, 14)).factor_id, a_of(grid, 1, date(2026, 3, 14)).gco2e_per_unit) == (january, 8)
    assert (a_of(grid, 1).factor_id != january, a_of(grid, 1).gco2e_per_unit) == (True, Decimal("8.5"))


def test_the_citation_of_a_compiled_factor_is_that_of_its_value(grid):
    from factors.registry import citation

    assert citation(grid, a_of(grid, 1).factor_id)[0].name == "mobile/volume/2026-01"


def test_an_expression_of_two_brands_and_months_is_one_decimal_for_each_component(grid):
    rows = in_force(grid, date(2026, 1, 1), ["ours", "theirs"])

    assert len(rows) == len(set(every(["ours", "theirs"], ["fixed", "mobile"], ["volume", "subscription"])))
    assert all(row.gco2e_per_unit.as_tuple().exponent == -14 for row in rows)


# Exactness


def test_the_example_comes_to_what_is_computed_by_hand():
    found = {(f.network, f.component): f.gco2e_per_unit for f in of_sets({"-": load(SHIPPED).sets[EXAMPLE]}, date(2026, 10, 1))}

    assert found == {
        ("mobile", "volume"): Decimal("0.236") * Decimal("51.9") + Decimal("7.97"),  # 12.2484 + 7.97 = 20.2184
        ("fixed", "volume"): Decimal("0.0687") * Decimal("51.9") + Decimal("4.43"),  # 3.56553 + 4.43 = 7.99553
        ("mobile", "subscription"): 0,
        ("fixed", "subscription"): 0,
    }
    assert found["mobile", "volume"] == Decimal("20.2184")
    assert found["fixed", "volume"] == Decimal("7.99553")


def test_the_example_serves_no_month_and_says_that_it_is_one():
    example = load(SHIPPED).sets[EXAMPLE]

    assert example.is_comparison
    assert "EXAMPLE" in example.description
    assert {value.mark for value in example.value} == {"D"}
    assert EXAMPLE not in {assignment.factor_set for assignment in load(SHIPPED).assignments}


AMOUNTS = st.decimals(0, 15, allow_nan=False, allow_infinity=False, places=14).map(lambda a: format(abs(a), "f"))
SHARES = st.decimals(0, 1, allow_nan=False, allow_infinity=False, places=14).map(lambda a: format(abs(a), "f"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(AMOUNTS, SHARES), min_size=1, max_size=MOST_FACTORS - 1), min_size=1, max_size=4),
    st.sampled_from([10**9, 2**30]),
)
def test_a_sum_of_products_is_exact_fractions_rounded_half_up_once(terms, octets):
    import tomllib

    parts, lines = [], []
    for number, factors_of in enumerate(terms):
        names = [f"p{number}-{place}" for place in range(len(factors_of))]
        units = ["gCO2e/GB", *["1"] * (len(factors_of) - 1)]
        for part, unit, (amount, share) in zip(names, units, factors_of, strict=True):
            parts.append(
                PARAMETER.format(part, amount, unit, "2026-01-01").replace("source", f'relative_uncertainty = "{share}"\nsource')
            )
        lines.append(f'[[value.term]]\nstage = "use"\ntimes = {names}\n'.replace("'", '"'))
    text = SET.replace("gb_basis = 1000000000", f"gb_basis = {octets}") + "".join(parts)
    text += MOBILE_A.replace('amount = "10"\n', "") + "".join(lines) + MOBILE_B + FIXED_A + FIXED_B
    found = FactorSet.model_validate(tomllib.loads(text))

    per_unit = compiled(found, found.value[0], date(2026, 1, 1)).per_unit

    def by_hand(sign: int) -> Fraction:
        total = Fraction(0)
        for factors_of in terms:
            once = Fraction(1)
            for amount, share in factors_of:
                once *= Fraction(amount) * (1 + sign * Fraction(share))
            total += once
        twice = total * 10**9 / octets * 10**14 * 2
        return Fraction((twice + 1) // 2, 10**14)

    assert [Fraction(end) for end in (per_unit.low, per_unit.amount, per_unit.high)] == [by_hand(-1), by_hand(0), by_hand(1)]


def test_a_product_that_decimals_would_round_at_28_digits_is_exact_before_it_is_rounded(grid):
    amount = "0.33333333333333"
    change(grid, SET_FILE, 'amount = "0.1"', f'amount = "{amount}"')
    change(grid, SET_FILE, 'amount = "50"', f'amount = "50{amount[1:]}"')
    with localcontext(prec=100):
        by_hand = Decimal(amount) * Decimal(f"50{amount[1:]}") + 3

    assert len(by_hand.as_tuple().digits) > 28
    assert a_of(grid, 1).gco2e_per_unit == by_hand.quantize(PLACES, rounding=ROUND_HALF_UP)


def test_an_expression_that_does_not_fit_the_column_is_refused_with_its_amount(grid):
    change(grid, SET_FILE, 'amount = "0.1"', 'amount = "200"')

    with pytest.raises(FactorError, match=r"TEST/mobile/volume/2026-01: comes to 10003.* more than 4 digits"):
        load(grid)


def test_the_longest_expression_that_may_be_written_is_proved_to_fit():
    assert f"of {EXACT_DIGITS} digits, computed without rounding, then rounded once to decimal(18,14)" in prove()[-1]
    assert (MOST_FACTORS, MOST_TERMS) == (4, 100)


def test_more_parameters_in_a_product_than_are_proved_for_are_refused(grid):
    change(grid, SET_FILE, '"energy", "grid@FR"', '"energy", "grid@FR", "made", "made", "made"')

    with pytest.raises(FactorError, match="times"):
        load(grid)


def test_the_proof_fails_where_the_digits_would_not_suffice(monkeypatch):
    monkeypatch.setattr("factors.arithmetic.EXACT_DIGITS", 150)

    with pytest.raises(PrecisionError, match="an expression may need"):
        prove()


# Uncertainty


def test_a_relative_uncertainty_gives_both_ends(folder):
    change(folder, SET_FILE, 'amount = "10"', 'amount = "10"\nrelative_uncertainty = "0.2"')

    (found,) = [f for f in in_force(folder, date(2026, 1, 1), ["ours"]) if (f.network, f.component) == ("mobile", "volume")]

    assert (found.gco2e_per_unit_low, found.gco2e_per_unit, found.gco2e_per_unit_high) == (8, 10, 12)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('relative_uncertainty = "1.1"', "is above 1: write 20 % as 0.2"),
        ('relative_uncertainty = "0.1"\nlow = "9"', "either low and high, or relative_uncertainty"),
    ],
)
def test_an_uncertainty_that_is_no_share_or_is_said_twice_is_refused(folder, setting, said):
    change(folder, SET_FILE, 'amount = "10"', f'amount = "10"\n{setting}')

    with pytest.raises(FactorError, match=said):
        load(folder)


def test_the_ends_of_an_expression_are_those_of_all_its_parts_and_none_if_one_part_has_none(grid):
    for amount, low, high in (("0.1", "0.08", "0.13"), ("50", "40", "70")):
        change(grid, SET_FILE, f'amount = "{amount}"', f'amount = "{amount}"\nlow = "{low}"\nhigh = "{high}"')
    assert (a_of(grid, 1).gco2e_per_unit_low, a_of(grid, 1).gco2e_per_unit_high) == (None, None)

    change(grid, SET_FILE, 'amount = "3"', 'amount = "3"\nlow = "2"')

    found = a_of(grid, 1)
    assert (found.gco2e_per_unit_low, found.gco2e_per_unit, found.gco2e_per_unit_high) == (
        Decimal("5.2"),
        8,
        None,
    )  # 0.08 x 40 + 2


def test_an_assigned_expression_serves_like_any_other_value(grid):
    assert ASSIGNMENT in (grid / ASSIGNMENTS).read_text()
    assert {f.factor_set for f in in_force(grid, date(2026, 2, 1), ["ours"])} == {"TEST"}
