"""The month report in a real browser, at a desk's and a phone's width, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.report.page import report
from tests.audit_lake import MONTH
from tests.browser import SCHEMES, SIZES, assert_fit, browser, looked_at, needs_browser
from tests.report_lake import write_lake

__all__ = ["browser"]

pytestmark = needs_browser


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(write_lake(tmp_path_factory.mktemp("report")), MONTH, None, None)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_the_report_fits_complains_of_nothing_and_asks_nobody(file: Path, browser: Any, size: tuple[int, int], scheme: str):
    with looked_at(browser, file.as_uri(), size, scheme) as looked:
        looked.picture(f"report-{size[0]}-{scheme}")
        assert_fit(looked, file.as_uri(), size, scheme)


@pytest.mark.parametrize("size", SIZES)
def test_a_figure_is_shown_once_at_each_width(file: Path, browser: Any, size: tuple[int, int]):
    with looked_at(browser, file.as_uri(), size) as looked:
        page = looked.page
        shown = page.locator("svg").evaluate_all(
            "all => all.filter(one => one.getBoundingClientRect().width).map(one => one.classList[0])"
        )

        assert shown == ["wide" if size[0] > 1000 else "narrow"] * page.get_by_role("figure").count()
        assert page.get_by_role("img").count() == len(shown)
        assert page.get_by_role("img", name="Flow of records").count() == 1


def test_the_way_through_the_page_leads_to_its_sections(file: Path, browser: Any):
    with looked_at(browser, file.as_uri()) as looked:
        page = looked.page
        links = page.get_by_role("navigation").get_by_role("link")
        headings = page.get_by_role("heading", level=2)

        assert links.all_inner_texts() == headings.all_inner_texts()
        links.last.click()
        assert page.url.endswith("#times")
        assert page.get_by_role("link", name="Data Docs of this verdict").count() == 1
