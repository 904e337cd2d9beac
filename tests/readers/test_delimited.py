"""Delimited text: every line is one record with its octet, every octet is counted, and a fault stays with its line.

Positions are checked against an independent split of the bytes at line feeds.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.files import read_records
from jobs.readers.block import WHOLE, ReadFault, Tally
from jobs.readers.delimited import LONGEST_LINE_OCTETS, parts, read_delimited
from schemas.source import Delimited, UsageSource, read_sources

WITH_HEADER = Delimited(delimiter=",", quote='"', header=True)
TWO_COLUMNS = Delimited(delimiter=",", quote='"', header=False, columns=("who", "octets"))
NO_QUOTES = Delimited(delimiter=",", header=False, columns=("who", "octets"))
LATIN = Delimited(delimiter=",", quote='"', encoding="iso-8859-1", header=False, columns=("who", "octets"))
COLUMNS = ("who", "octets")
HEADER = b"who,octets\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

FIXED: UsageSource = read_sources(Path(__file__).parents[2] / "schemas" / "sources")["fixed_deltas"]  # type: ignore[assignment]


@dataclass
class Reading:
    """What was read: ordinal, offset, fault and values of each record in the order of the file, and why it ended early."""

    records: list[tuple[int, int, str | None, tuple[str | None, ...]]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    fault: str | None = None

    @property
    def values(self) -> list[tuple[str | None, ...]]:
        return [values for _, _, _, values in self.records]

    @property
    def faults(self) -> list[str | None]:
        return [fault for _, _, fault, _ in self.records]

    @property
    def positions(self) -> list[tuple[int, int]]:
        return [(ordinal, offset) for ordinal, offset, _, _ in self.records]

    @property
    def octets(self) -> tuple[int, int, int, int]:
        """Header, records, padding, quarantined."""
        t = self.tally
        return t.octets_header, t.octets_records, t.octets_padding, t.octets_quarantined


def add(reading: Reading, blocks: Any, columns: Sequence[str] = COLUMNS) -> Reading:
    try:
        for block in blocks:
            values = [tuple(row[name] for name in columns) for row in block.records.to_pylist()]
            faults = block.faults.to_pylist()
            reading.records += zip(block.ordinals.tolist(), block.offsets.tolist(), faults, values, strict=True)
    except ReadFault as fault:
        reading.fault = str(fault)
    reading.records.sort()
    return reading


def read(
    octets: bytes, layout: Delimited = TWO_COLUMNS, block_octets: int = 1 << 20, columns: Sequence[str] = COLUMNS
) -> Reading:
    """Read by Arrow and by compiled code, which say the same of whatever octets."""
    by_arrow, compiled = Reading(), Reading()
    for reading, many in ((by_arrow, 1 << 60), (compiled, -1)):
        with mock.patch("jobs.readers.delimited._MANY_RECORDS", many):
            blocks = read_delimited(pa.BufferReader(octets), layout, columns, reading.tally, WHOLE, block_octets)
            add(reading, blocks, columns)
    assert compiled == by_arrow
    return compiled


def read_file(path: Path) -> Reading:
    reading = Reading()
    columns = FIXED.whitelist
    return add(reading, read_records(str(path), path.stat().st_size, FIXED, reading.tally), columns)


def lines_of(octets: bytes, skipped: int = 0) -> list[tuple[int, int]]:
    """Ordinal and octet of every line that is not empty, by an independent split of the bytes."""
    positions, offset = [], skipped
    for line in octets[skipped:].split(b"\n"):
        if line.removesuffix(b"\r"):
            positions.append((len(positions) + 1, offset))
        offset += len(line) + 1
    return positions


# What a record is, and where


def test_a_record_is_a_line_with_its_ordinal_and_octet():
    reading = read(b"ana,1\nbob,22\ncarol,3\n")

    assert reading.values == [("ana", "1"), ("bob", "22"), ("carol", "3")]
    assert reading.positions == [(1, 0), (2, 6), (3, 13)]
    assert reading.octets == (0, 21, 0, 0)


def test_the_header_is_no_record_and_its_octets_are_counted():
    reading = read(b"who,ignored,octets\nana,x,1\n", WITH_HEADER)

    assert reading.values == [("ana", "1")]
    assert reading.positions == [(1, 19)]
    assert reading.octets == (19, 8, 0, 0)


def test_columns_are_found_by_the_header_whatever_their_order():
    assert read(b"octets,who\n1,ana\n", WITH_HEADER).values == [("ana", "1")]


def test_a_quoted_header_is_read_like_a_record():
    assert read(b'"who","a,b","octets"\r\nana,x,1\r\n', WITH_HEADER).values == [("ana", "1")]


def test_only_the_columns_asked_for_leave_the_reader():
    blocks = read_delimited(pa.BufferReader(b"who,secret,octets\nana,42,1\n"), WITH_HEADER, COLUMNS, Tally())

    assert [block.records.schema.names for block in blocks] == [["who", "octets"]]


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"who\nana\n", "the header lacks octets"),
        (b"name,volume\nana,1\n", "the header lacks who, octets"),
        (b"who,octets,who\nana,1,bob\n", "the header names who twice"),
        (b"\nwho,octets\nana,1\n", "the header lacks who, octets"),
        (b'"who,octets\nana,1\n', "the header lacks who, octets"),
        (b"", "the header lacks who, octets"),
    ],
    ids=["one missing", "both missing", "doubled", "not in the first line", "quote left open", "empty file"],
)
def test_a_header_without_the_columns_ends_the_reading(octets, said):
    reading = read(octets, WITH_HEADER)

    assert (reading.fault, reading.records) == (said, [])


def test_a_header_may_double_a_column_nobody_asked_for():
    assert read(b"who,x,octets,x\nana,5,1,6\n", WITH_HEADER).values == [("ana", "1")]


def test_an_empty_file_without_a_header_has_no_records():
    reading = read(b"")

    assert (reading.records, reading.fault, reading.octets) == ([], None, (0, 0, 0, 0))


def test_a_header_alone_has_no_records():
    for header in (b"who,octets", b"who,octets\n", b"who,octets\r\n"):
        reading = read(header, WITH_HEADER)
        assert (reading.records, reading.fault, reading.octets) == ([], None, (len(header), 0, 0, 0))


@pytest.mark.parametrize("layout", [WITH_HEADER, TWO_COLUMNS], ids=["header", "no header"])
def test_a_byte_order_mark_belongs_to_the_header(layout):
    header = HEADER if layout.header else b""

    reading = read(BYTE_ORDER_MARK + header + b"ana,1\n", layout)

    assert reading.values == [("ana", "1")]
    assert reading.positions == [(1, 3 + len(header))]
    assert reading.octets == (3 + len(header), 6, 0, 0)


def test_a_byte_order_mark_inside_the_file_is_part_of_its_record():
    # As in two files put one after the other.
    for block_octets in (1, 6, 100):
        assert read(b"ana,1\n" + BYTE_ORDER_MARK + b"bob,2\n", block_octets=block_octets).values == [
            ("ana", "1"),
            ("\ufeffbob", "2"),
        ]


# Line ends


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CR LF"])
@pytest.mark.parametrize("is_last_ended", [True, False], ids=["last ended", "last not ended"])
def test_a_line_ends_with_lf_or_cr_lf_and_the_last_one_need_not(end, is_last_ended):
    octets = b"ana,1" + end + b"bob,2" + (end if is_last_ended else b"")

    reading = read(octets)

    assert reading.values == [("ana", "1"), ("bob", "2")]
    assert reading.positions == [(1, 0), (2, 5 + len(end))]
    assert reading.octets == (0, len(octets), 0, 0)


def test_a_carriage_return_at_the_very_end_is_a_line_end():
    reading = read(b"ana,1\r\nbob,2\r")

    assert reading.values == [("ana", "1"), ("bob", "2")]
    assert reading.octets == (0, 13, 0, 0)


def test_empty_lines_are_padding():
    reading = read(b"\n\r\nana,1\n\n\r\nbob,2\r\n\r\n\n")

    assert reading.values == [("ana", "1"), ("bob", "2")]
    assert reading.positions == [(1, 3), (2, 12)]
    assert reading.octets == (0, 6 + 7, 3 + 3 + 3, 0)


def test_a_lone_carriage_return_ends_no_record_and_spoils_only_its_line():
    reading = read(b"ana,1\nbob,2\rcarol,3\ndave,4\n")

    assert reading.faults == [None, "quoting_broken", None]
    assert [reading.values[0], reading.values[2]] == [("ana", "1"), ("dave", "4")]
    assert reading.octets == (0, 6 + 7, 0, 14)


def test_old_line_ends_of_carriage_returns_alone_make_one_faulty_record():
    assert read(b"ana,1\rbob,2\r").faults == ["quoting_broken"]


# Quotes


def test_a_quoted_field_may_hold_the_delimiter_and_quotes():
    assert read(b'"Doe, Ana",1\n"the ""B""",2\n').values == [("Doe, Ana", "1"), ('the "B"', "2")]


def test_a_quote_inside_a_field_is_a_character_like_any_other():
    assert read(b'a"b"c,1\n').values == [('a"b"c', "1")]


def test_without_a_quote_in_the_layout_a_quote_is_a_character_like_any_other():
    assert read(b'"ana,1\n"bob",2\n', NO_QUOTES).values == [('"ana', "1"), ('"bob"', "2")]


def test_a_quoted_line_end_spoils_both_lines_and_no_other():
    reading = read(b'ana,1\nbob,"2\n3"\ncarol,4\n')

    assert reading.faults == [None, "quoting_broken", "too_few_fields", None]
    assert reading.positions == [(1, 0), (2, 6), (3, 13), (4, 16)]
    assert reading.octets == (0, 6 + 8, 0, 7 + 3)


def test_a_quoted_line_end_and_a_lone_carriage_return_do_not_make_up_for_each_other():
    # To a parser that sees records only, these are three records as well.
    reading = read(b'ana,"1\n2"\nbob,3\rcarol,4\n')

    assert reading.faults == ["quoting_broken", "too_few_fields", "quoting_broken"]


@pytest.mark.parametrize(
    ("octets", "layout"),
    [
        (b'ana,1\nbob,"2\n', TWO_COLUMNS),
        (b'ana,1\nbob,"2', TWO_COLUMNS),
        (b'ana,1\nbob,"2\n\xff,3\n', TWO_COLUMNS),
        (b'ana,1\nbob,"2\n', LATIN),
    ],
    ids=["last line", "not ended", "before an unreadable line", "iso-8859-1"],
)
def test_the_end_of_the_file_closes_no_quote(octets, layout):
    assert read(octets, layout).faults[1] == "quoting_broken"


# Faults of a record


@pytest.mark.parametrize(
    ("line", "fault", "kept"),
    [
        (b"ana", "too_few_fields", ("ana", None)),
        (b"ana,1,", "too_many_fields", ("ana", "1")),
        (b"ana,1,x", "too_many_fields", ("ana", "1")),
        (b"\xff,1", "not_utf_8", ("\ufffd", "1")),
        (b"ana,1\xc3", "not_utf_8", ("ana", "1\ufffd")),
        (b"an\0a,1", "not_utf_8", ("an\0a", "1")),
        (b"\xed\xa0\x80,1", "not_utf_8", ("\ufffd\ufffd\ufffd", "1")),
        (b'"ana,1', "quoting_broken", (None, None)),
        (b" ", "too_few_fields", (" ", None)),
    ],
)
def test_a_faulty_record_keeps_the_fields_that_are_there(line, fault, kept):
    reading = read(b"before,1\n" + line + b"\nafter,2\n")

    assert reading.faults == [None, fault, None]
    assert reading.values == [("before", "1"), kept, ("after", "2")]
    assert reading.positions == [(1, 0), (2, 9), (3, 10 + len(line))]
    assert reading.octets == (0, 9 + 8, 0, len(line) + 1)


def test_an_octet_that_is_not_utf_8_spoils_a_record_also_in_a_column_nobody_asked_for():
    reading = read(b"who,place,octets\nana,caf\xe9,1\nbob,bar,2\n", WITH_HEADER)

    assert reading.faults == ["not_utf_8", None]


def test_iso_8859_1_has_no_octet_that_cannot_be_read():
    every = bytes(octet for octet in range(1, 256) if octet not in b'\r\n,"')

    reading = read(every + b",1\n", LATIN)

    assert (reading.values, reading.faults) == ([(every.decode("iso-8859-1"), "1")], [None])


def test_a_field_longer_than_128_kib_is_read_alone_as_in_company():
    # Python's csv module refuses such a field unless told otherwise.
    long = b"a" * 300_000

    for company in (b"", b"bob,2\n", b"bob\rby,2\n"):
        assert (long.decode(), "1") in read(long + b",1\n" + company).values


def test_text_without_line_ends_is_not_kept_in_memory_for_ever():
    endless = b"x" * (LONGEST_LINE_OCTETS + 3 * 1024)

    reading = read(endless, block_octets=1024)

    assert reading.fault == "a line is longer than 1 MiB: this is not delimited text"
    assert reading.tally.octets < len(endless)


def test_records_before_an_endless_line_are_still_read():
    reading = read(b"ana,1\n" + b"x" * (LONGEST_LINE_OCTETS + 3 * 1024), block_octets=1024)

    assert (reading.values, reading.fault is None) == ([("ana", "1")], False)


# Properties

SMALL = settings(max_examples=150, deadline=None)
LAYOUTS = st.sampled_from([WITH_HEADER, TWO_COLUMNS, NO_QUOTES, LATIN])
FRAGMENTS = [b"a", b",", b",", b'"', b'"', b"\n", b"\n", b"\r", b"\r\n", b"\0", b"\xe9", b"\xc3\xa9"]
FRAGMENTS += [b"1,2\n", b'"p","q"\n', BYTE_ORDER_MARK]
NOISE = st.binary(max_size=60) | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(b"".join)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=6)
RECORDS = st.lists(st.tuples(VALUES, VALUES), max_size=12)


def written(records: list[tuple[str, str]], end: str, is_last_ended: bool) -> bytes:
    """Records as a careful writer writes them: every field in quotes, quotes doubled."""
    lines = [",".join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in record) for record in records]
    return (end.join(lines) + (end if is_last_ended and lines else "")).encode()


@SMALL
@given(RECORDS, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), st.integers(1, 80))
def test_what_was_written_is_read_whatever_the_block_size(records, end, is_last_ended, has_header, block_octets):
    header = HEADER if has_header else b""
    octets = header + written(records, end, is_last_ended)

    reading = read(octets, WITH_HEADER if has_header else TWO_COLUMNS, block_octets)

    assert reading.values == records
    assert reading.faults == [None] * len(records)
    assert reading.positions == lines_of(octets, len(header))
    assert reading.octets == (len(header), len(octets) - len(header), 0, 0)


def balances(octets: bytes, layout: Delimited, block_octets: int) -> None:
    """Read, and check every octet and every record against the independent split."""
    start = octets.find(b"\n") + 1 or len(octets) if layout.header else 3 * octets.startswith(BYTE_ORDER_MARK)
    reading, at_once = read(octets, layout, block_octets), read(octets, layout)

    assert (reading.records, reading.fault) == (at_once.records, at_once.fault)
    if reading.fault is None:
        assert reading.tally == at_once.tally
        assert sum(reading.octets) == reading.tally.octets == len(octets)
        assert reading.positions == lines_of(octets, start)
        assert reading.tally.records == len(reading.records)
        lines = io.BytesIO(octets[start:]).readlines()
        assert reading.tally.octets_padding == sum(len(line) for line in lines if line in (b"\n", b"\r\n", b"\r"))
        damaged = sum(fault is not None for fault in reading.faults)
        assert (reading.tally.octets_quarantined > 0) == (damaged > 0)
        assert in_parts(octets, layout, block_octets) == (at_once.records, at_once.octets, len(octets))


def in_parts(octets: bytes, layout: Delimited, part_octets: int) -> tuple[list[Any], tuple[int, ...], int]:
    """What a file says when its parts are read apart: records, octets of each kind, and how many were read."""
    readings = []
    for part in parts(pa.BufferReader(octets), layout, COLUMNS, part_octets):
        reading = Reading()
        readings.append(add(reading, read_delimited(pa.BufferReader(octets), layout, COLUMNS, reading.tally, part)))
        assert reading.fault is None
    kinds = tuple(sum(found) for found in zip(*(reading.octets for reading in readings), strict=True))
    records = sorted(record for reading in readings for record in reading.records)
    return records, kinds, sum(reading.tally.octets for reading in readings)


@settings(max_examples=400, deadline=None)
@given(NOISE, LAYOUTS, st.integers(1, 40))
@example(b'"\n\n\xef\xbb\xbf1,2\n \r\n\0\r\n" \xc3\xa9"x,y\n""b\xef\xbb\xbf"', TWO_COLUMNS, 1)
@example(b'1,2\n,"p","q"\n"\xef\xbb\xbf\xef\xbb\xbfbba\xe9\n\na\0\n a\n\xef\xbb\xbf\nb', LATIN, 11)
@example(b'x,"1\n2"\ny,3\rz,4\n', TWO_COLUMNS, 8)
def test_any_octets_balance_and_the_block_size_changes_nothing(noise, layout, block_octets):
    balances(HEADER + noise if layout.header else noise, layout, block_octets)


def test_a_file_is_cut_at_line_ends_into_parts_of_about_the_size_asked_for():
    octets = HEADER + b"ana,1\n" * 1000

    found = parts(pa.BufferReader(octets), WITH_HEADER, COLUMNS, 1024)

    assert len(found) == pytest.approx(len(octets) / 1024, abs=1)
    assert [octets[part.begin_octet - 1 : part.begin_octet] for part in found[1:]] == [b"\n"] * (len(found) - 1)
    assert [part.first_ordinal for part in found[1:]] == [1 + octets.count(b"ana", 0, part.begin_octet) for part in found[1:]]


def test_a_file_whose_header_lacks_a_column_is_not_cut():
    with pytest.raises(ReadFault, match="the header lacks octets"):
        parts(pa.BufferReader(b"who,bytes\n" + b"ana,1\n" * 1000), WITH_HEADER, COLUMNS, 1024)


@SMALL
@given(RECORDS, st.data(), st.integers(1, 40))
def test_a_damaged_file_balances_and_the_block_size_changes_nothing(records, data, block_octets):
    octets = bytearray(written(records, "\r\n", True))
    for _ in range(data.draw(st.integers(0, 3)) if octets else 0):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))

    balances(HEADER + bytes(octets), WITH_HEADER, block_octets)


# Files: plain, gzip, Zstandard

FIXED_HEADER = b"line_id,interval_start,interval_end,octets_up,octets_down\n"
FIXED_RECORDS = b"".join(b"line-%d,2026-10-01T00:00:00Z,2026-10-01T01:00:00Z,%d,0\n" % (n, n) for n in range(2000))
FIXED_OCTETS = FIXED_HEADER + FIXED_RECORDS


def zstandard(octets: bytes) -> bytes:
    return bytes(pa.compress(octets, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("suffix", "packed"),
    [
        ("", FIXED_OCTETS),
        (".gz", gzip.compress(FIXED_OCTETS)),
        (".gz", gzip.compress(FIXED_OCTETS[:1000]) + gzip.compress(FIXED_OCTETS[1000:])),
        (".gz", gzip.compress(FIXED_OCTETS[:1000]) + gzip.compress(b"") + gzip.compress(FIXED_OCTETS[1000:])),
        (".zst", zstandard(FIXED_OCTETS)),
        (".zst", zstandard(FIXED_OCTETS[:1000]) + zstandard(FIXED_OCTETS[1000:])),
    ],
    ids=["plain", "gzip", "gzip in two members", "gzip with an empty member", "zstd", "zstd in two frames"],
)
def test_a_compressed_file_is_read_like_a_plain_one(tmp_path, suffix, packed):
    path = tmp_path / f"fixed_1.csv{suffix}"
    path.write_bytes(packed)

    reading = read_file(path)

    assert reading.fault is None
    assert reading.positions == lines_of(FIXED_OCTETS, len(FIXED_HEADER))
    assert reading.values[1999] == ("2026-10-01T00:00:00Z", "2026-10-01T01:00:00Z", "1999", "0", "line-1999")
    assert reading.octets == (len(FIXED_HEADER), len(FIXED_RECORDS), 0, 0)


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(FIXED_OCTETS)[:-1],
        gzip.compress(FIXED_OCTETS)[:100],
        gzip.compress(FIXED_OCTETS)[:5],
        gzip.compress(FIXED_OCTETS)[:-6] + b"\0\0" + gzip.compress(FIXED_OCTETS)[-4:],
        gzip.compress(FIXED_OCTETS) + b"rubbish behind it",
        gzip.compress(FIXED_OCTETS) + gzip.compress(FIXED_OCTETS)[:20],
        b"this was never compressed\n",
    ],
    ids=["one octet short", "cut", "cut in its head", "wrong checksum", "rubbish behind", "second member cut", "not gzip"],
)
def test_a_damaged_gzip_file_ends_with_a_fault_that_shows_no_content(tmp_path, packed):
    path = tmp_path / "fixed_1.csv.gz"
    path.write_bytes(packed)

    assert read_file(path).fault == "the compressed stream is damaged or truncated"


def test_a_cut_zstandard_file_ends_with_a_fault(tmp_path):
    path = tmp_path / "fixed_1.csv.zst"
    path.write_bytes(zstandard(FIXED_OCTETS)[:-3])

    assert read_file(path).fault == "the compressed stream is damaged or truncated"


def test_an_empty_gzip_file_is_truncated(tmp_path):
    path = tmp_path / "S4PGWB000001.gz"
    path.write_bytes(b"")
    pipe = read_sources(Path(__file__).parents[2] / "schemas" / "sources")["pgw_pipe"]

    with pytest.raises(ReadFault):
        list(read_records(str(path), 0, pipe, Tally()))


def test_a_file_that_changed_since_it_was_registered_is_not_read(tmp_path):
    path = tmp_path / "fixed_1.csv"
    path.write_bytes(FIXED_OCTETS)

    with pytest.raises(ReadFault, match=r"^the file has changed since it was registered: 7 octets then, \d+ now$"):
        list(read_records(str(path), 7, FIXED, Tally()))


def test_a_file_that_is_gone_is_not_read(tmp_path):
    with pytest.raises(ReadFault, match=r"^the file is no longer in the landing folder$"):
        list(read_records(str(tmp_path / "fixed_1.csv"), 7, FIXED, Tally()))


@pytest.mark.parametrize("name", ["fixed 1#2?%20é;a&b=c[1].csv", "fixed_1:2.csv"])
def test_a_file_name_is_a_name_and_no_uri(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FIXED_OCTETS)

    assert read_file(path).tally.records == 2000
