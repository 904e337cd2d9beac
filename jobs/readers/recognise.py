"""What a file is that a reader was not meant to get, so that it can be refused by name."""

from __future__ import annotations

import numpy as np

from jobs.readers.charging_walk import length_at

_OTHERS = (
    (b"\x7f\x84\x16", "a RAP file (GSMA TD.32)"),
    (b"\x7f\x84\x17", "a RAP acknowledgement (GSMA TD.32)"),
    (b"\x62", "a TAP3 notification (GSMA TD.57)"),
    (b"\x1f\x8b", "gzip-compressed, but its name does not end in .gz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed, but its name does not end in .zst"),
    (b"PAR1", "a Parquet file"),
    (b"<", "XML"),
)


def recognised(octets: bytes) -> str | None:
    """What a file is by its first octets; None if it is not known."""
    head = octets[:512]
    # Letters are tags too: a text may begin with that of a TAP file.
    if head and head[:1] != b"<" and all(octet in b"\t\r\n" or 0x20 <= octet < 0x7F for octet in head):
        return "text"
    if octets[:1] == b"\x61":
        # TransferBatch and Nrtrde have the same root tag; what comes first in it tells them apart.
        _, inner = length_at(np.frombuffer(octets[:16].ljust(16, b"\0"), np.uint8), 1, 16)
        first = octets[inner : inner + 2]
        if first[:1] == b"\x64":
            return "a TAP3 file (GSMA TD.57)"
        return "an NRTRDE file (GSMA TD.35)" if first == b"\x5f\x29" else "a TAP3 or NRTRDE file"
    return next((name for begin, name in _OTHERS if octets.startswith(begin)), None)
