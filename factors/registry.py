"""Which factors are in force: the sets, citations, assignments and method texts of a folder, checked as a whole.

Everything is checked whenever anything is asked, not only what the month touches: a folder that cannot serve next year says so
today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from factors.catalogue import PAIRS, Assignment, Assignments, Citation, Citations, FactorSet, Value
from factors.factor import Factor, check_volume_basis, factor, factors_id
from factors.reading import FactorError, read

__all__ = ["Factor", "FactorError", "Registry", "check_volume_basis", "citation", "factors_id", "in_force", "load", "method_text"]

Language = Literal["fr", "en"]

EVERY_BRAND = "*"


@dataclass(frozen=True)
class Registry:
    """A folder of factors that passed every check."""

    folder: Path
    sets: Mapping[str, FactorSet]
    citations: Mapping[str, Citation]
    assignments: tuple[Assignment, ...]

    @property
    def assignments_file(self) -> Path:
        """The file that says which set serves whom."""
        return self.folder / "assignments.toml"

    def assigned(self, brand: str, month: date) -> FactorSet:
        """The set that serves a brand in a month: by its own assignment, or by that of every brand until it has one.

        Raises FactorError if there is none. After its first own assignment a brand never falls back to ``*`` unseen.
        """
        own = [a for a in self.assignments if a.brand == brand and a.from_month <= month]
        candidates = own or [a for a in self.assignments if a.brand == EVERY_BRAND]
        for assignment in candidates:
            if assignment.covers(month):
                return self.sets[assignment.factor_set]
        raise FactorError(f"{self.assignments_file}: no factor set is assigned to brand {brand} for {month:%Y-%m}")


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
    for value in factor_set.value:
        for source in (value.source, *(other.source for other in value.conflicting)):
            if source not in citations:
                raise FactorError(f"{path}: {value.name}: source {source!r} is not in sources.toml")


def _check_assignments(registry: Registry) -> None:
    file = registry.assignments_file
    for assignment in registry.assignments:
        factor_set = registry.sets.get(assignment.factor_set)
        if factor_set is None:
            raise FactorError(f"{file}: {assignment.name}: there is no sets/{assignment.factor_set}.toml")
        if assignment.from_month < factor_set.valid_from:
            raise FactorError(f"{file}: {assignment.name}: the set starts only in {factor_set.valid_from:%Y-%m}")
        end, last = assignment.until_month, factor_set.valid_until
        if last and (end is None or end > last):
            raise FactorError(f"{file}: {assignment.name}: until_month is {end or 'open'}, the set ends before {last:%Y-%m}")
    for brand in sorted({assignment.brand for assignment in registry.assignments}):
        own = sorted((a for a in registry.assignments if a.brand == brand), key=lambda a: a.from_month)
        for earlier, later in pairwise(own):
            if earlier.covers(later.from_month):
                raise FactorError(f"{file}: {later.name} overlaps the {earlier.name}")
            if earlier.until_month != later.from_month:
                raise FactorError(f"{file}: a gap from {earlier.until_month} to {later.from_month} for brand {brand}")


def in_force(folder: Path, month: date, brands: Iterable[str]) -> list[Factor]:
    """The factors of a month: one per brand, network and component, each brand under its own name.

    Raises FactorError if anything in the folder is unusable or a brand has no set for the month.
    """
    if month.day != 1:
        raise FactorError(f"{month} is not the first day of a month")
    registry = load(folder)
    served = {brand: registry.assigned(brand, month) for brand in sorted(set(brands))}
    return [
        factor(factor_set, factor_set.in_force(network, component, month), brand)
        for brand, factor_set in served.items()
        for network, component in PAIRS
    ]


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
            if f"{factor_set.name}/{value.name}" == factor_id:
                return value, registry.citations[value.source]
    raise FactorError(f"{folder / 'sets'}: no set holds the factor {factor_id}")
