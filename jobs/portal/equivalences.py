"""What an amount of grams is about as much as: cited amounts of ``factors/equivalences.toml``, apart from the legal mention."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from factors.reading import FactorError, read
from jobs.portal.wording import LANGUAGES, said
from jobs.run import CallError


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Entry):
    """Where the amounts were read."""

    publisher: str
    title: str
    address: str
    dated: date
    licence: str


class Equivalence(_Entry):
    """Grams of one unit of something, and how far the amount was checked."""

    id: str
    gco2e: Decimal = Field(gt=0)
    unit: str
    mark: Literal["V", "V2", "D", "?"]
    is_shown: bool
    note: str

    @property
    def is_verified(self) -> bool:
        """It was read in the primary text."""
        return self.mark == "V"


class Equivalences(_Entry):
    """The file: one source and its amounts."""

    source: Source
    value: tuple[Equivalence, ...]

    def of(self, name: str) -> Equivalence | None:
        """The amount of that name."""
        return next((value for value in self.value if value.id == name), None)

    @property
    def shown(self) -> tuple[Equivalence, ...]:
        """Those that the page uses."""
        return tuple(value for value in self.value if value.is_shown)


def equivalences(factors: Path) -> Equivalences | None:
    """Those of a folder of factors; None if it has none, and the page then says nothing of the kind.

    Raises:
        CallError: the file cannot be used, or shows something that a language has no words for.
    """
    path = factors / "equivalences.toml"
    if not path.exists():
        return None
    try:
        found = read(path, Equivalences)
    except FactorError as error:
        raise CallError(str(error)) from None
    for value in found.shown:
        if not all(value.id in said(language)["equivalences"]["of_many"] for language in LANGUAGES):
            raise CallError(f"{path}: {value.id} is to be shown, and has no words in jobs/portal/texts")
    return found
