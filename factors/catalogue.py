"""What a factor set, a citation and an assignment are, and the rules that each keeps by itself.

Amounts are text in the files and decimals here: no float ever touches them. Marks are those of method.md: V read in the primary
text, V2 secondary source only, D own arithmetic.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator

from schemas.source import Network, VolumeBasis
from schemas.tables import FACTORS

Component = Literal["volume", "subscription"]
Mark = Literal["V", "V2", "D"]
Basis = Literal["hypothesis", "stated"]

UNITS: dict[Component, str] = {"volume": "gCO2e/GB", "subscription": "gCO2e/subscription-month"}
"""The one unit of each component. Kilograms are not among them: 4.1 kg read as 4.1 g is the classic mistake."""

PAIRS: tuple[tuple[Network, Component], ...] = tuple((n, c) for n in get_args(Network) for c in get_args(Component))
"""What every set must say: both components of both networks."""

_AMOUNT = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def _amount(text: object) -> Decimal:
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise ValueError('an amount is text with digits and a decimal point, not negative, for example "49.4"')
    precision, scale = FACTORS.column("gco2e_per_unit").decimal or (0, 0)
    whole, _, fraction = text.partition(".")
    if len(whole.lstrip("0")) > precision - scale or len(fraction) > scale:
        raise ValueError(f"an amount has at most {precision - scale} digits before the point and {scale} after it")
    return Decimal(text)


def _first_of_month(day: date) -> date:
    if day.day != 1:
        raise ValueError("not the first day of a month")
    return day


Amount = Annotated[Decimal, BeforeValidator(_amount)]
Month = Annotated[date, Field(strict=True), AfterValidator(_first_of_month)]
Text = Annotated[str, Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Citation(_Entry):
    """Where amounts come from."""

    title: Text
    publisher: Text
    dated: Annotated[date, Field(strict=True)] | None = None
    address: Text
    licence: Text
    mark: Literal["V", "V2", "D", "?"]
    note: str = ""


class Conflicting(_Entry):
    """Another amount that a source prints for the same thing: on record, never used."""

    amount: Amount
    source: str


class Value(_Entry):
    """One coefficient of a network from a month on: A, grams per gigabyte, or B, grams per subscription-month."""

    network: Network
    component: Component
    amount: Amount
    low: Amount | None = None
    high: Amount | None = None
    unit: Literal["gCO2e/GB", "gCO2e/subscription-month"]
    valid_from: Month
    source: str
    mark: Mark
    status: Literal["transitional", "national_default", "operator"]
    note: str = ""
    conflicting: tuple[Conflicting, ...] = ()

    @property
    def name(self) -> str:
        """What the value is called within its set: network, component and first month."""
        return f"{self.network}/{self.component}/{self.valid_from:%Y-%m}"

    @property
    def is_national(self) -> bool:
        """The value is national, not the operator's own."""
        return self.status != "operator"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.unit != UNITS[self.component]:
            raise ValueError(f"unit is {self.unit!r}, a {self.component} value is in {UNITS[self.component]}")
        if self.low is not None and self.low > self.amount:
            raise ValueError(f"low {self.low} is above the amount {self.amount}")
        if self.high is not None and self.high < self.amount:
            raise ValueError(f"high {self.high} is below the amount {self.amount}")
        return self


class FactorSet(_Entry):
    """A dated set: both components of both networks, without gap or overlap from its first month to its end."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    description: Text
    geography: Text
    perimeter: Text
    method_id: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    data_year: int
    valid_until: Month | None = None
    gb_basis: Literal[1000000000, 1073741824]
    gb_basis_mark: Basis
    gb_basis_note: Text
    volume_basis: VolumeBasis
    volume_basis_mark: Basis
    volume_basis_note: Text
    value: tuple[Value, ...] = Field(min_length=1)

    @property
    def valid_from(self) -> date:
        """First month the set serves."""
        return min(value.valid_from for value in self.value)

    @model_validator(mode="after")
    def _values_do_not_overlap(self) -> Self:
        names = [value.name for value in self.value]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two values for {doubled[0]}")
        return self

    @model_validator(mode="after")
    def _values_leave_no_gap(self) -> Self:
        start, names = self.valid_from, {value.name for value in self.value}
        for network, component in PAIRS:
            if f"{network}/{component}/{start:%Y-%m}" not in names:
                raise ValueError(f"no value for {network}/{component} from {start:%Y-%m}, the first month of the set")
        for value in self.value:
            if self.valid_until and value.valid_from >= self.valid_until:
                raise ValueError(f"{value.name} starts when the set has ended, valid_until is {self.valid_until}")
        return self

    @model_validator(mode="after")
    def _a_network_has_one_origin(self) -> Self:
        for network in get_args(Network):
            if len({value.is_national for value in self.value if value.network == network}) > 1:
                raise ValueError(f"{network}: status mixes operator and national values")
        return self

    def in_force(self, network: Network, component: Component, month: date) -> Value:
        """The value of a component in a month the set serves: the latest that has started."""
        started = [v for v in self.value if (v.network, v.component) == (network, component) and v.valid_from <= month]
        return max(started, key=lambda value: value.valid_from)


class Assignment(_Entry):
    """The set that serves a brand's months, from the first inclusive to the last exclusive."""

    factor_set: str
    brand: Text
    from_month: Month
    until_month: Month | None = None

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


class Assignments(_Entry):
    """The file assignments.toml."""

    assignment: tuple[Assignment, ...] = Field(min_length=1)


class Citations(RootModel[dict[str, Citation]]):
    """The file sources.toml: citations by key."""
