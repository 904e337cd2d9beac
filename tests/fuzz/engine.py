"""What every fuzzer of readers shares: the loop, the signatures, findings cut down, and the least corpus that says the same.

The walks are machine code, which a fuzzer that instruments Python (atheris) does not see into; so coverage is of statements
about the input, which each target makes as features. Findings go to ``tests/fuzz/findings/``, cut down; the inputs to keep for
the tests go to ``tests/fuzz/corpus/<format>/``.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import io
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.readers.block import ReadFault, Tally

HERE = Path(__file__).parent
CORPUS, FINDINGS = HERE / "corpus", HERE / "findings"
SAMPLES = HERE.parents[2] / "shared" / "samples"
CURRENT = HERE.parents[1] / "var" / "fuzz"

SECONDS_OF_AN_INPUT = 2.0
"""Of the processor: others may use it too."""
SECONDS_TO_GIVE_UP = 60
LARGEST_INPUT_OCTETS = 1 << 14
LARGEST_KEPT_OCTETS, MOST_KEPT = 2 << 10, 150


class Finding(Exception):
    """The reader broke a promise on an input; the text begins with which."""


@dataclass(frozen=True)
class Reading:
    """What the reader said of an input."""

    rows: pa.Table | None
    """Columns and positions; null if nothing was read."""
    tally: Tally
    refusal: str | None


@dataclass(frozen=True)
class Target:
    """A format to fuzz: inputs to begin with, what is checked of one, what it says, and how to make another."""

    name: str
    seeds: Callable[[], list[bytes]]
    look: Callable[[bytes, bool], Reading]
    """Raises Finding; in all ways if asked to."""
    features: Callable[[bytes, Reading], frozenset[str]]
    mutated: Callable[[bytes, bytes, random.Random], bytes]


def refusal(take: Callable[[], None]) -> str | None:
    """Why a reader refuses an input; null if it does not. Raises Finding for any other exception than ReadFault."""
    try:
        take()
    except ReadFault as fault:
        return str(fault)
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise Finding(f"raised: {type(error).__name__} {error} in {Path(at.filename).name} {at.name}") from error
    return None


def check_octets(octets: bytes, reading: Reading) -> None:
    """Every octet is header, record, padding or quarantined."""
    tally = reading.tally
    of_kinds = (tally.octets_header, tally.octets_records, tally.octets_padding, tally.octets_quarantined)
    if min(of_kinds) < 0 or sum(of_kinds) != len(octets) or tally.octets != len(octets):
        raise Finding(f"octets: {of_kinds} of {len(octets)}, tallied {tally.octets}")


def check_same(way: str, one: Reading, other: Reading) -> None:
    """Rows and octets of each kind do not depend on the way a file is read."""
    if (one.rows is None) != (other.rows is None):
        raise Finding(f"{way}: there are rows in one way only")
    if one.rows is not None and other.rows is not None and not one.rows.equals(other.rows):
        if one.rows.num_rows != other.rows.num_rows:
            raise Finding(f"{way}: {one.rows.num_rows} rows, {other.rows.num_rows} in the other way")
        differing = [name for name in one.rows.schema.names if not one.rows[name].equals(other.rows[name])]
        raise Finding(f"{way}: these differ: {', '.join(differing)}")
    kinds = ("records", "octets", "octets_header", "octets_records", "octets_padding", "octets_quarantined", "spans_quarantined")
    for kind in kinds:
        if getattr(one.tally, kind) != getattr(other.tally, kind):
            raise Finding(f"{way}: {kind} {getattr(one.tally, kind)}, {getattr(other.tally, kind)} in the other way")
    if way == "window" and one.tally.warnings != other.tally.warnings:
        raise Finding(f"{way}: warnings {one.tally.warnings}, {other.tally.warnings} in the other way")


def magnitude(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return ("?" if "?" in value or "\ufffd" in value else "text") if value else "empty"
    if isinstance(value, int):
        return str(min(4, (value.bit_length() + 15) // 16))
    return "instant"


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
        target.look(octets, True)
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
            return target.features(shorter, target.look(shorter, True)) == said_here
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
    queue = target.seeds()
    begun, tried, told = time.monotonic(), 0, 0.0
    with current.open("wb", buffering=0) as file:
        while queue or time.monotonic() - begun < minutes * 60:
            if queue:
                octets = queue.pop()
            else:
                base = chance.choice(interesting[-50:] if chance.random() < 0.3 else interesting)
                octets = target.mutated(base, chance.choice(interesting), chance)[:LARGEST_INPUT_OCTETS]
            file.seek(0)
            file.truncate()
            file.write(octets)  # if the reader never comes back, this is the input
            faulthandler.dump_traceback_later(SECONDS_TO_GIVE_UP, exit=True)
            tried += 1
            try:
                reading = target.look(octets, chance.random() < 0.25)
                signature = target.features(octets, reading)
                if signature not in pool:
                    target.look(octets, True)
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


def run(program: str, targets: Sequence[Target], arguments: Sequence[str] | None = None) -> int:
    """Fuzz one format or all; 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--minutes", type=float, default=10, help="for each format")
    parser.add_argument("--format", choices=[target.name for target in targets], help="one format only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    pa.set_cpu_count(1)
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)

    def say(line: str) -> None:
        out.write(line + "\n")

    findings = 0
    for target in targets:
        if options.format not in (None, target.name):
            continue
        say(f"{target.name}: {options.minutes:g} minutes")
        findings += fuzz(target, options.minutes, options.seed, say)
    out.detach()
    return 1 if findings else 0
