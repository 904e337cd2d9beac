"""How the report writes numbers: exact ones whole, others to as many digits as are looked at."""

from __future__ import annotations

from decimal import Decimal


def whole(number: int | Decimal) -> str:
    """A whole number."""
    return f"{int(number):,}"


def gigabytes(octets: int | Decimal) -> str:
    """Octets as decimal gigabytes, to a tenth; less than that, to as many places as show it."""
    amount = Decimal(octets).scaleb(-9)
    return f"{amount:,.1f} GB" if amount >= 1 or not amount else f"{amount:.2g} GB" if amount >= Decimal("0.01") else "<0.01 GB"


def tonnes(gco2e: Decimal) -> str:
    """Grams as tonnes, to the kilogram; less than a tonne as kilograms."""
    return f"{gco2e.scaleb(-6):,.3f} t" if gco2e >= 1_000_000 else f"{gco2e.scaleb(-3):,.1f} kg"


def percent(part: int | float | Decimal, of: int | float | Decimal) -> str:
    """A share, to a tenth of a percent; neither none nor all is said of what is not quite."""
    if not of:
        return "-"
    share = 100 * Decimal(part) / Decimal(of)
    if 0 < share < Decimal("0.05"):
        return "<0.1 %"
    return ">99.9 %" if Decimal("99.95") <= share < 100 else f"{share:.1f} %"


def signed(number: Decimal, places: int = 1) -> str:
    """A change."""
    return f"{number:+,.{places}f}"


def measured(value: Decimal | None) -> str:
    """A measured value or limit, without the noughts of its column."""
    if value is None:
        return "-"
    rounded = value if value == value.to_integral_value() else value.quantize(Decimal("0.000001")).normalize()
    return f"{rounded:,f}".rstrip("0").rstrip(".") if "." in f"{rounded:f}" else f"{rounded:,f}"


def seconds(amount: float) -> str:
    """A time."""
    minutes, rest = divmod(round(amount), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{amount:.1f} s"
