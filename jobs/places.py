"""Places: local folders, or URIs of an object store."""

from __future__ import annotations

from pyarrow import fs


def filesystem(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or URI and the path within it."""
    # Hadoop calls the store s3a, Arrow s3.
    files, path = fs.FileSystem.from_uri(place.replace("s3a://", "s3://", 1))
    return files, path
