"""What one coefficient is: an amount with its unit, source and times, or a sum of products of parameters; and what each keeps.

Amounts are text in the files and decimals here: no float ever touches them. Marks are those of method.md: V read in the primary
text, V2 secondary source only, D own arithmetic.

A value has two times. It *holds* for months, from ``valid_from`` until the next start of its kind or ``valid_until``. It is
*known* from a day on: the catalogue as of an earlier day has never heard of it. A correction is a further ``version``, known
later; what it corrects stays on record.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from factors.arithmetic import MOST_FACTORS, MOST_TERMS
from factors.units import Unit
from schemas.source import Network
from schemas.tables import FACTORS

Component = Literal["volume", "subscription"]
Mark = Literal["V", "V2", "D"]
Status = Literal["measured", "national_default", "transitional"]
Stage = Literal["manufacture", "distribution", "installation", "use", "maintenance", "end_of_life", "embodied"]

UNITS: dict[Component, str] = {"volume": "gCO2e/GB", "subscription": "gCO2e/subscription-month"}
"""The one unit of each component."""

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


def _known_unit(text: str) -> str:
    Unit.parse(text)
    return text


Amount = Annotated[Decimal, BeforeValidator(_amount)]
Day = Annotated[date, Field(strict=True)]
Month = Annotated[date, Field(strict=True), AfterValidator(_first_of_month)]
Text = Annotated[str, Field(min_length=1)]
UnitText = Annotated[str, AfterValidator(_known_unit)]


class Entry(BaseModel):
    """What every entry of a data file is: known settings only, and never changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Approval(Entry):
    """Who let a value be used, and when."""

    by: Text
    on: Day


class Conflicting(Entry):
    """Another amount that a source prints for the same thing: on record, never used."""

    amount: Amount
    source: str


class Stated(Entry):
    """What every coefficient says of itself, whether it is applied or is a part of one that is."""

    unit: UnitText
    valid_from: Month
    valid_until: Month | None = None
    known_from: Day
    version: Annotated[int, Field(strict=True, ge=1)] = 1
    source: str
    page: Text | None = None
    mark: Mark
    status: Status
    approval: Approval | None = None
    low: Amount | None = None
    high: Amount | None = None
    relative_uncertainty: Amount | None = None
    note: str = ""
    conflicting: tuple[Conflicting, ...] = ()

    @property
    def _kind(self) -> str:
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """What the coefficient is of, whatever its times."""
        return self._kind

    @property
    def name(self) -> str:
        """What it is called within its set: its kind, first month and, after the first, version."""
        return f"{self.kind}/{self.valid_from:%Y-%m}" + (f"/v{self.version}" if self.version > 1 else "")

    @property
    def is_national(self) -> bool:
        """It is national, not the operator's own."""
        return self.status != "measured"

    def is_known(self, as_of: date | None) -> bool:
        """It was known on that day; without a day, it is."""
        return as_of is None or self.known_from <= as_of

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError(f"valid_until {self.valid_until} is not after valid_from {self.valid_from}")
        if self.status == "measured" and self.approval is None:
            raise ValueError("approval is missing: of an operator's own value it is said who approved it, and when")
        if self.relative_uncertainty is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("an uncertainty is either low and high, or relative_uncertainty")
            if self.relative_uncertainty > 1:
                raise ValueError(f"relative_uncertainty {self.relative_uncertainty} is above 1: write 20 % as 0.2")
        return self


def check_interval(amount: Decimal, stated: Stated) -> None:
    """Refuse an interval that does not hold its amount. Raises ValueError."""
    if stated.low is not None and stated.low > amount:
        raise ValueError(f"low {stated.low} is above the amount {amount}")
    if stated.high is not None and stated.high < amount:
        raise ValueError(f"high {stated.high} is below the amount {amount}")


class Parameter(Stated):
    """A part of expressions: an energy per gigabyte, a grid's intensity in a zone, grams of a life-cycle stage."""

    parameter: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    zone: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    amount: Amount

    @property
    def reference(self) -> str:
        """What an expression calls it."""
        return self.parameter + (f"@{self.zone}" if self.zone else "")

    @property
    def _kind(self) -> str:
        return f"parameter/{self.reference}"

    @model_validator(mode="after")
    def _holds_its_amount(self) -> Self:
        check_interval(self.amount, self)
        return self


class Term(Entry):
    """A product of parameters: what one life-cycle stage adds."""

    stage: Stage
    times: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_FACTORS)]


class Value(Stated):
    """One coefficient of a network: A, grams per gigabyte, or B, grams per subscription-month; an amount, or a sum of terms."""

    network: Network
    component: Component
    amount: Amount | None = None
    term: Annotated[tuple[Term, ...], Field(max_length=MOST_TERMS)] = ()

    @property
    def _kind(self) -> str:
        return f"{self.network}/{self.component}"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.unit != UNITS[self.component]:
            raise ValueError(f"unit is {self.unit!r}, a {self.component} value is in {UNITS[self.component]}")
        if (self.amount is None) == (not self.term):
            raise ValueError("a value has either an amount or terms")
        if self.amount is not None:
            check_interval(self.amount, self)
        elif (self.low, self.high, self.relative_uncertainty) != (None, None, None):
            raise ValueError("the uncertainty of an expression follows from its parameters, and is not written beside it")
        return self
