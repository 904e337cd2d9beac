"""Files of the landing folder, on a local disk or an object store alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from jobs.places import filesystem
from jobs.readers import delimited
from jobs.readers.block import WHOLE, Block, Part, ReadFault, Tally
from jobs.readers.parquet import read_parquet
from schemas.source import CHARGING_FORMATS, Source

COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
"""How a file is compressed, by the end of its name."""
_IN_PARTS = (*CHARGING_FORMATS, "radius-detail")


def has_parts(source: Source, place: str) -> bool:
    """A file of the source can be read in parts: its records' boundaries can be found without reading them."""
    is_divisible = source.delimited is not None or source.format in _IN_PARTS
    return is_divisible and not place.endswith(tuple(COMPRESSION))


def parts_of(place: str, size_octets: int, source: Source, part_octets: int) -> list[Part]:
    """Parts of a file that ``has_parts``, of about so many octets, from record boundary to record boundary.

    A file that cannot be read is one part: whoever reads it says why.
    """
    files, path = filesystem(place)
    try:
        with files.open_input_file(path) as file:
            return _cut(file, source, part_octets) if file.size() == size_octets else [WHOLE]
    except (FileNotFoundError, ReadFault):
        return [WHOLE]


def _cut(file: pa.NativeFile, source: Source, part_octets: int) -> list[Part]:
    if source.delimited is not None:
        return delimited.parts(file, source.delimited, source.whitelist, part_octets)
    if source.format == "radius-detail":
        from jobs.readers import radius_detail

        return radius_detail.parts(file, part_octets)
    from jobs.readers import charging

    return charging.parts(file, source.format == "ts32297", part_octets)


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


def decompressed(file: pa.NativeFile, path: str) -> pa.NativeFile:
    """The stream of a file, decompressed as its name says. Raises ReadFault if it is empty and should not be."""
    for suffix, codec in COMPRESSION.items():
        if path.endswith(suffix):
            if file.size() == 0:
                raise ReadFault("the compressed stream is damaged or truncated")
            return pa.CompressedInputStream(file, codec)
    return file
