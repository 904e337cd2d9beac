"""The documentation holds what the code says: a runbook entry for every refusal, and a site without a warning or another host."""

from __future__ import annotations

import ast
import html
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data_quality.rules import read_rules
from factors.registry import load
from jobs.run import SETTINGS
from tests.refusals import PROJECT, refusals

RUNBOOK = (PROJECT / "data_quality" / "runbook.md").read_text(encoding="utf-8")
PARTS_OF_AN_ENTRY = ("**Means**", "**Look at**", "**Do**", "**Who decides**")


def entries() -> dict[str, str]:
    """Each entry by its heading."""
    found = re.split(r"^### (.+)$", RUNBOOK, flags=re.MULTILINE)[1:]
    return {
        heading: re.split(r"^## ", text, flags=re.MULTILINE)[0] for heading, text in zip(found[::2], found[1::2], strict=True)
    }


def messages_of(entry: str) -> list[str]:
    return [line for block in re.findall(r"```text\n(.*?)```", entry, flags=re.DOTALL) for line in block.splitlines()]


def test_every_refusal_has_a_runbook_entry_and_every_entry_a_refusal():
    raised = {refusal.message: refusal.place for refusal in refusals() if refusal.has_words}
    described = Counter(message for entry in entries().values() for message in messages_of(entry))

    assert {message: place for message, place in raised.items() if message not in described} == {}
    assert sorted(described.keys() - raised.keys()) == []
    assert [message for message, count in described.items() if count > 1] == []


def test_a_refusal_has_words_to_be_found_by_or_passes_others_on():
    passed_on = re.compile(r"\b(error|failure|faults|unread|said|wrong)\b")

    assert [found for found in refusals() if not found.has_words and not passed_on.search(found.expression)] == []


def test_every_rule_of_the_verdict_has_a_runbook_entry():
    described = {heading.strip("`") for heading in entries() if heading.startswith("`")}

    assert described == {name for name, _ in read_rules()}


@pytest.mark.parametrize("heading", entries())
def test_an_entry_says_what_it_means_what_to_look_at_what_to_do_and_who_decides(heading):
    words = " ".join(entries()[heading].split())

    assert [part for part in PARTS_OF_AN_ENTRY if part not in words] == []


def reasons_in_the_code() -> set[str]:
    """Reasons that a record is rejected for where a stage marks it; ``…`` for the name of a field."""
    found = set()
    for path in (PROJECT / "jobs").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="mark"), args=[_, ast.Constant(value=str(reason)), *_]):
                    found.add(reason)
                case ast.Call(func=ast.Attribute(attr="mark"), args=[_, ast.JoinedStr(values=[_, ast.Constant(value=end)]), *_]):
                    found.add(f"…{end}")
    return found


def test_every_reason_to_reject_a_record_is_in_the_runbook():
    table = RUNBOOK.partition("## Rejected records, by reason")[2]
    named = set(re.findall(r"`(…?[a-z_0-9]+)`", table))

    def is_described(reason: str) -> bool:
        return reason in named or any(name.startswith("…") and reason.endswith(name.strip("…")) for name in named)

    assert len(reasons_in_the_code()) > 20
    assert [reason for reason in sorted(reasons_in_the_code()) if not is_described(reason)] == []


class _Addresses(HTMLParser):
    """What a page loads by itself, and its links to other pages."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.loaded.append(str(given["src"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(str(given["href"]))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))


def addresses(page: Path) -> _Addresses:
    found = _Addresses()
    found.feed(page.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(PROJECT / "docs"), str(out)]
    built = subprocess.run(build, capture_output=True, text=True, cwd=PROJECT, env={**os.environ, "TZ": "UTC"})
    assert built.returncode == 0, built.stderr
    return out


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))

    assert len(pages) > 25
    assert {address for page in pages for address in addresses(page).loaded if "://" in address} == set()
    assert [css for css in site.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", css.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
def test_links_within_the_site_lead_somewhere(site):
    broken = []
    for page in site.rglob("*.html"):
        for link in addresses(page).links:
            place, _, _ = link.partition("#")
            if place and "://" not in place and not place.startswith("mailto:") and not (page.parent / place).exists():
                broken.append((page.name, link))

    assert broken == []


@pytest.mark.slow
def test_the_site_has_every_setting_and_every_factor_with_its_source(site):
    settings = (site / "generated" / "settings.html").read_text(encoding="utf-8")
    registry = load(PROJECT / "factors")

    assert [name for name in SETTINGS if name not in settings] == []
    for name, factor_set in registry.sets.items():
        page = (site / "generated" / "factors" / f"{name}.html").read_text(encoding="utf-8")
        page = html.unescape(page)
        assert [s.name for s in factor_set.stated if s.name not in page or s.source not in page] == []
