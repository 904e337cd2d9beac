"""One decimal per component: a value's amount, or its sum of products of the parameters in force, exact and rounded once.

A term multiplies parameters (energy per gigabyte × the grid's intensity in the month and zone), a value adds terms (life-cycle
stages). All of it is computed without rounding, converted to decimal gigabytes where it is per gigabyte, and then rounded half
up once to the places of ``factors.gco2e_per_unit``: that decimal is what Spark multiplies the quantity by.

The low end is the same expression of all low ends, the high end that of all high ones: the parts are taken to err together. An
end is null if a part has none, since an interval of some parts only would be too narrow.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from math import prod

from factors.arithmetic import EXACT_DIGITS, exact
from factors.catalogue import FactorSet
from factors.reading import FactorError
from factors.values import Parameter, Value
from schemas.tables import FACTORS

DECIMAL_GIGABYTE = 1_000_000_000
"""Octets in the gigabyte that quantities are counted in."""


@dataclass(frozen=True)
class Interval:
    """An amount and the ends of its uncertainty; an end is null where a source gives none."""

    amount: Decimal
    low: Decimal | None
    high: Decimal | None


@dataclass(frozen=True)
class Compiled:
    """A value in a month, in grams per decimal gigabyte or per subscription-month, with the parameters it was made of."""

    factor_id: str
    per_unit: Interval
    parts: tuple[Parameter, ...]


def compiled(factor_set: FactorSet, value: Value, month: date, as_of: date | None = None) -> Compiled:
    """A value of a set in a month, as it was known on a day. Raises FactorError, naming value, parameter and month."""
    octets = factor_set.gb_basis if value.component == "volume" else DECIMAL_GIGABYTE
    parts = _parts(factor_set, value, month, as_of)
    with exact():
        found = _summed(value, parts) if value.term else stated_interval(value, value.amount or Decimal(0))
    ends = [None if end is None else per_decimal_gigabyte(end, octets) for end in (found.amount, found.low, found.high)]
    _check_fits(factor_set.identity(value), [end for end in ends if end is not None], month)
    return Compiled(_identity(factor_set, value, parts), Interval(ends[0] or Decimal(0), *ends[1:]), tuple(parts.values()))


def stated_interval(stated: Value | Parameter, amount: Decimal) -> Interval:
    """An amount with the ends that its uncertainty gives."""
    if stated.relative_uncertainty is None:
        return Interval(amount, stated.low, stated.high)
    with exact():
        spread = amount * stated.relative_uncertainty
        return Interval(amount, amount - spread, amount + spread)


def per_decimal_gigabyte(amount: Decimal, octets_per_gigabyte: int) -> Decimal:
    """Grams per 10^9 octets from grams per gigabyte of any size, half up to the places of the column: a part of the method.

    >>> per_decimal_gigabyte(Decimal("107.3741824"), 2**30)
    Decimal('100.00000000000000')
    """
    _, scale = FACTORS.column("gco2e_per_unit").decimal or (0, 0)
    with exact():
        unrounded = amount * DECIMAL_GIGABYTE / octets_per_gigabyte
    with localcontext(Context(prec=EXACT_DIGITS)):
        return unrounded.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP)


def _parts(factor_set: FactorSet, value: Value, month: date, as_of: date | None) -> dict[str, Parameter]:
    parts: dict[str, Parameter] = {}
    for reference in dict.fromkeys(reference for term in value.term for reference in term.times):
        found = factor_set.parameter_in_force(reference, month, as_of)
        if found is None:
            known = f", as known on {as_of}" if as_of else ""
            raise FactorError(f"{factor_set.identity(value)}: no parameter {reference} for {month:%Y-%m}{known}")
        parts[reference] = found
    return parts


def _summed(value: Value, parts: dict[str, Parameter]) -> Interval:
    """The expression of the amounts, of the low ends and of the high ends."""
    intervals = {reference: stated_interval(part, part.amount) for reference, part in parts.items()}

    def evaluated(end: str) -> Decimal | None:
        of_parts = {reference: getattr(interval, end) for reference, interval in intervals.items()}
        if None in of_parts.values():
            return None
        return sum((prod((of_parts[r] for r in term.times), start=Decimal(1)) for term in value.term), Decimal(0))

    return Interval(evaluated("amount") or Decimal(0), evaluated("low"), evaluated("high"))


def _check_fits(identity: str, amounts: list[Decimal], month: date) -> None:
    precision, scale = FACTORS.column("gco2e_per_unit").decimal or (0, 0)
    if any(amount >= 10 ** (precision - scale) for amount in amounts):
        raise FactorError(f"{identity}: comes to {max(amounts):f} for {month:%Y-%m}, more than {precision - scale} digits")


def _identity(factor_set: FactorSet, value: Value, parts: dict[str, Parameter]) -> str:
    """The value's identity; of an expression with a hash of the identities of its parts, so that it names one amount for ever."""
    identity = factor_set.identity(value)
    if not parts:
        return identity
    names = "\n".join(sorted(factor_set.identity(part) for part in parts.values()))
    return f"{identity}#{hashlib.sha256(names.encode()).hexdigest()[:8]}"
