"""Tables of the report: the words of every figure, and what has no figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sheet:
    """A table: caption, heads, and rows whose first cell names them. ``numbers`` are the columns that stand to the right."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()
    sums: Sequence[str] = ()
    """The last row, if there is one that adds up the others."""
    nothing: str = "Nothing."
    """What is said where there is no row."""
    is_long: bool = False
    """It is shown when it is asked for."""
