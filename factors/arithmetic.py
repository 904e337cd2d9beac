"""The lint of the formula: no product of a quantity and a factor can exceed 38 digits or lose a digit silently.

It is proved from the declared column types alone, with the rules by which Spark types decimal results (``DecimalPrecision``; the
same types were seen in a session of pyspark 4.1.4): once for every value the columns can hold, so no data can escape it.

What it proves: a factor written as a sum of products of parameters is computed without rounding, and rounded once; octets become
gigabytes exactly; quantity times factor is exact; the one rounding is to the places of ``gco2e``;
the widest rounded product still fits ``gco2e``; and the sum over a month fits 38 digits. What it leaves to run time, where Spark
in ANSI mode raises instead of returning null: a volume of 10^8 GB or more in one row, a footprint of 10^12 g or more, a sum of
more than 10^10 of the widest rows. Those are loud, never silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext
from fractions import Fraction

from schemas.table import Table
from schemas.tables import ESTIMATED, FACTORS, PUBLICATIONS, PUBLISHED

LONGEST = 38
"""Digits of the widest decimal in Spark and Delta."""

GIGABYTES_PER_OCTET = Decimal("0.000000001")
"""Multiplied by, rather than divided by 10^9: Spark's decimal division silently loses places."""

SUM_DIGITS = 10
"""Digits that Spark adds to the precision of a sum."""


MOST_FACTORS = 4
"""Parameters in one product of an expression."""
MOST_TERMS = 100
"""Products in one sum of an expression."""
EXACT_DIGITS = 200
"""Digits in which expressions are computed: more than any needs, which ``prove`` shows."""
BINARY_PLACES = 30
"""Places that a division by the 2^30 octets of a binary gigabyte adds: a power of two divides a decimal exactly."""


class PrecisionError(ValueError):
    """The declared types could lose a digit silently; the message names the column."""


@dataclass(frozen=True)
class Digits:
    """A decimal type: digits in all, and after the point."""

    precision: int
    scale: int

    @property
    def whole(self) -> int:
        """Digits before the point."""
        return self.precision - self.scale

    @property
    def widest(self) -> Fraction:
        """The greatest value of the type."""
        return Fraction(10**self.precision - 1, 10**self.scale)

    def times(self, other: Digits) -> Digits:
        """Spark's type of a product; beyond 38 digits Spark would cut places silently. Raises PrecisionError."""
        return _bounded(Digits(self.precision + other.precision + 1, self.scale + other.scale), f"{self} x {other}")

    def rounded(self, places: int) -> Digits:
        """Spark's type of ``round``: a digit more before the point, for the carry."""
        return _bounded(Digits(self.whole + 1 + min(self.scale, places), min(self.scale, places)), f"round({self})")

    def summed(self) -> Digits:
        """Spark's type of a sum."""
        return _bounded(Digits(self.precision + SUM_DIGITS, self.scale), f"sum({self})")

    def holds(self, value: Fraction) -> bool:
        """The type can write the value, without rounding."""
        return value <= self.widest and (value * 10**self.scale).denominator == 1

    def __str__(self) -> str:
        """The type as SQL writes it."""
        return f"decimal({self.precision},{self.scale})"


def _bounded(result: Digits, expression: str) -> Digits:
    if result.precision > LONGEST:
        raise PrecisionError(f"{expression} needs {result}, more than {LONGEST} digits: Spark would cut places silently")
    return result


@contextmanager
def exact() -> Iterator[None]:
    """Decimals without rounding: an operation whose result is longer than ``EXACT_DIGITS`` raises ``decimal.Inexact``."""
    with localcontext(Context(prec=EXACT_DIGITS, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])):
        yield


def prove(estimated: Table = ESTIMATED, factors: Table = FACTORS) -> tuple[str, ...]:
    """Prove the formula exact for the declared types, and say what was shown, a sentence a column.

    Raises PrecisionError, naming the column, if a digit could be lost silently.
    """
    quantity = declared(estimated, "quantity")
    shown = [_prove_quantity(quantity)]
    shown += [
        _prove_product(quantity, declared(factors, f"gco2e_per_unit{end}"), estimated, f"gco2e{end}")
        for end in ("", "_low", "_high")
    ]
    if declared(estimated, "gco2e_per_unit") != declared(factors, "gco2e_per_unit"):
        raise PrecisionError(f"{estimated.name}.gco2e_per_unit is not declared as in {factors.name}")
    shown.append(_prove_sum(declared(estimated, "gco2e")))
    shown.append(_prove_expression(declared(factors, "gco2e_per_unit")))
    return tuple(shown)


def declared(table: Table, name: str) -> Digits:
    """The declared type of a decimal column. Raises PrecisionError if it is not a decimal."""
    column = table.column(name)
    if column.decimal is None:
        raise PrecisionError(f"{table.name}.{name} is {column.sql_type}, not a decimal")
    return Digits(*column.decimal)


def _prove_quantity(quantity: Digits) -> str:
    octets, places = Digits(quantity.precision, 0), _literal(GIGABYTES_PER_OCTET)
    product = octets.times(places)
    widest = octets.widest * Fraction(GIGABYTES_PER_OCTET)
    if product.scale > quantity.scale or not quantity.holds(widest):
        raise PrecisionError(f"estimated.quantity: {octets} octets as gigabytes need {product}, {quantity} would lose places")
    return f"estimated.quantity: octets as {octets} x {places} = {product} is exact in {quantity}"


def _literal(value: Decimal) -> Digits:
    """Spark's type of a decimal literal: its digits, at least as many as places."""
    _, digits, exponent = value.as_tuple()
    places = max(0, -int(exponent))
    return Digits(max(len(digits), places), places)


def _prove_product(quantity: Digits, factor: Digits, estimated: Table, column: str) -> str:
    grams, name = declared(estimated, column), f"{estimated.name}.{column}"
    try:
        product = quantity.times(factor)
        rounded = product.rounded(grams.scale)
    except PrecisionError as error:
        raise PrecisionError(f"{name}: {error}") from None
    if rounded.scale != grams.scale:
        raise PrecisionError(f"{name}: the product {product} has fewer places than {grams}")
    widest = _half_up(quantity.widest * factor.widest, grams.scale)
    if not grams.holds(widest):
        raise PrecisionError(f"{name}: the widest product, rounded, does not fit {grams}")
    return f"{name}: {quantity} x {factor} = {product} is exact, rounded once to {grams}, which holds the widest product"


def _half_up(value: Fraction, places: int) -> Fraction:
    return Fraction((value * 10**places * 2 + 1) // 2, 10**places)


def _prove_sum(grams: Digits) -> str:
    total = grams.summed()
    month = declared(PUBLICATIONS, "footprint_gco2e")
    if month.scale != total.scale or month.precision < total.precision:
        raise PrecisionError(f"publications.footprint_gco2e: {month} does not hold the month's sum {total}")
    row = declared(PUBLISHED, "footprint_gco2e")
    if row.scale != grams.scale:
        raise PrecisionError(f"published.footprint_gco2e: {row} has other places than {grams}")
    return f"sum(gco2e) over a month is {total}, exact in {month}; a row's sum is cast to {row} of the same places, or raises"


def _prove_expression(factor: Digits) -> str:
    """The longest expression that may be written fits the digits it is computed in."""
    # The ends of an interval are amount x (1 -/+ uncertainty), of at most 1: twice the places, and a digit more before the point.
    end = (factor.whole + 1, 2 * factor.scale)
    whole, places = (MOST_FACTORS * digits for digits in end)
    whole += len(str(MOST_TERMS)) + _literal(GIGABYTES_PER_OCTET).scale + 1
    needed = whole + places + BINARY_PLACES
    if needed > EXACT_DIGITS:
        raise PrecisionError(f"an expression may need {needed} digits, more than the {EXACT_DIGITS} it is computed in")
    return f"expressions: at most {needed} of {EXACT_DIGITS} digits, computed without rounding, then rounded once to {factor}"
