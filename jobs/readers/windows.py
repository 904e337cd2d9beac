"""Reading a stream a window at a time: what is not used up of one begins the next."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jobs.readers.block import ReadFault


def chunk(stream: Any, octets: int) -> bytes:
    """The next octets of a stream, none at its end. Raises ReadFault if it cannot be decompressed."""
    try:
        return bytes(stream.read(octets))
    except (OSError, EOFError, pa.ArrowException):
        raise ReadFault("the compressed stream is damaged or truncated") from None


def more(stream: Any, rest: bytes, window_octets: int, left: int | None) -> tuple[bytes, bool]:
    """The rest and more of the stream, as much as is left of the part, and whether it has ended."""
    texts, missing = [rest], window_octets if left is None else min(window_octets, left)
    ends_here = left is not None and left <= window_octets
    while missing > 0 and (text := chunk(stream, missing)):
        texts.append(text)
        missing -= len(text)
    return b"".join(texts), missing > 0 or ends_here
