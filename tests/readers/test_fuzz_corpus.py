"""What the fuzzer of charging records kept: the reader keeps its promises on each of these inputs still."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.charging import CORPUS, FINDINGS, FORMATS, FormatName, cut_down, look, seeds

KEPT = [(name, path) for name in FORMATS for path in sorted((CORPUS / name).glob("*.bin"))]
FOUND_ONCE = [(name, path) for name in FORMATS for path in sorted(FINDINGS.glob(f"{name}-*.bin"))]


def test_a_corpus_is_kept_for_each_format():
    assert {name for name, _ in KEPT} == set(FORMATS)


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=f"{name}-{path.stem}") for name, path in KEPT])
def test_the_reader_keeps_its_promises_on_a_kept_input(name: FormatName, path: Path):
    look(path.read_bytes(), name)


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=path.stem) for name, path in FOUND_ONCE])
def test_what_the_fuzzer_found_once_is_found_no_more(name: FormatName, path: Path):
    look(path.read_bytes(), name)


@pytest.mark.parametrize("name", FORMATS)
def test_the_reader_keeps_its_promises_on_seeds_that_are_cut_off(name: FormatName):
    for octets in seeds(name)[:12]:
        for end in range(1, len(octets), 7):
            look(octets[:end], name)


def test_an_input_is_cut_down_to_what_matters():
    assert cut_down(bytes(range(100)), lambda octets: 7 in octets and 70 in octets) == bytes([7, 70])
