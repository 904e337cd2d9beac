"""BLAKE2b (RFC 7693) of many short texts under one key, compiled: hashlib takes three times as long to be called as to hash.

A hash of record keys is worked out for every record. Checked against hashlib's, which stays the definition.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.known import Octets, Offsets, octets_and_offsets

Words = npt.NDArray[np.uint64]

DIGEST_OCTETS = 16
_BLOCK_OCTETS = 128
_WORDS = _BLOCK_OCTETS // 8

_compiled: Any = numba.njit(cache=True, nogil=True)
_inlined: Any = numba.njit(inline="always")

# RFC 7693 §2.6: the initialisation vector, which is SHA-512's.
_IV = np.array(
    [
        *(0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1),
        *(0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179),
    ],
    np.uint64,
)
# RFC 7693 §2.7: the message schedule; the last two of the twelve rounds are the first two again.
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.uint8,
)


def hashed(secret: bytes, texts: pa.BinaryArray) -> Octets:
    """Keyed hashes of 128 bits, a row for each text; a null is the empty text.

    Args:
        secret: the key, up to 64 octets.
        texts: what is hashed.
    """
    found = np.zeros((len(texts), DIGEST_OCTETS), np.uint8)
    _hash_each(np.frombuffer(secret.ljust(_BLOCK_OCTETS, b"\0"), np.uint8), len(secret), *octets_and_offsets(texts), found)
    return found


@_inlined
def _rotated(word: np.uint64, bits: int) -> np.uint64:
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))


@_inlined
def _mixed(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, x: np.uint64, y: np.uint64) -> tuple[np.uint64, ...]:
    """RFC 7693 §3.1."""
    a = a + b + x
    d = _rotated(d ^ a, 32)
    c = c + d
    b = _rotated(b ^ c, 24)
    a = a + b + y
    d = _rotated(d ^ a, 16)
    c = c + d
    b = _rotated(b ^ c, 63)
    return a, b, c, d


@_compiled
def _compress(state: Words, block: Words, counted: int, is_last: bool) -> None:
    """RFC 7693 §3.2: take a block into the state, of which so many octets of the message end with it."""
    v0, v1, v2, v3, v4, v5, v6, v7 = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    v8, v9, v10, v11, v13, v15 = _IV[0], _IV[1], _IV[2], _IV[3], _IV[5], _IV[7]
    v12, v14 = _IV[4] ^ np.uint64(counted), ~_IV[6] if is_last else _IV[6]
    for turn in range(12):
        s = _SIGMA[turn]
        v0, v4, v8, v12 = _mixed(v0, v4, v8, v12, block[s[0]], block[s[1]])
        v1, v5, v9, v13 = _mixed(v1, v5, v9, v13, block[s[2]], block[s[3]])
        v2, v6, v10, v14 = _mixed(v2, v6, v10, v14, block[s[4]], block[s[5]])
        v3, v7, v11, v15 = _mixed(v3, v7, v11, v15, block[s[6]], block[s[7]])
        v0, v5, v10, v15 = _mixed(v0, v5, v10, v15, block[s[8]], block[s[9]])
        v1, v6, v11, v12 = _mixed(v1, v6, v11, v12, block[s[10]], block[s[11]])
        v2, v7, v8, v13 = _mixed(v2, v7, v8, v13, block[s[12]], block[s[13]])
        v3, v4, v9, v14 = _mixed(v3, v4, v9, v14, block[s[14]], block[s[15]])
    state[0] ^= v0 ^ v8
    state[1] ^= v1 ^ v9
    state[2] ^= v2 ^ v10
    state[3] ^= v3 ^ v11
    state[4] ^= v4 ^ v12
    state[5] ^= v5 ^ v13
    state[6] ^= v6 ^ v14
    state[7] ^= v7 ^ v15


@_inlined
def _fill(block: Words, octets: Octets, begin: int, end: int) -> None:
    """The words of a block, least octet first; what the octets do not fill is zero."""
    for word in range(_WORDS):
        block[word] = 0
    for at in range(begin, end):
        block[(at - begin) >> 3] |= np.uint64(octets[at]) << np.uint64(8 * ((at - begin) & 7))


@_compiled
def _hash_each(secret: Octets, secret_octets: int, octets: Octets, offsets: Offsets, found: Octets) -> None:
    keyed, state, block = _IV.copy(), np.empty(8, np.uint64), np.empty(_WORDS, np.uint64)
    keyed[0] ^= np.uint64(0x01010000 ^ (secret_octets << 8) ^ DIGEST_OCTETS)
    empty = keyed.copy()
    _fill(block, secret, 0, _BLOCK_OCTETS)
    _compress(keyed, block, _BLOCK_OCTETS, False)
    _compress(empty, block, _BLOCK_OCTETS, True)  # of the empty text the key is all there is
    for row in range(len(found)):
        begin, end = offsets[row], offsets[row + 1]
        if begin == end:
            state[:] = empty
        else:
            state[:] = keyed
            at = begin
            while end - at > _BLOCK_OCTETS:
                _fill(block, octets, at, at + _BLOCK_OCTETS)
                at += _BLOCK_OCTETS
                _compress(state, block, _BLOCK_OCTETS + at - begin, False)
            _fill(block, octets, at, end)
            _compress(state, block, _BLOCK_OCTETS + end - begin, True)
        for at in range(DIGEST_OCTETS):
            found[row, at] = (state[at >> 3] >> np.uint64(8 * (at & 7))) & np.uint64(0xFF)
