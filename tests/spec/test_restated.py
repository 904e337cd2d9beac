"""A restatement in words: what the ledger, the causes and the factors applied say, and nothing else, in two languages."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from jobs.restated import Restatement, in_words, of_row

BEFORE = {"usage_month": date(2026, 10, 1), "revision": 1, "footprint_gco2e": Decimal("1029.950000000000")} | {
    "published_at": datetime(2026, 11, 5, 23, 30, tzinfo=UTC), "reason": "first publication", "approver": None,
}  # fmt: skip
NOW = BEFORE | {"revision": 2, "footprint_gco2e": Decimal("1590.850000000000"), "reason": "late files", "approver": None}
CAUSES = [
    {"network": "mobile", "cause": cause, "gco2e": Decimal(grams), "octets": octets, "subscriptions": subscriptions}
    for cause, grams, octets, subscriptions in (
        ("late_usage", "653.2", 49_000_000_000, 1_200),
        ("withdrawn", "-92.3", -1_000_000_000, 1),
        ("subscriptions", "0", 0, 0),
        ("factors", "0", 0, 0),
    )
]


def said(language: Any, causes: list[dict[str, Any]] = CAUSES, **now: Any) -> list[str]:
    return list(in_words(Restatement(BEFORE, NOW | now, causes, {}), language))


def test_usage_that_came_late_and_usage_that_was_withdrawn_are_told_apart_with_their_grams():
    assert said("en") == [
        "2026-10 was restated: revision 2, published on 2026-11-05, replaces revision 1, published on 2026-11-05, which is kept "
        "as it was published. Reason: late files. Nobody was named as having approved it.",
        "The emissions of all subscriptions of the month are 1,590.85 gCO2e instead of 1,029.95 gCO2e: +560.9 gCO2e (+54.5 %).",
        "Mobile: usage records that are counted now and were not then account for +653.2 gCO2e (1,200 subscriptions).",
        "Mobile: usage records that are no longer counted account for -92.3 gCO2e (1 subscription).",
        "Nothing else changed the figures: no subscription was corrected, the emission factors are the same, the same octets "
        "count, the calculation is the same.",
    ]


def test_the_same_is_told_in_french_with_french_numbers():
    assert said("fr", approver="le contrôle interne")[:3] == [
        "Le mois 2026-10 a été corrigé : la révision 2, publiée le 2026-11-05, remplace la révision 1, publiée le 2026-11-05, "
        "qui est conservée telle qu'elle a été publiée. Motif : late files. Approuvé par : le contrôle interne.",
        "Les émissions de tous les abonnements du mois s'élèvent à 1\u202f590,85 g éqCO2 au lieu de 1\u202f029,95 g éqCO2 : "
        "+560,9 g éqCO2 (+54,5 %).",
        "Mobile : relevés d'usage désormais comptés et qui ne l'étaient pas : +653,2 g éqCO2 (1\u202f200 abonnements).",
    ]


def test_each_language_has_the_same_sentences():
    from jobs.restated import _WORDS

    assert _WORDS["en"].keys() == _WORDS["fr"].keys()
    assert len(said("en")) == len(said("fr"))


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("0", "This subscription was shown 0 g and is now shown 1 g; unrounded, 0.5 gCO2e instead of 0 gCO2e: +0.5 gCO2e."),
        (None, "This subscription was not published before and is now shown 1 g."),
    ],
)
def test_a_row_that_was_nothing_or_was_not_there_before_has_no_share(before, expected):
    now = {"footprint_gco2e": Decimal("0.500000000000"), "footprint_gco2e_displayed": 1}
    earlier = None if before is None else {"footprint_gco2e": Decimal(before), "footprint_gco2e_displayed": 0}

    assert of_row(earlier, now) == expected


def test_an_amount_keeps_every_digit_however_many():
    exact = [{**CAUSES[0], "gco2e": Decimal("123456789012345.123456789012345678901234")}]

    assert "+123,456,789,012,345.123456789012345678901234 gCO2e" in said("en", exact)[2]
