"""Charging records as tests read them: every row with its place, and the balance of octets that always holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.readers.block import WHOLE, Part, ReadFault, Tally, count_warning
from jobs.readers.charging import WINDOW_OCTETS, read_charging
from schemas.source import CHARGING_COLUMNS, Charging
from tests.readers.ber import Element, encoded, gsn_address, record, service_data, stamp, tbcd

PROJECT = Path(__file__).parents[2]
SAMPLES = PROJECT.parent / "shared" / "samples"
SIX = datetime(2026, 10, 31, 18, 0, tzinfo=UTC)
SEVEN = SIX.replace(hour=19)
EIGHT = SIX.replace(hour=20)


def layout(**settings: Any) -> Charging:
    """Every container of gateway and charging function records counts, unless a test says otherwise."""
    every: dict[str, Any] = {
        "record_types": ("pgw", "ggsn", "egsn", "chf"),
        "volumes": "service_data_else_traffic_volumes",
        "reporting_level": "both",
        "total_without_directions": "reject",
    }
    return Charging(**{**every, **settings})


EVERY = layout()


@dataclass
class Reading:
    """Rows in the order of the file with their place and fault, what was counted, and why the reading ended early."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    fault: str | None = None

    def values(self, *names: str) -> list[Any]:
        """Those columns of the sound rows; the values themselves where it is one column."""
        sound = [row for row in self.rows if row["fault"] is None]
        return [row[names[0]] if len(names) == 1 else tuple(row[name] for name in names) for row in sound]

    @property
    def faults(self) -> list[str | None]:
        """Of each record."""
        return [row["fault"] for row in self.rows if row["interval_index"] == 0]

    @property
    def warnings(self) -> dict[str, int]:
        """What is no error but must be seen, a count that differs from the header's with it."""
        return self.tally.warnings | count_warning(vars(self.tally))

    @property
    def octets(self) -> tuple[int, int, int, int]:
        """Header, records, padding, quarantined."""
        t = self.tally
        return t.octets_header, t.octets_records, t.octets_padding, t.octets_quarantined


def read(
    octets: bytes,
    how: Charging = EVERY,
    is_framed: bool = False,
    window_octets: int = WINDOW_OCTETS,
    part: Part = WHOLE,
) -> Reading:
    """Read to the end, or to the fault; what must hold of every reading is asserted here."""
    reading = Reading()
    try:
        stream = pa.BufferReader(octets)
        for block in read_charging(stream, how, is_framed, CHARGING_COLUMNS, reading.tally, part, window_octets):
            assert block.interval_index is not None
            assert len(block.ordinals) > 0
            places = zip(block.ordinals, block.offsets, block.interval_index, block.faults.to_pylist(), strict=True)
            names = ("ordinal", "offset", "interval_index", "fault")
            found = zip(block.records.to_pylist(), places, strict=True)
            reading.rows += [{**row, **dict(zip(names, place, strict=True))} for row, place in found]
    except ReadFault as fault:
        reading.fault = str(fault)
    if part == WHOLE:
        assert_balance(reading, len(octets))
    return reading


def assert_balance(reading: Reading, octets: int) -> None:
    """Every octet is counted once, and records are numbered in the order in which they stand; or nothing was read at all."""
    was_refused = reading.fault is not None and not reading.rows
    assert sum(reading.octets) == reading.tally.octets == (0 if was_refused and not sum(reading.octets) else octets)
    firsts = [row for row in reading.rows if row["interval_index"] == 0]
    assert [row["ordinal"] for row in firsts] == list(range(1, reading.tally.records + 1))
    offsets = [row["offset"] for row in firsts]
    assert offsets == sorted(set(offsets))
    assert [row["ordinal"] for row in reading.rows] == sorted(row["ordinal"] for row in reading.rows)


def pgw(is_indefinite: bool = False, **values: Any) -> bytes:
    """A PGW-CDR of an hour; a container of 1 up and 2 down unless given others."""
    return encoded(pgw_tree(**values), is_indefinite)


def pgw_tree(**values: Any) -> Element:
    usual: dict[str, Any] = {
        "recordType": 85,
        "servedIMSI": tbcd("001010000000001"),
        "gatewayAddress": gsn_address(bytes([192, 0, 2, 1])),
        "chargingID": 7,
        "accessPointNameNI": "internet",
        "recordOpeningTime": stamp(SIX),
        "duration": 3600,
        "causeForRecClosing": 16,
        "nodeID": "gw1",
        "listOfServiceData": (service_data(ratingGroup=10, up=1, down=2, timeOfReport=stamp(SEVEN)),),
    }
    return record("pgw", **{**usual, **values})


def each_bit_flipped(octets: bytes) -> Iterator[bytes]:
    for at in range(len(octets) * 8):
        damaged = bytearray(octets)
        damaged[at // 8] ^= 1 << at % 8
        yield bytes(damaged)
