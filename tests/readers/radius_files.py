"""FreeRADIUS detail files for tests: written, read, and judged by a second parser that shares no code with the reader.

The second parser is slow and plain: lines by a regular expression, packets from lines, attributes by another expression. It says
of any octets what the reader must say of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from jobs.readers.block import WHOLE, Block, Part, ReadFault, Tally
from jobs.readers.radius_detail import HEADER_TIME, read_radius_detail
from jobs.readers.radius_walk import LONGEST_LINE_OCTETS, LONGEST_PACKET_OCTETS

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "radius"
AT = "Tue Sep 13 16:24:27 2011"
COLUMNS = (
    "User-Name",
    "NAS-IP-Address",
    "Acct-Status-Type",
    "Acct-Session-Id",
    "Acct-Session-Time",
    "Acct-Input-Octets",
    "Acct-Input-Gigawords",
    "Class",
    "Timestamp",
    HEADER_TIME,
)

Values = dict[str, str | None]


# Writing


def packet(*lines: str, at: str = AT, end: str = "\n", **attributes: str) -> bytes:
    """A packet of lines as they stand, and of attributes, whose names have ``_`` for ``-``."""
    pairs = [f"{name.replace('_', '-')} = {value}" for name, value in attributes.items()]
    return "".join(f"{line}{end}" for line in (at, *(f"\t{line}" for line in (*lines, *pairs)), "")).encode()


def quoted(text: str, quote: str = '"') -> str:
    """A text as FreeRADIUS prints a string: printable UTF-8 as it is, the rest escaped."""
    if quote == "'":
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
    return '"' + "".join(named.get(one) or (one if one.isprintable() else _octal(one)) for one in text) + '"'


def _octal(one: str) -> str:
    return "".join(f"\\{octet:03o}" for octet in one.encode())


# Reading


@dataclass
class Reading:
    """What was said of a file: ordinal, offset, fault and attributes of each packet, octets of each kind, and a refusal."""

    packets: list[tuple[int, int, str | None, Values]] = field(default_factory=list)
    octets: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Header, records, padding, quarantined."""
    tally: Tally = field(default_factory=Tally)
    refusal: str | None = None

    @property
    def faults(self) -> list[str | None]:
        return [fault for _, _, fault, _ in self.packets]

    @property
    def positions(self) -> list[tuple[int, int]]:
        return [(ordinal, offset) for ordinal, offset, _, _ in self.packets]

    @property
    def sound(self) -> list[Values]:
        """The attributes of sound packets, without those that are null."""
        return [
            {name: value for name, value in values.items() if value is not None}
            for _, _, fault, values in self.packets
            if not fault
        ]


def read(octets: bytes, columns: Sequence[str] = COLUMNS, part: Part = WHOLE, window_octets: int = 1 << 20) -> Reading:
    """What the reader says."""
    reading = Reading()
    try:
        for block in read_radius_detail(pa.BufferReader(octets), columns, reading.tally, part, window_octets):
            reading.packets += rows(block)
    except ReadFault as fault:
        reading.refusal = str(fault)
    tally = reading.tally
    reading.octets = (tally.octets_header, tally.octets_records, tally.octets_padding, tally.octets_quarantined)
    return reading


def rows(block: Block) -> list[tuple[int, int, str | None, Values]]:
    """The packets of a block."""
    block.records.validate(full=True)
    values = block.records.to_pylist()
    return list(zip(block.ordinals.tolist(), block.offsets.tolist(), block.faults.to_pylist(), values, strict=True))


# The second parser

_TIME = (
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (?:[ 0][1-9]|[12][0-9]|3[01])"
    rb" (?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60) [0-9]{4}"
)
_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
_BEHIND_ANOTHER = re.compile(rb"(?<!= )" + _TIME + rb"\Z")
_HEADER = re.compile(_TIME)
_ATTRIBUTE = re.compile(rb"[\t ]++([^ ]+) (?::|\+)?= (.*)", re.DOTALL)
_CLOSED = re.compile(rb"([\"'])(.*[^\\])?(\\\\)*\1", re.DOTALL)
_TOKENS = {
    b'"': re.compile(rb'[^"\\]|\\[nrt"\\]|\\[0-3][0-7][0-7]', re.DOTALL),
    b"'": re.compile(rb"[^'\\]|\\['\\]|\\(?!['\\])", re.DOTALL),
}
_NAMED = {b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b'\\"': b'"', b"\\'": b"'", b"\\\\": b"\\", b"\\": b"\\"}


class _Fault(Exception):
    pass


@dataclass
class _Lines:
    """Lines of a packet, without their ends."""

    offset: int
    content: list[bytes] = field(default_factory=list)
    octets: bytes = b""
    is_ended: bool = True


def parsed(octets: bytes, columns: Sequence[str] = COLUMNS) -> Reading:
    """What the reader must say of a file that it does not refuse."""
    reading = Reading()
    header = 3 * octets.startswith(b"\xef\xbb\xbf")
    records = padding = quarantined = 0
    for lines, how, behind in _packets(octets, header):
        if lines is None:
            padding += behind
            continue
        try:
            values, fault = _attributes(lines, how, columns), None
        except _Fault as found:
            values, fault = dict[str, str | None](), str(found)
        whole = len(lines.octets) + behind
        records, quarantined = (records, quarantined + whole) if fault else (records + whole, quarantined)
        kept = {name: values.get(name) for name in columns}
        reading.packets.append((len(reading.packets) + 1, lines.offset, fault, kept))
    reading.octets = (header, records, padding, quarantined)
    return reading


def is_something_else(octets: bytes) -> bool:
    """The reader must refuse a file of less than 64 KiB: it has lines, but no header line."""
    lines = octets.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return any(line.strip(b"\r") for line in lines) and not any(_HEADER.fullmatch(line.removesuffix(b"\r")) for line in lines)


def _packets(octets: bytes, at: int):
    """Packets, how each ends, and the octets of the empty line behind it; empty lines elsewhere come without a packet."""
    lines: _Lines | None = None
    for found in _LINE.finditer(octets, at):
        whole = found[0]
        content = whole.removesuffix(b"\n").removesuffix(b"\r")
        if not content:
            yield lines, "empty line", len(whole)
            lines = None
            continue
        header = _BEHIND_ANOTHER.search(content)
        torn = header.start() if header else 0
        if torn:
            lines = lines or _Lines(found.start())
            lines.content.append(content[:torn])
            lines.octets += content[:torn]
        if header and lines:
            yield lines, "header", 0
            lines = None
        lines = lines or _Lines(found.start() + torn)
        lines.content.append(content[torn:])
        lines.octets += whole[torn:]
        lines.is_ended = whole.endswith(b"\n")
    if lines:
        yield lines, "end", 0


def _attributes(lines: _Lines, how: str, columns: Sequence[str]) -> Values:
    header, attributes = lines.content[0], lines.content[1:]
    _require(len(lines.octets) <= LONGEST_PACKET_OCTETS, "packet_too_long")
    _require(_HEADER.fullmatch(header), "header_missing")
    _require(how != "header" and lines.is_ended, "truncated")
    _require(_text(lines.octets) is not None, "not_utf_8")
    _require(attributes or how == "end", "no_attributes")
    _require(attributes, "truncated")
    values: Values = {HEADER_TIME: header.decode()}
    for line in attributes:
        _require(len(line) <= LONGEST_LINE_OCTETS, "line_too_long")
        _require(b"\r" not in line, "line_end_broken")
        _require(line[:1] in (b"\t", b" "), "line_not_indented")
        attribute = _ATTRIBUTE.fullmatch(line)
        _require(attribute, "attribute_malformed")
        name, value = attribute[1].decode(), attribute[2]
        is_quoted = value[:1] in (b'"', b"'")
        _require(not is_quoted or _CLOSED.fullmatch(value), "quoting_broken")
        _require(not _HEADER.fullmatch(value), "truncated")
        if name not in columns or name == HEADER_TIME:
            continue
        text = _text(_unescaped(value[1:-1], value[:1]) if is_quoted else value)
        _require(text is not None, "value_not_utf_8")
        _require(values.setdefault(name, text) == text, "attribute_repeated")
    return values


def _unescaped(inner: bytes, quote: bytes) -> bytes:
    at, out = 0, b""
    while at < len(inner):
        token = _TOKENS[quote].match(inner, at)
        _require(token or inner[at : at + 1] != quote, "quoting_broken")
        _require(token, "escape_malformed")
        one = token[0]
        out += _NAMED.get(one) or (bytes([int(one[1:], 8)]) if len(one) == 4 else one)
        at = token.end()
    return out


def _text(octets: bytes) -> str | None:
    try:
        return None if b"\0" in octets else octets.decode()
    except UnicodeDecodeError:
        return None


def _require(is_met: object, fault: str) -> None:
    if not is_met:
        raise _Fault(fault)
