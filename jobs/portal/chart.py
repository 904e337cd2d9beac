"""Thirteen months as horizontal bars: figures and places of an inline SVG, which the template writes.

Bars lie, so that labels are legible at the width of a phone and no label is turned. A picture of 27 rectangles needs no plotting
library, and none that is a dependency here draws a titled SVG without a script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from jobs.portal import wording

WIDTH, ROW, BAR = 360, 24, 14
_LEFT, _LONGEST = 82, 200
_GAP = Decimal("1.5")
"""Between the parts of a bar, so that they are told apart without their colours."""


def chart(history: Sequence[tuple[date, Mapping[str, Any] | None]], said: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Title, description and bars of the months."""
    published = [row for _, row in history if row]
    greatest = max(published, key=lambda row: (row["footprint_gco2e"], row["usage_month"]))
    words = said["history"]
    return {
        "width": WIDTH,
        "height": ROW * len(history),
        "title": words["chart_title"].format(
            first=wording.month(history[0][0], language), last=wording.month(history[-1][0], language)
        ),
        "description": words["chart_description"].format(
            month=wording.month(greatest["usage_month"], language),
            amount=wording.whole(greatest["footprint_gco2e_displayed"], language),
        ),
        "bars": [_bar(place, *month, greatest["footprint_gco2e"], words, language) for place, month in enumerate(history)],
    }


def _bar(
    place: int, month: date, row: Mapping[str, Any] | None, greatest: Decimal, words: Mapping[str, Any], language: str
) -> dict[str, Any]:
    bar: dict[str, Any] = {"label": wording.short_month(month, language), "y": place * ROW + (ROW - BAR) // 2, "height": BAR}
    bar["baseline"] = bar["y"] + BAR - 3
    if row is None:
        return {**bar, "parts": [], "value": words["unpublished"], "value_x": _LEFT}
    subscription, volume = (_length(row[f"{name}_gco2e"], greatest) for name in ("subscription", "volume"))
    gap = _GAP if subscription and volume else Decimal(0)
    parts = [("subscription", _LEFT, subscription), ("volume", _LEFT + subscription + gap, volume)]
    value = f"{wording.whole(row['footprint_gco2e_displayed'], language)}\u00a0g"
    if row["is_estimated"]:
        value += f" {words['estimated_mark']}"
    return {
        **bar,
        "parts": [{"kind": kind, "x": x, "width": width} for kind, x, width in parts if width],
        "value": value,
        "value_x": _LEFT + subscription + gap + volume + 5,
    }


def _length(grams: Decimal, greatest: Decimal) -> Decimal:
    return (grams * _LONGEST / greatest).quantize(Decimal("0.1")) if greatest else Decimal(0)
