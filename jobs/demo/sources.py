"""The three usage sources: whose records they carry and how a record is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.demo.identifiers import imsis, line_ids, msisdns, text, unknown_numbers
from jobs.demo.incidents import FIXED_FAULTS, NO_FAULTS, PIPE_FAULTS, Faults
from jobs.demo.month import HOME_ZONE, HOUR_SECONDS, Clocks, Flags, Integers, digits
from jobs.demo.plan import Plan, Purpose
from jobs.demo.subscribers import Subscribers
from jobs.demo.usage import Kind, Usage, intervals, partial_records, strangers

VISITED = (
    ("FRATS", HOME_ZONE),
    ("DEUD1", "Europe/Berlin"),
    ("GBRVF", "Europe/London"),
    ("PRTTL", "Europe/Lisbon"),
    ("USACG", "America/New_York"),
    ("INDAT", "Asia/Kolkata"),
    ("JPNDO", "Asia/Tokyo"),
)
"""Operator code and clock of the home network (made up), then of visited networks."""

QUARTER_SECONDS = 900


@dataclass(frozen=True)
class Source(ABC):
    """A usage source of the demo."""

    plan: Plan
    clocks: Clocks

    name: ClassVar[str]
    purpose: ClassVar[Purpose]
    faults: ClassVar[Faults] = NO_FAULTS

    @abstractmethod
    def carries(self, who: Subscribers) -> Flags:
        """Whose records the source carries."""

    @abstractmethod
    def usage(self, day: int, chunk: int, who: Subscribers, random: np.random.Generator) -> Usage:
        """The day's records of those subscribers, and of strangers."""

    @abstractmethod
    def lines(self, who: Subscribers, usage: Usage, is_lost: Flags) -> pa.Array | pa.Table:
        """The records as the source writes them; those whose octets are lost are damaged when they are delivered."""

    def deliver_damaged(self, delivery: Any, lines: Any, position: int, fault: str) -> None:
        """Deliver a record with a fault."""
        octets = lines[position].as_py()
        delivery.write_line(self.faults.damaged(octets if isinstance(octets, bytes) else octets.encode(), fault))

    def numbered(self, usage: Usage) -> Usage:
        """The records with the serial numbers under which this source writes them."""
        return usage

    def earlier(self, who: Subscribers, usage: Usage) -> list[bytes]:
        """The records as they were delivered first, under the same key with half of the octets down."""
        nothing = np.zeros(len(usage), bool)
        return [self.faults.earlier(line.as_py().encode()) for line in self.lines(who, usage, nothing)]

    def octets_inside(self, octets: Integers, usage: Usage) -> Integers:
        """The octets of each record that belong to the month."""
        return self.plan.month.octets_inside(octets, usage.opened, usage.closed)

    def crosses(self, moment: int, usage: Usage) -> Flags:
        """The record has a part before the moment and one after it."""
        return (usage.opened < moment) & (moment < usage.closed)

    def lies_outside(self, usage: Usage) -> Flags:
        """No part of the record belongs to the month."""
        return (usage.closed <= self.plan.month.start) | (self.plan.month.end <= usage.opened)

    def unknown_records(self, day: int, chunk: int, records: int) -> int:
        """Records of unknown identifiers: every fourth day at least one."""
        return records // 4_000 + (chunk == 0 and day % 4 == 1)

    def unknown(self, strange: Usage, identifier_type: str) -> Integers:
        """The number of each stranger's identifier, among those that no subscription holds."""
        return unknown_numbers(self.plan, strange.stranger, identifier_type)


class PgwPipe(Source):
    """Mediated gateway records, pipe separated, of the first mobile brand (formats.md §5a)."""

    name = "pgw_pipe"
    purpose = Purpose.PGW_PIPE
    faults = PIPE_FAULTS

    def carries(self, who: Subscribers) -> Flags:
        """The first mobile brand's."""
        return who.is_first_brand_mobile & who.has_usage

    def usage(self, day: int, chunk: int, who: Subscribers, random: np.random.Generator) -> Usage:
        """Four in a hundred are voice over the IMS APN; inbound roamers and unknown IMSIs come with them."""
        usage = with_ims(partial_records(self.plan, day, who, random), random)
        counts = {Kind.UNKNOWN: self.unknown_records(day, chunk, len(usage)), Kind.INBOUND_ROAMER: 1 + len(usage) // 200}
        return usage.followed_by(strangers(self.plan, day, chunk, counts, random))

    def lines(self, who: Subscribers, usage: Usage, is_lost: Flags) -> pa.Array:
        """25 fields; the local start tells its offset; download comes before upload."""
        ahead = self.clocks.offset(usage.zone, usage.opened)
        return pc.binary_join_element_wise(
            pa.array(["GP||||", "RGP||||"]).take(pa.array((usage.zone > 0).astype(np.int64))),
            self._names(who, usage).take(pa.array(usage.name(len(who)))),
            text(digits(usage.opened + ahead)),
            "|",
            text(usage.closed - usage.opened),
            "|",
            text(usage.down),
            "|",
            text(usage.up),
            _networks().take(pa.array(_network_of(usage.zone, usage.kind, ahead))),
            text(usage.serial),
            "\n",
            "",
        )

    def _names(self, who: Subscribers, usage: Usage) -> pa.Array:
        """MSISDN and IMSI, with the separator after each."""
        return pc.binary_join_element_wise(*self.identifiers(who, usage), "", "|")

    def identifiers(self, who: Subscribers, usage: Usage) -> tuple[pa.Array, pa.Array]:
        """MSISDN and IMSI of every identifier, as ``Usage.name`` counts them."""
        strange = usage.where(usage.is_strange)
        is_unknown = pa.array(strange.kind == Kind.UNKNOWN)
        strangers_imsi = pc.if_else(is_unknown, imsis(self.unknown(strange, "imsi")), imsis(strange.stranger, "26201"))
        imsi = pa.concat_arrays([imsis(who.identifier), imsis(who.alternative), strangers_imsi])
        own = msisdns(self.plan, who.index)
        return pa.concat_arrays([own, own, pa.array([""] * len(strange), pa.string())]), imsi


class PgwFlattened(Source):
    """Flattened gateway containers, Parquet, of the second mobile brand (formats.md §5b): only the time of last usage."""

    name = "pgw_flattened"
    purpose = Purpose.PGW_FLATTENED

    schema = pa.schema(
        [
            (name, pa.string())
            for name in ("mdn", "accesspointnameni", "servedimeisv", "t804", "prov", "city", "l_timeoflastusage")
        ]
        + [(name, pa.int64()) for name in ("l_datavolumefbcuplink", "l_datavolumefbcdownlink")]
    )

    def carries(self, who: Subscribers) -> Flags:
        """The second mobile brand's."""
        return who.is_second_brand_mobile & who.has_usage

    def usage(self, day: int, chunk: int, who: Subscribers, random: np.random.Generator) -> Usage:
        """As the other mobile source, but without closes in the hour that comes twice: the file could not say which one."""
        usage = with_ims(partial_records(self.plan, day, who, random), random)
        counts = {Kind.UNKNOWN: self.unknown_records(day, chunk, len(usage))}
        usage = usage.followed_by(strangers(self.plan, day, chunk, counts, random))
        return usage.where(~self.clocks.comes_twice(0, usage.closed))

    def octets_inside(self, octets: Integers, usage: Usage) -> Integers:
        """Without a start a record belongs to the month of its close."""
        return octets * ~self.lies_outside(usage)

    def crosses(self, moment: int, usage: Usage) -> Flags:
        """Nothing without a start crosses."""
        return np.full(len(usage), False)

    def lies_outside(self, usage: Usage) -> Flags:
        """The close lies outside the month."""
        return (usage.closed < self.plan.month.start) | (self.plan.month.end <= usage.closed)

    def lines(self, who: Subscribers, usage: Usage, is_lost: Flags) -> pa.Table:
        """One row a container; every third subscriber's number is written nationally."""
        constant = {name: pa.repeat(value, len(usage)) for name, value in (("t804", "6"), ("prov", "75"), ("city", "Paris"))}
        device = 3_500_000_000_000_000 + usage.name(len(who))
        columns = {
            "mdn": self._names(who, usage).take(pa.array(usage.name(len(who)))),
            "accesspointnameni": pa.array(["internet", "ims"]).take(pa.array((usage.kind == Kind.IMS).astype(np.int64))),
            "servedimeisv": text(device),
            **constant,
            "l_timeoflastusage": text(digits(usage.closed + self.clocks.offset(0, usage.closed))),
            "l_datavolumefbcuplink": pa.array(usage.up),
            "l_datavolumefbcdownlink": pa.array(usage.down),
        }
        return pa.table(columns, schema=self.schema)

    def _names(self, who: Subscribers, usage: Usage) -> pa.Array:
        strange = usage.where(usage.is_strange)
        own = msisdns(self.plan, who.identifier)
        national = pc.binary_join_element_wise("0", pc.utf8_slice_codeunits(own, 2), "")
        written = pc.if_else(pa.array(who.index % 3 == 0), national, own)
        return pa.concat_arrays([written, written, msisdns(self.plan, self.unknown(strange, "msisdn"))])


class FixedDeltas(Source):
    """Octets per line and interval, CSV."""

    name = "fixed_deltas"
    purpose = Purpose.FIXED_DELTAS
    faults = FIXED_FAULTS

    header = b"line_id,interval_start,interval_end,octets_up,octets_down\n"

    def carries(self, who: Subscribers) -> Flags:
        """Fixed lines'."""
        return who.is_fixed & who.has_usage

    def usage(self, day: int, chunk: int, who: Subscribers, random: np.random.Generator) -> Usage:
        """Intervals without a gap, and some of unknown lines."""
        usage = intervals(self.plan, day, who, random)
        counts = {Kind.UNKNOWN: self.unknown_records(day, chunk, len(usage))}
        return usage.followed_by(strangers(self.plan, day, chunk, counts, random))

    def lines(self, who: Subscribers, usage: Usage, is_lost: Flags) -> pa.Array:
        """Times in UTC, of some lines with the local offset."""
        strange = usage.where(usage.is_strange)
        names = pa.concat_arrays(
            [line_ids(who.identifier), line_ids(who.alternative), line_ids(self.unknown(strange, "line_id"))]
        )
        return pc.binary_join_element_wise(
            names.take(pa.array(usage.name(len(who)))),
            _interval_text(usage),
            text(usage.up),
            pc.binary_join_element_wise(text(usage.down), "\n", ""),
            ",",
        )


def with_ims(usage: Usage, random: np.random.Generator) -> Usage:
    """Four in a hundred become voice over the IMS APN, which is not the subscriber's data."""
    is_ims = random.integers(0, 100, len(usage)) < 4
    usage.kind[is_ims] = Kind.IMS
    usage.down[is_ims] = random.integers(1_000, 2_000_000, len(usage))[is_ims]
    usage.up[is_ims] = usage.down[is_ims] - 500
    return usage


def _network_of(zone: Integers, kind: Integers, ahead: Integers) -> Integers:
    """Position in ``_networks``."""
    position: Integers = (zone * 2 + (kind == Kind.IMS)) * 128 + ahead // QUARTER_SECONDS + 64
    return position


@cache
def _networks() -> pa.Array:
    """Operator code to Description, for every visited network, APN and quarter of an hour of offset."""
    return pa.array(
        f"|{code}|0|{apn}|{_offset_text(quarter)}" + "|" * 11
        for code, _ in VISITED
        for apn in ("internet", "ims")
        for quarter in range(-64, 64)
    )


def _offset_text(quarter: int) -> str:
    hours, quarters = divmod(abs(quarter), HOUR_SECONDS // QUARTER_SECONDS)
    return f"{'-' if quarter < 0 else '+'}{hours:02d}{quarters * 15:02d}"


def _interval_text(usage: Usage) -> pa.Array:
    """``start,end`` of each interval: few distinct ones a day."""
    distinct, first, position = np.unique(usage.opened, return_index=True, return_inverse=True)
    written = [_interval(int(opened), int(closed)) for opened, closed in zip(distinct, usage.closed[first], strict=True)]
    return pa.array(written, pa.string()).take(pa.array(position))


def _interval(opened: int, closed: int) -> str:
    zone = ZoneInfo(HOME_ZONE) if opened // QUARTER_SECONDS % 4 == 1 else UTC
    start, end = (datetime.fromtimestamp(second, UTC).astimezone(zone).isoformat() for second in (opened, closed))
    return f"{start},{end}".replace("+00:00", "Z")
