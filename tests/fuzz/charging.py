"""Fuzzing of the reader of charging records (``search`` says how)."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pyarrow as pa

from jobs.decode import EVERY_RECORD
from jobs.readers.block import Block, Part, Tally
from jobs.readers.charging import file_header, parts, read_charging
from schemas.source import CHARGING_COLUMNS, Charging
from tests.fuzz.search import PART_OCTETS, SAMPLES, Finding, Material, Reading, Target, counted, magnitude
from tests.fuzz.search import mutated_octets as mutated_by
from tests.readers import ber
from tests.readers.ber import Element

FormatName = Literal["ts32297", "ber"]

LAYOUTS = (
    EVERY_RECORD,
    Charging(
        record_types=("pgw", "chf"),
        volumes="service_data_else_traffic_volumes",
        reporting_level="rating_group",
        total_without_directions="down",
        short_timestamp_zone="Europe/Paris",
    ),
    Charging(record_types=("sgw", "sgsn"), volumes="traffic_volumes", reporting_level="both"),
    Charging(record_types=("pgw",), volumes="service_data_else_traffic_volumes", reporting_level="service"),
)


@dataclass(frozen=True)
class ChargingRecords(Target):
    """Charging records in one of their two containers."""

    name: FormatName

    def blocks(self, octets: bytes, tally: Tally, part: Part, window_octets: int) -> Iterator[Block]:
        return read_charging(
            pa.BufferReader(octets), layout_of(octets), self.name == "ts32297", CHARGING_COLUMNS, tally, part, window_octets
        )

    def parts(self, octets: bytes) -> list[Part]:
        return parts(pa.BufferReader(octets), self.name == "ts32297", PART_OCTETS)

    def check(self, octets: bytes, whole: Reading) -> None:
        if whole.refusal is None:
            check_numbers(whole)

    def features(self, octets: bytes, reading: Reading) -> frozenset[str]:
        return features(octets, reading)

    def seeds(self) -> list[bytes]:
        return seeds(self.name)

    def sound(self, chance: random.Random) -> bytes:
        return sound(self.name, chance)

    def mutated(self, octets: bytes, other: bytes, chance: random.Random) -> bytes:
        return mutated(octets, other, self.name, chance)

    def fits_window(self, octets: bytes, window_octets: int) -> bool:
        return self.name == "ber" or int.from_bytes(octets[4:8], "big") <= window_octets


TARGETS: dict[str, Target] = {target.name: target for target in (ChargingRecords("ts32297"), ChargingRecords("ber"))}


def layout_of(octets: bytes) -> Charging:
    """One of the layouts, by the input: the same whenever it is read."""
    return LAYOUTS[zlib.crc32(octets) % len(LAYOUTS)]


def check_numbers(reading: Reading) -> None:
    """No number is negative, and volumes are never null."""
    if reading.rows is None:
        return
    for name in CHARGING_COLUMNS:
        column = reading.rows[name]
        if pa.types.is_integer(column.type) and (column.drop_null().to_numpy() < 0).any():
            raise Finding(f"negative: {name}")
    for name in ("uplinkOctets", "downlinkOctets"):
        if reading.rows[name].null_count:
            raise Finding(f"null: {name}")


# What the reader said, as features


def features(octets: bytes, reading: Reading) -> frozenset[str]:
    """What the reader said of an input, roughly: numbers by their magnitude, columns by whether they are filled."""
    tally, rows, found = reading.tally, reading.rows, counted(reading)
    layout = LAYOUTS.index(layout_of(octets))
    found |= {
        f"node days {min(2, len(tally.node_days))}",
        f"lost {None if tally.records_lost is None else tally.records_lost > 0}",
    }
    if rows is None:
        return frozenset(found)
    found.add(f"intervals {min(3, int(rows['interval'].to_numpy().max()).bit_length())}")
    kinds = rows["recordType"].to_pylist()
    found |= {f"{kind} {fault} {layout}" for kind, fault in zip(kinds, rows["fault"].to_pylist(), strict=True)}
    for name in CHARGING_COLUMNS:
        for kind, value in zip(kinds, rows[name].to_pylist(), strict=True):
            found.add(f"{kind} {name} {magnitude(value)}")
    return frozenset(found)


# Seeds


def built() -> list[Element]:
    """Small records of every kind that is read."""
    at = datetime(2026, 10, 31, 18, tzinfo=UTC)
    stamps = [ber.stamp(at + timedelta(hours=hours)) for hours in range(3)]
    own = {"servedIMSI": ber.tbcd("001010123456789"), "chargingID": 7, "recordOpeningTime": stamps[0], "duration": 7200}
    node = {"recordSequenceNumber": 1, "nodeID": "n1", "localSequenceNumber": 9, "accessPointNameNI": "internet", "rATType": 6}
    place = {"servingNodePLMNIdentifier": ber.plmn("001", "01"), "gatewayAddress": ber.gsn_address(bytes(4))}
    gateway = own | node | place
    volumes = tuple(ber.traffic_volume(up=1 << 33, down=200, changeTime=stamp) for stamp in stamps[1:])
    services = (
        ber.service_data(
            ratingGroup=10, timeOfFirstUsage=stamps[0], timeOfLastUsage=stamps[1], up=5, down=7, timeOfReport=stamps[1]
        ),
        ber.service_data(ratingGroup=10, serviceIdentifier=3, up=5, down=7, timeOfReport=stamps[2], rATType=1),
    )
    used = ber.unit_usage(
        10,
        ber.used_units(total=12, up=5, down=7, triggerTimeStamp=stamps[1], timeOfFirstUsage=stamps[0], rATType=51),
        ber.used_units(total=12, triggerTimeStamp=stamps[2], localSequenceNumber=2),
    )
    late = ber.unit_usage(20, ber.used_units(up=1, down=2), is_group_last=True)
    return [
        ber.record("pgw", recordType=85, **gateway, listOfTrafficVolumes=volumes, listOfServiceData=services),
        ber.record("pgw", recordType=85, **gateway, listOfTrafficVolumes=volumes, stopTime=stamps[2]),
        ber.record("sgw", recordType=84, **gateway, listOfTrafficVolumes=volumes, servedMSISDN=ber.msisdn("33612345678")),
        ber.record("egsn", recordType=70, **gateway, listOfServiceData=services[1:]),
        ber.record("sgsn", recordType=18, **own | {"recordOpeningTime": stamps[0][:6]}, listOfTrafficVolumes=volumes[:1]),
        ber.record(
            "chf",
            recordType=200,
            nodeID="chf",
            subscriberIdentifier=ber.subscriber(1, "imsi-001010123456789"),
            listOfMultipleUnitUsage=(used, late),
            recordOpeningTime=stamps[0],
            duration=3600,
            chargingID=9,
            recordSequenceNumber=3,
            localSequenceNumber=4,
            chargingSessionIdentifier="session-é",
            pDUSessionChargingInformation=ber.pdu_session("33612345678", userRoamerInOut=1, rATType=51, accessPointNameNI="web"),
        ),
        ber.record(
            "chf", recordType=200, subscriberIdentifier=ber.subscriber(0, "msisdn-33612345678"), recordOpeningTime=stamps[0]
        ),
        ber.record("pgw", recordType=85, recordOpeningTime=stamps[0], chargingID=-1, duration=1 << 40),
    ]


def seeds(name: FormatName) -> list[bytes]:
    """Files to begin with: built, and of the samples if they are there."""
    records = [ber.encoded(one, is_indefinite) for one in built() for is_indefinite in (False, True)]
    records += [one for path in sorted(SAMPLES.glob("3gpp_*/*.cdr")) for one in _sample_records(path.read_bytes())]
    if name == "ber":
        blocks = [ber.in_blocks(records[:4], 512, filler) for filler in (0x00, 0xFF)]
        return [*records, *blocks, b"".join(records[:4]), b"".join(records[-3:])]
    forms = (ber.OPEN5GS, ber.FREE5GC, replace(ber.OPEN5GS, lost_indicator=130), replace(ber.FREE5GC, knows_length=False, cdrs=7))
    files = [ber.file_of([one], forms[place % len(forms)]) for place, one in enumerate(records)]
    together = [ber.file_of(records[:4], form, (b"\0" * 5, b"\xff" * 9, b"junk")) for form in forms]
    return [*files, *together, ber.vendor_file_of(records[:3])]


def _sample_records(file: bytes) -> Iterator[bytes]:
    """The first records of a sample."""
    at = file_header(file).length_octets
    for _ in range(3):
        if at + 5 > len(file):
            return
        octets, begin = int.from_bytes(file[at : at + 2], "big"), at + (5 if file[at + 2] >> 5 == 7 else 4)
        at = begin + octets
        yield file[begin:at]


def sound(name: FormatName, chance: random.Random) -> bytes:
    """Records of every kind with some of their elements, lists repeated, in any of the forms of a file."""
    records = [
        ber.encoded(_some_of(one, chance), chance.random() < 0.3) for one in chance.choices(built(), k=chance.randrange(1, 5))
    ]
    if name == "ber":
        return b"".join(records) if chance.random() < 0.5 else ber.in_blocks(records, 512, chance.choice((0x00, 0xFF)))
    form = replace(chance.choice((ber.OPEN5GS, ber.FREE5GC)), lost_indicator=chance.choice((0, 130)))
    return ber.file_of(records, form)


def _some_of(record: Element, chance: random.Random) -> Element:
    """A record without some of its elements, and with lists that are longer."""
    assert isinstance(record.content, tuple)
    kept = [one for one in record.content if chance.random() < 0.9]
    longer = [
        replace(one, content=one.content * chance.choice((1, 1, 2, 9)))
        if isinstance(one.content, tuple) and one.content and one.content[0].tag_class == 0
        else one
        for one in kept
    ]
    return replace(record, content=tuple(longer))


# Mutations

INTERESTING = bytes(
    [0, 1, 2, 0x1F, 0x2B, 0x2D, 0x30, 0x3F, 0x7F, 0x80, 0x81, 0x82, 0x84, 0x88, 0x9F, 0xA0, 0xB4, 0xBF, 0xFE, 0xFF]
)
LENGTHS = (b"\0", b"\1", b"\x7f", b"\x80", b"\x81\x80", b"\x82\x01\x00", b"\x84\xff\xff\xff\xff", b"\x88" + b"\xff" * 8, b"\xff")
PIECES = (
    b"\0\0",
    b"\0" * 7,
    b"\xff" * 7,
    b"\0",
    b"\xff",
    b"junk",
    b"\x30\x80",
    b"\x30\x00",
    b"\xbf\x4f\x80",
    b"\xbf\x81\x48\x80",
)
CONTENTS = (
    b"",
    b"\xff",
    b"\x80\0\0\0",
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\1" + bytes(8),
    b"\0" * 9,
    b"\x26\x02\x29\0\0\0",
    b"2" * 40,
)
DEEPEST = 40
MATERIAL = Material(INTERESTING, LENGTHS, PIECES)


def parsed(octets: bytes, depth: int = 0) -> tuple[Element, ...] | None:
    """Elements of definite or indefinite lengths; null if the octets are none."""
    found, at = [], 0
    while at < len(octets):
        one = _element_at(octets, at, depth)
        if one is None:
            return None
        found.append(one[0])
        at = one[1]
    return tuple(found)


def _element_at(octets: bytes, at: int, depth: int) -> tuple[Element, int] | None:
    first, at = octets[at], at + 1
    number = first & 31
    if number == 31:
        number = 0
        for _ in range(2):
            if at >= len(octets):
                return None
            number, at = number << 7 | octets[at] & 127, at + 1
            if octets[at - 1] < 128:
                break
    if at >= len(octets) or depth > DEEPEST:
        return None
    length, at = octets[at], at + 1
    if length == 128:
        inside: list[Element] = []
        while octets[at : at + 2] != b"\0\0":
            one = _element_at(octets, at, depth + 1) if at < len(octets) else None
            if one is None:
                return None
            inside.append(one[0])
            at = one[1]
        return Element(number, tuple(inside), first & 0xC0), at + 2
    if length > 128:
        count = length & 127
        length, at = int.from_bytes(octets[at : at + count], "big"), at + count
    if at + length > len(octets):
        return None
    content = octets[at : at + length]
    within = parsed(content, depth + 1) if first & 0x20 else None
    return Element(number, content if within is None else within, first & 0xC0), at + length


def mutated_element(one: Element, chance: random.Random) -> Element:
    """An element with a change somewhere inside; what encloses it fits again once it is encoded."""
    if isinstance(one.content, bytes) or not one.content or chance.random() < 0.15:
        return _changed(one, chance)
    content = list(one.content)
    place = chance.randrange(len(content))
    match chance.randrange(8):
        case 0:
            del content[place]
        case 1:
            content.insert(chance.randrange(len(content) + 1), content[place])
        case 2:
            other = chance.randrange(len(content))
            content[place], content[other] = content[other], content[place]
        case _:
            content[place] = mutated_element(content[place], chance)
    return replace(one, content=tuple(content))


def _changed(one: Element, chance: random.Random) -> Element:
    match chance.randrange(6):
        case 0:
            return replace(
                one, number=chance.choice((0, 1, 3, 5, 6, 11, 12, 13, 14, 16, 17, 34, one.number + 1, 200, 300, 20_000))
            )
        case 1:
            return replace(one, tag_class=chance.choice((0, 0x40, 0x80, 0xC0)))
        case 2:
            return replace(one, content=chance.choice(CONTENTS))
        case 3:
            nested = one
            for _ in range(chance.choice((1, 3, 30))):
                nested = Element(one.number, (nested,), one.tag_class)
            return nested
        case 4 if isinstance(one.content, tuple):
            return replace(one, content=one.content * chance.choice((2, 5, 20)))
        case _:
            octets = one.content if isinstance(one.content, bytes) else ber.encoded(one)
            return replace(one, content=mutated_octets(octets, chance))


def mutated_octets(octets: bytes, chance: random.Random) -> bytes:
    """Octets with a change that knows nothing of what they mean."""
    return mutated_by(octets, MATERIAL, chance)


def mutated(octets: bytes, other: bytes, name: FormatName, chance: random.Random) -> bytes:
    """An input made from one, or two."""
    match chance.randrange(6):
        case 0:
            octets = octets[: chance.randrange(len(octets) + 1)] + other[chance.randrange(len(other) + 1) :]
        case 1 | 2:
            octets = mutated_octets(octets, chance)
        case _:
            octets = (_mutated_file if name == "ts32297" else _mutated_records)(octets, other, chance)
    while chance.random() < 0.25:
        octets = mutated_octets(octets, chance)
    return octets


def _mutated_records(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    found = parsed(octets)
    if not found:
        return mutated_octets(octets, chance)
    records = list(found)
    if chance.random() < 0.1:
        records += parsed(other) or ()
    place = chance.randrange(len(records))
    records[place] = mutated_element(records[place], chance)
    gap = chance.choice(PIECES) * chance.choice((1, 2, 100)) if chance.random() < 0.1 else b""
    return gap.join(ber.encoded(one, is_indefinite=chance.random() < 0.2) for one in records)


def _mutated_file(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    """A change to a record of a file, whose CDR header then says its length again."""
    begin = int.from_bytes(octets[4:8], "big")
    spans = list(_cdrs(octets, begin))
    if not spans:
        return mutated_octets(octets, chance)
    head, at, end = chance.choice(spans)
    if chance.random() < 0.15:  # padding or something else between two records
        return octets[:head] + chance.choice(PIECES) * chance.choice((1, 2, 100)) + octets[head:]
    record = octets[at:end]
    if chance.random() < 0.1 and (from_other := list(_cdrs(other, int.from_bytes(other[4:8], "big")))):
        _, at_other, end_other = chance.choice(from_other)
        record = other[at_other:end_other]
    record = _mutated_records(record, b"", chance)[:0xFFFF]
    changed = octets[:head] + len(record).to_bytes(2, "big") + octets[head + 2 : at] + record + octets[end:]
    return len(changed).to_bytes(4, "big") + changed[4:] if chance.random() < 0.8 else changed


def _cdrs(octets: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Where CDR headers and their records begin and end, as far as they follow each other."""
    while at > 0 and at + 5 <= len(octets):
        begin = at + (5 if octets[at + 2] >> 5 == 7 else 4)
        end = begin + int.from_bytes(octets[at : at + 2], "big")
        if end > len(octets) or end == begin:
            return
        yield at, begin, end
        at = end
