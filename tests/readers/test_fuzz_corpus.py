"""What the fuzzers kept: the readers of binary records and of IPDR keep their promises on each of these inputs still."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import charging, ipdr
from tests.fuzz.engine import CORPUS, FINDINGS, Target, cut_down

TARGETS = {target.name: target for target in (*map(charging.target, charging.FORMATS), *map(ipdr.target, ipdr.FORMATS))}
KEPT = [(name, path) for name in TARGETS for path in sorted((CORPUS / name).glob("*.bin"))]
FOUND_ONCE = [(name, path) for name in TARGETS for path in sorted(FINDINGS.glob(f"{name}-*.bin"))]


def look(octets: bytes, target: Target) -> None:
    target.look(octets, True)


def test_a_corpus_is_kept_for_each_format():
    assert {name for name, _ in KEPT} == set(TARGETS)


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=f"{name}-{path.stem}") for name, path in KEPT])
def test_the_reader_keeps_its_promises_on_a_kept_input(name: str, path: Path):
    look(path.read_bytes(), TARGETS[name])


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=path.stem) for name, path in FOUND_ONCE])
def test_what_the_fuzzer_found_once_is_found_no_more(name: str, path: Path):
    look(path.read_bytes(), TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_the_reader_keeps_its_promises_on_seeds_that_are_cut_off(name: str):
    for octets in TARGETS[name].seeds()[:12]:
        for end in range(1, len(octets), 7):
            look(octets[:end], TARGETS[name])


def test_an_input_is_cut_down_to_what_matters():
    assert cut_down(bytes(range(100)), lambda octets: 7 in octets and 70 in octets) == bytes([7, 70])
