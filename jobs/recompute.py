"""A figure worked out a second time, by a path of its own: plain decimals, from stored volumes and the factor catalogue.

It shares nothing with ``estimate`` and ``publish`` but the rule: that an error in one be seen, it must not be made of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import reduce
from typing import Any

from factors.catalogue import FactorSet
from factors.registry import FactorError, Registry
from factors.values import Parameter, Value

_EXACT = Context(prec=120, rounding=ROUND_HALF_UP)
"""120 digits hold every product and quotient here, so that only ``quantize`` rounds."""
_FACTOR_PLACES = Decimal("1e-14")
_GRAM_PLACES = Decimal("1e-12")
_UNIT = Decimal(1)
_DECIMAL_GIGABYTE = Decimal(1_000_000_000)


@dataclass(frozen=True)
class Coefficient:
    """A coefficient in force, as the catalogue states it, per decimal gigabyte or per subscription-month."""

    factor_id: str
    factor_set: str
    gco2e: Decimal
    low: Decimal | None
    high: Decimal | None
    counts_up: bool
    is_national_default: bool
    method_id: str


@dataclass(frozen=True)
class Component:
    """Quantity × factor, rounded half up once."""

    name: str
    access_technology: str | None
    roaming_zone: str | None
    quantity: Decimal
    coefficient: Coefficient
    gco2e: Decimal
    gco2e_low: Decimal | None
    gco2e_high: Decimal | None

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells it from the other components of a subscription."""
        return self.name, self.access_technology or "", self.roaming_zone or ""


def coefficient(registry: Registry, brand: str, network: str, component: str, month: date) -> Coefficient:
    """What the catalogue says of a brand, network, component and month. Raises FactorError if it says nothing."""
    as_of = registry.known_on
    factor_set = registry.assigned(brand, month, as_of)
    value = factor_set.in_force(network, component, month, as_of)  # type: ignore[arg-type]
    if value is None:
        raise FactorError(f"{factor_set.name}: no {network} {component} value for {month:%Y-%m}")
    octets = Decimal(factor_set.gb_basis) if component == "volume" else _DECIMAL_GIGABYTE
    parts = {reference: _parameter(factor_set, reference, month, as_of) for term in value.term for reference in term.times}

    def amount(end: int) -> Decimal | None:
        """Of the amount, the low end or the high end: as stated, or the sum of products of that end of every parameter."""
        stated = _ends(value)[end]
        if value.term:
            ends = {reference: _ends(part)[end] for reference, part in parts.items()}
            if None in ends.values():
                return None
            terms = [reduce(_EXACT.multiply, [ends[name] or Decimal(0) for name in term.times]) for term in value.term]
            stated = reduce(_EXACT.add, terms)
        if stated is None:
            return None
        per_gigabyte = _EXACT.divide(_EXACT.multiply(stated, _DECIMAL_GIGABYTE), octets)
        return per_gigabyte.quantize(_FACTOR_PLACES, context=_EXACT)

    names = "\n".join(sorted(f"{factor_set.name}/{part.name}" for part in parts.values()))
    made_of = f"#{hashlib.sha256(names.encode()).hexdigest()[:8]}" if parts else ""
    return Coefficient(
        f"{factor_set.name}/{value.name}{made_of}",
        factor_set.name,
        amount(0) or Decimal(0),
        amount(1),
        amount(2),
        factor_set.volume_basis == "up_and_down",
        value.is_national,
        factor_set.method_id,
    )


def _parameter(factor_set: FactorSet, reference: str, month: date, as_of: date | None) -> Parameter:
    found = factor_set.parameter_in_force(reference, month, as_of)
    if found is None:
        raise FactorError(f"{factor_set.name}: no parameter {reference} for {month:%Y-%m}")
    return found


def _ends(stated: Value | Parameter) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """The amount, its low and its high end, by what the source says of its uncertainty."""
    share = stated.relative_uncertainty
    if share is None or stated.amount is None:
        return stated.amount, stated.low, stated.high
    spread = _EXACT.multiply(stated.amount, share)
    return stated.amount, _EXACT.subtract(stated.amount, spread), _EXACT.add(stated.amount, spread)


def components(
    subscribed: Mapping[str, Any], metered: Iterable[Mapping[str, Any]], registry: Registry, month: date
) -> list[Component]:
    """The components of one subscription and month.

    Args:
        subscribed: its row of ``subscribed``.
        metered: its rows of ``metered``.
        registry: the factor catalogue.
        month: the month.
    """
    brand, network = subscribed["brand"], subscribed["network"]
    per_gigabyte = coefficient(registry, brand, network, "volume", month)
    per_month = coefficient(registry, brand, network, "subscription", month)
    found = [_component("subscription", None, None, _UNIT, per_month)]
    for usage in metered:
        octets = usage["octets_down"] + (usage["octets_up"] if per_gigabyte.counts_up else 0)
        gigabytes = Decimal(octets).scaleb(-9, _EXACT)
        found.append(_component("volume", usage["access_technology"], usage["roaming_zone"], gigabytes, per_gigabyte))
    return found


def published(subscribed: Mapping[str, Any], metered: Sequence[Mapping[str, Any]], parts: Sequence[Component]) -> dict[str, Any]:
    """The published row of one subscription and month, but for its key and the numbers of its revision."""
    volume, fixed = ([part for part in parts if (part.name == "volume") == is_volume] for is_volume in (True, False))
    gigabytes = reduce(_EXACT.add, (part.quantity for part in volume), Decimal(0))
    grams = _sum(part.gco2e for part in parts)
    lows, highs = [part.gco2e_low for part in parts], [part.gco2e_high for part in parts]
    used = [part.coefficient for part in parts]
    return {
        "network": subscribed["network"],
        "brand": subscribed["brand"],
        "data_volume_bytes": int(gigabytes.scaleb(9, _EXACT)),
        "data_volume_gb_displayed": _displayed(gigabytes),
        "is_estimated": subscribed["is_estimated"] or any(usage["is_estimated"] for usage in metered),
        "volume_gco2e": _sum(part.gco2e for part in volume),
        "subscription_gco2e": _sum(part.gco2e for part in fixed),
        "footprint_gco2e": grams,
        "footprint_gco2e_low": None if None in lows else _sum(low for low in lows if low is not None),
        "footprint_gco2e_high": None if None in highs else _sum(high for high in highs if high is not None),
        "footprint_gco2e_displayed": _displayed(grams),
        "factor_set": max(each.factor_set for each in used),
        "is_national_default": any(each.is_national_default for each in used),
        "method_id": max(each.method_id for each in used),
    }


def differences(stored: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Every column in which a stored row is not what was found, with both, exact."""
    return [
        f"{name} is {_said(stored[name])}, recomputed {_said(value)}" for name, value in found.items() if stored[name] != value
    ]


def _component(name: str, technology: str | None, zone: str | None, quantity: Decimal, factor: Coefficient) -> Component:
    def grams(per_unit: Decimal | None) -> Decimal | None:
        return None if per_unit is None else _EXACT.multiply(quantity, per_unit).quantize(_GRAM_PLACES, context=_EXACT)

    amount = grams(factor.gco2e)
    assert amount is not None
    return Component(name, technology, zone, quantity, factor, amount, grams(factor.low), grams(factor.high))


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(_EXACT.add, amounts, Decimal(0)).quantize(_GRAM_PLACES, context=_EXACT)


def _displayed(amount: Decimal) -> int:
    return int(amount.quantize(_UNIT, context=_EXACT))


def _said(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)
