"""Files of the landing folder, on a local disk or an object store alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from jobs.places import filesystem
from jobs.readers import delimited
from jobs.readers.block import WHOLE, Block, Part, ReadFault, Tally, parts_between
from jobs.readers.parquet import read_parquet
from jobs.readers.window import chunk
from schemas.source import CHARGING_FORMATS, Source

COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
"""How a file is compressed, by the end of its name."""
COMPRESSES = 5
"""About how many octets are one when compressed: 4 to 6 of delimited text and charging records, 14 of RADIUS, 24 of SAMIS."""
_IN_PARTS = (*CHARGING_FORMATS, "radius-detail")
_SKIPPED_OCTETS = 4 << 20
"""Decompressed at a time to be left out."""


def is_compressed(place: str) -> bool:
    """Whether a file is compressed as a whole."""
    return place.endswith(tuple(COMPRESSION))


def has_parts(source: Source) -> bool:
    """A file of the source can be read in parts: its records' boundaries can be found without reading them."""
    return source.delimited is not None or source.format in _IN_PARTS


def parts_of(place: str, size_octets: int, source: Source, part_octets: int, most: int) -> list[Part]:
    """Parts of a file of a source that ``has_parts``, from record boundary to record boundary.

    A file that cannot be read to its end is one part: whoever reads it says why.

    Args:
        place: the file.
        size_octets: its octets when it was registered.
        source: its source.
        part_octets: about how large a part is.
        most: parts of a file that is compressed. Each of them decompresses all that lies before it.
    """
    files, path = filesystem(place)
    if is_compressed(path) and most < 2:
        return [WHOLE]
    try:
        with files.open_input_file(path) as file:
            if file.size() != size_octets:
                return [WHOLE]
            if not is_compressed(path):
                return _cut(file, source, part_octets)
            stream = decompressed(file, path)
            return _joined(_cut(stream, source, part_octets), stream.offset, most)
    except (FileNotFoundError, ReadFault):
        return [WHOLE]


def _cut(stream: Any, source: Source, part_octets: int) -> list[Part]:
    if source.delimited is not None:
        return delimited.parts(stream, source.delimited, source.whitelist, part_octets)
    if source.format == "radius-detail":
        from jobs.readers import radius_detail

        return radius_detail.parts(stream, part_octets)
    from jobs.readers import charging

    return charging.parts(stream, source.format == "ts32297", part_octets)


def _joined(parts: Sequence[Part], octets: int, most: int) -> list[Part]:
    """Parts of so many octets as ``most`` parts of about the same size; the last one ends where the octets do."""
    begins = [(0, 1)]
    for part in parts[1:]:
        if part.begin_octet * most > octets * len(begins):
            begins.append((part.begin_octet, part.first_ordinal))
    *joined, last = parts_between(begins)
    return [*joined, replace(last, end_octet=octets)] if joined else [WHOLE]


def read_records(
    place: str,
    size_octets: int,
    source: Source,
    tally: Tally,
    part: Part = WHOLE,
    columns: Sequence[str] | None = None,
) -> Iterator[Block]:
    """Yield columns of a file's records, or of a part's, with their positions: the whitelisted ones unless others are named.

    Raises:
        ReadFault: the file cannot be read further, or is not the file that was registered.
    """
    kept = source.whitelist if columns is None else columns
    files, path = filesystem(place)
    try:
        with files.open_input_file(path) as file:
            if file.size() != size_octets:
                raise ReadFault(f"the file has changed since it was registered: {size_octets} octets then, {file.size()} now")
            if source.format == "parquet":
                yield from read_parquet(file, kept, tally)
            else:
                yield from read_stream(decompressed(file, path), source, kept, tally, part)
        now = files.get_file_info(path).size
        if now != size_octets:
            raise ReadFault(f"the file changed while it was read: {size_octets} octets when it was registered, {now} now")
    except FileNotFoundError:
        raise ReadFault("the file is no longer in the landing folder") from None


def read_stream(
    stream: pa.NativeFile, source: Source, columns: Sequence[str], tally: Tally, part: Part = WHOLE
) -> Iterator[Block]:
    """Yield columns of the records of an open file of any format but Parquet. Raises ReadFault."""
    # Readers are imported where they are used: Numba takes a while, and most sources need none.
    if source.delimited is not None:
        return delimited.read_delimited(stream, source.delimited, columns, tally, part)
    if source.charging is not None:
        from jobs.readers.charging import read_charging

        return read_charging(stream, source.charging, source.format == "ts32297", columns, tally, part)
    if source.format == "radius-detail":
        from jobs.readers.radius_detail import read_radius_detail

        return read_radius_detail(stream, columns, tally, part)
    if source.format == "samis-xml":
        from jobs.readers.ipdr_xml import read_ipdr_xml

        return read_ipdr_xml(stream, columns, tally)
    from jobs.readers.ipdr_xdr import read_ipdr_xdr

    return read_ipdr_xdr(stream, columns, tally)


@dataclass
class Decompressed:
    """The octets of a compressed file, of which some can be left out. ``offset`` is how many lie before the next one."""

    stream: pa.NativeFile
    offset: int = 0

    def read(self, octets: int) -> bytes:
        """The next octets, as many as there are up to that number."""
        found = bytes(self.stream.read(octets))
        self.offset += len(found)
        return found

    def seek(self, offset: int) -> None:
        """Go on to an octet: what lies before is decompressed, too. Raises ReadFault if it is damaged."""
        while self.offset < offset and chunk(self, min(offset - self.offset, _SKIPPED_OCTETS)):
            pass


def decompressed(file: pa.NativeFile, path: str) -> Any:
    """The stream of a file, decompressed as its name says. Raises ReadFault if it is empty and should not be."""
    for suffix, codec in COMPRESSION.items():
        if path.endswith(suffix):
            if file.size() == 0:
                raise ReadFault("the compressed stream is damaged or truncated")
            return Decompressed(pa.CompressedInputStream(file, codec))
    return file
