"""Files in parts: whether plain or compressed, the parts of a file have the records of the whole."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.files import has_parts, parts_of, read_records
from jobs.readers.block import WHOLE, Part, ReadFault, Tally
from schemas.source import Source, read_sources

SOURCES = read_sources(Path(__file__).parents[2] / "schemas" / "sources")
FORMS = {"fixed_deltas": "delimited", "pgw_pipe": "delimited", "pgw_ts32297": "ts32297", "bng_radius": "radius"}
PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda octets: bytes(pa.compress(octets, codec="zstd", asbytes=True)),
}
PART_OCTETS = 2_000


@pytest.fixture(scope="module", params=FORMS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, bytes]:
    """A source, and the octets of the largest file of a small month of it."""
    from jobs.demo import generate

    folder = tmp_path_factory.mktemp(request.param)
    generate(folder, date(2026, 10, 1), 60, 3, formats=(FORMS[request.param],))
    largest = max((path for path in (folder / request.param).iterdir()), key=lambda path: path.stat().st_size)
    octets = largest.read_bytes()
    return SOURCES[request.param], gzip.decompress(octets) if largest.suffix == ".gz" else octets


def place_of(folder: Path, octets: bytes, suffix: str) -> Path:
    path = folder / f"file{suffix}"
    path.write_bytes(octets)
    return path


def parts(path: Path, source: Source, most: int) -> list[Part]:
    return parts_of(str(path), path.stat().st_size, source, PART_OCTETS, most)


def records(path: Path, source: Source, found: Sequence[Part]) -> tuple[list[Any], list[int]]:
    """Records with their positions, and octets of header, records, padding and quarantine."""
    rows, octets = [], [0, 0, 0, 0]
    for part in found:
        tally = Tally()
        for block in read_records(str(path), path.stat().st_size, source, tally, part):
            rows += zip(block.ordinals.tolist(), block.offsets.tolist(), block.records.to_pylist(), strict=True)
        counted = (tally.octets_header, tally.octets_records, tally.octets_padding, tally.octets_quarantined)
        assert sum(counted) == tally.octets
        octets = [total + more for total, more in zip(octets, counted, strict=True)]
    return rows, octets


@pytest.mark.parametrize("suffix", PACKED)
def test_the_parts_of_a_file_have_the_records_of_the_whole(written, suffix, tmp_path):
    source, octets = written
    path = place_of(tmp_path, PACKED[suffix](octets), suffix)

    found = parts(path, source, 3)

    assert has_parts(source)
    assert len(found) > 3 if suffix == "" else 1 < len(found) <= 3
    assert records(path, source, found) == records(path, source, [WHOLE])
    assert sum(records(path, source, found)[1]) == len(octets)


def test_the_parts_of_a_compressed_file_are_about_as_large_as_each_other(written, tmp_path):
    source, octets = written
    found = parts(place_of(tmp_path, gzip.compress(octets), ".gz"), source, 3)

    begins, ends = [part.begin_octet for part in found], [part.end_octet for part in found]
    assert ends == [*begins[1:], len(octets)]
    assert all(abs(begin - number * len(octets) / 3) < 2 * PART_OCTETS for number, begin in enumerate(begins))


@pytest.mark.parametrize("most", [0, 1])
def test_a_compressed_file_that_may_have_one_part_is_not_looked_through(written, most, tmp_path):
    path = place_of(tmp_path, b"never compressed", ".gz")

    assert parts(path, written[0], most) == [WHOLE]


@pytest.mark.parametrize(
    ("damage", "is_readable"),
    [(lambda packed: packed[:-1], False), (lambda packed: packed[: len(packed) // 2], False), (lambda packed: packed, True)],
    ids=["one octet short", "cut", "sound"],
)
def test_a_damaged_compressed_file_is_one_part_whose_reader_says_why(written, damage, is_readable, tmp_path):
    source, octets = written
    path = place_of(tmp_path, damage(gzip.compress(octets)), ".gz")

    found = parts(path, source, 3)

    assert (found != [WHOLE]) is is_readable
    if not is_readable:
        with pytest.raises(ReadFault, match="the compressed stream is damaged or truncated"):
            records(path, source, found)


def test_a_stream_damaged_since_it_was_looked_through_says_so(written, tmp_path):
    source, octets = written
    packed = gzip.compress(octets)
    path = place_of(tmp_path, packed, ".gz")
    last = parts(path, source, 3)[-1]
    path.write_bytes(packed[: len(packed) // 3] + bytes(len(packed) - len(packed) // 3))

    with pytest.raises(ReadFault, match="the compressed stream is damaged or truncated"):
        records(path, source, [last])
