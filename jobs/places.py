"""Places: local folders, or URIs of an object store."""

from __future__ import annotations

from pyarrow import fs


def filesystem(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or URI and the path within it."""
    files, path = fs.FileSystem.from_uri(without_hadoop(place))
    return files, path


def without_hadoop(place: str) -> str:
    """A place as all but Hadoop name it, which says s3a."""
    return place.replace("s3a://", "s3://", 1)
