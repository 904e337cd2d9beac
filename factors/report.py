"""What the catalogue says, as plain entries: what is in force or known, one value with its citation, and what differs.

Amounts are text, so that no reader of the JSON makes a float of them unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from factors import changelog
from factors.catalogue import PAIRS, FactorSet
from factors.expression import compiled, stated_interval
from factors.reading import FactorError
from factors.registry import Registry, of_sets
from factors.values import Parameter, Stated, Value

Listed = dict[str, Any]
_OF_A_SET = ("geography", "perimeter", "method_id", "data_year", "gb_basis", "volume_basis")


@dataclass(frozen=True)
class When:
    """The month that is asked, and the day as of which; None is every month, and everything known."""

    month: date | None = None
    as_of: date | None = None


def known(registry: Registry, when: When) -> list[Listed]:
    """Every value and parameter that was known, with the period it holds for."""
    return [
        _entry(registry, factor_set, stated, when.as_of)
        for _, factor_set in sorted(registry.sets.items())
        for stated in factor_set.stated
        if stated.is_known(when.as_of)
    ]


def serving(registry: Registry, brand: str, month: date, as_of: date | None = None) -> list[Listed]:
    """The factors of a brand in a month, in the units of the formula. Raises FactorError if there are none."""
    return _factors(registry, registry.assigned(brand, month, as_of), month, as_of)


def shown(registry: Registry, identity: str, when: When) -> Listed:
    """A value or parameter with all that is known of it; with a month, what it came to. Raises FactorError if there is none."""
    asked, _, _ = identity.partition("#")
    for factor_set in registry.sets.values():
        for stated in factor_set.stated:
            if factor_set.identity(stated) == asked and stated.is_known(when.as_of):
                return _entry(registry, factor_set, stated, when.as_of) | _in_full(registry, factor_set, stated, when)
    known_on = f", as known on {when.as_of}" if when.as_of else ""
    raise FactorError(f"{registry.folder / 'sets'}: no set holds {identity}{known_on}")


def between_sets(registry: Registry, names: tuple[str, str], when: When) -> list[Listed]:
    """What differs between two sets: their bases, and the factors of a month, or of the last start of each."""
    for name in names:
        if name not in registry.sets:
            raise FactorError(f"{registry.folder / 'sets'}: there is no set {name}")
    first, second = (registry.sets[name] for name in names)
    bases = _differing({n: getattr(first, n) for n in _OF_A_SET}, {n: getattr(second, n) for n in _OF_A_SET})

    def amounts(factor_set: FactorSet) -> Listed:
        month = when.month or max(value.valid_from for value in factor_set.value)
        return _by_pair(_factors(registry, factor_set, month, when.as_of))

    return bases + _differing(amounts(first), amounts(second))


def between_days(registry: Registry, brand: str, days: tuple[date, date], month: date | None) -> list[Listed]:
    """What became known between two days: of the whole catalogue, or of the factors of a brand's month."""

    def as_of(day: date) -> Listed:
        if month is None:
            return {entry["id"]: f"{entry['amount']}, {_held(entry)}" for entry in known(registry, When(as_of=day))}
        try:
            return _by_pair(serving(registry, brand, month, day))
        except FactorError:
            return {}

    return _differing(as_of(days[0]), as_of(days[1]))


def _held(entry: Listed) -> str:
    corrected = f", corrected from {entry['corrected_from']}" if entry["corrected_from"] else ""
    return f"{entry['holds']}{corrected}"


def _factors(registry: Registry, factor_set: FactorSet, month: date, as_of: date | None) -> list[Listed]:
    rows = {(f.network, f.component): f for f in of_sets({"-": factor_set}, month, as_of)}
    listed = []
    for network, component in PAIRS:
        row, value = rows[network, component], factor_set.in_force(network, component, month, as_of)
        assert value is not None
        in_force = {"id": row.factor_id, "network": network, "component": component, "unit": value.unit}
        ends = {"": row.gco2e_per_unit, "_low": row.gco2e_per_unit_low, "_high": row.gco2e_per_unit_high}
        amounts = {f"gco2e_per_unit{end}": _text(amount) for end, amount in ends.items()}
        listed.append(_entry(registry, factor_set, value, as_of) | in_force | amounts)
    return listed


def _entry(registry: Registry, factor_set: FactorSet, stated: Stated, as_of: date | None) -> Listed:
    """What is listed of a value or parameter."""
    identity = factor_set.identity(stated)
    ends = factor_set.ends(stated, as_of)
    corrected = factor_set.corrected_from(stated)
    return {
        "id": identity,
        "amount": changelog.in_words(stated),
        "holds": changelog.period(factor_set, stated, as_of),
        "valid_from": stated.valid_from.isoformat(),
        "valid_to": None if ends is None else date.fromordinal(ends.toordinal() - 1).isoformat(),
        "known_from": stated.known_from.isoformat(),
        "corrected_from": corrected.isoformat() if corrected and (as_of is None or corrected <= as_of) else None,
        "status": stated.status,
        "mark": stated.mark,
        "source": stated.source,
        "page": stated.page,
        "is_comparison": factor_set.is_comparison,
        "is_frozen": identity in registry.released,
    }


def _in_full(registry: Registry, factor_set: FactorSet, stated: Stated, when: When) -> Listed:
    cited = registry.citations[stated.source]
    approval = stated.approval
    return {
        "set": factor_set.description,
        **{name: getattr(factor_set, name) for name in _OF_A_SET},
        "gb_basis_is": factor_set.gb_basis_mark,
        "volume_basis_is": factor_set.volume_basis_mark,
        **_uncertainty(stated),
        "approval": f"{approval.by}, {approval.on}" if approval else "none, which only a national published value may go without",
        "title": cited.title,
        "publisher": cited.publisher,
        "dated": cited.dated.isoformat() if cited.dated else None,
        "address": cited.address,
        "licence": cited.licence,
        "source_mark": cited.mark,
        "source_note": cited.note,
        "note": stated.note,
        "contradicted_by": [f"{other.amount} ({other.source})" for other in stated.conflicting],
        "in_month": _of_month(factor_set, stated, when),
    }


def _uncertainty(stated: Stated) -> Listed:
    amount = getattr(stated, "amount", None)
    if amount is None or not isinstance(stated, Value | Parameter):
        return {"low": "follows from the parameters", "high": "follows from the parameters"}
    found = stated_interval(stated, amount)
    return {"low": _text(found.low), "high": _text(found.high)}


def _of_month(factor_set: FactorSet, stated: Stated, when: When) -> Listed | None:
    """What a value comes to in a month, and the parameters that it is made of."""
    if not isinstance(stated, Value) or when.month is None:
        return None
    found = compiled(factor_set, stated, when.month, when.as_of)
    ends = {"amount": found.per_unit.amount, "low": found.per_unit.low, "high": found.per_unit.high}
    parts = [f"{factor_set.identity(part)} = {changelog.in_words(part)}" for part in found.parts]
    terms = [f"{term.stage}: {' × '.join(term.times)}" for term in stated.term]
    amounts = {name: _text(amount) for name, amount in ends.items()}
    return {"month": f"{when.month:%Y-%m}", "factor_id": found.factor_id, **amounts, "terms": terms, "parts": parts}


def _by_pair(rows: Iterable[Listed]) -> Listed:
    return {f"{row['network']}/{row['component']}": f"{row['gco2e_per_unit']} {row['unit']} ({row['id']})" for row in rows}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Listed]:
    names = list(dict.fromkeys([*first, *second]))
    return [{"what": n, "first": first.get(n), "second": second.get(n)} for n in names if first.get(n) != second.get(n)]


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.normalize():f}"
