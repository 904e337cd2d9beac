"""Every value stands in ``CHANGELOG.md`` with the period it holds for, to the day: the row it must have there, and the check."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

from factors.catalogue import FactorSet
from factors.reading import FactorError
from factors.values import Stated, Value

FILE = "CHANGELOG.md"


def row(factor_set: FactorSet, stated: Stated) -> str:
    """The row of a value or parameter: identity, amount, period to the day, and the day it is known from."""
    cells = [f"`{factor_set.identity(stated)}`", in_words(stated), period(factor_set, stated), stated.known_from.isoformat()]
    return f"| {' | '.join(cells)} |"


def in_words(stated: Stated) -> str:
    """The amount with its unit and uncertainty; of an expression, its sum of products."""
    terms = stated.term if isinstance(stated, Value) else ()
    amount = " + ".join(" × ".join(term.times) for term in terms) or format(getattr(stated, "amount", ""), "f")
    if stated.relative_uncertainty is not None:
        amount += f" ± {stated.relative_uncertainty * 100:f} %"
    elif (stated.low, stated.high) != (None, None):
        amount += f" ({' to '.join('?' if end is None else format(end, 'f') for end in (stated.low, stated.high))})"
    return f"{amount} {stated.unit}"


def period(factor_set: FactorSet, stated: Stated, as_of: date | None = None) -> str:
    """The days for which a value holds, as it was known on a day: first, and last unless nothing ends it."""
    end = factor_set.ends(stated, as_of)
    return f"from {stated.valid_from}, no end" if end is None else f"{stated.valid_from} to {end - timedelta(days=1)}"


def check(folder: Path, sets: Iterable[FactorSet]) -> int:
    """How many rows the changelog must have, and has. Raises FactorError, with the first row that is missing."""
    path = folder / FILE
    try:
        lines = {" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines()}
    except (OSError, UnicodeDecodeError) as error:
        raise FactorError(f"{path}: cannot be read ({error})") from None
    rows = [row(factor_set, stated) for factor_set in sets for stated in factor_set.stated]
    missing = [line for line in rows if line not in lines]
    if missing:
        raise FactorError(f"{path}: {len(missing)} values are not there with their period; the first row to add is\n{missing[0]}")
    return len(rows)
