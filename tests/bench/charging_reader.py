"""Charging records: the reader, accept's input side, and other ways to the same columns (``readers`` measures them)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.outcomes import Counts, Policy, usage_outcomes
from jobs.pseudonyms import FROM_THE_BEGINNING, IDENTIFIER_KEY, SERVING_KEY, Keys, make_key
from jobs.readers import charging_walk as walk
from jobs.readers.block import Tally
from jobs.readers.charging import BLOCK_RECORDS, WINDOW_OCTETS, read_charging
from jobs.readers.charging_tags import CONTAINER, INTEGERS, SPANS
from schemas.source import UsageSource, read_source
from tests.bench import in_turn
from tests.bench.in_turn import Comparison, Engine, Totals

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT.parent / "shared" / "samples" / "3gpp_open5gs" / "open5gs_PGW_000041.cdr"
RECORDS = 200_000
"""At the scale of 1."""
FIRST_CHARGING_ID, LAST_CHARGING_ID = 7_000_000, 0x7FFFFF
"""Charging ids of three octets, as in the sample."""
HEADER_OCTETS = 52
SERVICE_DATA_LIST = 34
MINUS_AS_DIGITS = 2 * 10 + 13
"""The octet of a minus sign, 0x2D, read as two digits."""

Vector = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]


# The input


def element(tag: int, content: bytes, is_constructed: bool = False, tag_class: int = 0x80) -> bytes:
    """A BER element of a definite length."""
    first = tag_class | (0x20 if is_constructed else 0)
    head = bytes([first | tag]) if tag < 31 else bytes([first | 31, tag])
    length = len(content)
    return head + (bytes([length]) if length < 128 else bytes([0x82]) + length.to_bytes(2, "big")) + content


def built_record() -> bytes:
    """A PGW-CDR with one container, as far as it is read."""
    instants = [bytes.fromhex(f"2610311{hour}00002b0000") for hour in (0, 1)]
    volume = [element(tag, value.to_bytes(4, "big")) for tag, value in ((12, 1_000_000), (13, 30_000_000))]
    service = [
        element(1, b"\x0a"),
        element(5, instants[0]),
        element(6, instants[1]),
        element(8, b"\x00\x80"),
        *volume,
        element(14, instants[1]),
    ]
    data = element(34, element(16, b"".join(service), True, 0), True)
    first = {0: b"\x55", 3: bytes.fromhex("00010100000000f0"), 5: FIRST_CHARGING_ID.to_bytes(3, "big"), 7: b"internet"}
    then = {13: instants[0], 14: b"\x0e\x10", 15: b"\x00", 17: b"\x01", 18: b"gateway-1", 20: b"\x03\xe9"}
    elements = first | then | {23: b"\x08\x00", 27: b"\x00\xf1\x10", 30: b"\x06"}
    address, node_type = element(0, bytes(4)), element(10, b"\x02", tag_class=0)
    lists = element(4, address, True) + element(6, address, True) + element(35, node_type, True)
    return element(79, b"".join(element(tag, content) for tag, content in elements.items()) + lists + data, True)


def sample_records() -> list[bytes]:
    """Records of the sample file, or one that is built if the sample is not there."""
    if not SAMPLE.exists():
        return [built_record()]
    file = SAMPLE.read_bytes()
    return [file[begin:end] for begin, end in framed(file)]


def framed(file: bytes) -> Iterator[tuple[int, int]]:
    """Where the records of a TS 32.297 file begin and end."""
    at = int.from_bytes(file[4:8], "big")
    while at < len(file):
        length, version = struct.unpack_from(">HB", file, at)
        at += 5 if version >> 5 == 7 else 4
        yield at, at + length
        at += length


def charging_file(records: int, records_of_a_subscriber: int = 1) -> bytes:
    """A TS 32.297 file of so many records: the sample's, with other subscribers, charging ids and opening times."""
    bodies = sample_records()
    repeats = -(-records // len(bodies))
    parts: list[Octets] = []
    for nth, body in enumerate(bodies):
        framing = struct.pack(">HBBB", len(body), 0xE2, 0x27, 0x08)
        rows = np.tile(np.frombuffer(framing + body, np.uint8), (repeats, 1))
        number = np.arange(repeats, dtype=np.int64) * len(bodies) + nth
        places = {tag: (len(framing) + begin, len(framing) + end) for tag, begin, end in elements_of(body, *content_of(body))}
        begin, end = places[5]
        charging_id = FIRST_CHARGING_ID + number % (LAST_CHARGING_ID - FIRST_CHARGING_ID)
        rows[:, begin:end] = charging_id.astype(">u4").view(np.uint8).reshape(-1, 4)[:, begin - end :]
        subscriber = number // records_of_a_subscriber
        for octet in range(4, 7):
            pair = subscriber // 100 ** (octet - 4) % 100
            rows[:, places[3][0] + octet] = pair // 10 | (pair % 10) << 4
        rows[:, places[3][0] + 7] = 0xF0
        for octet, opened in ((4, number * 7919 // 60 % 60), (5, number * 7919 % 60)):
            rows[:, places[13][0] + octet] = opened // 10 << 4 | opened % 10
        parts.append(rows)
    octets = np.concatenate([rows.reshape(repeats, -1) for rows in parts], axis=1).tobytes()
    if repeats * len(bodies) > records:
        left_out = sum(len(rows[0]) for rows in parts[records - repeats * len(bodies) :])
        octets = octets[:-left_out]
    header = bytearray(SAMPLE.read_bytes()[:HEADER_OCTETS] if SAMPLE.exists() else bytes(HEADER_OCTETS))
    header[0:8] = struct.pack(">II", HEADER_OCTETS + len(octets), HEADER_OCTETS)
    header[18:22] = struct.pack(">I", records)
    return bytes(header) + octets


# Engines


@dataclass(frozen=True)
class Input(in_turn.Input):
    """A file, its source, and the keys of a lake."""

    source: UsageSource
    keys: tuple[Keys, Keys]


def reader(given: Input) -> Totals:
    """The reader: every column of the source."""
    tally, up, down = Tally(), 0, 0
    assert given.source.charging is not None
    for block in read_charging(pa.BufferReader(given.octets), given.source.charging, True, given.source.whitelist, tally):
        up += block.records.column("uplinkOctets").to_numpy().sum()
        down += block.records.column("downlinkOctets").to_numpy().sum()
    return Totals(tally.records, int(up), int(down))


def outcomes(given: Input) -> Totals:
    """Accept's input side: the reader and what becomes of each record, in columns with pseudonyms."""
    tally, counts = Tally(), Counts()
    policy = Policy(ZoneInfo("Europe/Paris"), *given.keys)
    assert given.source.charging is not None
    rows = 0
    for block in read_charging(pa.BufferReader(given.octets), given.source.charging, True, given.source.whitelist, tally):
        for columns in usage_outcomes(block, given.source, policy, counts):
            rows += len(columns["record_ordinal"])
    _, up, down = reader_totals(given)
    assert counts.volume_parsed_octets == up + down
    assert rows + sum(counts.out_of_scope.values()) >= tally.records
    return Totals(tally.records, up, down)


_TOTALS: dict[int, Totals] = {}


def reader_totals(given: Input) -> Totals:
    """What the reader finds, read once for each input."""
    if id(given) not in _TOTALS:
        _TOTALS[id(given)] = reader(given)
    return _TOTALS[id(given)]


class BareWalk:
    """The compiled walk alone: numbers and spans, no columns."""

    def __init__(self) -> None:
        self.bounds = [np.empty(BLOCK_RECORDS, np.int64) for _ in range(3)]
        self.numbers = np.empty((BLOCK_RECORDS, len(INTEGERS)), np.int64)
        self.spans = np.empty((BLOCK_RECORDS, len(SPANS), 2), np.int32)
        self.notes = np.empty((BLOCK_RECORDS, len(walk.NOTES)), np.int64)
        self.containers = np.empty((walk.LONGEST_RECORD_OCTETS, len(CONTAINER)), np.int64)
        self.container_of = np.empty(len(self.containers), np.int64)

    def __call__(self, given: Input) -> Totals:
        data = np.frombuffer(given.octets, np.uint8)
        at, total, up, down = HEADER_OCTETS, 0, 0, 0
        while True:
            end = min(at + WINDOW_OCTETS, len(data))
            is_last = end == len(data)
            count, at, *_ = walk.frame_records(
                data, at, end, is_last, True, False, walk.FORM_OF_TAG, walk.FORM_READ_OF_TAG, *self.bounds
            )
            done = 0
            while done < count:
                rows, filled = walk.walk_records(
                    data, self.bounds[0][done:count], self.bounds[1][done:count], walk.ACTIONS, walk.FORM_OF_TAG,
                    walk.CONTEXT_OF_FORM, self.numbers, self.spans, self.notes, self.containers, self.container_of,
                )  # fmt: skip
                up += self.containers[:filled, CONTAINER.index("up")].sum()
                down += self.containers[:filled, CONTAINER.index("down")].sum()
                done += rows
            total += count
            if is_last and at >= end:
                return Totals(total, int(up), int(down))


class LockStep:
    """Plain NumPy: all records of a block are walked at once, an element of each at a step."""

    NUMBERS: ClassVar = {5: "chargingID", 17: "recordSequenceNumber"}
    OF_CONTAINER: ClassVar = {12: "uplinkOctets", 13: "downlinkOctets"}

    def columns(self, file: bytes) -> Iterator[dict[str, pa.Array]]:
        """Some columns of the reader, a row a container of service data."""
        data = np.concatenate([np.frombuffer(file, np.uint8), np.zeros(16, np.uint8)])
        bounds = np.array(list(framed(file)), np.int64)
        for begin in range(0, len(bounds), BLOCK_RECORDS):
            starts, ends = bounds[begin : begin + BLOCK_RECORDS].T
            _, at, _ = self.header(data, starts)
            elements = self.walk(data, at, ends, (3, 5, 17, 34))
            of, at, ends = self.members(data, *elements[34])
            within = self.walk(data, at, ends, (12, 13, 14))
            found = {name: self.integer(data, *elements[tag])[of] for tag, name in self.NUMBERS.items()}
            found |= {name: self.integer(data, *within[tag]) for tag, name in self.OF_CONTAINER.items()}
            columns = {name: pa.array(values) for name, values in found.items()}
            columns["servedIMSI"] = self.digits(data, *elements[3]).take(pa.array(of))
            columns["intervalClosed"] = pa.array(self.instant(data, within[14][0])).cast(pa.timestamp("us", "UTC"))
            yield columns

    def __call__(self, given: Input) -> Totals:
        up = down = 0
        for columns in self.columns(given.octets):
            up += columns["uplinkOctets"].to_numpy().sum()
            down += columns["downlinkOctets"].to_numpy().sum()
        return Totals(given.records, int(up), int(down))

    @staticmethod
    def header(data: Octets, at: Vector) -> tuple[Vector, Vector, Vector]:
        """Tag numbers (to 127), where contents begin and end (lengths of to two octets)."""
        first = data[at]
        is_long = (first & 31) == 31
        tag = np.where(is_long, data[at + 1], first & 31)
        place = at + 1 + is_long
        short = data[place].astype(np.int64)
        one, two = short == 0x81, short == 0x82
        second = data[place + 1].astype(np.int64)
        length = np.where(two, second << 8 | data[place + 2], np.where(one, second, short))
        content = place + 1 + one + 2 * two
        return tag, content, content + length

    def walk(self, data: Octets, at: Vector, ends: Vector, wanted: Sequence[int]) -> dict[int, tuple[Vector, Vector]]:
        """Where the contents of some elements begin and end; both 0 where there is none."""
        found = {tag: (np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)) for tag in wanted}
        rows = np.arange(len(at))
        while len(rows):
            tag, content, stop = self.header(data, at)
            present = np.bincount(tag, minlength=128)
            for number in wanted:
                if present[number]:
                    here = tag == number
                    found[number][0][rows[here]], found[number][1][rows[here]] = content[here], stop[here]
            goes_on = stop < ends
            at, ends, rows = stop[goes_on], ends[goes_on], rows[goes_on]
        return found

    def members(self, data: Octets, at: Vector, ends: Vector) -> tuple[Vector, Vector, Vector]:
        """The elements of lists: of which list, and where their contents begin and end, in the order of the lists."""
        rows, parts = np.flatnonzero(at < ends), []
        at, ends = at[rows], ends[rows]
        while len(rows):
            _, content, stop = self.header(data, at)
            parts.append((rows, content, stop))
            goes_on = stop < ends
            at, ends, rows = stop[goes_on], ends[goes_on], rows[goes_on]
        of, begin, end = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(of, kind="stable")
        return of[order], begin[order], end[order]

    @staticmethod
    def integer(data: Octets, at: Vector, ends: Vector) -> Vector:
        """Unsigned integers."""
        lengths, value = ends - at, np.zeros(len(at), np.int64)
        for place in range(int(lengths.max(initial=0))):
            value = np.where(place < lengths, value << 8 | data[np.minimum(at + place, len(data) - 1)], value)
        return value

    @staticmethod
    def digits(data: Octets, at: Vector, ends: Vector) -> pa.StringArray:
        """TBCD digits of to eight octets."""
        octets = data[at[:, None] + np.arange(8)]
        written = np.empty((len(at), 16), np.uint8)
        written[:, 0::2], written[:, 1::2] = (octets & 15) + 48, (octets >> 4) + 48
        lengths = 2 * (ends - at)
        lengths -= written[np.arange(len(at)), lengths - 1] == 63
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        text = written[np.arange(16) < lengths[:, None]]
        return pa.StringArray.from_buffers(len(at), pa.py_buffer(offsets), pa.py_buffer(text))

    @staticmethod
    def instant(data: Octets, at: Vector) -> Vector:
        """Microseconds of time stamps of nine octets."""
        octets = data[at[:, None] + np.arange(9)].astype(np.int64)
        year, month, day, hour, minute, second, sign, hours, minutes = ((octets >> 4) * 10 + (octets & 15)).T
        days = ((year + 30) * 12 + month - 1).astype("M8[M]").astype("M8[D]").astype(np.int64) + day - 1
        offset = np.where(sign == MINUS_AS_DIGITS, -1, 1) * (hours * 3600 + minutes * 60)
        instants: Vector = (days * 86400 + hour * 3600 + minute * 60 + second - offset) * 1_000_000
        return instants


def content_of(record: bytes) -> tuple[int, int]:
    """Where the content of a record begins and ends."""
    _, begin, end = next(elements_of(record, 0, len(record)))
    return begin, end


def elements_of(record: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tag number, begin and end of the content of each element."""
    while at < end:
        tag = record[at] & 31
        at += 1
        if tag == 31:
            tag = 0
            while True:
                tag = tag << 7 | record[at] & 127
                at += 1
                if record[at - 1] < 128:
                    break
        length = record[at]
        at += 1
        if length > 128:
            count = length & 127
            length = int.from_bytes(record[at : at + count], "big")
            at += count
        yield tag, at, at + length
        at += length


def plain_walk(given: Input) -> Totals:
    """Plain Python: a walk over the tags of each record."""
    file, records, up, down = given.octets, 0, 0, 0
    rows = []
    for start, stop in framed(file):
        _, begin, end = next(elements_of(file, start, stop))
        row: dict[str, Any] = {}
        services: list[tuple[int, int, bytes]] = []
        for tag, at, after in elements_of(file, begin, end):
            if tag == 3:
                row["servedIMSI"] = file[at:after].hex()
            elif tag in (5, 14, 17, 20, 30):
                row[str(tag)] = int.from_bytes(file[at:after], "big")
            elif tag in (7, 13, 18, 27):
                row[str(tag)] = file[at:after]
            elif tag == 34:
                for _, inner, inner_end in elements_of(file, at, after):
                    sent, received, reported = 0, 0, b""
                    for of_service, value, value_end in elements_of(file, inner, inner_end):
                        if of_service == 12:
                            sent = int.from_bytes(file[value:value_end], "big")
                        elif of_service == 13:
                            received = int.from_bytes(file[value:value_end], "big")
                        elif of_service == 14:
                            reported = file[value:value_end]
                    services.append((sent, received, reported))
                    up, down = up + sent, down + received
        row["intervals"] = services
        rows.append(row)
        records += 1
    return Totals(records, up, down)


def grammar(records: Sequence[bytes]) -> str:
    """ASN.1 of our own that names the elements in some records.

    3GPP's text is not ours to ship, and pycrate's package has it compiled only. Numbers are read as such, other elements as
    octets; what is constructed and not looked into is stepped over.
    """
    services = [(record, at, end) for record in records for at, end in services_of(record)]
    whole = members_of([(record, *content_of(record)) for record in records], (0, 5, 14, 15, 17, 20, 30), "SEQUENCE OF Service")
    service = members_of(services, (1, 4, 12, 13, 17, 30), "SEQUENCE {}")
    return f"""Footprint DEFINITIONS IMPLICIT TAGS ::= BEGIN
Record ::= CHOICE {{ pgw [79] SET {{ {whole} }} }}
Service ::= SEQUENCE {{ {service} }}
END"""


def services_of(record: bytes) -> Iterator[tuple[int, int]]:
    """Where the contents of the containers of service data begin and end."""
    for tag, at, end in elements_of(record, *content_of(record)):
        if tag == SERVICE_DATA_LIST:
            yield from ((begin, stop) for _, begin, stop in elements_of(record, at, end))


def members_of(parts: Sequence[tuple[bytes, int, int]], integers: Sequence[int], of_list: str) -> str:
    """The members of a structure, as met in octets, in the order of their tags."""
    kinds = {}
    for octets, begin, end in parts:
        at = begin
        for tag, _, after in elements_of(octets, begin, end):
            constructed = of_list if tag == SERVICE_DATA_LIST else "SEQUENCE {}"
            kinds[tag] = constructed if octets[at] & 0x20 else "INTEGER" if tag in integers else "OCTET STRING"
            at = after
    return ", ".join(f"a{tag} [{tag}] {kind} OPTIONAL" for tag, kind in sorted(kinds.items()))


class Asn1Tools:
    """asn1tools, with a grammar of the elements that are in the input: with 3GPP's whole modules it can only be slower."""

    def __init__(self) -> None:
        import asn1tools

        self.grammar = asn1tools.compile_string(grammar(sample_records()), "ber")

    def __call__(self, given: Input) -> Totals:
        file, records, up, down = given.octets, 0, 0, 0
        for begin, end in framed(file):
            _, record = self.grammar.decode("Record", file[begin:end])
            for service in record["a34"]:
                up, down = up + service["a12"], down + service["a13"]
            records += 1
        return Totals(records, up, down)


class Pycrate:
    """pycrate, with the modules it was packaged with."""

    def __init__(self) -> None:
        from pycrate_asn1dir import CDR

        self.record = CDR.GPRSChargingDataTypes.GPRSRecord

    def __call__(self, given: Input) -> Totals:
        file, records, up, down = given.octets, 0, 0, 0
        for begin, end in framed(file):
            self.record.from_ber(file[begin:end])
            _, record = self.record.get_val()
            for service in record["listOfServiceData"]:
                up, down = up + service["datavolumeFBCUplink"], down + service["datavolumeFBCDownlink"]
            records += 1
        return Totals(records, up, down)


# Measuring


def comparisons(scale: float, folder: Path, say: Callable[[str], None]) -> Iterator[Comparison]:
    """Every engine that can be had here; slow ones are given a share of the records."""
    source = read_source(ROOT / "schemas" / "sources" / "pgw_ts32297.toml")
    assert isinstance(source, UsageSource)
    identifier, serving = (Keys(folder, (make_key(folder, name, FROM_THE_BEGINNING),)) for name in (IDENTIFIER_KEY, SERVING_KEY))
    inputs: dict[int, Input] = {}

    def given(share: float = 1.0) -> Input:
        records = max(200, int(RECORDS * scale * share))
        # Every record another subscriber's: what is said of a subscriber is said once in a block.
        return inputs.setdefault(records, Input(charging_file(records), records, source, (identifier, serving)))

    found = [
        Engine("reader, 14 columns", reader, given()),
        Engine("reader and outcomes", outcomes, given()),
        Engine("bare compiled walk", BareWalk(), given()),
        Engine("NumPy, in lock-step (6 columns)", LockStep(), given()),
        Engine("plain Python walk", plain_walk, given(0.1)),
    ]
    for name, make, share in (("asn1tools (grammar of our own)", Asn1Tools, 0.02), ("pycrate", Pycrate, 0.005)):
        try:
            found.append(Engine(name, make(), given(share)))
        except ImportError as error:
            say(f"{name} is left out: {error}")
    check_lock_step(given())
    yield Comparison("ts32297, PGW-CDRs", found)


def check_lock_step(given: Input) -> None:
    """The columns of the lock-step walk are those of the reader."""
    assert given.source.charging is not None
    names = ("servedIMSI", "chargingID", "recordSequenceNumber", "uplinkOctets", "downlinkOctets", "intervalClosed")
    stream = pa.BufferReader(given.octets)
    ours = pa.Table.from_batches([b.records for b in read_charging(stream, given.source.charging, True, names, Tally())])
    theirs = pa.concat_tables([pa.table(columns) for columns in LockStep().columns(given.octets)])
    for name in names:
        assert ours[name].combine_chunks().equals(theirs[name].combine_chunks()), name
