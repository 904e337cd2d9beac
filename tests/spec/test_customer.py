"""What the customer area says of a month: type of subscription, volume, emissions and method, and nothing else."""

from __future__ import annotations

import string
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from jobs.customer import _WORDS, revision_words, words

ROW = {
    "subscription_key": "00ff",
    "usage_month": date(2026, 10, 1),
    "network": "mobile",
    "brand": "one",
    "data_volume_bytes": 15_400_000_000,
    "data_volume_gb_displayed": 15,
    "footprint_gco2e_displayed": 1271,
    "is_estimated": False,
    "is_national_default": False,
}


def said(language: str, **changes: Any) -> str:
    return words(ROW | changes, "METHOD", language)


def test_a_month_in_french():
    assert said("fr", is_national_default=True) == (
        "Octobre 2026\n"
        "Type d'abonnement : internet mobile\n"
        "Volume de données consommées : 15 Go\n"
        "Équivalent en émissions de gaz à effet de serre : 1\u202f271 g éqCO2\n"
        "Calculé avec les ratios nationaux, et non avec ceux de votre opérateur.\n"
        "\n"
        "METHOD"
    )


def test_a_month_in_english():
    assert said("en", is_national_default=True) == (
        "October 2026\n"
        "Type of subscription: mobile internet\n"
        "Volume of data used: 15 GB\n"
        "Equivalent greenhouse-gas emissions: 1,271 gCO2e\n"
        "Computed with the national ratios, not with those of your operator.\n"
        "\n"
        "METHOD"
    )


@pytest.mark.parametrize(("language", "network"), [("fr", "internet fixe"), ("en", "fixed internet")])
def test_a_fixed_line_is_called_so(language, network):
    assert network in said(language, network="fixed")


@pytest.mark.parametrize(("language", "volume"), [("fr", "15 Go (données estimées)"), ("en", "15 GB (estimated data)")])
def test_estimated_data_are_called_so(language, volume):
    assert volume in said(language, is_estimated=True)
    assert volume not in said(language)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_only_national_ratios_are_called_so(language):
    assert "nation" in said(language, is_national_default=True)
    assert "nation" not in said(language)


@pytest.mark.parametrize(
    ("language", "number", "written"),
    [
        ("fr", 0, " 0 Go"),
        ("fr", 999, " 999 Go"),
        ("fr", 1000, " 1\u202f000 Go"),
        ("fr", 1234567, " 1\u202f234\u202f567 Go"),
        ("en", 0, " 0 GB"),
        ("en", 1234567, " 1,234,567 GB"),
    ],
)
def test_numbers_are_whole_and_grouped_as_the_language_does(language, number, written):
    assert written in said(language, data_volume_gb_displayed=number)


@pytest.mark.parametrize(
    ("language", "first", "last"), [("fr", "Janvier 2027", "Décembre 2026"), ("en", "January 2027", "December 2026")]
)
def test_months_have_their_names(language, first, last):
    assert said(language, usage_month=date(2027, 1, 1)).startswith(f"{first}\n")
    assert said(language, usage_month=date(2026, 12, 1)).startswith(f"{last}\n")
    months = {said(language, usage_month=date(2026, month, 1)).splitlines()[0] for month in range(1, 13)}
    assert len(months) == 12


@pytest.mark.parametrize("method", ["{month} {0} {", "100 % of {grams}"])
def test_the_method_is_quoted_as_it_is(method):
    assert words(ROW, method, "fr").endswith(f"\n{method}")


@pytest.mark.parametrize("language", ["fr", "en"])
def test_nothing_is_read_of_the_row_that_the_decree_does_not_ask_for(language):
    class Watched(dict[str, Any]):
        seen: set[str] = set()  # noqa: RUF012 - one row

        def __getitem__(self, name: str) -> Any:
            self.seen.add(name)
            return super().__getitem__(name)

    row: Mapping[str, Any] = Watched(ROW)
    words(row, "METHOD", language)

    assert Watched.seen == {
        "usage_month",
        "network",
        "data_volume_gb_displayed",
        "is_estimated",
        "footprint_gco2e_displayed",
        "is_national_default",
    }


def test_the_languages_say_the_same_things():
    fields = [{name for _, name, _, _ in string.Formatter().parse(str(each["text"])) if name} for each in _WORDS.values()]

    assert _WORDS["fr"].keys() == _WORDS["en"].keys()
    assert fields[0] == fields[1]


# Revisions


EARLIER = {"data_volume_gb_displayed": 14, "footprint_gco2e_displayed": 1250}


@pytest.mark.parametrize(
    ("language", "revision", "earlier", "expected"),
    [
        ("fr", 1, None, "Révision 1"),
        ("fr", 2, EARLIER, "Révision 2 (late file) : auparavant 14 Go et 1\u202f250 g éqCO2"),
        ("fr", 2, None, "Révision 2 (late file) : auparavant non publié"),
        ("en", 1, None, "Revision 1"),
        ("en", 3, EARLIER, "Revision 3 (late file): before it 14 GB and 1,250 gCO2e"),
        ("en", 2, None, "Revision 2 (late file): not published before it"),
    ],
)
def test_a_revision_is_told_with_what_was_shown_before_it(language, revision, earlier, expected):
    assert revision_words(ROW | {"revision": revision}, "late file", earlier, language) == expected
