"""Units of factors and their parts, multiplied and divided as fractions: what does not come out as declared is refused.

Only units without a prefix of their own are known. A kilogram, a gigabit or a kilowatt-hour of another size is not converted
here but refused: 4.1 kg read as 4.1 g, or bits read as octets, is the classic mistake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

KNOWN = ("gCO2e", "kWh", "GB", "subscription-month")
"""``GB`` is the gigabyte of the set's ``gb_basis``."""


class UnitError(ValueError):
    """A unit is unknown, or is not the one that is needed; the message names it."""


@dataclass(frozen=True)
class Unit:
    """A fraction of known units, in lowest terms."""

    above: tuple[str, ...]
    below: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Unit:
        """A unit as the data files write it. Raises UnitError, naming what is not known.

        >>> Unit.parse("kWh/GB").times(Unit.parse("gCO2e/kWh")) == Unit.parse("gCO2e/GB")
        True
        """
        if text == "1":
            return cls(())
        above, *below = text.split("/")
        for name in (above, *below):
            if name not in ("1", *KNOWN):
                raise UnitError(f"unit {text!r}: {name!r} is not known here, only {', '.join(KNOWN)} and quotients of them")
        return _lowest_terms([above], below)

    def times(self, other: Unit) -> Unit:
        """The unit of a product."""
        return _lowest_terms([*self.above, *other.above], [*self.below, *other.below])

    def __str__(self) -> str:
        """The unit as the data files write it."""
        return "/".join(["·".join(self.above) or "1", *self.below])


def product(units: Iterable[Unit]) -> Unit:
    """The unit of a product of any number of quantities."""
    result = Unit(())
    for unit in units:
        result = result.times(unit)
    return result


def _lowest_terms(above: list[str], below: list[str]) -> Unit:
    over, under = Counter(n for n in above if n != "1"), Counter(n for n in below if n != "1")
    return Unit(tuple(sorted((over - under).elements())), tuple(sorted((under - over).elements())))
