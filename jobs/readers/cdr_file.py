"""The header of a TS 32.297 file: what the node that wrote it says of it."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.readers.block import ReadFault

LARGEST_HEADER_OCTETS = 1 << 16
_SMALLEST_HEADER_OCTETS = 50
_LENGTH_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True)
class FileHeader:
    """The header of a TS 32.297 file (§6.1.1), as far as it is used."""

    length_octets: int
    file_length_octets: int | None
    """As the header says; null where it was not known when it was written."""
    cdrs: int | None
    file_sequence: int | None
    node_address: str | None
    """Of the node whose files are numbered, hexadecimal."""
    lost_cdrs: int | None
    """At least so many CDRs were lost before they came into the file; null where the header does not say."""


def file_header(octets: bytes) -> FileHeader:
    """The header of a TS 32.297 file. Raises ReadFault if the octets do not begin with one."""
    length = int.from_bytes(octets[4:8], "big")
    if not 8 <= length <= LARGEST_HEADER_OCTETS or length > len(octets):
        raise ReadFault(f"not a TS 32.297 file: its header would have {length} octets")
    whole: int | None = int.from_bytes(octets[0:4], "big")
    whole = None if whole == _LENGTH_UNKNOWN else whole
    if length < _SMALLEST_HEADER_OCTETS:
        return FileHeader(length, whole, None, None, None, None)
    indicator = octets[47]
    lost = indicator if indicator < 128 else {128: 1}.get(indicator, indicator - 128)
    cdrs, sequence = int.from_bytes(octets[18:22], "big"), int.from_bytes(octets[22:26], "big")
    return FileHeader(length, whole, cdrs, sequence, octets[27:47].hex(), lost)
