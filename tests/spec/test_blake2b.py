"""Hashes that are worked out by compiled code are those of hashlib, octet by octet."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.blake2b import hashed

BLOCK = 128


def by_hashlib(secret: bytes, texts: list[bytes | None]) -> list[bytes]:
    return [hashlib.blake2b(text or b"", digest_size=16, key=secret).digest() for text in texts]


@pytest.mark.parametrize("secret_octets", [1, 32, 64])
def test_texts_of_every_length_around_a_block_have_the_hashes_of_hashlib(secret_octets):
    secret = bytes(range(secret_octets))
    lengths = [*range(18), *(n * BLOCK + more for n in (1, 2, 3) for more in (-1, 0, 1))]
    texts = [bytes((7 * at + length) % 256 for at in range(length)) for length in lengths]

    assert [row.tobytes() for row in hashed(secret, pa.array(texts, pa.binary()))] == by_hashlib(secret, texts)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.lists(st.none() | st.binary(max_size=300), max_size=8), st.integers(0, 3))
def test_any_texts_have_the_hashes_of_hashlib_also_as_a_slice_of_others(secret, texts, begin):
    found = hashed(secret, pa.array(texts, pa.binary())[begin:])

    assert [row.tobytes() for row in found] == by_hashlib(secret, texts[begin:])


def test_record_keys_are_the_same_before_and_after_a_process_has_hashed_many(monkeypatch):
    from jobs import pseudonyms

    texts = [None, "pgw\x1f1", "pgw\x1f1", "pgw\x1f2", "", None, "é" * 100]
    found = []
    for many in (1 << 18, 0):
        hashes = pseudonyms._Hashes(pseudonyms._by_blake2b, "jobs.blake2b", many)
        monkeypatch.setattr(pseudonyms, "_record_hashes", lambda hashes=hashes: hashes)
        found.append(pseudonyms.Key("identifier", bytes(32)).record_keys(pa.array(texts)).to_pylist())

    assert found[0] == found[1]
    assert [key is None for key in found[0]] == [text is None for text in texts]
