"""What the figures take for granted until it is settled: each hypothesis with its owner, reason, months and expiry.

A hypothesis is in force for a month by its own period. It has *expired* for a month that ends after its expiry day: nobody has
looked at it again since, and ``verify`` stops the month. That is told of the month, not of the clock, so that a month is judged
alike whenever it is run. An owner renews it by another expiry day, or settles it by ending its period.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from factors.reading import FactorError, read
from factors.values import Day, Entry, Month, Text

FILE = "hypotheses.toml"
Touches = Literal["every", "volume", "subscription", "mobile", "roaming", "estimated", "national_default"]
"""Components that a hypothesis decides; a month without any is not stopped by it."""
Alternative = Literal["prorated_by_active_days", "roaming_excluded", "binary_gigabytes"]
"""What else could be done, where a scenario can show it."""


class Hypothesis(Entry):
    """One hypothesis: what is taken for granted, by whom, why, for which months and until when unquestioned."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    text: Text
    owner: Text
    owner_is_placeholder: bool = False
    reason: Text
    valid_from: Month
    valid_until: Month | None = None
    expires: Day
    expected_effect: Text
    applies_in: Literal["code", "data"]
    where: Text
    touches: Touches
    alternative: Alternative | None = None

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError(f"valid_until {self.valid_until} is not after valid_from {self.valid_from}")
        return self

    def is_in_force(self, month: date) -> bool:
        """It is taken for granted in the month."""
        return self.valid_from <= month and (self.valid_until is None or month < self.valid_until)

    def is_expired(self, month: date) -> bool:
        """The month ends after the day by which somebody should have looked at it again."""
        last_day = (month.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        return self.expires < last_day


class Hypotheses(Entry):
    """The file hypotheses.toml."""

    hypothesis: tuple[Hypothesis, ...] = ()


def read_hypotheses(folder: Path) -> tuple[Hypothesis, ...]:
    """Every hypothesis of a folder of factors. Raises FactorError, naming file and entry."""
    found = read(folder / FILE, Hypotheses).hypothesis
    ids = [hypothesis.id for hypothesis in found]
    doubled = sorted({name for name in ids if ids.count(name) > 1})
    if doubled:
        raise FactorError(f"{folder / FILE}: two hypotheses are called {doubled[0]}")
    return found


def hypotheses_of(folder: Path, month: date) -> tuple[Hypothesis, ...]:
    """The hypotheses in force for a month, expired or not, by id. Raises FactorError."""
    return tuple(sorted((h for h in read_hypotheses(folder) if h.is_in_force(month)), key=lambda h: h.id))
