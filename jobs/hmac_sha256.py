"""HMAC-SHA-256 (RFC 2104, FIPS 180-4) of many short texts under one key, compiled: hashlib takes five times as long to be called.

Each subscriber's identifier is hashed once by every worker that meets it. Checked against Python's own, which stays the
definition.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.known import Octets, Offsets, octets_and_offsets

Words = npt.NDArray[np.uint32]

DIGEST_OCTETS = 16
"""As many octets of each are kept."""
_BLOCK_OCTETS = 64
_PADDING_OCTETS = 9
"""A one, and the length of the message."""
_INNER, _OUTER = 0x36, 0x5C

_compiled: Any = numba.njit(cache=True, nogil=True)
_inlined: Any = numba.njit(inline="always")

# FIPS 180-4 §5.3.3: the first hash value.
_IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19],
    np.uint32,
)
# FIPS 180-4 §4.2.2: the constants of the rounds.
_ROUNDS = np.array(
    [
        *(0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5),
        *(0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174),
        *(0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA),
        *(0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967),
        *(0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85),
        *(0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070),
        *(0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3),
        *(0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2),
    ],
    np.uint32,
)


def hashed(secret: bytes, begin: bytes, texts: pa.BinaryArray) -> Octets:
    """The first 128 bits of the hash of each text, a row each; a null is the empty text.

    Args:
        secret: the key.
        begin: stands before each text.
        texts: what is hashed.
    """
    found = np.zeros((len(texts), DIGEST_OCTETS), np.uint8)
    octets, offsets = octets_and_offsets(texts)
    longest = len(begin) + int(np.diff(offsets).max(initial=0))
    blocks = -(-(longest + _PADDING_OCTETS) // _BLOCK_OCTETS)
    message = np.zeros(blocks * _BLOCK_OCTETS, np.uint8)
    message[: len(begin)] = np.frombuffer(begin, np.uint8)
    key = secret if len(secret) <= _BLOCK_OCTETS else hashlib.sha256(secret).digest()
    padded = np.frombuffer(key.ljust(_BLOCK_OCTETS, b"\0"), np.uint8)
    _hash_each(padded ^ np.uint8(_INNER), padded ^ np.uint8(_OUTER), message, len(begin), octets, offsets, found)
    return found


@_inlined
def _rotated(word: np.uint32, bits: int) -> np.uint32:
    # Numba works out sums and shifts in 64 bits.
    return np.uint32((word >> np.uint32(bits)) | (word << np.uint32(32 - bits)))


@_compiled
def _compress(state: Words, words: Words, octets: Octets, at: int) -> None:
    """FIPS 180-4 §6.2.2: take a block of octets into the state."""
    for word in range(16):
        here = at + 4 * word
        words[word] = (octets[here] << 24) | (octets[here + 1] << 16) | (octets[here + 2] << 8) | octets[here + 3]
    for word in range(16, 64):
        x, y = words[word - 15], words[word - 2]
        small_0 = _rotated(x, 7) ^ _rotated(x, 18) ^ (x >> np.uint32(3))
        small_1 = _rotated(y, 17) ^ _rotated(y, 19) ^ (y >> np.uint32(10))
        words[word] = words[word - 16] + small_0 + words[word - 7] + small_1
    a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    for turn in range(64):
        large_1 = _rotated(e, 6) ^ _rotated(e, 11) ^ _rotated(e, 25)
        first = np.uint32(h + large_1 + (g ^ (e & (f ^ g))) + _ROUNDS[turn] + words[turn])
        large_0 = _rotated(a, 2) ^ _rotated(a, 13) ^ _rotated(a, 22)
        second = large_0 + ((a & b) | (c & (a | b)))
        a, b, c, d, e, f, g, h = np.uint32(first + second), a, b, c, np.uint32(d + first), e, f, g
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e
    state[5] += f
    state[6] += g
    state[7] += h


@_inlined
def _finish(message: Octets, end: int, bits: int) -> int:
    """FIPS 180-4 §5.1.1: a one, zeros, and the length in bits; give where the last block ends."""
    last = (end + _PADDING_OCTETS + _BLOCK_OCTETS - 1) // _BLOCK_OCTETS * _BLOCK_OCTETS
    message[end] = 0x80
    message[end + 1 : last - 8] = 0
    for at in range(8):
        message[last - 1 - at] = (bits >> (8 * at)) & 0xFF
    return last


@_compiled
def _hash_each(
    inner_key: Octets, outer_key: Octets, message: Octets, begin_octets: int, octets: Octets, offsets: Offsets, found: Octets
) -> None:
    inner, outer, state, words = _IV.copy(), _IV.copy(), np.empty(8, np.uint32), np.empty(64, np.uint32)
    _compress(inner, words, inner_key, 0)
    _compress(outer, words, outer_key, 0)
    around = np.zeros(_BLOCK_OCTETS, np.uint8)
    _finish(around, 32, 8 * (_BLOCK_OCTETS + 32))
    for row in range(len(found)):
        end = begin_octets
        for at in range(offsets[row], offsets[row + 1]):
            message[end] = octets[at]
            end += 1
        last = _finish(message, end, 8 * (_BLOCK_OCTETS + end))
        state[:] = inner
        for at in range(0, last, _BLOCK_OCTETS):
            _compress(state, words, message, at)
        for at in range(32):
            around[at] = (state[at >> 2] >> np.uint32(24 - 8 * (at & 3))) & np.uint32(0xFF)
        state[:] = outer
        _compress(state, words, around, 0)
        for at in range(DIGEST_OCTETS):
            found[row, at] = (state[at >> 2] >> np.uint32(24 - 8 * (at & 3))) & np.uint32(0xFF)
