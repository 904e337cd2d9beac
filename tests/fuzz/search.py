"""Search for octets that break a reader: what it says of an input is the feedback, and inputs that make it say more are kept.

The readers' walks are machine code, which a fuzzer that instruments Python (atheris) does not see into; so coverage is of
statements about the input: faults, warnings, refusals, which columns are filled, how much of each. Findings go to
``tests/fuzz/findings/``, cut down; the inputs to keep for the tests go to ``tests/fuzz/corpus/<format>/``.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import hashlib
import io
import random
import re
import sys
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from jobs.readers.block import WHOLE, Block, Part, ReadFault, Tally

HERE = Path(__file__).parent
CORPUS, FINDINGS = HERE / "corpus", HERE / "findings"
SAMPLES = HERE.parents[2] / "shared" / "samples"
CURRENT = HERE.parents[1] / "var" / "fuzz"

SECONDS_OF_AN_INPUT = 2.0
"""Of the processor: others may use it too."""
SECONDS_TO_GIVE_UP = 60
LARGEST_KEPT_OCTETS, MOST_KEPT = 2 << 10, 150
WHOLE_WINDOW = 8 << 20
"""Holds every input as a whole."""
PART_OCTETS = 300
OFTEN_SOUND, OFTEN_UNCHANGED = 0.4, 0.7
"""How often an input begins as a sound document made up, and how often that stays as it is."""

SUMS = ("records", "octets", "octets_header", "octets_records", "octets_padding", "octets_quarantined", "spans_quarantined")
"""What is counted of a file, and of its parts together."""


class Finding(Exception):
    """The reader broke a promise on an input; the text begins with which."""


# What is checked of an input


@dataclass(frozen=True)
class Reading:
    """What the reader said of an input."""

    rows: pa.Table | None
    """Columns and positions; null if nothing was read."""
    tally: Tally
    refusal: str | None


class Target(ABC):
    """A format whose reader is looked at."""

    name: str
    small_windows: ClassVar[tuple[int, ...]] = (192,)
    """Such as cut records."""
    largest_octets: ClassVar[int] = 1 << 14
    """Of an input."""

    @abstractmethod
    def blocks(self, octets: bytes, tally: Tally, part: Part, window_octets: int) -> Iterator[Block]:
        """What the reader yields of an input, or of a part of it."""

    def parts(self, octets: bytes) -> list[Part] | None:
        """Parts of an input of about PART_OCTETS; null for a format that is read at once."""
        return None

    @abstractmethod
    def check(self, octets: bytes, whole: Reading) -> None:
        """Check what only this reader promises of an input. Raises Finding."""

    @abstractmethod
    def features(self, octets: bytes, reading: Reading) -> frozenset[str]:
        """What the reader said of an input, roughly."""

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Files to begin with, beside the kept ones."""

    @abstractmethod
    def sound(self, chance: random.Random) -> bytes:
        """A file made up, in which everything is as the format has it."""

    @abstractmethod
    def mutated(self, octets: bytes, other: bytes, chance: random.Random) -> bytes:
        """An input made from one, or two."""

    def fits_window(self, octets: bytes, window_octets: int) -> bool:
        """An input may be read through so small a window."""
        return True

    def made(self, octets: bytes, other: bytes, chance: random.Random) -> bytes:
        """An input made from one, from two, or made up."""
        if chance.random() < OFTEN_SOUND:
            octets = self.sound(chance)
            if chance.random() < OFTEN_UNCHANGED:
                return octets[: self.largest_octets]
        return self.mutated(octets, other, chance)[: self.largest_octets]

    def kept(self) -> list[bytes]:
        """The inputs kept for the tests."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*.bin"))]


def look(octets: bytes, target: Target, is_in_all_ways: bool = True) -> Reading:
    """Read an input, in all ways unless that is left out, and check what the reader promises of any. Raises Finding."""
    _compile(target)
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = read(octets, target, WHOLE_WINDOW)
        check_positions(whole)
        target.check(octets, whole)
        if whole.refusal is None:
            check_octets(octets, whole)
        for way, other in _other_ways(octets, target, whole) if is_in_all_ways else ():
            if (whole.refusal is None) != (other.refusal is None):
                raise Finding(f"{way}: {whole.refusal}, {other.refusal} in the other way")
            if whole.refusal is None:
                check_same(way, whole, other)
    if (took := time.process_time() - begun) > SECONDS_OF_AN_INPUT:
        raise Finding(f"slow: {took:.1f} s for {len(octets)} octets")
    return whole


@functools.cache
def _compile(target: Target) -> None:
    """Have the walk compiled before a time is taken."""
    for octets in (*target.seeds()[:2], b"\0junk"):
        read(octets, target, WHOLE_WINDOW)


def read(octets: bytes, target: Target, window_octets: int) -> Reading:
    """What the reader says of an input. Raises Finding for any other exception than ReadFault."""
    blocks: list[Block] = []
    tally = Tally()
    refusal = _refusal(lambda: blocks.extend(target.blocks(octets, tally, WHOLE, window_octets)))
    return Reading(_table(blocks), tally, refusal)


def _refusal(take: Callable[[], None]) -> str | None:
    try:
        take()
    except ReadFault as fault:
        return str(fault)
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise Finding(f"raised: {type(error).__name__} {error} in {Path(at.filename).name} {at.name}") from error
    return None


def _table(blocks: Sequence[Block]) -> pa.Table | None:
    tables = []
    for block in blocks:
        rows = len(block.ordinals)
        index = np.zeros(rows, np.int64) if block.interval_index is None else block.interval_index
        if not len(block.records) == rows == len(block.offsets) == len(block.faults) == len(index):
            raise Finding("ragged: columns of a block differ in length")
        block.records.validate(full=True)
        positions = {"ordinal": block.ordinals, "offset": block.offsets, "fault": block.faults, "interval": index}
        tables.append(pa.table(dict(zip(block.records.schema.names, block.records.columns, strict=True)) | positions))
    return pa.concat_tables(tables).combine_chunks() if tables else None


def _other_ways(octets: bytes, target: Target, whole: Reading) -> Iterator[tuple[str, Reading]]:
    """The same file read through small windows, and in parts that are put together."""
    for window_octets in target.small_windows:
        if target.fits_window(octets, window_octets):
            yield "window", read(octets, target, window_octets)
    if whole.refusal is None and (found := target.parts(octets)) is not None:
        yield "parts", _read_in_parts(octets, target, found)


def _read_in_parts(octets: bytes, target: Target, found: Sequence[Part]) -> Reading:
    blocks: list[Block] = []
    tallies = [Tally() for _ in found]

    def take() -> None:
        for part, tally in zip(found, tallies, strict=True):
            blocks.extend(target.blocks(octets, tally, part, WHOLE_WINDOW))

    refusal = _refusal(take)
    together = Tally(**{each: sum(getattr(tally, each) for tally in tallies) for each in SUMS})
    return Reading(_table(blocks), together, refusal)


def check_octets(octets: bytes, reading: Reading) -> None:
    """Every octet is header, record, padding or quarantined."""
    tally = reading.tally
    of_kinds = (tally.octets_header, tally.octets_records, tally.octets_padding, tally.octets_quarantined)
    if min(of_kinds) < 0 or sum(of_kinds) != len(octets) or tally.octets != len(octets):
        raise Finding(f"octets: {of_kinds} of {len(octets)}, tallied {tally.octets}")


def check_positions(reading: Reading) -> None:
    """Ordinals go up by one with each record, intervals within it; records begin behind each other."""
    if reading.rows is None:
        return
    ordinal, offset, interval = (reading.rows[name].to_numpy() for name in ("ordinal", "offset", "interval"))
    is_first = interval == 0
    if not is_first[0] or ordinal[0] != 1 or (np.diff(ordinal) != is_first[1:]).any():
        raise Finding("ordinals: they do not go up by one with each record")
    if (np.diff(interval)[~is_first[1:]] != 1).any():
        raise Finding("intervals: they do not go up by one within a record")
    if (offset < 0).any() or (np.diff(offset)[is_first[1:]] <= 0).any() or (np.diff(offset)[~is_first[1:]] != 0).any():
        raise Finding("offsets: records do not begin behind each other")
    if reading.refusal is None and int(ordinal[-1]) != reading.tally.records:
        raise Finding(f"records: {ordinal[-1]} in rows, {reading.tally.records} tallied")


def check_same(way: str, one: Reading, other: Reading) -> None:
    """Rows and octets of each kind do not depend on the way a file is read."""
    if (one.rows is None) != (other.rows is None):
        raise Finding(f"{way}: there are rows in one way only")
    if one.rows is not None and other.rows is not None and not one.rows.equals(other.rows):
        if one.rows.num_rows != other.rows.num_rows:
            raise Finding(f"{way}: {one.rows.num_rows} rows, {other.rows.num_rows} in the other way")
        differing = [name for name in one.rows.schema.names if not one.rows[name].equals(other.rows[name])]
        raise Finding(f"{way}: these differ: {', '.join(differing)}")
    for kind in SUMS:
        if getattr(one.tally, kind) != getattr(other.tally, kind):
            raise Finding(f"{way}: {kind} {getattr(one.tally, kind)}, {getattr(other.tally, kind)} in the other way")
    if way == "window" and one.tally.warnings != other.tally.warnings:
        raise Finding(f"{way}: warnings {one.tally.warnings}, {other.tally.warnings} in the other way")


# What was said, as features


def counted(reading: Reading) -> set[str]:
    """Why it was refused, what was warned of, and how many records, octets and spans of each kind there are, by magnitude."""
    tally = reading.tally
    found = {f"refused {re.sub(r'[0-9]+', 'n', reading.refusal)}"} if reading.refusal else set()
    for kind in ("records", "octets_header", "octets_padding", "octets_quarantined", "spans_quarantined"):
        found.add(f"{kind} {min(4, int(getattr(tally, kind)).bit_length())}")
    return found | {f"warning {name}" for name in tally.warnings}


def magnitude(value: Any) -> str:
    """Whether a value is there, of which sort it is, and roughly how large."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return ("?" if "?" in value or "\ufffd" in value else "text") if value else "empty"
    if isinstance(value, int):
        return str(min(4, (value.bit_length() + 15) // 16))
    return "instant"


# Mutations


@dataclass(frozen=True)
class Material:
    """What octets are replaced by and what is put between them: single octets, heads and pieces that mean something."""

    octets: bytes
    heads: Sequence[bytes]
    pieces: Sequence[bytes]


def mutated_octets(octets: bytes, material: Material, chance: random.Random) -> bytes:
    """Octets with a change that knows nothing of what they mean."""
    changed = bytearray(octets)
    at, many = (chance.randrange(len(changed)) if changed else 0), chance.choice((1, 1, 2, 4, 8, 30))
    match chance.randrange(8):
        case 0 if changed:
            for _ in range(many):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        case 1 if changed:
            for _ in range(many):
                changed[chance.randrange(len(changed))] = chance.choice(material.octets)
        case 2:
            del changed[at:]
        case 3:
            del changed[at : at + many]
        case 4:
            changed[at:at] = chance.choice(material.pieces) * chance.choice((1, 1, 3, 200))
        case 5:
            changed[at:at] = changed[at : at + many * 10]
        case 6:
            changed[at : at + 1] = chance.choice(material.heads)
        case _:
            changed[at:at] = chance.randbytes(many)
    return bytes(changed)


# Cutting down


def cut_down(octets: bytes, still: Callable[[bytes], bool], tries: int = 3000) -> bytes:
    """The least octets found, by leaving out ever smaller pieces, for which something still holds."""
    piece = max(1, len(octets) // 2)
    while True:
        at, has_shrunk = 0, False
        while at < len(octets) and tries > 0:
            tries -= 1
            shorter = octets[:at] + octets[at + piece :]
            if still(shorter):
                octets, has_shrunk = shorter, True
            else:
                at += piece
        if tries <= 0 or (piece == 1 and not has_shrunk):
            return octets
        piece = max(1, piece // 2)


def finding(octets: bytes, target: Target) -> str | None:
    """What a look at an input finds; null if the reader keeps its promises."""
    try:
        look(octets, target)
    except Finding as found:
        return str(found)
    return None


def _kind(found: str) -> str:
    return re.sub(r"[0-9]+", "n", found)


def keep_finding(octets: bytes, target: Target, found: str) -> Path:
    """Write an input, cut down, and what it finds."""
    least = cut_down(octets, lambda shorter: _kind(finding(shorter, target) or "") == _kind(found))
    FINDINGS.mkdir(parents=True, exist_ok=True)
    path = FINDINGS / f"{target.name}-{hashlib.sha256(_kind(found).encode()).hexdigest()[:12]}.bin"
    path.write_bytes(least)
    path.with_suffix(".txt").write_text(f"{finding(least, target) or found}\n{least.hex()}\n", encoding="utf-8")
    return path


def smallest_corpus(pool: dict[frozenset[str], bytes], target: Target, until: float) -> list[bytes]:
    """Inputs to keep, cut down: such that together say all that any of them says, most first, then the smallest others."""
    small = sorted((item for item in pool.items() if len(item[1]) <= LARGEST_KEPT_OCTETS), key=lambda item: len(item[1]))
    says_first: dict[str, frozenset[str]] = {}
    for said_here, _ in small:
        for feature in said_here:
            says_first.setdefault(feature, said_here)
    unsaid, chosen = set(says_first), list[tuple[frozenset[str], bytes]]()
    while unsaid and len(chosen) < MOST_KEPT:
        most = max(dict.fromkeys(says_first.values()), key=lambda said_here: (len(said_here & unsaid), -len(pool[said_here])))
        chosen.append((most, pool[most]))
        unsaid -= most
    chosen += [item for item in small if item not in chosen][: MOST_KEPT - len(chosen)]

    def says_the_same(shorter: bytes, said_here: frozenset[str]) -> bool:
        try:
            return target.features(shorter, look(shorter, target)) == said_here
        except Finding:
            return False

    kept = []
    for said_here, octets in chosen:
        tries = 60 if time.monotonic() < until else 0
        kept.append(cut_down(octets, lambda shorter, said_here=said_here: says_the_same(shorter, said_here), tries))  # type: ignore[misc]
    return kept


def fuzz(target: Target, minutes: float, seed: int, say: Callable[[str], None]) -> int:
    """Fuzz for some minutes; give how many kinds of finding there were."""
    chance = random.Random(seed)
    pool: dict[frozenset[str], bytes] = {}
    said: set[str] = set()
    interesting: list[bytes] = []
    found: dict[str, Path] = {}
    CURRENT.mkdir(parents=True, exist_ok=True)
    current = CURRENT / f"{target.name}.current"
    queue = [*target.seeds(), *target.kept()]
    begun, tried, told = time.monotonic(), 0, 0.0
    with current.open("wb", buffering=0) as file:
        while queue or time.monotonic() - begun < minutes * 60:
            if queue:
                octets = queue.pop()
            else:
                base = chance.choice(interesting[-50:] if chance.random() < 0.3 else interesting)
                octets = target.made(base, chance.choice(interesting), chance)
            file.seek(0)
            file.truncate()
            file.write(octets)  # if the reader never comes back, this is the input
            faulthandler.dump_traceback_later(SECONDS_TO_GIVE_UP, exit=True)
            tried += 1
            try:
                reading = look(octets, target, is_in_all_ways=chance.random() < 0.25)
                signature = target.features(octets, reading)
                if signature not in pool:
                    look(octets, target)
            except Finding as error:
                if _kind(str(error)) not in found:
                    faulthandler.cancel_dump_traceback_later()
                    found[_kind(str(error))] = path = keep_finding(octets, target, str(error))
                    say(f"FOUND {error}: {path.name}, {path.stat().st_size} octets")
                continue
            if signature not in pool or len(octets) < len(pool[signature]):
                if signature not in pool and (signature - said or chance.random() < 0.1 or len(interesting) < 50):
                    interesting.append(octets)
                    said |= signature
                pool[signature] = octets
            if (elapsed := time.monotonic() - begun) - told >= 30:
                told = elapsed
                say(
                    f"{elapsed:4.0f} s: {tried:,} inputs, {len(pool):,} signatures, {len(said):,} features, {len(found)} findings"
                )
    faulthandler.cancel_dump_traceback_later()
    say(f"{tried:,} inputs, {len(pool):,} signatures, {len(said):,} features, {len(found)} kinds of finding")
    kept = smallest_corpus(pool, target, time.monotonic() + 60)
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.bin"):
        path.unlink()
    for octets in kept:
        (folder / f"{hashlib.sha256(octets).hexdigest()[:16]}.bin").write_bytes(octets)
    say(f"{len(kept)} inputs of {sum(map(len, kept)):,} octets are kept in {folder.relative_to(HERE.parents[1])}")
    return len(found)


def fuzz_all(targets: Mapping[str, Target], arguments: Sequence[str] | None = None) -> int:
    """The command: fuzz one format or all; 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10, help="for each format")
    parser.add_argument("--format", choices=list(targets), help="one format only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    pa.set_cpu_count(1)
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)

    def say(line: str) -> None:
        out.write(line + "\n")

    findings = 0
    for name in [options.format] if options.format else targets:
        say(f"{name}: {options.minutes:g} minutes")
        findings += fuzz(targets[name], options.minutes, options.seed, say)
    out.detach()
    return 1 if findings else 0
