"""The customer's page: the decree's items, thirteen months, the parts of the figure; apart from that, an idea of its size."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import mistune
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jobs import customer
from jobs.portal import wording
from jobs.portal.chart import chart
from jobs.portal.claims import claims
from jobs.portal.equivalences import Equivalence, Equivalences
from jobs.run import Refused

MONTHS_SHOWN = 13
_TEMPLATES = Path(__file__).resolve().parent / "templates"

Row = Mapping[str, Any]
"""A row of ``published``."""


@dataclass(frozen=True)
class Account:
    """What is known of a subscription: its published rows by month, the month to show, and that month's method."""

    rows: Mapping[date, Row]
    month: date
    method: str

    @property
    def shown(self) -> Row:
        """The row of the month to show."""
        return self.rows[self.month]

    @property
    def history(self) -> list[tuple[date, Row | None]]:
        """Thirteen months up to the latest published one, or up to the month to show if that is earlier than all of them."""
        latest = max(self.rows)
        last = latest if self.month > _months_before(latest, MONTHS_SHOWN) else self.month
        months = [_months_before(last, back) for back in range(MONTHS_SHOWN - 1, -1, -1)]
        return [(month, self.rows.get(month)) for month in months]


@dataclass(frozen=True)
class Service:
    """What the page of the service has and a file has not: ways to other months, the other language, and a question."""

    links: Mapping[date, str]
    other_language: str
    feedback_token: str


def page(account: Account, language: str, equivalences: Equivalences | None, service: Service | None = None) -> str:
    """One self-contained HTML page, which asks no other host for anything.

    Raises:
        Refused: a text of the page makes a claim that no customer may be told.
    """
    said, row = wording.said(language), account.shown
    return _rendered(
        "page.html",
        language,
        row=row,
        legal=_legal(row, said, language),
        method=_method(account.method),
        parts={name: wording.whole(row[f"{name}_gco2e"], language) for name in ("subscription", "volume")},
        chart=chart(account.history, said, language),
        history=[_line(month, found, language) for month, found in account.history],
        equivalences=_equivalences(row, equivalences, said, language),
        actions=_actions(row, equivalences, said, language),
        service=service,
    )


def notice(name: str, language: str, text: str | None = None) -> str:
    """A page that says one sentence and shows nothing of anybody."""
    said = wording.said(language)
    return _rendered("notice.html", language, text=text or said["notices"][name])


@cache
def style() -> str:
    """The style sheet that stands in every page."""
    return (_TEMPLATES / "style.css").read_text(encoding="utf-8")


def style_source() -> str:
    """The style sheet as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()}'"


def _rendered(template: str, language: str, **more: Any) -> str:
    shown = _environment().get_template(template).render(
        said=wording.said(language), language=language, style=Markup(style()), style_source=style_source(), **more
    )  # fmt: skip
    if found := claims(shown):
        raise Refused(f"the page would say « {found[0]} », which no customer may be told (code de l'environnement L229-68)")
    return shown


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _legal(row: Row, said: Mapping[str, Any], language: str) -> dict[str, str]:
    """The items of decree 2021-1732, as published: nothing is rounded here."""
    return {
        "heading": said["legal"]["heading"].format(month=wording.month(row["usage_month"], language)),
        "network": customer.network_name(row["network"], language),
        "volume": said["legal"]["volume"].format(amount=wording.whole(row["data_volume_gb_displayed"], language)),
        "grams": said["legal"]["grams"].format(amount=wording.whole(row["footprint_gco2e_displayed"], language)),
        "corrected": said["legal"]["corrected"].format(revision=row["revision"]) if row["revision"] > 1 else "",
    }


class _MethodText(mistune.HTMLRenderer):
    """Headings stand below the page's own; a link or picture would lead to another host, so its words alone are shown."""

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        return f"<h{min(level + 2, 6)}>{text}</h{min(level + 2, 6)}>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return text


def _method(text: str) -> Markup:
    rendered = mistune.create_markdown(escape=True, renderer=_MethodText(escape=True))(text)
    return Markup(rendered)  # its own HTML is escaped by mistune


def _line(month: date, row: Row | None, language: str) -> dict[str, Any]:
    line: dict[str, Any] = {"month": month, "name": wording.month(month, language), "row": row}
    if row:
        line["network"] = customer.network_name(row["network"], language)
        line["volume"] = wording.whole(row["data_volume_gb_displayed"], language)
        line["grams"] = wording.whole(row["footprint_gco2e_displayed"], language)
        line["parts"] = [wording.whole(row[f"{name}_gco2e"], language) for name in ("subscription", "volume")]
    return line


def _equivalences(row: Row, known: Equivalences | None, said: Mapping[str, Any], language: str) -> dict[str, Any] | None:
    if known is None or not known.shown or row["footprint_gco2e_displayed"] == 0:
        return None
    words = said["equivalences"]
    source = known.source
    named = {"publisher": source.publisher, "title": source.title, "dated": f"{source.dated:%d/%m/%Y}", "licence": source.licence}
    read = words["read"] if all(value.is_verified for value in known.shown) else words["unread"]
    return {
        "introduction": words["introduction"].format(amount=wording.whole(row["footprint_gco2e_displayed"], language)),
        "items": [_equivalent(row["footprint_gco2e"] / value.gco2e, value, words, language) for value in known.shown],
        "source": words["source"].format(read=read, **named),
        "address": source.address,
    }


def _equivalent(amount: Decimal, value: Equivalence, words: Mapping[str, Any], language: str) -> str:
    # English has a plural from 1.05 on, which is shown as 1.1; French from 2 on.
    is_many = amount >= (2 if language == "fr" else Decimal("1.05"))
    return str(words["of_many" if is_many else "of"][value.id]).format(amount=wording.about(amount, language))


def _actions(row: Row, known: Equivalences | None, said: Mapping[str, Any], language: str) -> Sequence[dict[str, str]]:
    smartphone = known.of("smartphone") if known else None
    amounts = {
        "volume_grams": wording.whole(row["volume_gco2e"], language),
        "smartphone_kg": wording.whole(smartphone.gco2e / 1000, language) if smartphone else None,
    }
    possible = [action for action in said["actions"]["list"] if not ("needs" in action and smartphone is None)]
    return [{"what": action["what"], "effect": action["effect"].format(**amounts)} for action in possible]


def _months_before(month: date, back: int) -> date:
    number = month.year * 12 + month.month - 1 - back
    return date(number // 12, number % 12 + 1, 1)
