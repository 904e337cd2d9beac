"""A restatement in words that can be handed to a regulator: what a figure was, what it is, and what made the difference.

It says only what the ledger, the restatement's causes and the evidence of both verdicts hold, in English or in French.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from typing import Any, Literal

import duckdb

from jobs.lake_reader import Row, rows
from schemas.tables import EVIDENCE_FACTORS, PUBLICATIONS, RESTATEMENTS

Language = Literal["en", "fr"]


@dataclass(frozen=True)
class Restatement:
    """A publication that replaces another.

    Args:
        before: the ledger's row of the one before.
        now: the ledger's row of this one.
        causes: its rows of ``restatements``.
        factors: by network and component, the factors of before and of now, each as ``factor_id, gco2e_per_unit``.
    """

    before: Row
    now: Row
    causes: Sequence[Row]
    factors: Mapping[tuple[str, str], tuple[Sequence[Row], Sequence[Row]]]


def restatement(connection: duckdb.DuckDBPyConnection, published: Mapping[str, Any]) -> Restatement | None:
    """What a publication restated; None of the first of a month."""
    replaced = published["supersedes_publication_id"]
    if replaced is None:
        return None
    (before,) = rows(connection, f"SELECT * FROM {PUBLICATIONS.name} WHERE publication_id = ?", [replaced])
    causes = f"SELECT * FROM {RESTATEMENTS.name} WHERE publication_id = ? ORDER BY network, cause"
    used = f"""
        SELECT network, component, factor_id, gco2e_per_unit, verdict_id FROM {EVIDENCE_FACTORS.name}
        WHERE verdict_id IN (?, ?) ORDER BY network, component, factor_id"""
    verdicts = (before["verdict_id"], published["verdict_id"])
    factors: dict[tuple[str, str], tuple[list[Row], list[Row]]] = {}
    for row in rows(connection, used, verdicts):
        factors.setdefault((row["network"], row["component"]), ([], []))[verdicts.index(row["verdict_id"])].append(row)
    return Restatement(before, dict(published), rows(connection, causes, [published["publication_id"]]), factors)


def in_words(found: Restatement, language: Language = "en") -> Iterator[str]:
    """Sentences: which revision replaces which and why, what changed in all, and by which cause, each network apart."""
    words, before, now = _WORDS[language], found.before, found.now
    approved = words["approved"].format(approver=now["approver"]) if now["approver"] else words["nobody"]
    yield words["replaces"].format(
        month=f"{now['usage_month']:%Y-%m}",
        revision=now["revision"],
        day=_day(now["published_at"]),
        earlier=before["revision"],
        earlier_day=_day(before["published_at"]),
        reason=now["reason"],
        approved=approved,
    )
    yield words["in_all"].format(**_change(before["footprint_gco2e"], now["footprint_gco2e"], language))
    for cause in found.causes:
        if cause["gco2e"] or cause["octets"]:
            yield words["cause"].format(
                network=words[cause["network"]],
                what=words[cause["cause"]],
                grams=_grams(cause["gco2e"], language, signed=True),
                subscriptions=_subscriptions(cause["subscriptions"], language),
            ) + "".join(_replaced(found, cause, language))
    still = [name for name in _ORDER if not any(c["gco2e"] or c["octets"] for c in found.causes if c["cause"] == name)]
    if still:
        yield words["still"].format(causes=", ".join(words[f"no_{name}"] for name in still))


def of_row(before: Row | None, now: Row, language: Language = "en") -> str:
    """What it means for one subscription: what it was shown, and what it is shown now."""
    words = _WORDS[language]
    if before is None:
        return words["row_new"].format(shown=_number(now["footprint_gco2e_displayed"], language))
    return words["row"].format(
        shown_before=_number(before["footprint_gco2e_displayed"], language),
        shown=_number(now["footprint_gco2e_displayed"], language),
        **_change(before["footprint_gco2e"], now["footprint_gco2e"], language),
    )


def _replaced(found: Restatement, cause: Row, language: Language) -> Iterator[str]:
    """The factors of a network that were replaced, where they are the cause."""
    if cause["cause"] != "factors":
        return
    words = _WORDS[language]
    for (network, component), (before, now) in sorted(found.factors.items(), reverse=True):
        if network == cause["network"] and [_named(f) for f in before] != [_named(f) for f in now]:
            sides = {"before": _listed(before, words, component, language), "now": _listed(now, words, component, language)}
            yield words["replaced"].format(component=words[component], **sides)


def _listed(factors: Sequence[Row], words: Mapping[str, str], component: str, language: Language) -> str:
    unit = words["per_gigabyte" if component == "volume" else "per_subscription"]
    each = (f"{_plain(f['gco2e_per_unit'], language)} {unit} ({f['factor_id']})" for f in factors)
    return ", ".join(each) or words["none"]


def _named(factor: Row) -> tuple[str, Decimal]:
    return factor["factor_id"], factor["gco2e_per_unit"]


def _change(before: Decimal, now: Decimal, language: Language) -> dict[str, str]:
    with localcontext() as exact:
        exact.prec = 60
        change = now - before
        percent = f" ({_marks(format(100 * change / before, '+.1f'), language)} %)" if before else ""
    return {
        "before": _grams(before, language),
        "now": _grams(now, language),
        "change": _grams(change, language, signed=True),
        "percent": percent,
    }


def _grams(amount: Decimal, language: Language, signed: bool = False) -> str:
    return f"{_plain(amount, language, '+' if signed else '')} {_WORDS[language]['grams']}"


def _plain(amount: Decimal, language: Language, sign: str = "") -> str:
    """An amount with every digit that it has, and no zero behind them."""
    with localcontext() as exact:
        exact.prec = 60
        text = format(amount.normalize(), f"{sign},f")
    return _marks(text, language)


def _subscriptions(count: int, language: Language) -> str:
    return _WORDS[language]["one" if count == 1 else "many"].format(count=_number(count, language))


def _number(count: int, language: Language) -> str:
    return _marks(f"{count:,}", language)


def _marks(text: str, language: Language) -> str:
    """French writes a narrow space between thousands and a comma before decimals."""
    return text.translate(str.maketrans(",.", "\u202f,")) if language == "fr" else text


def _day(published_at: Any) -> str:
    day: date = published_at.date()
    return day.isoformat()


_ORDER = ("late_usage", "withdrawn", "subscriptions", "factors", "hypotheses", "code")
"""Causes of which it is worth saying that they changed nothing."""
_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "replaces": "{month} was restated: revision {revision}, published on {day}, replaces revision {earlier}, published on "
        "{earlier_day}, which is kept as it was published. Reason: {reason}. {approved}",
        "approved": "Approved by {approver}.",
        "nobody": "Nobody was named as having approved it.",
        "in_all": "The emissions of all subscriptions of the month are {now} instead of {before}: {change}{percent}.",
        "cause": "{network}: {what} account for {grams} ({subscriptions}).",
        "one": "1 subscription",
        "many": "{count} subscriptions",
        "late_usage": "usage records that are counted now and were not then",
        "withdrawn": "usage records that are no longer counted",
        "subscriptions": "corrections of who held an identifier, of a subscription's activity, network or brand",
        "factors": "other emission factors",
        "hypotheses": "another rule of which octets count",
        "code": "changes of the calculation itself",
        "rounding": "roundings of single products to 12 decimal places",
        "replaced": " {component}: {now} in place of {before}.",
        "volume": "For each gigabyte",
        "subscription": "For each subscription and month",
        "per_gigabyte": "gCO2e/GB",
        "per_subscription": "gCO2e",
        "none": "nothing",
        "still": "Nothing else changed the figures: {causes}.",
        "no_late_usage": "no usage was added",
        "no_withdrawn": "none was withdrawn",
        "no_subscriptions": "no subscription was corrected",
        "no_factors": "the emission factors are the same",
        "no_hypotheses": "the same octets count",
        "no_code": "the calculation is the same",
        "row": "This subscription was shown {shown_before} g and is now shown {shown} g; unrounded, {now} instead of {before}: "
        "{change}{percent}.",
        "row_new": "This subscription was not published before and is now shown {shown} g.",
        "mobile": "Mobile",
        "fixed": "Fixed",
        "grams": "gCO2e",
    },
    "fr": {
        "replaces": "Le mois {month} a été corrigé : la révision {revision}, publiée le {day}, remplace la révision {earlier}, "
        "publiée le {earlier_day}, qui est conservée telle qu'elle a été publiée. Motif : {reason}. {approved}",
        "approved": "Approuvé par : {approver}.",
        "nobody": "Aucun approbateur n'a été nommé.",
        "in_all": "Les émissions de tous les abonnements du mois s'élèvent à {now} au lieu de {before} : {change}{percent}.",
        "cause": "{network} : {what} : {grams} ({subscriptions}).",
        "one": "1 abonnement",
        "many": "{count} abonnements",
        "late_usage": "relevés d'usage désormais comptés et qui ne l'étaient pas",
        "withdrawn": "relevés d'usage qui ne sont plus comptés",
        "subscriptions": "corrections du titulaire d'un identifiant, de l'activité, du réseau ou de la marque d'un abonnement",
        "factors": "autres facteurs d'émission",
        "hypotheses": "autre règle sur les octets comptés",
        "code": "modifications du calcul lui-même",
        "rounding": "arrondis des produits à 12 décimales",
        "replaced": " {component} : {now} au lieu de {before}.",
        "volume": "Par gigaoctet",
        "subscription": "Par abonnement et par mois",
        "per_gigabyte": "g éqCO2/Go",
        "per_subscription": "g éqCO2",
        "none": "rien",
        "still": "Rien d'autre n'a modifié les chiffres : {causes}.",
        "no_late_usage": "aucun usage n'a été ajouté",
        "no_withdrawn": "aucun n'a été retiré",
        "no_subscriptions": "aucun abonnement n'a été corrigé",
        "no_factors": "les facteurs d'émission sont les mêmes",
        "no_hypotheses": "les mêmes octets sont comptés",
        "no_code": "le calcul est le même",
        "row": "Il était affiché {shown_before} g pour cet abonnement, il est affiché désormais {shown} g ; sans arrondi, {now} "
        "au lieu de {before} : {change}{percent}.",
        "row_new": "Cet abonnement n'était pas publié auparavant ; il est affiché désormais {shown} g.",
        "mobile": "Mobile",
        "fixed": "Fixe",
        "grams": "g éqCO2",
    },
}
