"""TS 32.298 records and TS 32.297 files, written octet by octet for tests: independent of the reader's own tables.

A record is a tree of elements first, so that one tree can be written with definite and with indefinite lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

CONTEXT, UNIVERSAL = 0x80, 0x00
GSN_IPV4, GSN_IPV6 = 0, 1


@dataclass(frozen=True)
class Element:
    """A tag with octets, or with elements inside."""

    number: int
    content: bytes | tuple[Element, ...]
    tag_class: int = CONTEXT


def tag(number: int, tag_class: int = CONTEXT, is_constructed: bool = False) -> bytes:
    first = tag_class | (0x20 if is_constructed else 0)
    if number < 31:
        return bytes([first | number])
    septets = [number & 0x7F]
    while number := number >> 7:
        septets.insert(0, number & 0x7F | 0x80)
    return bytes([first | 0x1F, *septets])


def length(octets: int, at_least: int = 0) -> bytes:
    """The short form below 128, else the long one; ``at_least`` so many octets of it, as some encoders write."""
    if octets < 128 and not at_least:
        return bytes([octets])
    written = octets.to_bytes(max((octets.bit_length() + 7) // 8, at_least, 1), "big")
    return bytes([0x80 | len(written)]) + written


def encoded(element: Element, is_indefinite: bool = False) -> bytes:
    if isinstance(element.content, bytes):
        return tag(element.number, element.tag_class) + length(len(element.content)) + element.content
    content = b"".join(encoded(inner, is_indefinite) for inner in element.content)
    begin = tag(element.number, element.tag_class, is_constructed=True)
    return begin + b"\x80" + content + b"\0\0" if is_indefinite else begin + length(len(content)) + content


def integer(value: int) -> bytes:
    """The shortest two's complement."""
    return value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True)


def primitive(number: int, value: int | str | bytes) -> Element:
    octets = integer(value) if isinstance(value, int) else value.encode() if isinstance(value, str) else value
    return Element(number, octets)


def sequence(*elements: Element) -> Element:
    return Element(16, elements, UNIVERSAL)


def stamp(at: datetime) -> bytes:
    """A TimeStamp of 9 octets: local time and its offset."""
    offset = at.utcoffset()
    assert offset is not None
    minutes = int(offset.total_seconds()) // 60
    sign = b"-" if minutes < 0 else b"+"
    return bytes.fromhex(f"{at:%y%m%d%H%M%S}") + sign + bytes.fromhex(f"{abs(minutes) // 60:02}{abs(minutes) % 60:02}")


def short_stamp(at: datetime) -> bytes:
    """A TimeStamp of 6 octets, as some dictionaries have it."""
    return stamp(at)[:6]


def tbcd(digits: str) -> bytes:
    filled = digits + "f" * (len(digits) % 2)
    return bytes(int(filled[at + 1] + filled[at], 16) for at in range(0, len(filled), 2))


def msisdn(digits: str) -> bytes:
    return b"\x91" + tbcd(digits)


def plmn(mcc: str, mnc: str) -> bytes:
    """TS 24.008 §10.5.1.3."""
    third = mnc[2] if len(mnc) == 3 else "f"
    return bytes.fromhex(mcc[1] + mcc[0] + third + mcc[2] + mnc[1] + mnc[0])


def structure(tags: Mapping[str, int], values: Mapping[str, Any]) -> tuple[Element, ...]:
    """Elements by name; a value is a number, a text, octets, or elements inside. None is left out."""
    return tuple(
        Element(tags[name], value) if isinstance(value, tuple) else primitive(tags[name], value)
        for name, value in values.items()
        if value is not None
    )


def _tags(written: str) -> dict[str, int]:
    """Tags by the names of elements: ``name tag, name tag``."""
    return {name: int(number) for name, number in (pair.split() for pair in written.split(","))}


_GATEWAY = _tags("""
    recordType 0, servedIMSI 3, gatewayAddress 4, chargingID 5, servingNodeAddress 6, accessPointNameNI 7,
    listOfTrafficVolumes 12, recordOpeningTime 13, duration 14, causeForRecClosing 15, recordSequenceNumber 17,
    nodeID 18, localSequenceNumber 20, servedMSISDN 22, chargingCharacteristics 23, servingNodePLMNIdentifier 27,
    rATType 30, mSTimeZone 31, listOfServiceData 34, servingNodeType 35, startTime 38, stopTime 39, secondaryReports 73
""")
_SERVING_NODE = _tags("""
    recordType 0, servedIMSI 3, sgsnAddress 5, chargingID 10, gatewayAddress 11, accessPointNameNI 12,
    listOfTrafficVolumes 15, recordOpeningTime 16, duration 17, causeForRecClosing 19, recordSequenceNumber 21,
    nodeID 22, localSequenceNumber 24, servedMSISDN 27, chargingCharacteristics 28, rATType 29,
    rNCUnsentDownlinkVolume 31, servingNodePLMNIdentifier 38
""")
_CHARGING_FUNCTION = _tags("""
    recordType 0, nodeID 1, subscriberIdentifier 2, nFunctionConsumerInformation 3, listOfMultipleUnitUsage 5,
    recordOpeningTime 6, duration 7, recordSequenceNumber 8, causeForRecClosing 9, localSequenceNumber 11,
    pDUSessionChargingInformation 13, roamingQBCInformation 14, chargingSessionIdentifier 16, chargingID 27
""")
RECORDS: dict[str, tuple[int, dict[str, int]]] = {
    "sgsn": (20, _SERVING_NODE),
    "ggsn": (21, _GATEWAY),
    "egsn": (70, _GATEWAY),
    "sgw": (78, {**_GATEWAY, "secondaryReports": 64}),
    "pgw": (79, _GATEWAY),
    "chf": (200, _CHARGING_FUNCTION),
}
"""The outer tag of each record, and the tags of its elements."""

_TRAFFIC_VOLUME = _tags("up 3, down 4, changeCondition 5, changeTime 6, rATType 15")
_SERVICE_DATA = _tags("""
    ratingGroup 1, localSequenceNumber 4, timeOfFirstUsage 5, timeOfLastUsage 6, timeUsage 7, serviceConditionChange 8,
    up 12, down 13, timeOfReport 14, serviceIdentifier 17, rATType 30
""")
_USED_UNITS = _tags("time 1, triggerTimeStamp 3, total 4, up 5, down 6, localSequenceNumber 9, pDUContainer 11")
_PDU_CONTAINER = _tags("timeOfFirstUsage 2, timeOfLastUsage 3, rATType 7")
_PDU_SESSION = _tags("userIdentifier 1, userRoamerInOut 4, rATType 12, accessPointNameNI 13, servingNodePLMNIdentifier 27")
_SECONDARY_REPORT = _tags("up 1, down 2, rANStartTime 3, rANEndTime 4, secondaryRATType 5")


def record(record_type: str, **values: Any) -> Element:
    number, tags = RECORDS[record_type]
    return Element(number, structure(tags, values))


def traffic_volume(**values: Any) -> Element:
    return sequence(*structure(_TRAFFIC_VOLUME, values))


def service_data(**values: Any) -> Element:
    return sequence(*structure(_SERVICE_DATA, values))


def secondary_report(**values: Any) -> Element:
    return sequence(*structure(_SECONDARY_REPORT, values))


def used_units(**values: Any) -> Element:
    pdu = {name: values.pop(name) for name in _PDU_CONTAINER if name in values}
    return sequence(*structure(_USED_UNITS, values), *([Element(11, structure(_PDU_CONTAINER, pdu))] if pdu else ()))


def unit_usage(rating_group: int | None, *containers: Element, is_group_last: bool = False) -> Element:
    group = [] if rating_group is None else [primitive(0, rating_group)]
    used = Element(1, containers)
    return sequence(*([used, *group] if is_group_last else [*group, used]))


def subscriber(kind: int, written: str) -> tuple[Element, ...]:
    return (primitive(0, kind), primitive(1, written))


def pdu_session(msisdn_written: str | None = None, **values: Any) -> tuple[Element, ...]:
    user = None if msisdn_written is None else (primitive(3, msisdn_written),)
    return structure(_PDU_SESSION, {"userIdentifier": user, **values})


def gsn_address(octets: bytes) -> tuple[Element, ...]:
    return (primitive(GSN_IPV4 if len(octets) == 4 else GSN_IPV6, octets),)


# TS 32.297


@dataclass(frozen=True)
class FileForm:
    """How a writer writes the header of its files, and of each record in them.

    ``private_extension`` of None leaves its length out as well; ``release`` 7 brings extensions of the release with it.
    """

    release: int = 7
    routeing_filter: bytes = b""
    private_extension: bytes | None = None
    lost_indicator: int = 0
    cdrs: int | None = None
    knows_length: bool = True


OPEN5GS, FREE5GC = FileForm(), FileForm(release=0, private_extension=b"")


def file_of(records: Sequence[bytes], form: FileForm = OPEN5GS, after_each: Sequence[bytes] = ()) -> bytes:
    """A TS 32.297 file; ``after_each`` is padding, or garbage, behind each record."""
    gaps = [*after_each, *[b""] * (len(records) - len(after_each))]
    body = b"".join(cdr_header(one, form) + one + gap for one, gap in zip(records, gaps, strict=True))
    return file_header(form, len(records), len(body)) + body


def file_header(form: FileForm, cdrs: int, body_octets: int) -> bytes:
    tail = len(form.routeing_filter).to_bytes(2, "big") + form.routeing_filter
    if form.private_extension is not None:
        tail += len(form.private_extension).to_bytes(2, "big") + form.private_extension
    tail += b"\x08\x08" if form.release == 7 else b""
    octets = 48 + len(tail)
    whole = octets + body_octets if form.knows_length else 0xFFFFFFFF
    begin = whole.to_bytes(4, "big") + octets.to_bytes(4, "big") + bytes([form.release << 5, form.release << 5]) + bytes(8)
    counts = (cdrs if form.cdrs is None else form.cdrs).to_bytes(4, "big") + (41).to_bytes(4, "big")
    return begin + counts + b"\0" + b"\xff" * 4 + bytes(16) + bytes([form.lost_indicator]) + tail


def vendor_file_of(records: Sequence[bytes], header_octets: int = 24) -> bytes:
    """A header of the vendor's own: only the lengths are where TS 32.297 has them."""
    body = b"".join(cdr_header(one, OPEN5GS) + one for one in records)
    begin = (header_octets + len(body)).to_bytes(4, "big") + header_octets.to_bytes(4, "big") + b"\xe6\xe6"
    return begin.ljust(header_octets, b"\0") + body


def cdr_header(one: bytes, form: FileForm = OPEN5GS) -> bytes:
    """BER (1), of TS 32.251 (7); five octets with the extension of the release, else four."""
    return len(one).to_bytes(2, "big") + bytes([form.release << 5, 1 << 5 | 7]) + (b"\x08" if form.release == 7 else b"")


def in_blocks(units: Sequence[bytes], octets: int, filler: int) -> bytes:
    """Blocks of a fixed size; what would cross a boundary begins in the next block."""
    written = b""
    for unit in units:
        room = -len(written) % octets
        if len(unit) > room and room:
            written += bytes([filler]) * room
        written += unit
    return written + bytes([filler]) * (-len(written) % octets)
