"""Delimited text: one record a line, with or without a header, plain, gzip or Zstandard.

Lines are found here, by their ends, which gives every record its octet and an independent count; fields are found by Arrow's CSV
reader, or by compiled code where there are many and no quotes. A block in which the two disagree (a lone carriage return, a
quoted line end) is read again line by line, so that the fault stays with its line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.csv

from jobs.readers.block import WHOLE, Block, Part, Positions, ReadFault, Tally, no_faults, parts_between
from jobs.readers.window import chunk
from schemas.source import Delimited

BLOCK_OCTETS = 4 << 20
_HEADER_OCTETS = 16 << 10
"""Read at a time where only the header is looked for."""
LONGEST_LINE_OCTETS = 1 << 20
_MANY_RECORDS = 1 << 18
"""From so many on a process finds fields by compiled code."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = 10
_CARRIAGE_RETURN = 13


@dataclass(frozen=True)
class _Lines:
    """Complete lines of a file that lie one after the other, and where each begins."""

    octets: bytes
    starts: Positions
    lengths: Positions
    with_ends: Positions
    """Octets of each line with its end."""

    def text(self, line: int) -> bytes:
        return self.octets[self.starts[line] : self.starts[line] + self.lengths[line]]


def read_delimited(
    stream: pa.NativeFile,
    layout: Delimited,
    columns: Sequence[str],
    tally: Tally,
    part: Part = WHOLE,
    block_octets: int = BLOCK_OCTETS,
) -> Iterator[Block]:
    """Yield the records of an uncompressed stream, columns as text.

    Args:
        stream: the file, already decompressed.
        layout: delimiter, quote, encoding, header or names of the columns.
        columns: the columns to keep.
        tally: is counted up while blocks are read.
        part: the part to read, one of ``parts``; such a stream can go on to an octet (``seek``).
        block_octets: how much is read at a time.

    Raises:
        ReadFault: the header lacks a column that is needed.
    """
    offset, names = part.begin_octet, list(layout.columns)
    if offset and layout.header:
        names, _ = _opening(next(_whole_lines(stream, Tally(), Part(0, offset), _HEADER_OCTETS), b""), layout, columns)
    if offset:
        stream.seek(offset)
    for octets in _whole_lines(stream, tally, part, block_octets):
        skipped = 0
        if offset == 0:
            names, skipped = _opening(octets, layout, columns)
            tally.octets_header += skipped
        lines = _lines(octets, skipped)
        tally.octets_padding += len(octets) - skipped - int(lines.with_ends.sum())
        if len(lines.starts):
            yield _block(lines, names, layout, columns, tally, part.first_ordinal, offset)
        offset += len(octets)
    if offset == 0:
        _opening(b"", layout, columns)


def parts(stream: pa.NativeFile, layout: Delimited, columns: Sequence[str], part_octets: int) -> list[Part]:
    """Parts of a file of about so many octets, each from the start of a line. Raises ReadFault as the reader."""
    begins, records, offset = [(0, 1)], 0, 0
    for octets in _whole_lines(stream, Tally(), WHOLE, min(BLOCK_OCTETS, max(1, part_octets // 8))):
        if offset - begins[-1][0] >= part_octets:
            begins.append((offset, records + 1))
        records += len(_lines(octets, 0 if offset else _opening(octets, layout, columns)[1]).starts)
        offset += len(octets)
    return parts_between(begins)


def _whole_lines(stream: pa.NativeFile, tally: Tally, part: Part, block_octets: int) -> Iterator[bytes]:
    rest, left = b"", None if part.end_octet is None else part.end_octet - part.begin_octet
    while octets := chunk(stream, block_octets if left is None else min(block_octets, left - tally.octets)):
        tally.octets += len(octets)
        cut = octets.rfind(b"\n") + 1
        if not cut:
            rest += octets
            if len(rest) > LONGEST_LINE_OCTETS + block_octets:
                raise ReadFault("a line is longer than 1 MiB: this is not delimited text")
            continue
        yield rest + octets[:cut]
        rest = octets[cut:]
    if rest:
        yield rest


def _opening(octets: bytes, layout: Delimited, columns: Sequence[str]) -> tuple[list[str], int]:
    """Names of the columns, and how many octets lie before the first record: a byte order mark and the header."""
    mark = len(_BYTE_ORDER_MARK) if octets.startswith(_BYTE_ORDER_MARK) else 0
    return _header(octets, layout, columns, mark) if layout.header else (list(layout.columns), mark)


def _lines(octets: bytes, skipped: int) -> _Lines:
    """The lines that are not empty; an end of line is LF or CR LF and belongs to no line."""
    buffer = np.frombuffer(octets, np.uint8)
    ends = np.flatnonzero(buffer[skipped:] == _LINE_END) + skipped
    if not octets.endswith(b"\n") and len(octets) > skipped:
        ends = np.append(ends, len(octets))
    starts = np.concatenate([[skipped], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts
    has_return = (lengths > 0) & (buffer[np.maximum(ends - 1, 0)] == _CARRIAGE_RETURN)
    lengths = lengths - has_return
    kept = lengths > 0
    with_ends = np.minimum(ends + 1, len(octets)) - starts
    return _Lines(octets, *(of[kept].astype(np.int64) for of in (starts, lengths, with_ends)))


def _header(octets: bytes, layout: Delimited, columns: Sequence[str], start: int) -> tuple[list[str], int]:
    end = octets.find(b"\n") + 1 or len(octets)
    names = _fields(octets[start:end].rstrip(b"\r\n"), layout) or []
    missing = [name for name in columns if name not in names]
    if missing:
        raise ReadFault(f"the header lacks {', '.join(missing)}")
    doubled = [name for name in columns if names.count(name) > 1]
    if doubled:
        raise ReadFault(f"the header names {', '.join(doubled)} twice")
    return names, end


def _block(
    lines: _Lines,
    names: list[str],
    layout: Delimited,
    columns: Sequence[str],
    tally: Tally,
    first_ordinal: int,
    offset: int,
) -> Block:
    first = first_ordinal + tally.records
    count = len(lines.starts)
    tally.records += count
    unreadable = _undecodable(lines) if layout.encoding == "utf-8" else np.zeros(count, bool)
    records, order, faults = _records(lines, unreadable, names, layout, columns)
    octets = lines.with_ends
    damaged = int(octets[order[faults.is_valid().to_numpy(zero_copy_only=False)]].sum())
    tally.octets_quarantined += damaged
    tally.octets_records += int(octets.sum()) - damaged
    return Block(records, first + order, offset + lines.starts[order], faults)


def _records(
    lines: _Lines, unreadable: np.ndarray, names: list[str], layout: Delimited, columns: Sequence[str]
) -> tuple[pa.RecordBatch, Positions, pa.StringArray]:
    """The records of the lines, which line each is, and what is wrong with it."""
    every = np.arange(len(lines.starts))
    parsed = _parsed(lines, unreadable, names, layout, columns)
    if parsed is None:
        records, faults = _line_by_line(lines, every, names, layout, columns)
        return records, every, faults
    sound, records = parsed
    bad = every[~sound]
    if not len(bad):
        return records, every, no_faults(len(every))
    broken, reasons = _line_by_line(lines, bad, names, layout, columns)
    faults = pa.concat_arrays([no_faults(len(records)), reasons])
    return _concat(records, broken), np.concatenate([every[sound], bad]), faults


def _undecodable(lines: _Lines) -> np.ndarray:
    """Which lines are not UTF-8 or hold a NUL octet; only lines with such octets are looked at."""
    wrong = np.zeros(len(lines.starts), bool)
    if lines.octets.isascii() and b"\0" not in lines.octets:
        return wrong
    buffer = np.frombuffer(lines.octets, np.uint8)
    suspects = np.flatnonzero((buffer >= 0x80) | (buffer == 0))
    for line in np.unique(np.searchsorted(lines.starts, suspects, side="right") - 1):
        if line >= 0:
            wrong[line] = not _is_text(lines.text(line))
    return wrong


def _is_text(octets: bytes) -> bool:
    try:
        return "\0" not in octets.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _parsed(
    lines: _Lines, unreadable: np.ndarray, names: list[str], layout: Delimited, columns: Sequence[str]
) -> tuple[np.ndarray, pa.RecordBatch] | None:
    """Which lines are sound, and their fields; None if records do not match the lines one to one."""
    invalid: list[int | None] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        invalid.append(row.number)
        return "skip"

    readable = np.flatnonzero(~unreadable)
    octets = lines.octets[int(lines.starts[0]) :]
    if len(readable) and _may_mislead(octets, lines.text(readable[-1]), layout):
        return None
    if _reads_many(len(readable)) and _is_plain(octets, layout):
        from jobs.readers.delimited_walk import fields  # to load compiled code takes half a second

        is_sound, records = fields(
            lines.octets, lines.starts[readable], lines.lengths[readable], layout.delimiter, names, columns
        )
        sound = ~unreadable
        sound[readable[~is_sound]] = False
        return sound, records
    if len(readable) < len(lines.starts):
        octets = b"\n".join(lines.text(line) for line in readable.tolist())
    try:
        table = _read_csv(octets, names, layout, columns, skip)
    except pa.ArrowInvalid:
        return None
    if None in invalid or table.num_rows + len(invalid) != len(readable):
        return None
    sound = ~unreadable
    sound[readable[np.array(invalid, dtype=np.int64) - 1]] = False
    return sound, table.combine_chunks().to_batches()[0] if table.num_rows else _empty(columns)


@dataclass
class _Read:
    """Records that a process has read."""

    records: int = 0


@lru_cache(1)
def _of_process() -> _Read:
    return _Read()


def _reads_many(more: int) -> bool:
    """Compiled code takes half the time of Arrow's reader, and half a second to load."""
    _of_process().records += more
    return _of_process().records > _MANY_RECORDS


def _is_plain(octets: bytes, layout: Delimited) -> bool:
    """Octets in which a delimiter always ends a field."""
    has_quote = layout.quote is not None and layout.quote.encode() in octets
    return layout.encoding == "utf-8" and not has_quote


def _may_mislead(octets: bytes, last_line: bytes, layout: Delimited) -> bool:
    """Arrow's count could agree with the lines although its records do not.

    It ends a record at a lone carriage return, which can make up for one that a quoted line end swallowed, and it lets the end of
    the block close a quote.
    """
    has_lone_return = b"\r" in octets and octets.count(b"\r") != octets.count(b"\r\n")
    return has_lone_return or _fields(last_line, layout) is None


def _read_csv(octets: bytes, names: list[str], layout: Delimited, columns: Sequence[str], skip: object) -> pa.Table:
    if not octets:
        return pa.Table.from_batches([_empty(columns)])
    # Transcoded here: Arrow would do it as it reads, into more than one block, and let the end of each close a quote.
    octets = octets if layout.encoding == "utf-8" else octets.decode(layout.encoding).encode()
    if octets.startswith(_BYTE_ORDER_MARK):
        octets = (
            _BYTE_ORDER_MARK + octets
        )  # Arrow drops one at the start of what it is given, which is not the start of the file.
    return pyarrow.csv.read_csv(
        pa.BufferReader(octets),
        pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(octets)),
        pyarrow.csv.ParseOptions(delimiter=layout.delimiter, quote_char=layout.quote or False, invalid_row_handler=skip),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), include_columns=list(columns), strings_can_be_null=False
        ),
    )


def _line_by_line(
    lines: _Lines, which: Positions, names: list[str], layout: Delimited, columns: Sequence[str]
) -> tuple[pa.RecordBatch, pa.StringArray]:
    """Fields of single lines, with what is wrong with each; fields that are there are kept."""
    position = {name: names.index(name) for name in columns}
    rows, faults = [], []
    for line in which:
        octets = lines.text(line)
        fields = _fields(octets, layout)
        faults.append(_fault(octets, fields, len(names), layout))
        found = fields or []
        rows.append({name: found[at] if at < len(found) else None for name, at in position.items()})
    return pa.RecordBatch.from_pylist(rows, schema=_schema(columns)), pa.array(faults, pa.string())


def _fields(octets: bytes, layout: Delimited) -> list[str] | None:
    """Fields of one line as Arrow reads them; None if a quote is not closed or a carriage return stands alone."""
    text = octets.decode(layout.encoding, errors="replace")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    # Not strict, because Arrow is not: text after a closing quote belongs to the field. An open quote asks for the second line.
    reader = csv.reader(
        [text, ""],
        delimiter=layout.delimiter,
        quotechar=layout.quote,
        quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
    )
    try:
        fields = next(reader, [])
    except csv.Error:
        return None
    return fields if reader.line_num == 1 else None


def _fault(octets: bytes, fields: list[str] | None, expected: int, layout: Delimited) -> str | None:
    if layout.encoding == "utf-8" and not _is_text(octets):
        return "not_utf_8"
    if fields is None:
        return "quoting_broken"
    if len(fields) < expected:
        return "too_few_fields"
    return "too_many_fields" if len(fields) > expected else None


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in columns])


def _empty(columns: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=_schema(columns))


def _concat(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    return pa.Table.from_batches([first, second.select(first.schema.names)]).combine_chunks().to_batches()[0]
