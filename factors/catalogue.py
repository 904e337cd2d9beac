"""What a factor set, a citation and an assignment are, and the rules that each keeps by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import Field, RootModel, model_validator

from factors.units import Unit, product
from factors.values import UNITS, Component, Day, Entry, Mark, Month, Parameter, Stated, Text, Value
from schemas.source import Network, VolumeBasis

__all__ = ["PAIRS", "UNITS", "Assignment", "Assignments", "Citation", "Citations", "Component", "FactorSet", "Mark", "Value"]

Basis = Literal["hypothesis", "stated"]
Kind = TypeVar("Kind", bound=Stated)

PAIRS: tuple[tuple[Network, Component], ...] = tuple((n, c) for n in get_args(Network) for c in get_args(Component))
"""What every set must say: both components of both networks."""


class Citation(Entry):
    """Where amounts come from."""

    title: Text
    publisher: Text
    dated: Day | None = None
    address: Text
    licence: Text
    mark: Literal["V", "V2", "D", "?"]
    note: str = ""


class FactorSet(Entry):
    """A dated set: both components of both networks, without gap or overlap from its first month to its end.

    A set for comparison can be put to no month: it serves scenarios only.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    description: Text
    geography: Text
    perimeter: Text
    method_id: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    data_year: int
    valid_until: Month | None = None
    is_comparison: Annotated[bool, Field(strict=True)] = False
    gb_basis: Literal[1000000000, 1073741824]
    gb_basis_mark: Basis
    gb_basis_note: Text
    volume_basis: VolumeBasis
    volume_basis_mark: Basis
    volume_basis_note: Text
    parameter: tuple[Parameter, ...] = ()
    value: tuple[Value, ...] = Field(min_length=1)

    @property
    def valid_from(self) -> date:
        """First month the set serves."""
        return min(value.valid_from for value in self.value)

    @property
    def stated(self) -> tuple[Stated, ...]:
        """Every value and parameter."""
        return (*self.value, *self.parameter)

    def identity(self, stated: Stated) -> str:
        """The immutable identity of a value or parameter of the set."""
        return f"{self.name}/{stated.name}"

    def ends(self, stated: Stated, as_of: date | None = None) -> date | None:
        """First month for which a value or parameter no longer holds, as it was known on a day; None while nothing ends it."""
        known = [other for other in self.stated if other.kind == stated.kind and other.is_known(as_of)]
        later = [other.valid_from for other in known if other.valid_from > stated.valid_from]
        return min([*later, *[end for end in (stated.valid_until, self.valid_until) if end]], default=None)

    def corrected_from(self, stated: Stated) -> date | None:
        """The day from which a later version is known; None while this is the last."""
        versions = [v for v in self.stated if (v.kind, v.valid_from) == (stated.kind, stated.valid_from)]
        return min((v.known_from for v in versions if v.version > stated.version), default=None)

    def in_force(self, network: Network, component: Component, month: date, as_of: date | None = None) -> Value | None:
        """The value of a component in a month, as it was known on a day; None if there was none."""
        return _in_force([v for v in self.value if (v.network, v.component) == (network, component)], month, as_of)

    def parameter_in_force(self, reference: str, month: date, as_of: date | None = None) -> Parameter | None:
        """The parameter that an expression calls so, in a month, as it was known on a day; None if there was none."""
        return _in_force([p for p in self.parameter if p.reference == reference], month, as_of)

    @model_validator(mode="after")
    def _values_do_not_overlap(self) -> Self:
        names = [stated.name for stated in self.stated]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two values for {doubled[0]}")
        return self

    @model_validator(mode="after")
    def _a_correction_is_known_later(self) -> Self:
        for versions in _by_kind_and_start(self.stated):
            if [stated.version for stated in versions] != list(range(1, len(versions) + 1)):
                raise ValueError(f"{versions[-1].name}: versions of {versions[0].name} are not numbered 1, 2, … without a gap")
            for earlier, later in pairwise(versions):
                if later.known_from <= earlier.known_from:
                    raise ValueError(f"{later.name} is not known later than {earlier.name}, known_from {earlier.known_from}")
        return self

    @model_validator(mode="after")
    def _values_leave_no_gap(self) -> Self:
        start, names = self.valid_from, {value.name for value in self.value}
        for network, component in PAIRS:
            if f"{network}/{component}/{start:%Y-%m}" not in names:
                raise ValueError(f"no value for {network}/{component} from {start:%Y-%m}, the first month of the set")
        for stated in self.stated:
            if self.valid_until and stated.valid_from >= self.valid_until:
                raise ValueError(f"{stated.name} starts when the set has ended, valid_until is {self.valid_until}")
        return self

    @model_validator(mode="after")
    def _a_network_has_one_origin(self) -> Self:
        for network in get_args(Network):
            if len({value.is_national for value in self.value if value.network == network}) > 1:
                raise ValueError(f"{network}: status mixes operator and national values")
        return self

    @model_validator(mode="after")
    def _expressions_come_out_in_their_unit(self) -> Self:
        units = {parameter.reference: parameter.unit for parameter in self.parameter}
        for parameter in self.parameter:
            if parameter.unit != units[parameter.reference]:
                raise ValueError(f"{parameter.name}: unit is {parameter.unit!r}, elsewhere {units[parameter.reference]!r}")
        for value in self.value:
            for term in value.term:
                unknown = [reference for reference in term.times if reference not in units]
                if unknown:
                    raise ValueError(f"{value.name}: there is no parameter {unknown[0]!r}")
                found = product(Unit.parse(units[reference]) for reference in term.times)
                if found != Unit.parse(value.unit):
                    raise ValueError(f"{value.name}: {' x '.join(term.times)} is in {found}, not in {value.unit}")
        return self


def _in_force(candidates: list[Kind], month: date, as_of: date | None) -> Kind | None:
    """The latest start, and of it the latest version, that was known; None if that one has ended."""
    started = [c for c in candidates if c.valid_from <= month and c.is_known(as_of)]
    latest = max(started, key=lambda c: (c.valid_from, c.version), default=None)
    return None if latest is None or (latest.valid_until and latest.valid_until <= month) else latest


def _by_kind_and_start(stated: tuple[Stated, ...]) -> Iterator[list[Stated]]:
    for kind, start in dict.fromkeys((s.kind, s.valid_from) for s in stated):
        yield sorted((s for s in stated if (s.kind, s.valid_from) == (kind, start)), key=lambda s: s.version)


class Assignment(Entry):
    """The set that serves a brand's months, from the first inclusive to the last exclusive, since it is known.

    Of two that cover a month, the one known later serves.
    """

    factor_set: str
    brand: Text
    from_month: Month
    until_month: Month | None = None
    known_from: Day

    @property
    def identity(self) -> str:
        """The immutable identity of the assignment."""
        return f"assignment/{self.brand}/{self.factor_set}/{self.from_month:%Y-%m}/{self.known_from}"

    def is_known(self, as_of: date | None) -> bool:
        """It was known on that day; without a day, it is."""
        return as_of is None or self.known_from <= as_of

    @property
    def name(self) -> str:
        """What the assignment is called in messages."""
        return f"assignment of {self.factor_set} to brand {self.brand} from {self.from_month:%Y-%m}"

    def covers(self, month: date) -> bool:
        """The assignment serves the month."""
        return self.from_month <= month and (self.until_month is None or month < self.until_month)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.until_month and self.until_month <= self.from_month:
            raise ValueError(f"until_month {self.until_month} is not after from_month {self.from_month}")
        return self


class Assignments(Entry):
    """The file assignments.toml."""

    assignment: tuple[Assignment, ...] = Field(min_length=1)


class Citations(RootModel[dict[str, Citation]]):
    """The file sources.toml: citations by key."""
