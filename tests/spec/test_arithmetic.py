"""The formula loses no digit silently: by the declared types, and by exact fractions."""

from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factors.arithmetic import GIGABYTES_PER_OCTET, Digits, PrecisionError, declared, prove
from schemas.table import Table
from schemas.tables import ESTIMATED, FACTORS

QUANTITY, FACTOR, GRAMS = declared(ESTIMATED, "quantity"), declared(FACTORS, "gco2e_per_unit"), declared(ESTIMATED, "gco2e")


def redeclared(table: Table, column: str, sql_type: str) -> Table:
    """The table with another type for one column."""
    old = table.column(column)
    lines = [line for line in table.text.splitlines() if line.split()[:1] == [column]]
    assert len(lines) == 1
    return replace(table, text=table.text.replace(lines[0], lines[0].replace(old.sql_type, sql_type)))


def decimals(digits: Digits) -> st.SearchStrategy[Decimal]:
    """Values of a decimal type, the ends included."""
    units = st.integers(0, 10**digits.precision - 1) | st.sampled_from([0, 1, 10**digits.precision - 1])
    return units.map(lambda unit: Decimal((0, tuple(map(int, str(unit))), -digits.scale)))


def by_the_formula(quantity: Decimal, factor: Decimal) -> Decimal:
    """Quantity times factor, rounded once, in 38 digits as Spark has them."""
    with localcontext(prec=38):
        return (quantity * factor).quantize(Decimal(1).scaleb(-GRAMS.scale), rounding=ROUND_HALF_UP)


def by_fractions(quantity: Decimal, factor: Decimal) -> Fraction:
    """The same in exact arithmetic."""
    twice = Fraction(quantity) * Fraction(factor) * 10**GRAMS.scale * 2
    return Fraction((twice + 1) // 2, 10**GRAMS.scale)


def test_the_declared_types_are_proved_to_lose_no_digit():
    shown = prove()

    assert [sentence.split(":")[0] for sentence in shown[:4]] == [
        "estimated.quantity",
        "estimated.gco2e",
        "estimated.gco2e_low",
        "estimated.gco2e_high",
    ]
    assert "decimal(17,9) x decimal(18,14) = decimal(36,23) is exact" in shown[1]
    assert "decimal(34,12), exact in decimal(38,12)" in shown[4]


@pytest.mark.parametrize(
    ("column", "sql_type", "said"),
    [
        ("quantity", "DECIMAL(20,9)", "estimated.gco2e: decimal(20,9) x decimal(18,14) needs decimal(39,23)"),
        ("quantity", "DECIMAL(17,8)", "estimated.quantity: "),
        ("quantity", "BIGINT", "estimated.quantity is BIGINT, not a decimal"),
        ("gco2e", "DECIMAL(23,12)", "estimated.gco2e: the widest product, rounded, does not fit decimal(23,12)"),
        ("gco2e_low", "DECIMAL(23,12)", "estimated.gco2e_low: the widest product, rounded, does not fit"),
        ("gco2e_high", "DECIMAL(38,24)", "estimated.gco2e_high: the product decimal(36,23) has fewer places"),
        ("gco2e_per_unit", "DECIMAL(18,13)", "estimated.gco2e_per_unit is not declared as in factors"),
        ("gco2e", "DECIMAL(29,12)", "sum(decimal(29,12)) needs decimal(39,12)"),
        ("gco2e", "DECIMAL(28,13)", "publications.footprint_gco2e: decimal(38,12) does not hold the month's sum decimal(38,13)"),
    ],
)
def test_a_type_that_could_lose_a_digit_is_refused_with_its_column(column, sql_type, said):
    with pytest.raises(PrecisionError) as refused:
        prove(estimated=redeclared(ESTIMATED, column, sql_type))

    assert said in str(refused.value)


@pytest.mark.parametrize("column", ["gco2e_per_unit", "gco2e_per_unit_low", "gco2e_per_unit_high"])
def test_a_factor_type_too_wide_for_the_product_is_refused(column):
    with pytest.raises(PrecisionError, match="more than 38 digits"):
        prove(factors=redeclared(FACTORS, column, "DECIMAL(22,14)"))


@settings(max_examples=200, deadline=None)
@given(decimals(QUANTITY), decimals(FACTOR))
def test_the_formula_is_exact_arithmetic_rounded_half_up_to_twelve_places(quantity, factor):
    grams = by_the_formula(quantity, factor)

    assert Fraction(grams) == by_fractions(quantity, factor)
    assert GRAMS.holds(Fraction(grams))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**QUANTITY.precision - 1))
def test_octets_become_gigabytes_and_back_without_loss(octets):
    with localcontext(prec=38):
        gigabytes = octets * GIGABYTES_PER_OCTET

    assert QUANTITY.holds(Fraction(gigabytes))
    assert Fraction(gigabytes) * 10**9 == octets


def test_half_a_unit_of_the_twelfth_place_rounds_up():
    # 0.000000001 GB x 0.0005 g/GB = 0.0000000000005 g
    assert by_the_formula(Decimal("0.000000001"), Decimal("0.0005")) == Decimal("0.000000000001")


def test_the_widest_quantity_times_the_widest_factor_fits_the_column():
    widest = by_the_formula(Decimal("99999999.999999999"), Decimal("9999.99999999999999"))

    assert widest < 10**12
    assert GRAMS.holds(Fraction(widest))
