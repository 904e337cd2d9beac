"""Fuzzing of the reader of FreeRADIUS detail files (``search`` says how).

Beside what is promised of any reader, it must say of each input what the second parser of the tests says: the same packets,
faults, attributes and octets of each kind.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from jobs.readers.block import Block, Part, Tally
from jobs.readers.radius_detail import HEADER_TIME, parts, read_radius_detail
from tests.fuzz.search import PART_OCTETS, SAMPLES, Finding, Material, Reading, Target, counted, mutated_octets
from tests.readers.radius_files import AT, COLUMNS, is_something_else, packet, parsed, quoted

LINES = (
    AT.encode(),
    b"Wed Sep 14 00:00:00 2011",
    b"Tue Sep 13 16:24:27 201",
    b"",
    b"\r",
    b"# a comment",
    b"\tUser-Name = ana",
    b'\tUser-Name = "ana"',
    b"\tAcct-Input-Octets := 4294967295",
    b"\tAcct-Input-Gigawords += 1",
    b"\tClass = 0x00ff",
    b'\tClass = "\\000\\377"',
    b"  Timestamp = 1315923867",
    b"\tReply-Message = " + AT.encode(),
    b"\tUser-Name",
    b"\tUser-Name =",
)
VALUES = (
    b'"\\303\\251"',
    b'"\\351"',
    b'"\\\\"',
    b'"\\"',
    b"'it\\'s'",
    b"'\\'",
    b'"',
    b"",
    b" ",
    b"caf\xc3\xa9",
    b"\xe9",
    b"\0",
    b"x" * 300,
)
ODD = quoted("é\n\x7f")
MATERIAL = Material(
    octets=b"\0\t\n\r \"'=\\:+07\x7f\x80\xc3\xe9\xff",
    heads=(b"\n\n", b"\r\n", b" = ", b" := ", b"\\303", b"\\", b'"', AT.encode(), AT.encode() + b"\n"),
    pieces=(*LINES[:5], *VALUES[:8], b"\n", b"\n\n", b"\n\t", b"\tUser-Name = ", b" = "),
)


@dataclass(frozen=True)
class RadiusDetail(Target):
    """Detail files."""

    name: str = "radius-detail"
    largest_octets: ClassVar[int] = 1 << 12
    """The second parser is slow."""

    def blocks(self, octets: bytes, tally: Tally, part: Part, window_octets: int) -> Iterator[Block]:
        return read_radius_detail(pa.BufferReader(octets), COLUMNS, tally, part, window_octets)

    def parts(self, octets: bytes) -> list[Part]:
        return parts(pa.BufferReader(octets), PART_OCTETS)

    def check(self, octets: bytes, whole: Reading) -> None:
        """The second parser says the same."""
        if (whole.refusal is not None) != is_something_else(octets):
            raise Finding("second parser: one of the two refuses it")
        if whole.refusal is not None:
            return
        expected, found = parsed(octets), [] if whole.rows is None else whole.rows.to_pylist()
        if len(found) != len(expected.packets):
            raise Finding(f"second parser: {len(expected.packets)} packets, the reader {len(found)}")
        for row, (ordinal, offset, fault, values) in zip(found, expected.packets, strict=True):
            if (row["ordinal"], row["offset"]) != (ordinal, offset):
                raise Finding("second parser: a packet is elsewhere")
            if row["fault"] != fault:
                raise Finding(f"second parser: {fault}, the reader {row['fault']}")
            if differing := [name for name in COLUMNS if row[name] != values[name]]:
                raise Finding(f"second parser: these differ: {', '.join(differing)}")
        tally = whole.tally
        kinds = (tally.octets_header, tally.octets_records, tally.octets_padding, tally.octets_quarantined)
        if kinds != expected.octets:
            raise Finding(f"second parser: octets {expected.octets}, the reader {kinds}")

    def features(self, octets: bytes, reading: Reading) -> frozenset[str]:
        """Faults that follow each other, columns by what they are filled with, octets of each kind by their magnitude."""
        rows, found = reading.rows, counted(reading)
        if rows is None:
            return frozenset(found)
        faults = rows["fault"].to_pylist()
        found |= {f"{one} then {other}" for one, other in zip([None, *faults], [*faults, None], strict=True)}
        for name in COLUMNS:
            found |= {f"{name} {_sort(value)}" for value in rows[name].to_pylist()}
        return frozenset(found)

    def seeds(self) -> list[bytes]:
        """Built, and of the sample if it is there."""
        start = packet(User_Name='"ana"', Acct_Status_Type="Start", NAS_IP_Address="192.0.2.1", Timestamp="1315923867")
        stop = packet(
            "User-Name = 'it\\'s'",
            r'Class = "\001\\"',
            Acct_Status_Type="Stop",
            Acct_Input_Octets="0",
            Acct_Input_Gigawords="1",
            end="\r\n",
        )
        strange = packet(f"User-Name = {ODD}", "Acct-Session-Time := 60", "Acct-Session-Id += 0A", at="Wed Sep 14 00:00:00 2011")
        files = [
            start,
            start + stop,
            stop + strange + start,
            b"\xef\xbb\xbf" + strange,
            start[:-1] + stop,
            start + stop[:60] + start,
        ]
        sample = SAMPLES / "radius" / "freeradius_detail_one.txt"
        return [*files, *([sample.read_bytes()] if sample.exists() else [])]

    def sound(self, chance: random.Random) -> bytes:
        """Packets with some of the attributes, numbers and texts as FreeRADIUS prints them."""
        return b"".join(_sound_packet(chance) for _ in range(chance.randrange(1, 6)))

    def mutated(self, octets: bytes, other: bytes, chance: random.Random) -> bytes:
        """A change to octets, to a line, or two files put together anywhere."""
        match chance.randrange(6):
            case 0:
                octets = octets[: chance.randrange(len(octets) + 1)] + other[chance.randrange(len(other) + 1) :]
            case 1 | 2:
                octets = mutated_octets(octets, MATERIAL, chance)
            case _:
                octets = _mutated_lines(octets, other, chance)
        while chance.random() < 0.25:
            octets = mutated_octets(octets, MATERIAL, chance)
        return octets


TARGETS: dict[str, Target] = {target.name: target for target in (RadiusDetail(),)}


def _sort(value: str | None) -> str:
    if not value:
        return "null" if value is None else "empty"
    if value.isdecimal():
        return f"number of {min(11, len(value))}"
    odd = "".join(sort for sort, one in (("escaped", '\\"\n\r\t'), ("quoted", "'= ")) if set(one) & set(value))
    return f"text {value.isascii()} {value.isprintable()} {odd} {min(9, len(value).bit_length())}"


def _sound_packet(chance: random.Random) -> bytes:
    names = chance.sample(
        [*(name for name in COLUMNS if name != HEADER_TIME), "Framed-IP-Address", "Reply-Message"], chance.randrange(1, 9)
    )
    operator, end = chance.choice(("=", "=", "=", ":=", "+=")), chance.choice(("\n", "\n", "\n", "\r\n"))
    lines = [f"{name} {operator} {_sound_value(chance)}" for name in names]
    return packet(*lines, at=chance.choice((AT, "Wed Sep 14 00:00:00 2011", "Sun Feb  1 23:59:60 2026")), end=end)


def _sound_value(chance: random.Random) -> str:
    letters = chance.choice(("abc-019", "é\u20ac\U0001f600", "\"'\\\n\t\r", "= :+#", "\x7f\x01"))
    text = "".join(chance.choices(letters, k=chance.choice((0, 1, 3, 40))))
    return chance.choice(
        (str(chance.getrandbits(chance.choice((4, 32, 64)))), "Interim-Update", "0x00ff", quoted(text), quoted(text, "'"))
    )


def _mutated_lines(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    lines = octets.split(b"\n")
    place = chance.randrange(len(lines))
    match chance.randrange(7):
        case 0:
            del lines[place]
        case 1:
            lines.insert(chance.randrange(len(lines) + 1), lines[place])
        case 2:
            lines.insert(place, chance.choice(LINES))
        case 3:
            lines[place] = chance.choice(LINES)
        case 4:
            lines[place] = re.sub(rb"= .*", lambda _: b"= " + chance.choice(VALUES), lines[place])
        case 5:
            lines.insert(place, chance.choice(other.split(b"\n")))
        case _:
            ends = chance.choice((b"\r\n", b"\n", b"\n\n", b"\r"))
            return ends.join(line.removesuffix(b"\r") for line in lines)
    return b"\n".join(lines)
