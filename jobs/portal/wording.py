"""The words of the page and how its numbers are written, in one language."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jobs import customer

LANGUAGES = ("fr", "en")
_TEXTS = Path(__file__).resolve().parent / "texts"


@cache
def said(language: str) -> dict[str, Any]:
    """The texts of a language."""
    return tomllib.loads((_TEXTS / f"{language}.toml").read_text(encoding="utf-8"))


def whole(number: int | Decimal, language: str) -> str:
    """A number to the unit, half up, with the language's sign between thousands."""
    return customer.whole(int(Decimal(number).quantize(Decimal(1), ROUND_HALF_UP)), language)


def about(number: Decimal, language: str) -> str:
    """A number for an idea of size: to the unit from ten on, to one decimal below."""
    if number >= 10:
        return whole(number, language)
    rounded = number.quantize(Decimal("0.1"), ROUND_HALF_UP)
    return f"{rounded:f}".replace(".", str(said(language)["number"]["decimal"]))


def month(day: date, language: str) -> str:
    """A month with its year, within a sentence."""
    return customer.month_name(day, language)


def short_month(day: date, language: str) -> str:
    """A month with its year, short enough for a chart."""
    return f"{said(language)['months_short'][day.month - 1]}\u00a0{day.year}"
