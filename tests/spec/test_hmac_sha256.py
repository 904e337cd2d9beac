"""Pseudonyms that are worked out by compiled code are those of Python's own HMAC, octet by octet."""

from __future__ import annotations

import hmac

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import pseudonyms
from jobs.hmac_sha256 import hashed
from jobs.known import Known

BLOCK = 64


def by_python(secret: bytes, begin: bytes, texts: list[bytes | None]) -> list[bytes]:
    return [hmac.digest(secret, begin + (text or b""), "sha256")[:16] for text in texts]


@pytest.mark.parametrize("secret_octets", [1, 32, 64, 65, 200])
@pytest.mark.parametrize("begin", [b"", b"imsi\0"])
def test_texts_of_every_length_around_a_block_have_the_hashes_of_python(secret_octets, begin):
    secret = bytes(range(secret_octets))
    lengths = [*range(BLOCK + 2), *(n * BLOCK + more for n in (2, 3) for more in range(-14, 2))]
    texts = [bytes((7 * at + length) % 256 for at in range(length)) for length in lengths]

    assert [row.tobytes() for row in hashed(secret, begin, pa.array(texts, pa.binary()))] == by_python(secret, begin, texts)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.lists(st.none() | st.binary(max_size=300), max_size=8), st.integers(0, 3))
def test_any_texts_have_the_hashes_of_python_also_as_a_slice_of_others(secret, texts, begin):
    found = hashed(secret, b"msisdn\0", pa.array(texts, pa.binary())[begin:])

    assert [row.tobytes() for row in found] == by_python(secret, b"msisdn\0", texts[begin:])


def test_the_published_vectors_are_met():
    # RFC 4231 §4.2, §4.3 and §4.7: a key of a block and more, and shorter ones.
    vectors = [
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b"),
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c7"),
        (b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f"),
    ]
    for secret, text, expected in vectors:
        assert hashed(secret, b"", pa.array([text]))[0].tobytes().hex() == expected


def test_pseudonyms_are_the_same_before_and_after_a_process_has_hashed_many(monkeypatch):
    texts = [None, "001010000000001", "001010000000001", "", None, "é" * 100]
    found = []
    for many in (1 << 18, 0):
        hashes, known = pseudonyms._Hashes(pseudonyms._by_hmac, "jobs.hmac_sha256", many), Known(1 << 4)
        monkeypatch.setattr(pseudonyms, "_pseudonym_hashes", lambda hashes=hashes: hashes)
        monkeypatch.setattr(pseudonyms, "_known_pseudonyms", lambda known=known: known)
        found.append(pseudonyms.Key("identifier", bytes(32)).pseudonyms("imsi", pa.array(texts)).to_pylist())

    assert found[0] == found[1]
    assert found[0][1] == pseudonyms.Key("identifier", bytes(32)).pseudonym("imsi", "001010000000001")
    assert [key is None for key in found[0]] == [text is None for text in texts]
