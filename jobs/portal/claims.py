"""No text shown to a customer claims that data or network emit nothing (code de l'environnement L229-68).

``python -m jobs.portal.claims`` checks every text of the project, as ``make check`` does. Exit 1 names file and claim.
"""

from __future__ import annotations

import re
import sys
import tomllib
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jobs.run import PROJECT

_HERE = Path(__file__).resolve().parent
_SPACES = re.compile(r"[\s\-\u2010-\u2015]+")
_MARKUP = re.compile(r"</?(?:b|em|i|strong|span)[^<>]*>|[*_]{1,2}(?=\w)|(?<=\w)[*_]{1,2}|\u00ad|\u200b|\u2060")


def texts(factors: Path = PROJECT / "factors") -> list[Path]:
    """Files whose words reach a customer."""
    ours = [*_HERE.glob("texts/*.toml"), *_HERE.glob("templates/*.html"), PROJECT / "jobs" / "customer.py"]
    return sorted([*ours, *factors.glob("methods/*.md"), *factors.glob("equivalences.toml")])


def claims(text: str) -> list[str]:
    """The refused claims in a text, as they were found: lower case, without accents, one space between words."""
    plain = _plain(text)
    return [found[0].strip() for pattern in _refused() for found in pattern.finditer(plain)]


def refusals(paths: Iterable[Path]) -> list[str]:
    """A line for each claim in the files."""
    return [f"{path.name}: « {claim} »" for path in paths for claim in claims(path.read_text(encoding="utf-8"))]


def _plain(text: str) -> str:
    # Emphasis may not split a claim; accents, hyphens and no-break spaces may not hide one.
    decomposed = unicodedata.normalize("NFKD", _MARKUP.sub("", text).casefold())
    return _SPACES.sub(" ", "".join(letter for letter in decomposed if not unicodedata.combining(letter)))


@cache
def _refused() -> tuple[re.Pattern[str], ...]:
    settings = tomllib.loads((_HERE / "claims.toml").read_text(encoding="utf-8"))
    return tuple(re.compile(pattern) for pattern in settings["refused"])


if __name__ == "__main__":
    found = refusals(texts())
    sys.stderr.writelines(f"{line}: no customer may be told so (L229-68)\n" for line in found)
    sys.exit(bool(found))
