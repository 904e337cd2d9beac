"""IPDR documents as tests and benches write them: SAMIS-TYPE-1 records as XML, under the names of two versions, and as XDR."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.sax.saxutils import escape

import pyarrow as pa

from jobs.readers.block import Block, ReadFault, Tally
from jobs.readers.ipdr_names import SAMIS_TYPE_1

SAMPLES = Path(__file__).parents[2].parent / "shared" / "samples" / "ipdr_reflib"
CREATED = datetime(2026, 10, 31, 18, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

INT, UINT, LONG, ULONG, FLOAT, DOUBLE, HEX, STRING, BOOL, BYTE, UBYTE, SHORT, USHORT = range(0x21, 0x2E)
SECONDS, MSEC, IPV4, IPV6, UUID_TYPE, USEC, MAC, IP = 0x122, 0x224, 0x322, 0x427, 0x527, 0x623, 0x723, 0x827

SAMIS_TYPES: dict[str, int] = {
    "CmtsHostName": STRING,
    "CmtsSysUpTime": UINT,
    "CmtsIpv4Addr": IPV4,
    "CmtsIpv6Addr": IPV6,
    "CmtsMdIfName": STRING,
    "CmtsMdIfIndex": UINT,
    "CmMacAddr": MAC,
    "CmIpv4Addr": IPV4,
    "CmIpv6Addr": IPV6,
    "CmIpv6LinkLocal": IPV6,
    "CmQosVersion": UINT,
    "CmRegStatus": UINT,
    "CmLastRegTime": SECONDS,
    "RecType": UINT,
    "RecCreationTime": MSEC,
    "SfChSet": HEX,
    "ServiceAppId": UINT,
    "ServiceDsMulticast": BOOL,
    "ServiceIdentifier": UINT,
    "ServiceGateId": UINT,
    "ServiceClassName": STRING,
    "ServiceDirection": UINT,
    "ServiceOctetsPassed": ULONG,
    "ServicePktsPassed": ULONG,
    "ServiceSlaDropPkts": UINT,
    "ServiceSlaDelayPkts": UINT,
    "ServiceTimeCreated": UINT,
    "ServiceTimeActive": UINT,
}
assert tuple(SAMIS_TYPES) == SAMIS_TYPE_1

DOCSIS_2_NAMES = {
    "CmtsHostName": "CMTShostname",
    "CmtsSysUpTime": "CMTSsysUpTime",
    "CmtsIpv4Addr": "CMTSipAddress",
    "CmtsMdIfName": "CMTScatvIfName",
    "CmtsMdIfIndex": "CMTScatvIfIndex",
    "CmMacAddr": "CMmacAddress",
    "CmIpv4Addr": "CMipAddress",
    "RecType": "SFtype",
    "RecCreationTime": "IPDRcreationTime",
    "ServiceIdentifier": "SFID",
    "ServiceClassName": "serviceClassName",
    "ServiceDirection": "SFdirection",
    "ServiceOctetsPassed": "octetsPassed",
    "ServicePktsPassed": "pktsPassed",
    "ServiceSlaDropPkts": "SLAdropPkts",
    "ServiceSlaDelayPkts": "SLAdelayPkts",
    "ServiceTimeCreated": "serviceTimeCreated",
    "ServiceTimeActive": "serviceTimeActive",
}
"""What DOCSIS 1.1 and 2.0 have of a record, and how they call it."""

Values = dict[str, Any]


def samis(number: int = 1, **changed: Any) -> Values:
    """The values of a record: numbers, texts, octets, instants."""
    created = CREATED + timedelta(minutes=15 * (number % 96))
    usual: Values = {
        "CmtsHostName": "cmts1.example.net",
        "CmtsSysUpTime": 287_315 + number,
        "CmtsIpv4Addr": "192.0.2.1",
        "CmtsIpv6Addr": "2001:db8::1",
        "CmtsMdIfName": "Cable8/0/0",
        "CmtsMdIfIndex": 13,
        "CmMacAddr": f"{number:012x}",
        "CmIpv4Addr": str(ip_address(0x0A000000 + number % (1 << 24))),
        "CmIpv6Addr": "",
        "CmIpv6LinkLocal": str(ip_address(f"fe80::{number & 0xFFFF:x}")),
        "CmQosVersion": 2,
        "CmRegStatus": 8,
        "CmLastRegTime": CREATED - timedelta(days=3),
        "RecType": 1,
        "RecCreationTime": created + timedelta(milliseconds=number % 1000),
        "SfChSet": bytes([1, 2, 3, number & 0xFF]),
        "ServiceAppId": 0,
        "ServiceDsMulticast": False,
        "ServiceIdentifier": 1000 + number % 7,
        "ServiceGateId": 0,
        "ServiceClassName": "Gold",
        "ServiceDirection": 1 + number % 2,
        "ServiceOctetsPassed": 3_000_000_000 + 7919 * number,
        "ServicePktsPassed": 2_000_000 + number,
        "ServiceSlaDropPkts": 0,
        "ServiceSlaDelayPkts": 0,
        "ServiceTimeCreated": 11_000,
        "ServiceTimeActive": 15_890,
    }
    return usual | changed


def instant(at: datetime, digits: int = 3) -> str:
    """An instant as ISO 8601 writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S") + ("." + f"{at.microsecond:06d}"[:digits] if digits else "") + "Z"


def text(value: Any) -> str:
    """A value as a document in XML has it, and as the reader of XDR writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    return instant(value) if isinstance(value, datetime) else str(value)


def dashed(mac: str) -> str:
    """A MAC address as CMTS write it."""
    return "-".join(mac[at : at + 2] for at in range(0, 12, 2)).upper()


# XML


def ipdr(values: Mapping[str, Any], names: Mapping[str, str] | None = None, kind: str = "SAMIS-TYPE-1") -> str:
    """An IPDR element; under other names, only what those name, the MAC address with dashes."""
    if names is None:
        elements = [f"<{name}>{escape(text(value))}</{name}>\n" for name, value in values.items()]
    else:
        written = {**values, "CmMacAddr": dashed(values["CmMacAddr"])} if "CmMacAddr" in values else values
        elements = [f"<{names[name]}>{escape(text(value))}</{names[name]}>\n" for name, value in written.items() if name in names]
    return f'<IPDR xsi:type="{kind}">\n{"".join(elements)}</IPDR>\n'


def xml_document(records: Sequence[str], count: int | None = -1, encoding: str = "UTF-8", has_end: bool = True) -> bytes:
    """An IPDRDoc of some records; its count is theirs unless given, or left out."""
    count = len(records) if count == -1 else count
    head = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n'
        '<IPDRDoc xmlns="http://www.ipdr.org/namespaces/ipdr"\nxmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"\n'
        'xsi:schemaLocation="DOCSIS-3.5-B.0.xsd"\ndocId="C341A679-0000-0000-0000-000BBF54D000"\n'
        'creationTime="2026-10-31T18:15:00Z"\nIPDRRecorderInfo="cmts1"\nversion="3.5">\n'
    )
    end = "" if count is None else f'<IPDRDoc.End count="{count}" endTime="2026-10-31T18:15:01Z"/>\n'
    return (head + "".join(records) + (end + "</IPDRDoc>\n" if has_end else "")).encode(encoding)


# XDR


def opaque(octets: bytes) -> bytes:
    return struct.pack(">I", len(octets)) + octets


def _milliseconds(value: Any) -> int:
    return round((value - EPOCH).total_seconds() * 1000) if isinstance(value, datetime) else value


def _address(value: Any) -> bytes:
    return ip_address(value).packed if value else b""


_WRITTEN: dict[int, Callable[[Any], bytes]] = {
    INT: lambda value: struct.pack(">i", value),
    UINT: lambda value: struct.pack(">I", value),
    LONG: lambda value: struct.pack(">q", value),
    ULONG: lambda value: struct.pack(">Q", value),
    FLOAT: lambda value: struct.pack(">f", value),
    DOUBLE: lambda value: struct.pack(">d", value),
    HEX: opaque,
    STRING: lambda value: opaque(value if isinstance(value, bytes) else value.encode()),
    BOOL: lambda value: bytes([value]),
    BYTE: lambda value: struct.pack(">b", value),
    UBYTE: lambda value: struct.pack(">B", value),
    SHORT: lambda value: struct.pack(">h", value),
    USHORT: lambda value: struct.pack(">H", value),
    SECONDS: lambda value: struct.pack(">I", _milliseconds(value) // 1000 if isinstance(value, datetime) else value),
    MSEC: lambda value: struct.pack(">Q", _milliseconds(value)),
    USEC: lambda value: struct.pack(">Q", _milliseconds(value) * 1000 if isinstance(value, datetime) else value),
    IPV4: _address,
    IPV6: lambda value: opaque(_address(value)),
    IP: lambda value: opaque(_address(value)),
    UUID_TYPE: lambda value: opaque(UUID(value).bytes),
    MAC: lambda value: b"\0\0" + bytes.fromhex(value),
}


@dataclass(frozen=True)
class XdrForm:
    """How a library writes: ubyte and ushort in four octets, the marker of a record's unknown length before its values."""

    is_wide: bool = False
    has_marker: bool = True


COLLECTORS, LIBRARY_2004 = XdrForm(has_marker=False), XdrForm(is_wide=True)
FORMS = (COLLECTORS, LIBRARY_2004, XdrForm(), XdrForm(is_wide=True, has_marker=False))


def xdr_header(elements: int = 0xFFFFFFFF, version: int = 4) -> bytes:
    return b"".join(
        [
            struct.pack(">I", version), opaque(b"cmts1"), struct.pack(">Q", _milliseconds(CREATED)),
            opaque(b"http://www.ipdr.org/namespaces/ipdr"), struct.pack(">I", 1), opaque(b"urn:other"), opaque(b"o"),
            struct.pack(">I", 1), opaque(b"DOCSIS-3.5-B.0.xsd"), opaque(bytes(range(16))), struct.pack(">I", elements),
        ]
    )  # fmt: skip


def xdr_descriptor(types: Mapping[str, int] = SAMIS_TYPES, number: int = 1, name: str = "SAMIS-TYPE-1") -> bytes:
    attributes = b"".join(opaque(each.encode()) + struct.pack(">I", kind) for each, kind in types.items())
    return struct.pack(">II", 1, number) + opaque(name.encode()) + struct.pack(">I", len(types)) + attributes


def xdr_record(
    values: Mapping[str, Any], types: Mapping[str, int] = SAMIS_TYPES, form: XdrForm = XdrForm(), number: int = 1
) -> bytes:
    written = [
        struct.pack(">I", values[name]) if form.is_wide and kind in (UBYTE, USHORT) else _WRITTEN[kind](values[name])
        for name, kind in types.items()
    ]
    return struct.pack(">II", 2, number) + (b"\xff" * 4 if form.has_marker else b"") + b"".join(written)


def xdr_end(count: int) -> bytes:
    return struct.pack(">IIQ", 3, count, _milliseconds(CREATED))


def xdr_document(
    records: Sequence[Mapping[str, Any]], types: Mapping[str, int] = SAMIS_TYPES, form: XdrForm = XdrForm(), count: int = -1
) -> bytes:
    """An IPDR/XDR document of some records; its count is theirs unless given."""
    written = b"".join(xdr_record(values, types, form) for values in records)
    return xdr_header() + xdr_descriptor(types) + written + xdr_end(len(records) if count < 0 else count)


# Reading


@dataclass
class Reading:
    """Rows in the order of the file with their place and fault, what was counted, and why the reading ended early."""

    rows: list[Values] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    fault: str | None = None

    def values(self, *names: str) -> list[Any]:
        """Those columns of the sound rows; the values themselves where it is one column."""
        sound = [row for row in self.rows if row["fault"] is None]
        return [row[names[0]] if len(names) == 1 else tuple(row[name] for name in names) for row in sound]

    @property
    def faults(self) -> list[str | None]:
        return [row["fault"] for row in self.rows]

    @property
    def octets(self) -> tuple[int, int, int, int]:
        """Header, records, padding, quarantined."""
        t = self.tally
        return t.octets_header, t.octets_records, t.octets_padding, t.octets_quarantined


def read(
    reader: Callable[..., Any], octets: bytes, columns: Sequence[str] = SAMIS_TYPE_1, window_octets: int = 8 << 20
) -> Reading:
    """Read to the end, or to the fault; what must hold of every reading is asserted here."""
    reading = Reading()
    try:
        block: Block
        for block in reader(pa.BufferReader(octets), columns, reading.tally, window_octets=window_octets):
            assert len(block.ordinals) == len(block.offsets) == len(block.faults) == block.records.num_rows > 0
            assert block.records.schema.names == list(columns)
            block.records.validate(full=True)
            places = zip(block.ordinals.tolist(), block.offsets.tolist(), block.faults.to_pylist(), strict=True)
            for row, place in zip(block.records.to_pylist(), places, strict=True):
                reading.rows.append(row | dict(zip(("ordinal", "offset", "fault"), place, strict=True)))
    except ReadFault as fault:
        reading.fault = str(fault)
    if reading.fault is None:
        assert min(reading.octets) >= 0
        assert sum(reading.octets) == reading.tally.octets == len(octets)
        assert reading.tally.records == len(reading.rows)
    assert [row["ordinal"] for row in reading.rows] == list(range(1, len(reading.rows) + 1))
    offsets = [row["offset"] for row in reading.rows]
    assert offsets == sorted(set(offsets))
    return reading
