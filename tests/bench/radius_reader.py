"""RADIUS packets and megabytes per second on one core: the reader of detail files beside a line parser in plain Python.

Run as ``PYTHONPATH=. python -m tests.bench.radius_reader [--packets N] [--runs R]``; what it measures is also written to
``var/bench/radius_reader.json``. Every engine must find the same packets and octets up and down, or the run fails.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import random
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.readers import radius_walk as walk
from jobs.readers.block import Tally
from jobs.readers.radius_detail import BLOCK_PACKETS, parts, read_radius_detail

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "var" / "bench" / "radius_reader.json"
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

Totals = tuple[int, int, int]
"""Packets, octets up and down: counters with their Gigawords."""


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


def reader(octets: bytes) -> Totals:
    """The reader: every column."""
    tally, up, down = Tally(), 0, 0
    for block in read_radius_detail(pa.BufferReader(octets), COLUMNS, tally):
        assert block.faults.null_count == len(block.faults)
        up, down = _added(block.records, up, down)
    return tally.records, up, down


def reader_in_parts(octets: bytes) -> Totals:
    """The reader, in parts of 16 MiB one after the other, with the search for them."""
    packets, up, down = 0, 0, 0
    for part in parts(pa.BufferReader(octets), 16 << 20):
        tally = Tally()
        for block in read_radius_detail(pa.BufferReader(octets), COLUMNS, tally, part):
            up, down = _added(block.records, up, down)
        packets += tally.records
    return packets, up, down


def plain_python(octets: bytes) -> Totals:
    """A line parser in plain Python, into the same Arrow columns."""
    packets, up, down = 0, 0, 0
    for batch in _plain_batches(octets):
        packets += batch.num_rows
        up, down = _added(batch, up, down)
    return packets, up, down


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

    def __call__(self, octets: bytes) -> int:
        data, at, packets = np.frombuffer(octets, np.uint8), 0, 0
        while at < len(data):
            found, at, *_ = walk.frame_packets(data, at, len(data), True, False, False, *self.bounds)
            packets += found
        return packets


# Measuring


def measure(engines: dict[str, tuple[Callable[[bytes], object], bytes]], runs: int) -> dict[str, list[float]]:
    """Seconds of each engine, in turn, after a first time that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for run in range(runs + 1):
        for name, (engine, octets) in engines.items():
            gc.collect()
            begun = time.perf_counter()
            found = engine(octets)
            elapsed = time.perf_counter() - begun
            expected = _expected(octets)
            assert found in (expected, expected[0]), f"{name} found {found}, the reader {expected}"
            if run:
                seconds[name].append(elapsed)
    return seconds


_EXPECTED: dict[int, Totals] = {}


def _expected(octets: bytes) -> Totals:
    """What the reader finds, read once for each input."""
    if len(octets) not in _EXPECTED:
        _EXPECTED[len(octets)] = reader(octets)
    return _EXPECTED[len(octets)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(prog="tests.bench.radius_reader", description=__doc__)
    parser.add_argument("--packets", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")

    octets = detail_file(options.packets)
    few = octets[: octets.index(b"\n\n", len(octets) // 10) + 2]
    attributes = octets.count(b"\n\t") / options.packets
    say(
        f"{options.packets:,} packets, {len(octets):,} octets, {len(octets) / options.packets:.0f} and {attributes:.1f} "
        f"attributes a packet, {len(COLUMNS)} columns asked for; {options.runs} runs"
    )
    engines: dict[str, tuple[Callable[[bytes], object], bytes]] = {
        "reader": (reader, octets),
        "reader in parts": (reader_in_parts, octets),
        "framing alone": (BareFraming(), octets),
        "plain Python line parser": (plain_python, few),
    }
    seconds = measure(engines, options.runs)
    results = []
    say(f"{'engine':<26} {'MB':>6} {'MB/s':>8} {'least - most':>16} {'packets/s':>12} {'ratio':>7}")
    ours = float(np.median(seconds["reader"])) / len(octets)
    for name, of in seconds.items():
        given = engines[name][1]
        packets = _expected(given)[0]
        rates = sorted(len(given) / 1e6 / each for each in of)
        median = float(np.median(of))
        spread = f"{rates[0]:.0f} - {rates[-1]:.0f}"
        size, ratio = len(given) / 1e6, ours / (median / len(given))
        say(f"{name:<26} {size:>6.0f} {size / median:>8.0f} {spread:>16} {packets / median:>12,.0f} {ratio:>7.3f}")
        results.append(
            {
                "engine": name,
                "octets": len(given),
                "packets": packets,
                "megabytes_per_second_median": round(len(given) / 1e6 / median, 1),
                "packets_per_second_median": round(packets / median),
                "spread": [round(rates[0], 1), round(rates[-1], 1)],
            }
        )
    say(f"peak resident {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, with the input in memory")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    say(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
