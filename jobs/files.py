"""Files of the landing folder, on a local disk or an object store alike."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyarrow import fs

from jobs.readers.block import Block, ReadFault, Tally
from jobs.readers.charging import read_charging
from jobs.readers.delimited import read_delimited
from jobs.readers.parquet import read_parquet
from schemas.source import Source

_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


def filesystem(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or URI and the path within it."""
    # Hadoop calls the store s3a, Arrow s3.
    files, path = fs.FileSystem.from_uri(place.replace("s3a://", "s3://", 1))
    return files, path


def read_records(place: str, size_octets: int, source: Source, tally: Tally) -> Iterator[Block]:
    """Yield the whitelisted columns of a file's records with their positions.

    Raises:
        ReadFault: the file cannot be read further, or is not the file that was registered.
    """
    files, path = filesystem(place)
    try:
        with files.open_input_file(path) as file:
            if file.size() != size_octets:
                raise ReadFault(f"the file has changed since it was registered: {size_octets} octets then, {file.size()} now")
            if source.delimited is not None:
                yield from read_delimited(decompressed(file, path), source.delimited, source.whitelist, tally)
            elif source.charging is not None:
                is_framed = source.format == "ts32297"
                yield from read_charging(decompressed(file, path), source.charging, is_framed, source.whitelist, tally)
            else:
                yield from read_parquet(file, source.whitelist, tally)
    except FileNotFoundError:
        raise ReadFault("the file is no longer in the landing folder") from None


def decompressed(file: pa.NativeFile, path: str) -> pa.NativeFile:
    """The stream of a file, decompressed as its name says. Raises ReadFault if it is empty and should not be."""
    for suffix, codec in _COMPRESSION.items():
        if path.endswith(suffix):
            if file.size() == 0:
                raise ReadFault("the compressed stream is damaged or truncated")
            return pa.CompressedInputStream(file, codec)
    return file
