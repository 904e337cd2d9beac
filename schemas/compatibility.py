"""What was released to readers is kept: a contract that breaks them needs a new major version, an addition a new minor one.

``schemas/contracts/NAME.odcs.yaml`` is what is declared now; ``schemas/contracts/released/NAME-VERSION.odcs.yaml`` is what was
released, never changed again: ``SHA256SUMS`` beside it, which ``sha256sum --check`` reads too, has its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from schemas.odcs import Document

FOLDER = Path(__file__).resolve().parent / "contracts"
RELEASED, SUMS, ENDING = "released", "SHA256SUMS", ".odcs.yaml"
_HEADING = "# Generated from schemas/ by `python -m schemas contracts`; do not edit.\n"


@dataclass(frozen=True)
class Change:
    """What differs between two versions of a contract, in words."""

    breaks: tuple[str, ...]
    """What a reader of the earlier one relies on and no longer has."""
    additions: tuple[str, ...]
    is_any: bool
    """Anything differs, if only a word."""

    def least(self, version: str) -> str:
        """The least version after one that this change may have."""
        major, minor, patch = _numbers(version)
        if self.breaks:
            return f"{major + 1}.0.0"
        if self.additions:
            return f"{major}.{minor + 1}.0"
        return f"{major}.{minor}.{patch + 1}" if self.is_any else version


def change(before: Document, after: Document) -> Change:
    """What happened from one version to another. Versions themselves are not compared.

    It breaks if a table, a column or a rule is gone, or a type, whether it may be null, a unit, the grain or a rule is another.
    """
    was, now = _promises(before), _promises(after)
    gone = tuple(f"{name} is gone" for name in was if name not in now)
    other = tuple(f"{name} was {was[name]} and is {now[name]}" for name in was if name in now and was[name] != now[name])
    added = tuple(f"{name} is added" for name in now if name not in was)
    return Change(gone + other, added, {**before, "version": None} != {**after, "version": None})


def _promises(document: Document) -> dict[str, str]:
    """All that a reader relies on, by name."""
    return dict(promise for declared in document["schema"] for promise in _of_object(declared))


def _of_object(declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    table, columns = declared["name"], declared["properties"]
    key = sorted((c["primaryKeyPosition"], c["name"]) for c in columns if c.get("primaryKey"))
    yield f"{table}: its grain", f"{declared['dataGranularityDescription']} Key: {', '.join(name for _, name in key) or 'none'}"
    for column in columns:
        units = [said["value"] for said in column.get("customProperties", ()) if said["property"] == "unit"]
        null = "not null" if column["required"] else "null"
        yield f"{table}.{column['name']}", ", ".join([column["physicalType"], null, *units])
    for rule in declared.get("quality", ()):
        yield f"{table}: rule {rule['name']}", rule["query"]


def rendered(document: Document) -> str:
    """The document as it is committed."""
    text: str = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=130)
    return _HEADING + text


def write(documents: Sequence[Document], folder: Path = FOLDER) -> None:
    """Write what is declared now, and remove what is no longer declared."""
    for path in folder.glob(f"*{ENDING}"):
        path.unlink()
    for document in documents:
        (folder / f"{document['name']}{ENDING}").write_text(rendered(document), encoding="utf-8")


def complaints(documents: Sequence[Document], folder: Path = FOLDER) -> list[str]:
    """What is wrong with the contracts: stale, released and then edited, or of a version that promises what is not kept."""
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob(f"*{ENDING}")}
    declared = {f"{document['name']}{ENDING}": rendered(document) for document in documents}
    stale = sorted(name for name in found.keys() | declared.keys() if found.get(name) != declared.get(name))
    said = [f"{name} is not what schemas/ declares now: run `python -m schemas contracts`" for name in stale]
    return said + _edited(folder) + _broken(documents, folder)


def release(documents: Sequence[Document], folder: Path = FOLDER) -> list[str]:
    """Keep the versions that are not released yet; their names. Raises ValueError, naming all complaints, if there are any."""
    if wrong := complaints(documents, folder):
        raise ValueError("\n".join(wrong))
    names = {f"{document['name']}-{document['version']}{ENDING}": document for document in documents}
    kept = _sums(folder)
    added = sorted(names.keys() - kept.keys())
    for name in added:
        path = folder / RELEASED / name
        path.write_text(rendered(names[name]), encoding="utf-8")
        kept[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f"{kept[name]}  {name}\n" for name in sorted(kept)]
    (folder / RELEASED / SUMS).write_text("".join(lines), encoding="utf-8")
    return added


def _edited(folder: Path) -> list[str]:
    kept = _sums(folder)
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / RELEASED).glob(f"*{ENDING}")}
    wrong = sorted(name for name in kept.keys() | there.keys() if kept.get(name) != there.get(name))
    return [f"{RELEASED}/{name} was released and then edited, removed, or put there by hand: put it back" for name in wrong]


def _broken(documents: Sequence[Document], folder: Path) -> list[str]:
    last = _last_released(folder)
    declared = {document["name"]: document for document in documents}
    said = [f"contract {name} was released and is gone" for name in sorted(last.keys() - declared.keys())]
    for name in sorted(last.keys() & declared.keys()):
        before, after = last[name], declared[name]
        found = change(before, after)
        least = found.least(before["version"])
        if _numbers(after["version"]) < _numbers(least):
            why = "; ".join(found.breaks or found.additions or ("its words are others",))
            kind = "breaks its readers" if found.breaks else "is another than was released"
            said.append(f"contract {name} {kind} ({why}): {before['version']} is released, so VERSIONS must say {least} or more")
    return said


def _last_released(folder: Path) -> dict[str, Document]:
    found: dict[str, Document] = {}
    for path in (folder / RELEASED).glob(f"*{ENDING}"):
        document = yaml.load(path.read_bytes(), yaml.CSafeLoader)
        other = found.get(document["name"])
        if other is None or _numbers(other["version"]) < _numbers(document["version"]):
            found[document["name"]] = document
    return found


def _sums(folder: Path) -> dict[str, str]:
    path = folder / RELEASED / SUMS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch
