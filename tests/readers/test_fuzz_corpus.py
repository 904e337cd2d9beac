"""What the fuzzers of the readers kept: each reader keeps its promises on each of these inputs still."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import TARGETS
from tests.fuzz.search import CORPUS, FINDINGS, cut_down, look

KEPT = [(name, path) for name in TARGETS for path in sorted((CORPUS / name).glob("*.bin"))]
FOUND_ONCE = [(name, path) for name in TARGETS for path in sorted(FINDINGS.glob(f"{name}-*.bin"))]


def test_a_corpus_is_kept_for_each_format():
    assert {name for name, _ in KEPT} == set(TARGETS) == {path.name for path in CORPUS.iterdir()}


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=f"{name}-{path.stem}") for name, path in KEPT])
def test_the_reader_keeps_its_promises_on_a_kept_input(name: str, path: Path):
    look(path.read_bytes(), TARGETS[name])


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=path.stem) for name, path in FOUND_ONCE])
def test_what_the_fuzzer_found_once_is_found_no_more(name: str, path: Path):
    look(path.read_bytes(), TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_the_reader_keeps_its_promises_on_seeds_that_are_cut_off(name: str):
    target = TARGETS[name]
    for octets in target.seeds()[:12]:
        for end in range(1, len(octets), 7):
            look(octets[:end], target)


def test_an_input_is_cut_down_to_what_matters():
    assert cut_down(bytes(range(100)), lambda octets: 7 in octets and 70 in octets) == bytes([7, 70])
