"""Which factors are in force: the sets, citations, assignments and method texts of a folder, checked as a whole.

Everything is checked whenever anything is asked, not only what the month touches: a folder that cannot serve next year says so
today.

Everything can be asked as of a day: then only what was known on that day is in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

from factors.catalogue import PAIRS, Assignment, Assignments, Citation, Citations, FactorSet, Value
from factors.expression import compiled
from factors.factor import Factor, check_volume_basis, factor, factors_id
from factors.frozen import frozen, hashes, refuse_edited
from factors.reading import FactorError, read

__all__ = [
    "Factor",
    "FactorError",
    "Language",
    "Registry",
    "check_volume_basis",
    "citation",
    "drafts",
    "factors_id",
    "in_force",
    "load",
    "method_text",
    "of_sets",
]

Language = Literal["fr", "en"]

EVERY_BRAND = "*"


@dataclass(frozen=True)
class Registry:
    """A folder of factors that passed every check."""

    folder: Path
    sets: Mapping[str, FactorSet]
    citations: Mapping[str, Citation]
    assignments: tuple[Assignment, ...]
    known_on: date | None = None
    """The day as of which whoever holds it asks; None is all that the folder knows."""

    @property
    def assignments_file(self) -> Path:
        """The file that says which set serves whom."""
        return self.folder / "assignments.toml"

    def assigned(self, brand: str, month: date, as_of: date | None = None) -> FactorSet:
        """The set that serves a brand in a month: by its own assignment, or by that of every brand until it has one.

        Raises FactorError if there is none. After its first own assignment a brand never falls back to ``*`` unseen.
        """
        known = [a for a in self.assignments if a.is_known(as_of)]
        own = [a for a in known if a.brand == brand and a.from_month <= month]
        candidates = own or [a for a in known if a.brand == EVERY_BRAND]
        serving = max((a for a in candidates if a.covers(month)), key=lambda a: a.known_from, default=None)
        if serving is None:
            known_on = f", as known on {as_of}" if as_of else ""
            raise FactorError(f"{self.assignments_file}: no factor set is assigned to brand {brand} for {month:%Y-%m}{known_on}")
        return self.sets[serving.factor_set]

    @property
    def hashes(self) -> dict[str, str]:
        """Hashes of what can be released, by identity."""
        return hashes(self.sets, self.assignments)

    @cached_property
    def released(self) -> frozenset[str]:
        """Identities of what was released."""
        return frozenset(frozen(self.folder))


def load(folder: Path) -> Registry:
    """Everything in a folder of factors, checked. Raises FactorError, naming file and value."""
    paths = sorted((folder / "sets").glob("*.toml"))
    if not paths:
        raise FactorError(f"{folder / 'sets'}: holds no factor set (*.toml)")
    sets = {path.stem: read(path, FactorSet) for path in paths}
    citations = read(folder / "sources.toml", Citations).root
    for path in paths:
        _check_set(path, sets[path.stem], citations)
    assignments = read(folder / "assignments.toml", Assignments).assignment
    registry = Registry(folder, sets, citations, assignments)
    _check_assignments(registry)
    for factor_set in sets.values():
        for language in get_args(Language):
            method_text(folder, factor_set.method_id, language)
    return registry


def _check_set(path: Path, factor_set: FactorSet, citations: Mapping[str, Citation]) -> None:
    if factor_set.name != path.stem:
        raise FactorError(f"{path}: name is {factor_set.name!r}, not the name of its file")
    for stated in factor_set.stated:
        for source in (stated.source, *(other.source for other in stated.conflicting)):
            if source not in citations:
                raise FactorError(f"{path}: {stated.name}: source {source!r} is not in sources.toml")
        dated = citations[stated.source].dated
        if dated and stated.known_from < dated:
            raise FactorError(f"{path}: {stated.name}: known_from {stated.known_from} is before its source is dated, {dated}")
    for value in factor_set.value:
        # Parameters that come and go are compiled for the month that is asked; each expression is complete when it starts.
        compiled(factor_set, value, value.valid_from)


def _check_assignments(registry: Registry) -> None:
    file = registry.assignments_file
    for assignment in registry.assignments:
        factor_set = registry.sets.get(assignment.factor_set)
        if factor_set is None:
            raise FactorError(f"{file}: {assignment.name}: there is no sets/{assignment.factor_set}.toml")
        if factor_set.is_comparison:
            raise FactorError(f"{file}: {assignment.name}: the set is for comparison only")
        if assignment.from_month < factor_set.valid_from:
            raise FactorError(f"{file}: {assignment.name}: the set starts only in {factor_set.valid_from:%Y-%m}")
        end, last = assignment.until_month, factor_set.valid_until
        if last and (end is None or end > last):
            raise FactorError(f"{file}: {assignment.name}: until_month is {end or 'open'}, the set ends before {last:%Y-%m}")
    for brand in sorted({assignment.brand for assignment in registry.assignments}):
        _check_timeline(file, brand, sorted((a for a in registry.assignments if a.brand == brand), key=lambda a: a.from_month))


def _check_timeline(file: Path, brand: str, own: list[Assignment]) -> None:
    """A brand's months are covered without a gap; two known from the same day never cover one month."""
    for earlier, later in combinations(own, 2):
        if earlier.covers(later.from_month) and earlier.known_from == later.known_from:
            raise FactorError(f"{file}: {later.name} overlaps the {earlier.name}, known from the same day")
    end = own[0].until_month
    for assignment in own[1:]:
        if end and assignment.from_month > end:
            raise FactorError(f"{file}: a gap from {end} to {assignment.from_month} for brand {brand}")
        end = max(end, assignment.until_month) if end and assignment.until_month else None


def in_force(folder: Path, month: date, brands: Iterable[str], as_of: date | None = None) -> list[Factor]:
    """The factors of a month: one per brand, network and component, each brand under its own name.

    Args:
        folder: the folder of factors.
        month: first day of the month.
        brands: the brands.
        as_of: only what was known on that day; None is everything the folder knows.

    Raises:
        FactorError: anything in the folder is unusable, a released value was edited, or a brand has no value for the month.
    """
    registry = load(folder)
    refuse_edited(folder, registry.hashes)
    served = {brand: registry.assigned(brand, month, as_of) for brand in sorted(set(brands))}
    return of_sets(served, month, as_of)


def of_sets(served: Mapping[str, FactorSet], month: date, as_of: date | None = None) -> list[Factor]:
    """The factors of a month of given sets by brand. Raises FactorError."""
    if month.day != 1:
        raise FactorError(f"{month} is not the first day of a month")
    found = []
    for brand, factor_set in served.items():
        for network, component in PAIRS:
            value = factor_set.in_force(network, component, month, as_of)
            if value is None:
                known_on = f", as known on {as_of}" if as_of else ""
                raise FactorError(f"set {factor_set.name}: no value for {network}/{component} in {month:%Y-%m}{known_on}")
            found.append(factor(factor_set, compiled(factor_set, value, month, as_of), value, brand))
    return found


def drafts(folder: Path, month: date) -> tuple[str, ...]:
    """Identities of what serves a month, for any brand, and is not frozen: it could be edited unseen. Raises FactorError."""
    registry = load(folder)
    serving = [assignment for assignment in registry.assignments if assignment.covers(month)]
    found = {assignment.identity for assignment in serving}
    for factor_set in (registry.sets[assignment.factor_set] for assignment in serving):
        found |= {factor_set.identity(stated) for stated in factor_set.stated if stated.valid_from <= month}
    return tuple(sorted(found - registry.released))


def method_text(folder: Path, method_id: str, language: Language) -> str:
    """The summary of the calculation that the customer area must show (decree 2021-1732). Raises FactorError if it is missing."""
    path = folder / "methods" / f"{method_id}.{language}.md"
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FactorError(f"{path}: the text of method {method_id} cannot be read ({error})") from None
    if not text:
        raise FactorError(f"{path}: the text of method {method_id} is empty")
    return text


def citation(folder: Path, factor_id: str) -> tuple[Value, Citation]:
    """The value behind a factor as its set states it, with its mark, and the source it comes from. Raises FactorError."""
    registry = load(folder)
    for factor_set in registry.sets.values():
        for value in factor_set.value:
            if factor_set.identity(value) == factor_id.partition("#")[0]:
                return value, registry.citations[value.source]
    raise FactorError(f"{folder / 'sets'}: no set holds the factor {factor_id}")
