"""A real browser for tests of pages: Debian's Chromium, driven by Playwright, with axe to find what a screen reader cannot use.

``make test`` installs Chromium where it may; where there is none these tests are skipped and say so. Pictures of what was looked
at go to ``var/screenshots``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from jobs.run import Settings

CHROMIUM = shutil.which("chromium")
needs_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH: no page was looked at in a browser"),
]
SIZES = [(1280, 900), (390, 844)]
SCHEMES = ["light", "dark"]
GROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}
LEAST_TEXT = 12
"""Height of the smallest text in a figure, in units of the page."""
_CUT = """least => {
    const wrong = [];
    for (const text of document.querySelectorAll('svg text')) {
        const box = text.getBoundingClientRect();
        if (!box.width) continue;  // of the figure for the other width
        const whole = text.ownerSVGElement.getBoundingClientRect();
        if (box.height < least) wrong.push('too small: ' + text.textContent);
        if (box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1 || box.bottom > whole.bottom + 1)
            wrong.push('cut: ' + text.textContent);
    }
    return wrong;
}"""
_OVERLAPPING = """() => {
    const wrong = [];
    for (const svg of document.querySelectorAll('svg')) {
        const boxes = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
        boxes.filter(([, box]) => box.width).forEach(([text, a], place, all) => all.slice(place + 1).forEach(([other, b]) => {
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 2 && down > 4) wrong.push(text + ' | ' + other);
        }));
    }
    return wrong;
}"""


@dataclass
class Looked:
    """A page that was opened, what it complained of, and what it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def serious(self) -> list[str]:
        """What axe finds serious or critical."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {node['target']} {node['failureSummary']}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    def texts_cut_or_too_small(self) -> list[str]:
        """Texts of figures that nobody can read."""
        return list(self.page.evaluate(_CUT, LEAST_TEXT))

    def texts_over_each_other(self) -> list[str]:
        """Pairs of texts of a figure that lie over each other."""
        return list(self.page.evaluate(_OVERLAPPING))

    def picture(self, name: str) -> None:
        """Keep what the page looks like."""
        folder = Settings.from_environment().var / "screenshots"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, started once for a module."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # Root may not use Chromium's own sandbox; the pages are ours.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield started
        started.close()


@contextmanager
def looked_at(browser: Any, address: str, size: tuple[int, int] = SIZES[0], scheme: str = "light") -> Iterator[Looked]:
    """Open a page in a window of its own; what it asks for and complains of is noted from the beginning."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, is_mobile=size[0] < 600)
    looked = Looked(context.new_page())
    looked.page.on("console", lambda message: looked.complaints.append(f"{message.type}: {message.text}"))
    looked.page.on("pageerror", lambda error: looked.complaints.append(str(error)))
    looked.page.on("request", lambda request: looked.requests.append(request.url))
    looked.page.goto(address, wait_until="load")
    try:
        yield looked
    finally:
        context.close()


def assert_fit(looked: Looked, ours: str, size: tuple[int, int], scheme: str) -> None:
    """The page complains of nothing, asks nobody else, fits its window in its scheme, and can be read by anyone.

    Args:
        looked: the page.
        ours: what every address that it may ask for begins with.
        size: the window.
        scheme: light or dark.
    """
    looked.page.evaluate("document.querySelectorAll('details').forEach(some => some.open = true)")
    assert looked.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]") == [size[0], size[0]]
    assert looked.page.evaluate("getComputedStyle(document.body).backgroundColor") == GROUND[scheme]
    assert looked.texts_cut_or_too_small() == []
    assert looked.texts_over_each_other() == []
    assert looked.serious() == []
    assert looked.complaints == []
    assert [url for url in looked.requests if not url.startswith((ours, "data:,"))] == []
