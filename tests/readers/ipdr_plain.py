"""IPDR documents read in plain Python, with nothing of the readers but the table of names: for tests, fuzzing and the bench."""

from __future__ import annotations

import socket
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa

from jobs.readers.ipdr_names import INSTEAD, OTHER_NAMES, plain
from tests.readers import ipdr_files as files
from tests.readers.ipdr_files import EPOCH, Values, XdrForm, instant

SPACE = " \t\r\n"


class NotSound(Exception):
    """The document is not what it should be, or has what one may read in two ways."""


def chosen(values: Mapping[str, Any], columns: Sequence[str]) -> Values:
    """Values by column, of values by their plain names."""
    row: Values = {}
    for column in columns:
        names = (column, *OTHER_NAMES.get(column, ()))
        found = [values[plain(name)] for name in names if plain(name) in values]
        if len(found) > 1:
            raise NotSound
        row[column] = found[0] if found else None
        if row[column] is None and column in INSTEAD:
            row[column] = values.get(plain(INSTEAD[column]))
    return row


# XML


def of_xml(octets: bytes, columns: Sequence[str]) -> list[Values]:
    """The rows of an IPDRDoc. Raises NotSound."""
    try:
        root = ET.fromstring(octets)
    except (ET.ParseError, ValueError, LookupError):
        raise NotSound from None
    if _local(root) != "IPDRDoc":
        raise NotSound
    deep = [element for child in root for element in child.iter() if element is not child]
    if any(_local(element) in ("IPDR", "IPDRDoc", "IPDRDoc.End") for element in deep):
        raise NotSound
    if any(_local(child) not in ("IPDR", "IPDRDoc.End") or (child.tail or "").strip(SPACE) for child in root):
        raise NotSound
    if (root.text or "").strip(SPACE):
        raise NotSound
    return [chosen(_texts(element), columns) for element in root if _local(element) == "IPDR"]


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2].rpartition(":")[2]


def _texts(record: ET.Element) -> Values:
    texts: Values = {}
    for child in record:
        name = _local(child).lower()
        if name in texts or len(child) or len(name.encode()) > 200:
            raise NotSound
        is_nil = any(plain(each.replace("}", ":")) == "nil" and of.strip() in ("1", "true") for each, of in child.attrib.items())
        texts[name] = None if is_nil else (child.text or "").strip(SPACE)
    return texts


# XDR


class _Octets:
    def __init__(self, octets: bytes) -> None:
        self.octets, self.at = octets, 0

    def take(self, length: int) -> bytes:
        if self.at + length > len(self.octets):
            raise NotSound
        self.at += length
        return self.octets[self.at - length : self.at]

    def number(self) -> int:
        return struct.unpack(">I", self.take(4))[0]

    def opaque(self) -> bytes:
        return self.take(self.number())


_STRUCTS = {
    files.INT: ">i", files.UINT: ">I", files.LONG: ">q", files.ULONG: ">Q", files.FLOAT: ">f", files.DOUBLE: ">d",
    files.BOOL: ">B", files.BYTE: ">b", files.UBYTE: ">B", files.SHORT: ">h", files.USHORT: ">H",
    files.SECONDS: ">I", files.MSEC: ">Q", files.USEC: ">Q",
}  # fmt: skip


def size_of(kind: int) -> int | None:
    """Octets of a value where nothing is wide; null if its length stands in front."""
    if kind in _STRUCTS:
        return struct.calcsize(_STRUCTS[kind])
    return {files.IPV4: 4, files.MAC: 8}.get(kind)


def _value(octets: _Octets, kind: int, form: XdrForm) -> str | None:
    """A value as text; null if it is none of its type."""
    if kind in _STRUCTS:
        written = ">I" if form.is_wide and kind in (files.UBYTE, files.USHORT) else _STRUCTS[kind]
        (number,) = struct.unpack(written, octets.take(struct.calcsize(written)))
        return _of_number(number, kind)
    if kind in (files.IPV4, files.MAC):
        found = octets.take(4 if kind == files.IPV4 else 8)
        if kind == files.IPV4:
            return socket.inet_ntoa(found)
        return None if found[:2] != b"\0\0" else found[2:].hex()
    if kind not in (files.HEX, files.STRING, files.IPV6, files.IP, files.UUID_TYPE):
        raise NotSound
    found = octets.opaque()
    if kind == files.HEX:
        return found.hex()
    if kind == files.UUID_TYPE:
        return str(UUID(bytes=found)) if len(found) == 16 else None
    if kind == files.STRING:
        try:
            return None if b"\0" in found else found.decode()
        except UnicodeDecodeError:
            return None
    if len(found) == 16 or (len(found) == 4 and kind == files.IP):
        return socket.inet_ntop(socket.AF_INET6 if len(found) == 16 else socket.AF_INET, found)
    return None if found else ""


def _of_number(number: Any, kind: int) -> str | None:
    if kind == files.BOOL:
        return {0: "false", 1: "true"}.get(number)
    if kind in (files.FLOAT, files.DOUBLE):
        return pa.scalar(number, pa.float32() if kind == files.FLOAT else pa.float64()).cast(pa.string()).as_py()
    if kind in (files.SECONDS, files.MSEC, files.USEC):
        per_second = {files.SECONDS: 1, files.MSEC: 1000, files.USEC: 1_000_000}[kind]
        try:
            return instant(EPOCH + timedelta(microseconds=number * (1_000_000 // per_second)), 6 if kind == files.USEC else 3)
        except OverflowError:
            return None
    return str(number)


def of_xdr(document: bytes, columns: Sequence[str], form: XdrForm) -> Iterator[Values]:
    """The rows of an IPDR/XDR document written in one way, to its end. Raises NotSound."""
    octets = _Octets(document)
    octets.number(), octets.opaque(), octets.take(8), octets.opaque()
    for count in (2, 1):
        for _ in range(octets.number() * count):
            octets.opaque()
    octets.opaque(), octets.number()
    descriptors: dict[int, list[tuple[str, int]]] = {}
    while (kind := octets.number()) != 3:
        number = octets.number()
        if kind == 1:
            octets.opaque()
            attributes = octets.number()
            if attributes > 1024 or number in descriptors:
                raise NotSound
            descriptors[number] = [
                (plain(octets.opaque().decode("utf-8", "replace")), octets.number()) for _ in range(attributes)
            ]
        elif kind == 2 and number in descriptors:
            if form.has_marker and octets.take(4) != b"\xff\xff\xff\xff":
                raise NotSound
            names = [name for name, _ in descriptors[number]]
            if len(set(names)) < len(names):
                raise NotSound
            yield chosen({name: _value(octets, of, form) for name, of in descriptors[number]}, columns)
        else:
            raise NotSound
    octets.take(12)
    if octets.at != len(document):
        raise NotSound
