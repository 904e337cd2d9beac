"""The customer's page in a real browser, from the service and as a file: legible, silent, and told whole to a screen reader."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobs import cli
from jobs.run import Settings
from tests.browser import SCHEMES, SIZES, assert_fit, browser, looked_at, needs_browser
from tests.test_portal import connection, served, settings, token_of

__all__ = ["browser", "connection", "served", "settings"]

pytestmark = needs_browser


def address_of(settings: Settings, served: int, more: str = "") -> str:
    return f"http://127.0.0.1:{served}/?token={token_of(settings, 'ana')}&lang=fr{more}"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_the_served_page_fits_complains_of_nothing_and_asks_no_other_host(
    settings: Settings, connection: psycopg.Connection, served: int, browser: Any, size: tuple[int, int], scheme: str
):
    with looked_at(browser, address_of(settings, served, "&month=2026-08"), size, scheme) as looked:
        looked.picture(f"portal-{size[0]}-{scheme}")
        assert_fit(looked, f"http://127.0.0.1:{served}/", size, scheme)


@pytest.mark.parametrize(("scheme", "language"), list(zip(SCHEMES, ["fr", "en"], strict=True)))
@pytest.mark.parametrize("size", SIZES)
def test_the_page_as_a_file_fits_complains_of_nothing_and_asks_nobody(
    settings: Settings,
    connection: psycopg.Connection,
    browser: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    scheme: str,
    language: str,
):
    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))
    file = tmp_path / "ana.html"
    assert cli.main(["customer-page", "--subscription", "ana", "--lang", language, "--out", str(file)]) == 0

    with looked_at(browser, file.as_uri(), size, scheme) as looked:
        assert_fit(looked, file.as_uri(), size, scheme)


def test_a_notice_can_be_read_by_anyone(settings: Settings, connection: psycopg.Connection, served: int, browser: Any):
    with looked_at(browser, f"http://127.0.0.1:{served}/?token=x") as looked:
        assert looked.serious() == []


def test_a_screen_reader_is_told_all_of_it(settings: Settings, connection: psycopg.Connection, served: int, browser: Any):
    with looked_at(browser, address_of(settings, served)) as looked:
        page = looked.page
        headings = page.get_by_role("heading").all_inner_texts()

        assert page.evaluate("document.documentElement.lang") == "fr"
        assert page.get_by_role("main").count() == 1
        assert headings[:2] == ["Vos données et leur équivalent en émissions", "Votre consommation\u00a0: octobre 2026"]
        assert page.get_by_role("img").count() == 1
        assert page.get_by_role("img", name="Une barre par mois").count() == 1
        assert page.get_by_role("rowheader").count() == 13
        assert page.get_by_role("columnheader").count() == 4
        assert page.get_by_role("radio", name="Oui").count() == page.get_by_role("radio", name="Non").count() == 1
        for role in ("link", "button", "combobox", "radio", "table", "region"):
            assert page.get_by_role(role, name=re.compile(r"\S")).count() == page.get_by_role(role).count() > 0


def test_an_answer_is_sent_and_thanked_for_under_the_policy(
    settings: Settings, connection: psycopg.Connection, served: int, browser: Any
):
    with looked_at(browser, address_of(settings, served), SIZES[1]) as looked:
        looked.page.get_by_role("radio", name="Oui").check()
        looked.page.get_by_role("button").click()
        looked.page.get_by_text("Merci").wait_for(timeout=30_000)

        assert looked.complaints == []
    assert connection.execute("SELECT answer FROM footprint.feedback").fetchall() == [("yes",)]
