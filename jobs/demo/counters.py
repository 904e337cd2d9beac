"""The fixed lines' records as counters that only grow: RADIUS accounting of gateways, or SAMIS records of cable heads.

The intervals are those that ``fixed_deltas`` would say, so the month is the same; here each closes with a reading of counters.
What is lost there, by a corrupt record, is lost here because a session ends with a stop that has no counters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.demo.deliveries import Series, Text, text_file
from jobs.demo.identifiers import line_ids, macs, text
from jobs.demo.incidents import Faults
from jobs.demo.month import DAY_SECONDS, HOME_ZONE, Flags, Integers
from jobs.demo.sources import FixedDeltas
from jobs.demo.subscribers import Subscribers
from jobs.demo.usage import Usage

START, INTERIM, STOP = 3, 1, 2
"""Of a reading; the numbers of SAMIS."""
_STATE = ("is_open", "up", "down", "up_packets", "down_packets", "began", "number")
_GIGAWORD_BITS = 32
_PACKET_OCTETS = 1_200


def _unchanged(fields: list[bytes]) -> list[bytes]:
    return fields


COUNTER_FAULTS = Faults(
    separator=b"\0",
    of_records=dict.fromkeys(
        ("volume_not_a_number", "volume_negative", "end_before_start", "time_impossible", "fields_missing"), _unchanged
    ),
    of_empty_records={},
    of_nobody={"line_empty": b"", "line_garbage": b"", "line_not_utf8": b""},
)
"""The schedule of ``FIXED_FAULTS``: every one is a session that ends without its counters."""


@dataclass(frozen=True)
class Reading:
    """Readings of counters, one element of each array per interval; ``begins``: the session begins with the interval."""

    usage: Usage
    begins: Flags
    status: Integers
    has_counters: Flags
    began: Integers
    number: Integers
    up: Integers
    down: Integers
    up_packets: Integers
    down_packets: Integers


@dataclass(frozen=True)
class _CounterRecords(FixedDeltas):
    """Sessions go on from day to day, so their counters are kept: some numbers for each line of a chunk."""

    states: dict[int, dict[str, Integers]] = field(default_factory=dict)

    faults = COUNTER_FAULTS

    def lines(self, who: Subscribers, usage: Usage, is_lost: Flags) -> pa.Table:
        """The records of each interval as one text, and how many they are."""
        written, records = self._written(who, self._readings(who, usage, is_lost))
        return pa.table({"text": written, "records": pa.array(records, pa.int64())})

    def deliver_damaged(self, delivery: Any, lines: Any, position: int, fault: str) -> None:
        """A session that lost its counters says so itself."""
        delivery.write(lines.slice(position, 1))

    @abstractmethod
    def _written(self, who: Subscribers, found: Reading) -> tuple[pa.Array, Integers]:
        """The records of each interval, and how many."""

    def _readings(self, who: Subscribers, usage: Usage, is_lost: Flags) -> Reading:
        """Counters at the close of each interval. A stranger's session is one interval."""
        state = self._state(who)
        own = ~usage.is_strange
        line = np.where(own, usage.holder * 2 + usage.is_second, 2 * len(who) + np.cumsum(usage.is_strange) - 1)
        order = np.lexsort((usage.opened, line))
        inside = {name: values[order] for name, values in (("line", line), ("own", own), ("lost", is_lost))}
        sorted_ = usage.where(order)
        is_new = np.r_[True, inside["line"][1:] != inside["line"][:-1]]
        ends = inside["lost"] | ~self._goes_on(who, sorted_)
        place = np.where(inside["own"], inside["line"], 0)
        continues = is_new & inside["own"] & state["is_open"][place].astype(bool)
        begins = np.where(is_new, ~continues, np.r_[False, ends[:-1]])
        segment = np.cumsum(is_new | begins) - 1
        firsts = np.flatnonzero(is_new | begins)
        counters = {}
        for way, octets in (("up", sorted_.up), ("down", sorted_.down)):
            counted = np.where(inside["lost"], 0, octets)
            for name, values in ((way, counted), (f"{way}_packets", -(-counted // _PACKET_OCTETS))):
                total = np.cumsum(values)
                before = (total - values)[firsts]
                carried = np.where(begins[firsts], 0, state[name][place[firsts]])
                counters[name] = total - before[segment] + carried[segment]
        began = np.where(begins[firsts], sorted_.opened[firsts], state["began"][place[firsts]])[segment]
        begun = np.cumsum(begins)
        of_line = np.cumsum(is_new) - 1
        number = np.where(inside["own"], state["number"][place], 0) + begun - (begun - begins)[is_new][of_line]
        is_last = np.r_[is_new[1:], True] & inside["own"]
        found = {**counters, "began": began, "number": number}
        for name, numbers in {**found, "is_open": (~ends).astype(np.int64)}.items():
            state[name][place[is_last]] = numbers[is_last]
        back = np.argsort(order, kind="stable")
        status = np.where(ends, STOP, INTERIM)
        in_order = {name: numbers[back] for name, numbers in found.items()}
        return Reading(usage, begins[back], status[back], ~inside["lost"][back], **in_order)

    def _state(self, who: Subscribers) -> dict[str, Integers]:
        first = int(who.index[0]) if len(who) else -1
        if first not in self.states:
            self.states[first] = {name: np.zeros(2 * len(who) + 1, np.int64) for name in _STATE}
        return self.states[first]

    def _goes_on(self, who: Subscribers, usage: Usage) -> Flags:
        """The line has another interval after this one, or this one straddles the month's end."""
        plan = self.plan
        slot = usage.serial // 10**8 % 288
        is_last = slot == plan.records_per_day - 1
        opened = usage.closed + is_last * (DAY_SECONDS - plan.records_per_day * plan.slot_seconds)
        closed, holder = opened + plan.slot_seconds, np.where(usage.is_strange, 0, usage.holder)
        is_second = np.where(who.is_double[holder], (slot + 1) % plan.records_per_day % 2 == 1, closed >= who.changes_at[holder])
        same_line = who.holds(holder, closed) & (is_second == usage.is_second)
        goes_on: Flags = ~usage.is_strange & ((usage.closed >= plan.month.end) | same_line)
        return goes_on


class RadiusDetail(_CounterRecords):
    """RADIUS accounting in FreeRADIUS ``detail`` files (RFC 2866, RFC 2869)."""

    name = "bng_radius"

    def _written(self, who: Subscribers, found: Reading) -> tuple[pa.Array, Integers]:
        usage = found.usage
        strange = usage.where(usage.is_strange)
        names = pa.concat_arrays(
            [line_ids(who.identifier), line_ids(who.alternative), line_ids(self.unknown(strange, "line_id"))]
        ).take(pa.array(usage.name(len(who))))
        session = pc.binary_join_element_wise(text(usage.serial % 10**8), text(found.began), text(found.number), "-")
        of_session = pc.binary_join_element_wise(
            '\tUser-Name = "', names, '"\n\tNAS-IP-Address = 192.0.2.1\n\tNAS-Identifier = "bng-paris-1"\n'
            '\tNAS-Port-Type = Ethernet\n\tService-Type = Framed-User\n\tAcct-Session-Id = "', session, '"\n', "",
        )  # fmt: skip
        start = pc.if_else(
            pa.array(found.begins),
            _packet(of_session, usage.opened, "Start", "\tAcct-Session-Time = 0\n"),
            pa.scalar(""),
        )
        counters = pc.if_else(pa.array(found.has_counters), _radius_counters(found), pa.scalar(""))
        elapsed = pc.binary_join_element_wise("\tAcct-Session-Time = ", text(usage.closed - found.began), "\n", "")
        status = pc.if_else(pa.array(found.status == STOP), pa.scalar("Stop"), pa.scalar("Interim-Update"))
        close = _packet(of_session, usage.closed, status, pc.binary_join_element_wise(elapsed, counters, ""))
        return pc.binary_join_element_wise(start, close, ""), 1 + found.begins.astype(np.int64)


def _radius_counters(found: Reading) -> pa.Array:
    low = (1 << _GIGAWORD_BITS) - 1
    parts: list[Any] = []
    for name, octets, packets in (("Input", found.up, found.up_packets), ("Output", found.down, found.down_packets)):
        parts += [f"\tAcct-{name}-Octets = ", text(octets & low), f"\n\tAcct-{name}-Gigawords = ", text(octets >> _GIGAWORD_BITS)]
        parts += [f"\n\tAcct-{name}-Packets = ", text(packets & low), "\n"]
    return pc.binary_join_element_wise(*parts, "")


def _packet(of_session: pa.Array, seconds: Integers, status: Any, more: Any) -> pa.Array:
    distinct, position = np.unique(seconds, return_inverse=True)
    moments = [datetime.fromtimestamp(int(second), UTC).astimezone(ZoneInfo(HOME_ZONE)) for second in distinct]
    headers = pa.array([f"{moment:%a %b %e %H:%M:%S %Y}\n" for moment in moments], pa.string())
    events = pa.array([f'\tEvent-Timestamp = "{moment:%b %e %Y %H:%M:%S %Z}"\n' for moment in moments], pa.string())
    at = pa.array(position)
    return pc.binary_join_element_wise(
        headers.take(at), of_session, "\tAcct-Status-Type = ", status, "\n", more, events.take(at),
        "\tAcct-Delay-Time = 0\n\tTimestamp = ", text(seconds), "\n\n", "",
    )  # fmt: skip


class Samis(_CounterRecords):
    """DOCSIS SAMIS records in IPDRDoc XML: two service flows a modem, 1 is downstream."""

    name = "cable_samis"

    def _written(self, who: Subscribers, found: Reading) -> tuple[pa.Array, Integers]:
        usage = found.usage
        strange = usage.where(usage.is_strange)
        names = pa.concat_arrays([macs(who.identifier), macs(who.alternative), macs(self.unknown(strange, "line_id"))])
        boot = self.plan.month.start - 100 * DAY_SECONDS
        distinct, position = np.unique(usage.closed, return_inverse=True)
        moments = pa.array([f"{datetime.fromtimestamp(int(s), UTC):%Y-%m-%dT%H:%M:%S}.000Z" for s in distinct], pa.string())
        begin = pc.binary_join_element_wise(
            '<IPDR xsi:type="SAMIS-TYPE-1"><CmtsHostName>cmts-paris-1</CmtsHostName><CmtsSysUpTime>',
            _ticks(usage.closed - boot), "</CmtsSysUpTime><CmMacAddr>", names.take(pa.array(usage.name(len(who)))),
            "</CmMacAddr><RecType>", text(found.status), "</RecType><RecCreationTime>", moments.take(pa.array(position)),
            "</RecCreationTime>", "",
        )  # fmt: skip
        end = pc.binary_join_element_wise(
            "<ServiceTimeCreated>", _ticks(found.began - boot), "</ServiceTimeCreated><ServiceTimeActive>",
            text(usage.closed - found.began), "</ServiceTimeActive></IPDR>\n", "",
        )  # fmt: skip
        flows = [
            pc.binary_join_element_wise(begin, _flow(found, direction, octets, packets), end, "")
            for direction, octets, packets in ((1, found.down, found.down_packets), (2, found.up, found.up_packets))
        ]
        return pc.binary_join_element_wise(*flows, ""), np.full(len(usage), 2)


def _ticks(seconds: Integers) -> pa.Array:
    return text(seconds * 100 % (1 << _GIGAWORD_BITS))


def _flow(found: Reading, direction: int, octets: Integers, packets: Integers) -> pa.Array:
    flow = pc.binary_join_element_wise(
        "<ServiceIdentifier>", text(found.number * 2 + direction), "</ServiceIdentifier><ServiceClassName>internet"
        f"</ServiceClassName><ServiceDirection>{direction}</ServiceDirection>", "",
    )  # fmt: skip
    counters = pc.binary_join_element_wise(
        "<ServiceOctetsPassed>", text(octets), "</ServiceOctetsPassed><ServicePktsPassed>", text(packets),
        "</ServicePktsPassed>", "",
    )  # fmt: skip
    return pc.binary_join_element_wise(flow, pc.if_else(pa.array(found.has_counters), counters, pa.scalar("")), "")


@dataclass
class Packets(Text):
    """Records as texts of one interval each; one text may hold several."""

    def write(self, lines: pa.Table) -> None:
        """Append texts."""
        super().write(lines["text"].combine_chunks())
        self.records += int(pc.sum(lines["records"]).as_py() or 0) - len(lines)

    def write_line(self, line: bytes) -> None:
        """What belongs to nobody, of which counters have nothing."""


@dataclass
class DetailSeries(Series):
    """bng_radius: detail files."""

    def path(self, number: int, day: date, written: date) -> Path:
        """Day and number."""
        return self.plan.landing / "bng_radius" / f"detail-{day:%Y%m%d}-{number:06d}"

    @contextmanager
    def file(self, path: Path) -> Iterator[Packets]:
        """Packets, one after the other."""
        with text_file(path) as file:
            yield Packets(file.stream)


@dataclass
class SamisSeries(Series):
    """cable_samis: IPDRDoc XML, compressed."""

    def path(self, number: int, day: date, written: date) -> Path:
        """Day and number."""
        return self.plan.landing / "cable_samis" / f"samis_{day:%Y%m%d}_{number:06d}.xml.gz"

    @contextmanager
    def file(self, path: Path) -> Iterator[Packets]:
        """A document with its count at the end."""
        begin = (
            b'<?xml version="1.0" encoding="UTF-8"?>\n<IPDRDoc xmlns="http://www.ipdr.org/namespaces/ipdr" '
            b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" version="3.5" IPDRRecorderInfo="cmts-paris-1">\n'
        )
        with text_file(path, begin) as file:
            packets = Packets(file.stream)
            yield packets
            file.stream.write(b'<IPDRDoc.End count="%d"/>\n</IPDRDoc>\n' % packets.records)
