"""land: register every finished file of the landing folder, with its hash and sequence. Nothing is read into records yet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import pyarrow as pa
from pyarrow import fs

from jobs.files import decompressed
from jobs.lake import Lake
from jobs.places import filesystem
from jobs.readers.block import ReadFault
from jobs.readers.cdr_file import LARGEST_HEADER_OCTETS, file_header
from jobs.run import Refused
from schemas.source import Source
from schemas.tables import LANDED

_HASH_OCTETS = 4 << 20


@dataclass(frozen=True)
class Delivery:
    """A registered file."""

    file_number: int
    source: str
    file_name: str
    file_hash: str
    size_octets: int
    modified_at: datetime
    file_sequence: int | None
    sequence_series: str | None
    status: str
    reason: str | None
    replaces_file_number: int | None
    landed_at: datetime

    @property
    def content(self) -> tuple[str, str]:
        """Source and bytes: what is read once, however many files hold it."""
        return self.source, self.file_hash


@dataclass(frozen=True)
class _File:
    source: str
    file_name: str
    size_octets: int
    modified_at: datetime
    place: str


def read_deliveries(lake: Lake) -> list[Delivery]:
    """Every delivery by number."""
    rows = lake.small(LANDED)
    return sorted((Delivery(**row.asDict()) for row in rows), key=lambda delivery: delivery.file_number)


def place_of(landing: str, delivery: Delivery) -> str:
    """Where the file of a delivery lies."""
    return f"{landing}/{delivery.source}/{delivery.file_name}"


def land(lake: Lake, landing: str, sources: Mapping[str, Source], now: datetime) -> list[Delivery]:
    """Register files that are finished and not registered as they are; return the new deliveries.

    Raises:
        Refused: the landing folder is missing, or a sub-folder belongs to no source.
    """
    registry = _Registry(read_deliveries(lake))
    deliveries = list(_deliveries(_files(landing, sources, now), registry, sources, now))
    if deliveries:
        lake.append_rows(LANDED, [vars(delivery) for delivery in deliveries])
    return deliveries


def register_again(lake: Lake, landing: str, sources: Mapping[str, Source], delivery: Delivery, now: datetime) -> Delivery:
    """The delivery as its file is now: the same one, or a superseding one where its bytes have changed.

    Raises:
        Refused: the file is no longer in the landing folder.
    """
    found = [f for f in _files(landing, sources, now) if (f.source, f.file_name) == (delivery.source, delivery.file_name)]
    if not found:
        raise Refused(f"{place_of(landing, delivery)} is no longer in the landing folder, so it cannot be read again")
    file = found[0]
    file_hash = _sha256(file.place)
    if file_hash == delivery.file_hash:
        return delivery
    number = max(d.file_number for d in read_deliveries(lake)) + 1
    changed = replace(
        delivery,
        file_number=number,
        file_hash=file_hash,
        size_octets=file.size_octets,
        modified_at=file.modified_at,
        status="superseding",
        reason="read again on request",
        replaces_file_number=delivery.file_number,
        landed_at=now,
    )
    lake.append_rows(LANDED, [vars(changed)])
    return changed


def contents_that_count(deliveries: Iterable[Delivery]) -> dict[tuple[str, str], Delivery]:
    """What the files of every source hold now, refused changes apart: each content once, with the first that holds it."""
    held = {(d.source, d.file_name): d for d in sorted(deliveries, key=lambda d: d.file_number) if d.status != "refused"}
    return {d.content: d for d in sorted(held.values(), key=lambda d: -d.file_number)}


def sequence_gaps(deliveries: Iterable[Delivery]) -> dict[str, list[int]]:
    """Numbers missing between the first and the last file of each series, by source and series; of a wide gap the first 1,000."""
    numbers: dict[str, set[int]] = {}
    for delivery in deliveries:
        if delivery.sequence_series is not None and delivery.file_sequence is not None:
            numbers.setdefault(f"{delivery.source} {delivery.sequence_series}", set()).add(delivery.file_sequence)
    gaps = {
        series: [n for a, b in pairwise(sorted(found)) for n in range(a + 1, min(b, a + 1001))]
        for series, found in numbers.items()
    }
    return {series: missing for series, missing in sorted(gaps.items()) if missing}


def _files(landing: str, sources: Mapping[str, Source], now: datetime) -> Iterator[_File]:
    """Finished files of every source, in the order of their names."""
    files, root = filesystem(landing)
    if files.get_file_info(root).type != fs.FileType.Directory:
        raise Refused(f"the landing folder {landing} does not exist: create it with a folder per source, or run footprint demo")
    for folder in _listed(files, root):
        if folder.type == fs.FileType.Directory and folder.base_name not in sources:
            raise Refused(
                f"{landing}/{folder.base_name} belongs to no source: add {folder.base_name}.toml to the sources, or move it"
            )
    for name in sorted(sources):
        folder = f"{root}/{name}"
        entries = [entry for entry in _listed(files, folder, recursive=True) if entry.type == fs.FileType.File]
        names = {entry.path for entry in entries}
        for entry in entries:
            if _is_finished(entry, names, sources[name], now):
                relative = entry.path[len(folder) :].lstrip("/")
                place = f"{landing}/{name}/{relative}"
                yield _File(name, relative, entry.size, _utc(entry.mtime), place)


def _listed(files: fs.FileSystem, folder: str, recursive: bool = False) -> Sequence[Any]:
    selector = fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
    return sorted(files.get_file_info(selector), key=lambda entry: str(entry.path))


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _is_finished(entry: Any, names: set[str], source: Source, now: datetime) -> bool:
    rules = source.files
    if not fnmatchcase(entry.base_name, rules.pattern) or entry.base_name.endswith(rules.unfinished_suffixes):
        return False
    if rules.done_marker is not None and (
        entry.base_name.endswith(rules.done_marker) or f"{entry.path}{rules.done_marker}" not in names
    ):
        return False
    # A clock that is ahead must not hide a file for which no rest is asked.
    rest = timedelta(seconds=rules.unchanged_for_seconds)
    return not rest or now - _utc(entry.mtime) >= rest


class _Registry:
    """The deliveries so far, found by name and by bytes."""

    def __init__(self, known: Iterable[Delivery]) -> None:
        self.count = 0
        self._seen: set[tuple[str, str, int, datetime]] = set()
        self._latest: dict[tuple[str, str], Delivery] = {}
        self._current: dict[tuple[str, str], Delivery] = {}
        self._holders: dict[tuple[str, str], dict[str, Delivery]] = {}
        for delivery in known:
            self.add(delivery)

    def add(self, delivery: Delivery) -> None:
        name = (delivery.source, delivery.file_name)
        self.count = max(self.count, delivery.file_number)
        self._seen.add((*name, delivery.size_octets, delivery.modified_at))
        self._latest[name] = delivery
        if delivery.status != "refused":
            replaced = self._current.get(name)
            if replaced:
                del self._holders[replaced.content][delivery.file_name]
            self._current[name] = delivery
            self._holders.setdefault(delivery.content, {})[delivery.file_name] = delivery

    def is_registered(self, file: _File) -> bool:
        """The file was registered with this name, size and time; a changed one is hashed again."""
        return (file.source, file.file_name, file.size_octets, file.modified_at) in self._seen

    def judge(self, file: _File, file_hash: str, on_changed_file: str) -> tuple[str, str | None, int | None] | None:
        """Status, reason and replaced delivery of a file; None if it was only touched."""
        name = (file.source, file.file_name)
        latest, current = self._latest.get(name), self._current.get(name)
        if latest is not None and latest.file_hash == file_hash:
            return None
        holders = self._holders.get((file.source, file_hash))
        if holders and (latest is None or file.file_name in holders):
            holder = holders.get(file.file_name, next(iter(holders.values())))
            return "duplicate", f"the same bytes as {holder.file_name}", holder.file_number
        if latest is None:
            return "new", None, None
        replaced = current.file_number if current else None
        status = "superseding" if on_changed_file == "supersede" else "refused"
        return status, f"other bytes than delivery {latest.file_number} of this name", replaced


def _deliveries(files: Iterable[_File], registry: _Registry, sources: Mapping[str, Source], now: datetime) -> Iterator[Delivery]:
    found = [file for file in files if not registry.is_registered(file)]
    with ThreadPoolExecutor() as pool:  # hashing takes long, and holds no lock of the interpreter
        hashes = list(pool.map(lambda file: _sha256(file.place), found))
    for file, file_hash in zip(found, hashes, strict=True):
        judged = registry.judge(file, file_hash, sources[file.source].files.on_changed_file)
        if judged is None:
            continue
        series, sequence = _sequence(file.file_name, sources[file.source])
        if sources[file.source].files.sequence is None and sources[file.source].format == "ts32297":
            series, sequence = _sequence_of_header(file.place)
        described = (file.source, file.file_name, file_hash, file.size_octets, file.modified_at, sequence, series)
        delivery = Delivery(registry.count + 1, *described, *judged, now)
        registry.add(delivery)
        yield delivery


def _sequence(file_name: str, source: Source) -> tuple[str | None, int | None]:
    """Series and number in a file name; both null where the source declares none or the name does not match."""
    match = re.search(source.files.sequence, file_name.rsplit("/", 1)[-1]) if source.files.sequence else None
    if match is None:
        return None, None
    groups = match.groupdict()
    return groups.get("series"), int(groups["sequence"])


def _sequence_of_header(place: str) -> tuple[str | None, int | None]:
    """Node and running number in the header of a TS 32.297 file; both null where it has none. 0 is what writers leave unset."""
    files, path = filesystem(place)
    try:
        with files.open_input_file(path) as file:
            header = file_header(decompressed(file, path).read(LARGEST_HEADER_OCTETS))
    except (ReadFault, OSError, pa.ArrowException):  # whoever reads it says what is wrong
        return None, None
    return (header.node_address, header.file_sequence) if header.file_sequence else (None, None)


def _sha256(place: str) -> str:
    files, path = filesystem(place)
    digest = hashlib.sha256()
    with files.open_input_file(path) as file:
        while octets := file.read(_HASH_OCTETS):
            digest.update(octets)
    return digest.hexdigest()
