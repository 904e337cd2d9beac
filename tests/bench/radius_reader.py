"""FreeRADIUS detail files: the reader beside a line parser in plain Python (``readers`` measures them)."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.readers import radius_walk as walk
from jobs.readers.block import Tally
from jobs.readers.radius_detail import BLOCK_PACKETS, parts, read_radius_detail
from tests.bench.in_turn import Comparison, Engine, Input, Totals

PACKETS = 100_000
"""At the scale of 1."""
COLUMNS = (
    "User-Name",
    "Calling-Station-Id",
    "NAS-IP-Address",
    "NAS-Port-Id",
    "Acct-Status-Type",
    "Acct-Session-Id",
    "Acct-Session-Time",
    "Acct-Input-Octets",
    "Acct-Input-Gigawords",
    "Acct-Output-Octets",
    "Acct-Output-Gigawords",
    "Acct-Delay-Time",
    "Event-Timestamp",
    "Timestamp",
)
BEGUN = 1_790_000_000
"""Seconds since 1970 of the first packet."""


# The input


def detail_file(packets: int) -> bytes:
    """A detail file of a broadband gateway: packets of 30 attributes, every fourth without Gigawords."""
    chance = random.Random(0)
    return "".join(_packet(chance, number) for number in range(packets)).encode()


def _packet(chance: random.Random, number: int) -> str:
    at, line = BEGUN + number // 40, chance.randrange(200_000)
    time_of_header = datetime.fromtimestamp(at, UTC).strftime("%a %b %e %H:%M:%S %Y")
    event = datetime.fromtimestamp(at, UTC).strftime("%b %e %Y %H:%M:%S UTC")
    gigawords = (
        ""
        if number % 4 == 0
        else f"\tAcct-Input-Gigawords = {chance.randrange(3)}\n\tAcct-Output-Gigawords = {chance.randrange(40)}\n"
    )
    return f"""{time_of_header}
\tUser-Name = "line-{line:08d}@dsl.example.net"
\tNAS-Port = {line}
\tService-Type = Framed-User
\tFramed-Protocol = PPP
\tFramed-IP-Address = 198.51.{line >> 8 & 255}.{line & 255}
\tFramed-IP-Netmask = 255.255.255.255
\tClass = 0x{line:032x}
\tCalled-Station-Id = "bng-01"
\tCalling-Station-Id = "02:00:5e:{line >> 16 & 255:02x}:{line >> 8 & 255:02x}:{line & 255:02x}"
\tNAS-Identifier = "bng-01.example.net"
\tNAS-Port-Type = Ethernet
\tNAS-Port-Id = "eth 1/{line % 48}:{line % 4094}"
\tAcct-Status-Type = {"Stop" if number % 30 == 0 else "Interim-Update"}
\tAcct-Delay-Time = 0
\tAcct-Input-Octets = {chance.randrange(1 << 32)}
\tAcct-Output-Octets = {chance.randrange(1 << 32)}
\tAcct-Session-Id = "{line:08X}{number % 16:02X}"
\tAcct-Authentic = RADIUS
\tAcct-Session-Time = {chance.randrange(90_000)}
\tAcct-Input-Packets = {chance.randrange(1 << 24)}
\tAcct-Output-Packets = {chance.randrange(1 << 24)}
{gigawords}\tEvent-Timestamp = "{event}"
\tNAS-IP-Address = 192.0.2.{line % 8}
\tADSL-Agent-Circuit-Id = "olt-{line % 97} eth 0/{line % 16}"
\tADSL-Agent-Remote-Id = "ont{line:08d}"
\tActual-Data-Rate-Upstream = 20000000
\tActual-Data-Rate-Downstream = 100000000
\tTmp-String-9 = "ai:"
\tAcct-Unique-Session-Id = "{line:032x}"
\tTimestamp = {at}

"""


# Engines


def reader(given: Input) -> Totals:
    """The reader: every column."""
    tally, up, down = Tally(), 0, 0
    for block in read_radius_detail(pa.BufferReader(given.octets), COLUMNS, tally):
        assert block.faults.null_count == len(block.faults)
        up, down = _added(block.records, up, down)
    return Totals(tally.records, up, down)


def reader_in_parts(given: Input) -> Totals:
    """The reader, in parts of 16 MiB one after the other, with the search for them."""
    packets, up, down = 0, 0, 0
    for part in parts(pa.BufferReader(given.octets), 16 << 20):
        tally = Tally()
        for block in read_radius_detail(pa.BufferReader(given.octets), COLUMNS, tally, part):
            up, down = _added(block.records, up, down)
        packets += tally.records
    return Totals(packets, up, down)


def plain_python(given: Input) -> Totals:
    """A line parser in plain Python, into the same Arrow columns."""
    packets, up, down = 0, 0, 0
    for batch in _plain_batches(given.octets):
        packets += batch.num_rows
        up, down = _added(batch, up, down)
    return Totals(packets, up, down)


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def _plain_batches(octets: bytes) -> Iterator[pa.RecordBatch]:
    asked = frozenset(COLUMNS)
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    rows: list[dict[str, str]] = []
    row: dict[str, str] = {}
    for line in io.TextIOWrapper(io.BytesIO(octets), encoding="utf-8"):
        if line[0] == "\t":
            name, _, value = line[1:-1].partition(" = ")
            if name in asked:
                if value[:1] == '"':
                    value = value[1:-1]
                    if "\\" in value:
                        value = re.sub(r"\\([0-7]{3}|.)", lambda found: _ESCAPES.get(found[1], found[1]), value)
                row[name] = value
        elif line != "\n":
            row = {}
            rows.append(row)
            if len(rows) > BLOCK_PACKETS:
                yield pa.RecordBatch.from_pylist(rows[:-1], schema)
                rows = [row]
    yield pa.RecordBatch.from_pylist(rows, schema)


def _added(records: pa.RecordBatch, up: int, down: int) -> tuple[int, int]:
    sums = []
    for direction in ("Input", "Output"):
        low, high = (records.column(f"Acct-{direction}-{part}").cast(pa.int64()) for part in ("Octets", "Gigawords"))
        sums.append((pc.sum(low).as_py() or 0) + ((pc.sum(high).as_py() or 0) << 32))
    return up + sums[0], down + sums[1]


class BareFraming:
    """The first pass alone: where packets are, as the search for parts needs it."""

    def __init__(self) -> None:
        self.bounds = [np.empty(1 << 16, np.int64) for _ in range(4)]

    def __call__(self, given: Input) -> int:
        data, at, packets = np.frombuffer(given.octets, np.uint8), 0, 0
        while at < len(data):
            found, at, *_ = walk.frame_packets(data, at, len(data), True, False, False, *self.bounds)
            packets += found
        return packets


# Measuring


def comparisons(scale: float, folder: Path, say: Callable[[str], None]) -> Iterator[Comparison]:
    """The reader, and the slow parser on a tenth of the packets."""
    packets = int(PACKETS * scale)
    many, few = (Input(detail_file(count), count) for count in (packets, packets // 10))
    engines = [
        Engine(f"reader, {len(COLUMNS)} columns", reader, many),
        Engine("reader in parts", reader_in_parts, many),
        Engine("framing alone", BareFraming(), many),
        Engine("plain Python line parser", plain_python, few),
    ]
    yield Comparison("radius-detail", engines)
