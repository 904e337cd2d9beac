"""What was released cannot be edited: ``frozen.toml`` keeps a hash of each value, parameter and assignment by its identity.

``footprint factors freeze`` adds what is new and changes nothing else; whatever is in the file and differs, or is gone, is
refused by its identity. A correction is a further version, known later. What only says how far a value was checked (mark, notes,
approval, contradicting citations) may improve.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

from pydantic import RootModel

from factors.catalogue import Assignment, FactorSet
from factors.reading import FactorError, read
from factors.values import Stated

FILE = "frozen.toml"
_SAYS_HOW_FAR_CHECKED = {"mark", "note", "approval", "conflicting"}
_OF_THE_SET = ("geography", "perimeter", "method_id", "data_year", "gb_basis", "volume_basis", "is_comparison")
_HEADING = """\
# Hashes of what was released, by identity. Written by `footprint factors freeze`, never by hand: an entry is only ever added.
"""


class Frozen(RootModel[dict[str, str]]):
    """The file frozen.toml: hashes by identity."""


def hashes(sets: Mapping[str, FactorSet], assignments: tuple[Assignment, ...]) -> dict[str, str]:
    """The hash of each value, parameter and assignment by its identity."""
    found = {factor_set.identity(stated): _of(stated, factor_set) for factor_set in sets.values() for stated in factor_set.stated}
    return found | {assignment.identity: _digest(assignment.model_dump(exclude_defaults=True)) for assignment in assignments}


def frozen(folder: Path) -> dict[str, str]:
    """What was released of a folder; nothing if nothing was. Raises FactorError if the file cannot be used."""
    path = folder / FILE
    return read(path, Frozen).root if path.exists() else {}


def refuse_edited(folder: Path, found: Mapping[str, str]) -> None:
    """Refuse what was released and has since been edited or removed. Raises FactorError, naming all of it."""
    kept = frozen(folder)
    gone = sorted(kept.keys() - found.keys())
    edited = sorted(identity for identity in kept.keys() & found.keys() if kept[identity] != found[identity])
    said = [f"released and then {what}: {', '.join(names)}" for what, names in (("removed", gone), ("edited", edited)) if names]
    if said:
        raise FactorError(
            f"{folder}: {'; '.join(said)}. Put it back, and write a correction as another entry: a value with the next version "
            f"and the day it is known from, or an assignment known later"
        )


def freeze(folder: Path, found: Mapping[str, str]) -> list[str]:
    """Add what is new to the file, and give its identities. Raises FactorError if anything released was edited or removed."""
    refuse_edited(folder, found)
    kept = frozen(folder)
    added = sorted(found.keys() - kept.keys())
    if added:
        lines = [f"{json.dumps(identity, ensure_ascii=False)} = {json.dumps(found[identity])}" for identity in sorted(found)]
        (folder / FILE).write_text(_HEADING + "\n".join(lines) + "\n", encoding="utf-8")
    return added


def _of(stated: Stated, factor_set: FactorSet) -> str:
    """Hash of all that decides what a value is and when it serves."""
    # Without what is left at its default, so that a setting that is yet to be invented changes no hash.
    own = stated.model_dump(exclude=_SAYS_HOW_FAR_CHECKED, exclude_defaults=True)
    return _digest(own | {f"set.{name}": getattr(factor_set, name) for name in _OF_THE_SET})


def _digest(content: Mapping[str, object]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=_canonical)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> str:
    """The same text for the same amount, however many zeros it ends with."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical text")
