"""Windows over a stream of records: what is left of one and more of the file, and octets of it as texts."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.readers.block import ReadFault

Octets = npt.NDArray[np.uint8]
Spans = npt.NDArray[np.int32]

GUARD = np.zeros(16, np.uint8)
"""Behind the last octet of a window, so that what looks a few octets ahead need not ask whether they are there."""

_compiled: Any = numba.njit(cache=True, nogil=True)


def chunk(stream: Any, octets: int) -> bytes:
    """The next octets of a stream, none at its end. Raises ReadFault if it cannot be decompressed."""
    try:
        return bytes(stream.read(octets))
    except (OSError, EOFError, pa.ArrowException):
        raise ReadFault("the compressed stream is damaged or truncated") from None


def more(stream: Any, rest: bytes, window_octets: int, left: int | None = None) -> tuple[bytes, bool]:
    """The rest and more of the stream, as much as is left of the part, and whether it has ended."""
    texts, missing = [rest], window_octets if left is None else min(window_octets, left)
    ends_here = left is not None and left <= window_octets
    while missing > 0 and (text := chunk(stream, missing)):
        texts.append(text)
        missing -= len(text)
    return b"".join(texts), missing > 0 or ends_here


def guarded(window: bytes) -> Octets:
    """The octets of a window with the guard behind them."""
    return np.concatenate([np.frombuffer(window, np.uint8), GUARD])


@_compiled
def gather(data: Octets, spans: Spans, offsets: npt.NDArray[np.int32], out: Octets) -> None:
    """Gather octets of spans one after the other, a text each; a missing one has no octets."""
    filled = 0
    for row in range(len(spans)):
        offsets[row] = filled
        for place in range(spans[row, 0], spans[row, 0] + max(0, spans[row, 1])):
            out[filled] = data[place]
            filled += 1
    offsets[len(spans)] = filled


def octets_of(data: Octets, spans: Spans) -> pa.BinaryArray:
    """The octets of spans (begin, length), null where the length is negative."""
    spans = np.ascontiguousarray(spans)
    offsets = np.empty(len(spans) + 1, np.int32)
    out = np.empty(int(np.maximum(spans[:, 1], 0).sum()), np.uint8)
    gather(data, spans, offsets, out)
    is_there = spans[:, 1] >= 0
    valid = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(), len(spans), [valid, pa.py_buffer(offsets), pa.py_buffer(out)])
