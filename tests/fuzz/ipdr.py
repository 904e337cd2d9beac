"""Fuzzing of the readers of IPDR documents, XML and XDR (``search`` says how).

Beside what is promised of any reader, what a plain parser finds sound is read as that reads it.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Literal

import pyarrow as pa

from jobs.readers.block import Block, Part, Tally
from jobs.readers.ipdr_names import SAMIS_TYPE_1
from jobs.readers.ipdr_xdr import read_ipdr_xdr
from jobs.readers.ipdr_xml import read_ipdr_xml
from tests.fuzz.search import SAMPLES, Finding, Reading, Target, counted, magnitude
from tests.readers import ipdr_files as files
from tests.readers import ipdr_plain
from tests.readers.ipdr_files import (
    FORMS,
    Values,
    ipdr,
    samis,
    xdr_descriptor,
    xdr_document,
    xdr_end,
    xdr_header,
    xdr_record,
    xml_document,
)

FormatName = Literal["samis-xml", "ipdr-xdr"]
READERS: dict[FormatName, Callable[..., Any]] = {"samis-xml": read_ipdr_xml, "ipdr-xdr": read_ipdr_xdr}
EVERY_TYPE = {f"v{kind:x}": kind for kind in (*range(0x21, 0x2E), 0x122, 0x224, 0x322, 0x427, 0x527, 0x623, 0x723, 0x827)}
COLUMNS = (*SAMIS_TYPE_1, "IPDRCreationTime", *EVERY_TYPE)


@dataclass(frozen=True)
class IpdrDocument(Target):
    """IPDR documents in one of their two encodings."""

    name: FormatName
    small_windows: ClassVar[tuple[int, ...]] = (192, 17)

    def blocks(self, octets: bytes, tally: Tally, part: Part, window_octets: int) -> Iterator[Block]:
        return READERS[self.name](pa.BufferReader(octets), COLUMNS, tally, window_octets=window_octets)

    def check(self, octets: bytes, whole: Reading) -> None:
        check_plain(octets, self.name, whole)

    def features(self, octets: bytes, reading: Reading) -> frozenset[str]:
        return features(reading)

    def seeds(self) -> list[bytes]:
        return seeds(self.name)

    def sound(self, chance: random.Random) -> bytes:
        return sound_xml(chance) if self.name == "samis-xml" else sound_xdr(chance)

    def mutated(self, octets: bytes, other: bytes, chance: random.Random) -> bytes:
        return mutated(octets, other, self.name, chance)


TARGETS: dict[str, Target] = {target.name: target for target in (IpdrDocument("samis-xml"), IpdrDocument("ipdr-xdr"))}


# What is checked of an input


def check_plain(octets: bytes, name: FormatName, reading: Reading) -> None:
    """What a plain parser reads to the end, in one way only, has its rows."""
    found = list(_plain_rows(octets, name))
    if len(found) != 1 or (reading.refusal is not None and _is_limited(octets, name, reading.refusal)):
        return
    if reading.refusal is not None:
        raise Finding(f"refused: {reading.refusal}")
    rows = [] if reading.rows is None else reading.rows.select(list(COLUMNS)).to_pylist()
    if len(rows) != len(found[0]):
        raise Finding(f"plain: {len(rows)} rows, {len(found[0])} by the plain parser")
    for row, plain in zip(rows, found[0], strict=True):
        differing = [column for column in COLUMNS if row[column] != plain[column]]
        if differing:
            raise Finding(f"plain: these differ: {', '.join(differing)}")


def _plain_rows(octets: bytes, name: FormatName) -> Iterator[list[Values]]:
    for form in FORMS if name == "ipdr-xdr" else FORMS[:1]:
        try:
            yield list(ipdr_plain.of_xdr(octets, COLUMNS, form)) if name == "ipdr-xdr" else ipdr_plain.of_xml(octets, COLUMNS)
        except ipdr_plain.NotSound:
            continue


def _is_limited(octets: bytes, name: FormatName, refused: str) -> bool:
    """The reader refuses what the plain parser does not know to be forbidden."""
    if name == "samis-xml":
        return "DOCTYPE" in refused or "encoding" in refused or "UTF-16" in refused
    return "not an IPDR/XDR document" in refused or "cannot be told" in refused


# What the reader said, as features


def features(reading: Reading) -> frozenset[str]:
    """What the reader said of an input, roughly: faults, warnings, what is counted, columns by whether they are filled."""
    tally, rows, found = reading.tally, reading.rows, counted(reading)
    found.add(f"declared {None if tally.records_declared is None else tally.records_declared == tally.records}")
    if rows is None:
        return frozenset(found)
    faults = rows["fault"].to_pylist()
    found |= {f"{before} {after}" for before, after in zip([None, *faults], faults, strict=False)}
    for name in COLUMNS:
        found |= {f"{name} {magnitude(value)} {fault}" for value, fault in zip(rows[name].to_pylist(), faults, strict=True)}
    return frozenset(found)


# Seeds


def seeds(name: FormatName) -> list[bytes]:
    """Files to begin with: built, and of the samples if they are there."""
    samples = sorted((SAMPLES / "ipdr_reflib").glob("*.xml" if name == "samis-xml" else "*.xdr"))
    return [*(_xml_seeds() if name == "samis-xml" else _xdr_seeds()), *(path.read_bytes()[:2000] for path in samples)]


def _xml_seeds() -> list[bytes]:
    short = {name: value for name, value in samis(1).items() if name in ("CmMacAddr", "RecType", "ServiceOctetsPassed")}
    records = [
        *(ipdr(samis(number), names) for number, names in product((1, 2), (None, files.DOCSIS_2_NAMES))),
        ipdr(short),
        ipdr(short | {"ServiceClassName": "Été & <Öl>", "IPDRCreationTime": "x"}),
        "<IPDR><CmMacAddr a='1'>1</CmMacAddr><SFID><![CDATA[<IPDR>]]></SFID><!-- </IPDR> --></IPDR>",
        "<i:IPDR xmlns:i='i'><i:RecType>Stop</i:RecType><octetsPassed/>\r\n<gateId>1\r\n2</gateId></i:IPDR>",
        "<IPDR><RecType>1</SFtype></IPDR>",
        "<IPDR/>",
    ]
    documents = [xml_document([record], encoding=encoding) for record, encoding in product(records, ("UTF-8", "ISO-8859-1"))]
    small = "".join(records[5:])
    return [
        *documents,
        xml_document(records[4:]),
        f"<IPDRDoc xmlns='x'>{small}<IPDRDoc.End count='5'></IPDRDoc.End></IPDRDoc>".encode(),
        f"<IPDRDoc>{small}".encode(),
    ]


def _xdr_seeds() -> list[bytes]:
    values = {
        "v21": -1, "v22": 1, "v23": -1, "v24": 1 << 63, "v25": 1.5, "v26": 1e300, "v27": b"ab", "v28": "é", "v29": True,
        "v2a": -1, "v2b": 200, "v2c": -2, "v2d": 60_000, "v122": 3, "v224": 2, "v322": "192.0.2.1", "v427": "2001:db8::1",
        "v527": "97be5e2a-1dd1-11b2-a03b-af1c144d619b", "v623": 1, "v723": "0000390a4dff", "v827": "192.0.2.1",
    }  # fmt: skip
    small = {"CmMacAddr": files.MAC, "ServiceOctetsPassed": files.ULONG, "v2b": files.UBYTE, "SFtype": files.UINT}
    some = [{"CmMacAddr": f"{n:012x}", "ServiceOctetsPassed": n << 40, "v2b": n, "SFtype": 1 + n % 4} for n in range(4)]
    several = [
        xdr_header() + xdr_descriptor(small) + xdr_descriptor(EVERY_TYPE, 2)
        + b"".join(xdr_record(one, small, form) + xdr_record(values, EVERY_TYPE, form, 2) for one in some) + xdr_end(8)
        for form in FORMS
    ]  # fmt: skip
    return [
        *(xdr_document([samis(1), samis(2)], form=form) for form in FORMS[:2]),
        *(xdr_document([values] * 2, EVERY_TYPE, form) for form in FORMS),
        *(xdr_document(some, small, form) for form in FORMS),
        *several,
        xdr_header(elements=6) + xdr_descriptor(small) + b"".join(xdr_record(one, small) for one in some) + xdr_end(4),
    ]


# Pieces of mutations

XML_PIECES = (
    b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?p", b"?>", b"<IPDR>", b"</IPDR>", b"<IPDR ", b"<i:IPDR>", b"<IPDR/>", b"<IPDRDoc>",
    b"</IPDRDoc>", b"<IPDRDoc.End count='1'/>", b"<!DOCTYPE a>", b"&amp;", b"&#0;", b"&#65;", b"&a;", b"<a>", b"</a>", b"<a/>",
    b" x='1'", b' x="', b"'", b">", b"<", b"/", b"&", b"]", b"\r\n", b"\r", b" ", b"\xc3\xa9", b"\xef\xbf\xbe", b"\xff", b"\0",
    b" xsi:nil='true'", b"<SFID>1</SFID>", b"<CmMacAddr>\n2 </CmMacAddr>", b"<IPDRCreationTime>t</IPDRCreationTime>",
    b"<octetsPassed>5</octetsPassed>", b"<a><b>1</b></a>", b"\xef\xbb\xbf", b"<?xml version='1.0' encoding='ISO-8859-1'?>",
)  # fmt: skip
_SHORT = {"v2d": files.USHORT}
XDR_PIECES = (
    *(struct.pack(">I", number) for number in (0, 1, 2, 3, 4, 16, 0x2B, 0x28, 0x427, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF)),
    *(b"\0", b"\xff", b"\0\0\0", xdr_end(1), xdr_descriptor(_SHORT, 3), xdr_record({"v2d": 1}, _SHORT, number=3)),
)


# Sound documents that are made up

SOUND_TEXTS = (
    "", "1", " 1\n", "&amp;", "&lt;a&gt;", "&#65;&#x42;", "é", "\u20ac]", "<![CDATA[<IPDR>&]]>",
    "a<!-- </IPDR> -->b", "a<?p </IPDR>?>b",
    "1\r\n2", "\t", "a]]b", "&quot;&apos;", "&#32;1", "Interim", "00-00-39-0A-4D-FF", "<!---->", "&amp;lt;", "\u00a0", "\x7f",
)  # fmt: skip
SOUND_ATTRIBUTES = (
    "",
    "",
    "",
    " ",
    " a='1'",
    ' a="&amp;>"',
    " xsi:nil='true'",
    ' xsi:type = "x"',
    "\r\n",
    " b='/' c=\"'\"",
    " nil='0'",
)


def sound_xml(chance: random.Random) -> bytes:
    """A document in which everything is that XML allows."""
    encoding = chance.choice(("UTF-8", "utf-8", "ISO-8859-1"))
    prefix = chance.choice(("", "", "i:"))
    names = [*COLUMNS[:30], *files.DOCSIS_2_NAMES.values(), "Other", "x" * 200, "Été"]
    parts = []
    for _ in range(chance.randrange(5)):
        inner = []
        for name in chance.sample(names, chance.randrange(6)):
            tag, attributes = chance.choice(("", "", "i:")) + name, chance.choice(SOUND_ATTRIBUTES)
            text = chance.choice(SOUND_TEXTS)
            inner.append(f"<{tag}{attributes}>{text}</{tag}>" if chance.random() < 0.9 else f"<{tag}{attributes}/>")
            inner.append(chance.choice(("", "\n", " \t\r\n", "<!-- <IPDR> -->")))
        parts.append(f"<{prefix}IPDR{chance.choice(SOUND_ATTRIBUTES)}>{''.join(inner)}</{prefix}IPDR{chance.choice(('', ' '))}>")
        parts.append(chance.choice(("", "\n", "<!-- </IPDRDoc> -->", "<?p <IPDR>?>")))
    end = chance.choice(("", f"<{prefix}IPDRDoc.End count='{len(parts) // 2}'/>"))
    root = f"{prefix}IPDRDoc xmlns:i='i' xmlns:xsi='xsi'{chance.choice(SOUND_ATTRIBUTES[:5])}"
    written = f"<?xml version='1.0' encoding='{encoding}'?>\n<{root}>{''.join(parts)}{end}</{prefix}IPDRDoc>\n"
    return written.encode(encoding, "xmlcharrefreplace")


def sound_xdr(chance: random.Random) -> bytes:
    """A document of random descriptors and values."""
    form, written, descriptors = chance.choice(FORMS), [], list[dict[str, int]]()
    for _ in range(chance.randrange(12)):
        if not descriptors or chance.random() < 0.15:
            names = chance.sample(COLUMNS, chance.randrange(1, 7))
            descriptors.append({name: chance.choice(tuple(EVERY_TYPE.values())) for name in names})
            written.append(xdr_descriptor(descriptors[-1], len(descriptors)))
            continue
        which = chance.randrange(len(descriptors))
        head = struct.pack(">II", 2, which + 1) + (b"\xff" * 4 if form.has_marker else b"")
        written.append(head + b"".join(_sound_value(kind, form, chance) for kind in descriptors[which].values()))
    records = sum(one[:4] == b"\0\0\0\2" for one in written)
    return xdr_header() + b"".join(written) + xdr_end(records)


def _sound_value(kind: int, form: files.XdrForm, chance: random.Random) -> bytes:
    size = 4 if form.is_wide and kind in (files.UBYTE, files.USHORT) else ipdr_plain.size_of(kind)
    if size is not None:
        return chance.choice((bytes(size), chance.randbytes(size), bytes(size - 1) + chance.randbytes(1), b"\xff" * size))
    length = chance.choice((0, 1, 4, 16, 16, 40))
    return files.opaque(chance.choice((chance.randbytes(length), b"a" * length, "é".encode() * (length // 2))))


# What is made of them


def mutated(octets: bytes, other: bytes, name: FormatName, chance: random.Random) -> bytes:
    """An input made from one, or two."""
    while True:
        octets = _mutated_once(octets, other, name, chance)
        if chance.random() < 0.6:
            return octets


def _mutated_once(octets: bytes, other: bytes, name: FormatName, chance: random.Random) -> bytes:
    at, many = chance.randrange(len(octets) + 1), chance.choice((1, 1, 2, 4, 8, 30))
    match chance.randrange(9):
        case 0:
            changed = bytearray(octets)
            for _ in range(many if changed else 0):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed)
        case 1:
            return octets[:at]
        case 2:
            return octets[:at] + octets[at + many :]
        case 3:
            return octets[:at] + octets[at : at + many * 10] + octets[at:]
        case 4:
            return octets[:at] + other[chance.randrange(len(other) + 1) :]
        case 5 | 6:
            piece = chance.choice(XML_PIECES if name == "samis-xml" else XDR_PIECES)
            return octets[:at] + piece * chance.choice((1, 1, 1, 20)) + octets[at + chance.choice((0, 0, len(piece))) :]
        case _:
            return _moved_part(octets, other, name, chance)


def _moved_part(octets: bytes, other: bytes, name: FormatName, chance: random.Random) -> bytes:
    """An element left out, doubled, or put in from another."""
    split = rb"(?=<)" if name == "samis-xml" else rb"(?=\0\0\0[\1\2\3])"
    parts, others = re.split(split, octets), re.split(split, other)
    place = chance.randrange(len(parts))
    match chance.randrange(4):
        case 0:
            del parts[place]
        case 1:
            parts.insert(place, chance.choice(parts))
        case 2:
            parts.insert(place, chance.choice(others))
        case _:
            first, second = chance.randrange(len(parts)), chance.randrange(len(parts))
            parts[first], parts[second] = parts[second], parts[first]
    return b"".join(parts)
