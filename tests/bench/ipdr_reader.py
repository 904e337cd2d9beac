"""IPDR documents on one core: the readers, into Arrow, beside the standard library's ways to the same columns.

Run as ``PYTHONPATH=. python -m tests.bench.ipdr_reader [--records N] [--runs R]``; what it measures is also written to
``var/bench/ipdr_reader.json``. Every engine must find the same records and octets by direction, or the run fails.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import struct
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.readers.block import Tally
from jobs.readers.ipdr_names import SAMIS_TYPE_1
from jobs.readers.ipdr_xdr import read_ipdr_xdr
from jobs.readers.ipdr_xml import read_ipdr_xml
from tests.readers import ipdr_files as files
from tests.readers.ipdr_files import DOCSIS_2_NAMES, ipdr, samis, xdr_document, xml_document

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "var" / "bench" / "ipdr_reader.json"
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

Totals = dict[str, int]
"""Octets by direction, and how many records."""


# Engines


def reader(read: Callable[..., Any], columns: Sequence[str] = COLUMNS) -> Callable[[bytes], Totals]:
    """A reader of ours: some columns of every record, in Arrow."""

    def run(file: bytes) -> Totals:
        tally, totals = Tally(), dict[str, int]()
        for block in read(pa.BufferReader(file), columns, tally):
            octets = block.records.column("ServiceOctetsPassed").cast(pa.uint64())
            directions = block.records.column("ServiceDirection")
            for direction in ("1", "2"):
                found = pc.sum(octets.filter(pc.equal(directions, direction))).as_py() or 0
                totals[direction] = totals.get(direction, 0) + found
        assert tally.records == tally.records_declared
        assert tally.octets_quarantined == 0
        return totals | {"records": tally.records}

    return run


def iterparse(names: Sequence[str]) -> Callable[[bytes], Totals]:
    """xml.etree.ElementTree.iterparse: the same elements of every record, each cleared when it is done with."""
    namespace = "{http://www.ipdr.org/namespaces/ipdr}"
    record = namespace + "IPDR"
    wanted = {namespace + name: place for place, name in enumerate(names)}
    direction, octets = COLUMNS.index("ServiceDirection"), COLUMNS.index("ServiceOctetsPassed")

    def run(file: bytes) -> Totals:
        totals, records = {"1": 0, "2": 0}, 0
        columns: list[list[str | None]] = [[] for _ in names]
        events = ET.iterparse(io.BytesIO(file), events=("start", "end"))
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
        return totals | {"records": records}

    return run


def plain_struct(file: bytes) -> Totals:
    """Plain Python: struct over each record by its descriptor, the same attributes of every record."""
    unsigned = struct.Struct(">I").unpack_from
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
            return {"1": totals[1], "2": totals[2], "records": records}
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


@dataclass(frozen=True)
class Engine:
    """A way to read a document."""

    name: str
    document: str
    run: Callable[[bytes], Totals]


ENGINES = (
    Engine("reader", "XML, DOCSIS 3 names", reader(read_ipdr_xml)),
    Engine("reader, all 28 columns", "XML, DOCSIS 3 names", reader(read_ipdr_xml, SAMIS_TYPE_1)),
    Engine("xml.etree iterparse", "XML, DOCSIS 3 names", iterparse(COLUMNS)),
    Engine("reader", "XML, DOCSIS 2 names", reader(read_ipdr_xml)),
    Engine("xml.etree iterparse", "XML, DOCSIS 2 names", iterparse([DOCSIS_2_NAMES[name] for name in COLUMNS])),
    Engine("reader", "XML, &amp; in each record", reader(read_ipdr_xml)),
    Engine("xml.etree iterparse", "XML, &amp; in each record", iterparse(COLUMNS)),
    Engine("reader", "XDR", reader(read_ipdr_xdr)),
    Engine("reader, all 28 columns", "XDR", reader(read_ipdr_xdr, SAMIS_TYPE_1)),
    Engine("plain Python struct", "XDR", plain_struct),
)


def documents(records: int) -> dict[str, bytes]:
    """The same records as documents of each kind."""
    every = [samis(number) for number in range(records)]
    return {
        "XML, DOCSIS 3 names": xml_document([ipdr(values) for values in every]),
        "XML, DOCSIS 2 names": xml_document([ipdr(values, DOCSIS_2_NAMES) for values in every]),
        "XML, &amp; in each record": xml_document([ipdr(values | {"ServiceClassName": "R&D"}) for values in every]),
        "XDR": xdr_document(every),
    }


def measure(given: dict[str, bytes], runs: int) -> list[list[float]]:
    """Seconds of each engine, in turn, after a first time that is not counted."""
    seconds: list[list[float]] = [[] for _ in ENGINES]
    expected: Totals | None = None
    for run in range(runs + 1):
        for taken, engine in zip(seconds, ENGINES, strict=True):
            gc.collect()
            begun = time.perf_counter()
            totals = engine.run(given[engine.document])
            elapsed = time.perf_counter() - begun
            expected = expected or totals
            assert totals == expected, f"{engine.name} found {totals} in {engine.document}, not {expected}"
            if run:
                taken.append(elapsed)
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(prog="tests.bench.ipdr_reader", description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    given = documents(options.records)
    results = []
    sys.stdout.write(f"{options.records:,} records, {options.runs} runs\n")
    sys.stdout.write(f"{'document':<26} {'engine':<24} {'MB':>6} {'MB/s':>7} {'least - most':>15} {'records/s':>11}\n")
    for engine, seconds in zip(ENGINES, measure(given, options.runs), strict=True):
        megabytes = len(given[engine.document]) / 1e6
        rates = [megabytes / taken for taken in seconds]
        median = float(np.median(rates))
        spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
        of_records = options.records * median / megabytes
        line = f"{engine.document:<26} {engine.name:<24} {megabytes:>6.1f} {median:>7,.1f} {spread:>15} {of_records:>11,.0f}\n"
        sys.stdout.write(line)
        results.append(
            {
                "document": engine.document,
                "engine": engine.name,
                "records": options.records,
                "megabytes_per_second_median": round(median, 1),
                "spread": [round(min(rates), 1), round(max(rates), 1)],
                "records_per_second_median": round(of_records),
            }
        )
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"written to {RESULTS.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
