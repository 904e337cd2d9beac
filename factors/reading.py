"""How a TOML file of this package is read: an unknown, missing or unusable setting is refused with the file and the value."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Entry = TypeVar("Entry", bound=BaseModel)


class FactorError(ValueError):
    """The factors cannot be used; the message names the file and the value."""


def read(path: Path, kind: type[Entry]) -> Entry:
    """The content of a TOML file as what it declares. Raises FactorError, naming file and value."""
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return kind.model_validate(settings)
    except (OSError, UnicodeDecodeError) as error:
        raise FactorError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise FactorError(f"{path}: {error}") from None
    except ValidationError as error:
        faults = "; ".join(_fault(settings, fault["loc"], fault["msg"], fault["input"]) for fault in error.errors())
        raise FactorError(f"{path}: {faults}") from None


def _fault(settings: Mapping[str, Any], place: Sequence[str | int], message: str, given: object) -> str:
    names = [str(step) for step in place]
    if len(place) > 1 and isinstance(place[1], int):
        entry = settings[str(place[0])][place[1]]
        known = [str(entry[key]) for key in ("network", "component", "factor_set", "brand", "parameter", "id") if key in entry]
        names[:2] = [f"{place[0]} {place[1] + 1} ({'/'.join(known)})"]
    shown = "" if isinstance(given, dict) else f", given {given!r}"
    return f"{'.'.join(names) or 'set'}: {message.removeprefix('Value error, ')}{shown}"
