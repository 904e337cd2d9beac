"""IPDR documents: the readers, into Arrow, beside the standard library's ways to the same columns (``readers`` measures them)."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.readers.block import Tally
from jobs.readers.ipdr_names import SAMIS_TYPE_1
from jobs.readers.ipdr_xdr import read_ipdr_xdr
from jobs.readers.ipdr_xml import read_ipdr_xml
from tests.bench.in_turn import Comparison, Engine, Input, Totals
from tests.readers import ipdr_files as files
from tests.readers.ipdr_files import DOCSIS_2_NAMES, ipdr, samis, xdr_document, xml_document

RECORDS = 50_000
"""At the scale of 1."""
COLUMNS = (
    "CmtsHostName",
    "CmtsSysUpTime",
    "CmMacAddr",
    "RecType",
    "RecCreationTime",
    "ServiceIdentifier",
    "ServiceClassName",
    "ServiceDirection",
    "ServiceOctetsPassed",
    "ServicePktsPassed",
    "ServiceTimeCreated",
    "ServiceTimeActive",
)
"""What metering needs of a record."""


# Engines


def reader(read: Callable[..., Any], columns: Sequence[str] = COLUMNS) -> Callable[[Input], Totals]:
    """A reader of ours: some columns of every record, in Arrow."""

    def run(given: Input) -> Totals:
        tally, totals = Tally(), {"1": 0, "2": 0}
        for block in read(pa.BufferReader(given.octets), columns, tally):
            octets = block.records.column("ServiceOctetsPassed").cast(pa.uint64())
            directions = block.records.column("ServiceDirection")
            for direction in ("1", "2"):
                found = pc.sum(octets.filter(pc.equal(directions, direction))).as_py() or 0
                totals[direction] += found
        assert tally.records == tally.records_declared
        assert tally.octets_quarantined == 0
        return Totals(tally.records, totals["2"], totals["1"])

    return run


def iterparse(names: Sequence[str]) -> Callable[[Input], Totals]:
    """xml.etree.ElementTree.iterparse: the same elements of every record, each cleared when it is done with."""
    namespace = "{http://www.ipdr.org/namespaces/ipdr}"
    record = namespace + "IPDR"
    wanted = {namespace + name: place for place, name in enumerate(names)}
    direction, octets = COLUMNS.index("ServiceDirection"), COLUMNS.index("ServiceOctetsPassed")

    def run(given: Input) -> Totals:
        totals, records = {"1": 0, "2": 0}, 0
        columns: list[list[str | None]] = [[] for _ in names]
        events = ET.iterparse(io.BytesIO(given.octets), events=("start", "end"))
        _, root = next(events)
        for event, element in events:
            if event == "end" and element.tag == record:
                row: list[str | None] = [None] * len(wanted)
                for child in element:
                    place = wanted.get(child.tag)
                    if place is not None:
                        row[place] = child.text
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
                totals[row[direction] or ""] += int(row[octets] or "")
                records += 1
                root.clear()
                if len(columns[0]) == 1 << 15:
                    columns = [[] for _ in names]
        return Totals(records, totals["2"], totals["1"])

    return run


def plain_struct(given: Input) -> Totals:
    """Plain Python: struct over each record by its descriptor, the same attributes of every record."""
    unsigned, file = struct.Struct(">I").unpack_from, given.octets
    at = 4
    at += 4 + unsigned(file, at)[0] + 8
    at += 4 + unsigned(file, at)[0]
    for count in (2, 1):
        entries = unsigned(file, at)[0] * count
        at += 4
        for _ in range(entries):
            at += 4 + unsigned(file, at)[0]
    at += 4 + unsigned(file, at)[0] + 4
    formats = {files.UINT: ">I", files.ULONG: ">Q", files.SECONDS: ">I", files.MSEC: ">Q", files.IPV4: ">4s", files.BOOL: ">B"}
    formats[files.MAC] = ">2x6s"
    attributes: list[tuple[str, struct.Struct | None]] = []
    totals, records = {1: 0, 2: 0}, 0
    wanted = set(COLUMNS)
    rows: list[dict[str, Any]] = []
    while True:
        kind = unsigned(file, at)[0]
        if kind == 3:
            assert unsigned(file, at + 4)[0] == records
            return Totals(records, totals[2], totals[1])
        at += 8
        if kind == 1:
            at += 4 + unsigned(file, at)[0]
            count = unsigned(file, at)[0]
            at += 4
            for _ in range(count):
                length = unsigned(file, at)[0]
                name = file[at + 4 : at + 4 + length].decode()
                of = formats.get(unsigned(file, at + 4 + length)[0])
                attributes.append((name, struct.Struct(of) if of else None))
                at += 8 + length
            continue
        at += 4
        row: dict[str, Any] = {}
        for name, form in attributes:
            if form is None:
                length = unsigned(file, at)[0]
                if name in wanted:
                    row[name] = file[at + 4 : at + 4 + length].decode()
                at += 4 + length
            else:
                if name in wanted:
                    row[name] = form.unpack_from(file, at)[0]
                at += form.size
        row["CmMacAddr"] = row["CmMacAddr"].hex()
        rows.append(row)
        totals[row["ServiceDirection"]] += row["ServiceOctetsPassed"]
        records += 1
        if len(rows) == 1 << 15:
            rows = []


def comparisons(scale: float, folder: Path, say: Callable[[str], None]) -> Iterator[Comparison]:
    """The same records as documents of each kind."""
    records = int(RECORDS * scale)
    every = [samis(number) for number in range(records)]
    named_2 = [DOCSIS_2_NAMES[name] for name in COLUMNS]

    def compared(
        name: str, document: bytes, read: Callable[..., Any], other: tuple[str, Callable[[Input], Totals]]
    ) -> Comparison:
        given = Input(document, records)
        ours = Engine(f"reader, {len(COLUMNS)} columns", reader(read), given)
        whole = Engine(f"reader, all {len(SAMIS_TYPE_1)} columns", reader(read, SAMIS_TYPE_1), given)
        return Comparison(name, [ours, whole, Engine(other[0], other[1], given)])

    plain = ("xml.etree iterparse", iterparse(COLUMNS))
    yield compared("samis-xml, DOCSIS 3 names", xml_document([ipdr(values) for values in every]), read_ipdr_xml, plain)
    document = xml_document([ipdr(values, DOCSIS_2_NAMES) for values in every])
    yield compared("samis-xml, DOCSIS 2 names", document, read_ipdr_xml, (plain[0], iterparse(named_2)))
    document = xml_document([ipdr(values | {"ServiceClassName": "R&D"}) for values in every])
    yield compared("samis-xml, &amp; in each", document, read_ipdr_xml, plain)
    yield compared("ipdr-xdr", xdr_document(every), read_ipdr_xdr, ("plain Python struct", plain_struct))
