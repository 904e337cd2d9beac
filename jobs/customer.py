"""The row as the customer area would word it: what decree 2021-1732 asks to show, and nothing it does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

_WORDS = {
    "fr": {
        "months": (
            "janvier", "février", "mars", "avril", "mai", "juin",
            "juillet", "août", "septembre", "octobre", "novembre", "décembre",
        ),
        "fixed": "internet fixe",
        "mobile": "internet mobile",
        "estimated": " (données estimées)",
        "text": (
            "{month} {year}\n"
            "Type d'abonnement : {network}\n"
            "Volume de données consommées : {volume} Go{estimated}\n"
            "Équivalent en émissions de gaz à effet de serre : {grams} g éqCO2\n"
            "{default}\n{method}"
        ),
        "default": "Calculé avec les ratios nationaux, et non avec ceux de votre opérateur.\n",
        "revision": "Révision {revision}",
        "changed": "Révision {revision} ({reason}) : auparavant {volume} Go et {grams} g éqCO2",
        "added": "Révision {revision} ({reason}) : auparavant non publié",
        "thousands": "\u202f",
    },
    "en": {
        "months": (
            "January", "February", "March", "April", "May", "June",
            "July", "August", "September", "October", "November", "December",
        ),
        "fixed": "fixed internet",
        "mobile": "mobile internet",
        "estimated": " (estimated data)",
        "text": (
            "{month} {year}\n"
            "Type of subscription: {network}\n"
            "Volume of data used: {volume} GB{estimated}\n"
            "Equivalent greenhouse-gas emissions: {grams} gCO2e\n"
            "{default}\n{method}"
        ),
        "default": "Computed with the national ratios, not with those of your operator.\n",
        "revision": "Revision {revision}",
        "changed": "Revision {revision} ({reason}): before it {volume} GB and {grams} gCO2e",
        "added": "Revision {revision} ({reason}): not published before it",
        "thousands": ",",
    },
}  # fmt: skip


def words(row: Mapping[str, Any], method: str, language: str) -> str:
    """The published row in words.

    Args:
        row: a row of ``published``.
        method: the summary of the calculation method.
        language: fr or en.
    """
    said: Any = _WORDS[language]
    month = row["usage_month"]
    return str(said["text"]).format(
        month=said["months"][month.month - 1].capitalize(),
        year=month.year,
        network=said[row["network"]],
        volume=_whole(row["data_volume_gb_displayed"], said["thousands"]),
        estimated=said["estimated"] if row["is_estimated"] else "",
        grams=_whole(row["footprint_gco2e_displayed"], said["thousands"]),
        default=said["default"] if row["is_national_default"] else "",
        method=method,
    )


def revision_words(row: Mapping[str, Any], reason: str, earlier: Mapping[str, Any] | None, language: str) -> str:
    """Which revision a published row is of, and what it showed in the one before.

    Args:
        row: a row of ``published``.
        reason: why its revision was published.
        earlier: the row of the revision before; None if there was none.
        language: fr or en.
    """
    said: Any = _WORDS[language]
    if row["revision"] == 1:
        return str(said["revision"]).format(revision=1)
    if earlier is None:
        return str(said["added"]).format(revision=row["revision"], reason=reason)
    return str(said["changed"]).format(
        revision=row["revision"],
        reason=reason,
        volume=_whole(earlier["data_volume_gb_displayed"], said["thousands"]),
        grams=_whole(earlier["footprint_gco2e_displayed"], said["thousands"]),
    )


def month_name(month: date, language: str) -> str:
    """A month with its year, as it stands within a sentence of the language."""
    said: Any = _WORDS[language]
    return f"{said['months'][month.month - 1]} {month.year}"


def network_name(network: str, language: str) -> str:
    """The decree's type of subscription."""
    said: Any = _WORDS[language]
    return str(said[network])


def whole(number: int, language: str) -> str:
    """A whole number with the language's sign between thousands."""
    said: Any = _WORDS[language]
    return _whole(number, said["thousands"])


def _whole(number: int, thousands: str) -> str:
    return f"{number:,}".replace(",", thousands)
