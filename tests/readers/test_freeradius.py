"""FreeRADIUS itself writes the detail file: sessions over a month's end, with what goes wrong on the way.

The server runs for the test, in a folder of its own, with nothing but its ``detail`` module. Octets are what sessions truly used;
each comes back exactly, or flagged with a bound that holds what is missing. Times are in Event-Timestamp, so a month's end is
played in a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from jobs.decode_counters import decode_counters, read_readings
from jobs.legal_calendar import bounds
from jobs.run import PROJECT
from schemas.source import CounterSource, read_source
from schemas.tables import READINGS
from tests.readers.radius_files import read

SERVER = shutil.which("freeradius") or shutil.which("radiusd") or shutil.which("freeradius", path="/usr/sbin")
MODULES = next((path.parent for path in Path("/usr").glob("lib*/freeradius/rlm_detail.so")), None)
pytestmark = pytest.mark.skipif(
    SERVER is None or MODULES is None,
    reason="FreeRADIUS is not installed (apt-get install freeradius): that the server's own files are read was not tested here",
)

SECRET = b"testing123"
ZONES = ("UTC", "Europe/Paris")
GIGAWORD = 1 << 32
MONTH_END = datetime(2026, 10, 31, 23, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
QUARTER_S = 900

# The server

CONFIGURATION = """
name = radiusd
prefix = {folder}
run_dir = {folder}
logdir = {folder}
raddbdir = {folder}
radacctdir = {folder}
libdir = {modules}
pidfile = {folder}/radiusd.pid
proxy_requests = no
security {{
  reject_delay = 0
  status_server = no
  allow_vulnerable_openssl = yes
}}
client test {{
  ipaddr = 127.0.0.1
  secret = {secret}
}}
modules {{
  detail {{
    filename = {folder}/detail
    header = "%t"
  }}
}}
server default {{
  listen {{
    type = acct
    ipaddr = 127.0.0.1
    port = {port}
  }}
  accounting {{
    detail
  }}
}}
"""
"""Of FreeRADIUS 3: no user, no database, no policy."""


class Server:
    """A running server that is asked one packet at a time."""

    def __init__(self, folder: Path, zone: str) -> None:
        folder.mkdir()
        self.detail, self.log, self._sent = folder / "detail", folder / "radius.log", 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        values = {"folder": folder, "modules": MODULES, "port": port, "secret": SECRET.decode()}
        (folder / "radiusd.conf").write_text(CONFIGURATION.format(**values), encoding="ascii")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(SERVER), "-f", "-s", "-l", "stdout", "-d", str(folder)],
                env={**os.environ, "TZ": zone},
                stdout=log,
                stderr=log,
            )
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(5)

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)

    def send(self, packet: Packet) -> None:
        """Send a packet under the next identifier, and wait until the server says that it is written."""
        self._sent += 1
        self.send_octets(packet.octets(self._sent % 256))

    def send_octets(self, octets: bytes) -> None:
        for _ in range(100):
            try:
                self.socket.send(octets)
                answer = self.socket.recv(4096)
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
                continue
            assert answer[:2] == bytes([5, octets[1]])
            assert answer[4:20] == hashlib.md5(answer[:4] + octets[4:20] + answer[20:] + SECRET).digest()
            return
        raise AssertionError("FreeRADIUS does not listen")


NUMBERS = {
    "User-Name": 1, "NAS-Port": 5, "NAS-Identifier": 32, "Acct-Status-Type": 40, "Acct-Delay-Time": 41, "Acct-Input-Octets": 42,
    "Acct-Output-Octets": 43, "Acct-Session-Id": 44, "Acct-Session-Time": 46, "Acct-Input-Packets": 47,
    "Acct-Output-Packets": 48, "Acct-Input-Gigawords": 52, "Acct-Output-Gigawords": 53, "Event-Timestamp": 55,
}  # fmt: skip
"""Of attributes (RFC 2866 §5, RFC 2869 §5)."""


@dataclass(frozen=True)
class Packet:
    """An Accounting-Request (RFC 2866 §4.1)."""

    attributes: Mapping[str, int | str]

    def octets(self, identifier: int) -> bytes:
        """The packet, with its Request Authenticator."""
        values = {name: struct.pack(">I", v) if isinstance(v, int) else v.encode() for name, v in self.attributes.items()}
        attributes = b"".join(bytes([NUMBERS[name], 2 + len(value)]) + value for name, value in values.items())
        head = struct.pack(">BBH", 4, identifier, 20 + len(attributes))
        return head + hashlib.md5(head + bytes(16) + attributes + SECRET).digest() + attributes

    def with_more(self, **more: int) -> Packet:
        return Packet({**self.attributes, **{name.replace("_", "-"): value for name, value in more.items()}})


START, STOP, INTERIM, ACCOUNTING_ON = 1, 2, 3, 7

# Sessions


@dataclass
class Session:
    """What a line truly used in a session, in quarters of an hour, and the packets that say so.

    ``used`` has octets up and down of each quarter; what was used after the last one reported is ``unreported``.
    """

    line: str
    begun: datetime
    used: Sequence[tuple[int, int]]
    session: str = "00000001"
    node: str = "bng-1"
    is_wide: bool = True
    unreported: tuple[int, int] = (0, 0)

    def packet(self, status: int, quarters: int, has_octets: bool = True) -> Packet:
        """What the counters say after some quarters."""
        said: dict[str, int | str] = {
            "User-Name": self.line, "NAS-Identifier": self.node, "NAS-Port": 7,
            "Acct-Session-Id": self.session, "Acct-Status-Type": status,
            "Acct-Session-Time": quarters * QUARTER_S, "Event-Timestamp": int((self.begun + quarters * QUARTER).timestamp()),
        }  # fmt: skip
        for way, name in enumerate(("Input", "Output") if has_octets else ()):
            counter = sum(octets[way] for octets in self.used[:quarters])
            said[f"Acct-{name}-Octets"] = counter % GIGAWORD
            said[f"Acct-{name}-Packets"] = -(-counter // 1_000)
            if self.is_wide:
                said[f"Acct-{name}-Gigawords"] = counter // GIGAWORD
        return Packet(said)

    @property
    def packets(self) -> list[Packet]:
        """Start, interims and stop."""
        whole = len(self.used)
        return [self.packet(START, 0), *(self.packet(INTERIM, quarter) for quarter in range(1, whole)), self.packet(STOP, whole)]

    def octets_until(self, end: datetime) -> tuple[int, int]:
        """Octets up and down until an instant; within a quarter, they were used evenly."""
        sums = [0, 0]
        for quarter, used in enumerate([*self.used, self.unreported]):
            inside = min(max((end - self.begun - quarter * QUARTER).total_seconds(), 0), QUARTER_S)
            for way in (0, 1):
                sums[way] += used[way] * int(inside) // QUARTER_S
        return sums[0], sums[1]


@dataclass
class Played:
    """Sessions by the name of what happened to each, and what was sent of them."""

    sessions: dict[str, list[Session]] = field(default_factory=dict)
    packets: list[Packet] = field(default_factory=list)

    def add(self, what: str, session: Session, packets: Sequence[Packet]) -> None:
        self.sessions.setdefault(what, []).append(session)
        self.packets += packets


def played(chance: random.Random) -> Played:
    """Sessions over the month's end, several for each thing that happens."""
    found = Played()
    for number in range(4):
        before = QUARTER * chance.randrange(4, 30)
        at = MONTH_END - before - timedelta(seconds=chance.choice((0, 60, 450)))
        lasts = before // QUARTER + chance.randrange(3, 12)

        def one(
            what: str, most: int = 1 << 20, number: int = number, at: datetime = at, lasts: int = lasts, **more: Any
        ) -> Session:
            used = [(QUARTER_S * chance.randrange(1 << 8), QUARTER_S * chance.randrange(most // QUARTER_S)) for _ in range(lasts)]
            return Session(f"{what}-{number}", at, used, f"{number:08X}", **more)

        sound = one("sound")
        found.add("sound", sound, sound.packets)
        wide = one("gigawords", most=1 << 36)
        found.add("gigawords", wide, wide.packets)
        narrow = one("wrap", most=3 << 30, is_wide=False)
        found.add("wrap", narrow, narrow.packets)
        again = one("retransmitted")
        late = [packet.with_more(Acct_Delay_Time=delay) for packet in again.packets for delay in (0, 5, 15)]
        found.add("retransmitted", again, late)
        early = one("interim-after-stop")
        stopped = early.packet(INTERIM, len(early.used))
        after = {name: int(stopped.attributes[name]) + 30 for name in ("Acct-Session-Time", "Event-Timestamp")}
        found.add("interim-after-stop", early, [*early.packets, Packet({**stopped.attributes, **after})])
        mute = one("stop-without-octets")
        found.add("stop-without-octets", mute, [*mute.packets[:-1], mute.packet(STOP, len(mute.used), has_octets=False)])
        lost = one("missing-stop", at=MONTH_END - timedelta(hours=20), lasts=8, unreported=(900, 9_000))
        found.add("missing-stop", lost, [*lost.packets[:-1], lost.packet(INTERIM, 8)])

        # The element begins anew: the session ends without a stop, and its id is used again on the same port.
        line = {"node": "bng-2", "lasts": 8, "unreported": (900, 9_000)}
        first = one("reused-id", at=MONTH_END - timedelta(hours=10), **line)
        second = one("reused-id", at=MONTH_END - timedelta(hours=7), **{**line, "lasts": 40, "unreported": (0, 0)})
        found.add("reset", first, [first.packet(START, 0), *(first.packet(INTERIM, quarter) for quarter in range(1, 9))])
        found.add("reused-id", second, second.packets)
    restart = int((MONTH_END - timedelta(hours=7, minutes=30)).timestamp())
    found.packets.append(
        Packet({"NAS-Identifier": "bng-2", "Acct-Status-Type": ACCOUNTING_ON, "Acct-Session-Id": "0", "Event-Timestamp": restart})
    )
    return found


FLAGGED = {
    "stop-without-octets": "stop_without_octets",
    "missing-stop": "stop_is_missing",
    "reset": "stop_is_missing",
}
"""What cannot be known exactly."""


@pytest.fixture(scope="module", params=ZONES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Played, Path, CounterSource]:
    """What was played, in any order, the file the server wrote of it, and a source whose clock is the server's."""
    chance = random.Random(request.param)
    given = played(chance)
    chance.shuffle(given.packets)
    server = Server(tmp_path_factory.mktemp("freeradius") / "raddb", request.param)
    try:
        for packet in given.packets:
            server.send(packet)
    finally:
        server.close()
    return given, server.detail, source_in(request.param)


def source_in(zone: str) -> CounterSource:
    """The shipped source, of a server whose clock is in a zone."""
    source = read_source(PROJECT / "schemas" / "sources" / "bng_radius.toml")
    assert isinstance(source, CounterSource)
    return source.model_copy(update={"counters": source.counters.model_copy(update={"zone": zone})})


def test_every_packet_of_the_server_s_file_is_read_as_it_was_sent(written: tuple[Played, Path, CounterSource]):
    given, path, source = written

    found = read(path.read_bytes(), source.whitelist)

    assert found.refusal is None
    assert set(found.faults) == {None}
    assert len(found.packets) == len(given.packets)
    names = (
        "User-Name",
        "Acct-Session-Id",
        "Acct-Input-Octets",
        "Acct-Output-Octets",
        "Acct-Output-Gigawords",
        "Acct-Session-Time",
    )
    for sent, row in zip(given.packets, found.sound, strict=True):
        assert {name: row[name] for name in names if name in row} == {
            name: str(sent.attributes[name]) for name in names if name in sent.attributes
        }
    assert found.octets[3] == 0


def test_readings_have_the_times_of_the_packets_in_any_zone_and_retransmissions_count_once(
    written: tuple[Played, Path, CounterSource],
):
    given, path, source = written
    told: list[str] = []

    readings, unread = read_readings(source, [str(path)], told.append)

    expected = {
        (p.attributes["Event-Timestamp"], p.attributes["Acct-Status-Type"], p.attributes.get("User-Name")) for p in given.packets
    }
    rows = pa.concat_tables(readings.tables)
    assert unread == []
    assert "rejected" not in told[0]
    assert rows.num_rows == len({str(sorted(packet.with_more(Acct_Delay_Time=0).attributes.items())) for packet in given.packets})
    assert {int(at.timestamp()) for at in rows["closed_at"].to_pylist()} == {at for at, _, _ in expected}


def month_of(first: date) -> Any:
    from jobs.legal_calendar import Month

    return Month(first, *bounds(first, ZoneInfo("Europe/Paris")), "Europe/Paris")


@pytest.mark.spark
def test_volumes_of_both_months_come_back_exactly_or_with_a_bound_that_holds_the_truth(
    spark, written: tuple[Played, Path, CounterSource]
):
    from jobs.counters import Limits, carried_over, deltas

    given, path, source = written
    found, _ = read_readings(source, [str(path)], lambda line: None)
    rows = spark.createDataFrame(pa.concat_tables(found.tables), READINGS.spark_schema).persist()
    readings, resets = rows.where("status <> 'reset'"), rows.where("status = 'reset'")
    limits = {source.name: Limits(source.fastest_octets_per_s, 1_500, source.counters.silent_after_s)}
    october, november = month_of(date(2026, 10, 1)), month_of(date(2026, 11, 1))
    first = deltas(readings, resets, None, limits, october, 1).persist()
    carried = carried_over(first, None, resets, october, 1).persist()
    second = deltas(readings.where(readings["closed_at"] >= october.end), resets, carried, limits, november, 1)
    names = {(n["file_number"], n["record_ordinal"]): n["identifier"] for batch in found.named for n in batch.to_pylist()}
    flagged = set[tuple[str, str]]()
    sessions = {(s.line, int(s.begun.timestamp())): (what, s) for what, each in given.sessions.items() for s in each}

    for frame, begin, end in (
        (first, datetime(2026, 9, 30, 22, tzinfo=UTC), MONTH_END),
        (second, MONTH_END, MONTH_END + timedelta(days=30)),
    ):
        counted, reasons, unknown = Counter[Any](), dict[Any, set[str]](), Counter[Any]()
        for row in frame.selectExpr("*", "unix_seconds(started_at) AS start").toArrow().to_pylist():
            key = (names[row["file_number"], row["record_ordinal"]], row["start"])
            counted.update({(key, "up"): row["octets_up"], (key, "down"): row["octets_down"]})
            unknown[key] += row["octets_unknown_at_most"]
            reasons.setdefault(key, set()).update([row["reason"]] if row["reason"] else [])
        assert set(reasons) <= set(sessions)
        for key, (what, session) in sessions.items():
            truth = [whole - before for whole, before in zip(session.octets_until(end), session.octets_until(begin), strict=True)]
            missing = [true - counted[key, way] for true, way in zip(truth, ("up", "down"), strict=True)]
            if reasons.get(key):
                flagged.add((what, session.line))
                assert reasons[key] == {FLAGGED[what]}, what
                assert min(missing) >= 0, what
                assert sum(missing) <= unknown[key], what
            else:
                assert missing == [0, 0], f"{what}, to {end}: {missing} of {truth}"
    assert flagged == {(what, session.line) for what, each in given.sessions.items() if what in FLAGGED for session in each}


@pytest.mark.spark
@pytest.mark.parametrize("zone", ZONES)
def test_without_event_timestamp_the_arrival_less_the_delay_counts(spark, tmp_path: Path, zone: str):
    now = datetime.now(UTC).replace(microsecond=0)
    session = Session("line-1", now - 8 * QUARTER, [(900 * n, 1_800 * n) for n in range(1, 9)])
    packets = []
    for packet in session.packets:
        delay = int(now.timestamp()) - int(packet.attributes["Event-Timestamp"])
        packets.append(
            Packet({name: v for name, v in packet.attributes.items() if name != "Event-Timestamp"} | {"Acct-Delay-Time": delay})
        )
    server = Server(tmp_path / "raddb", zone)
    try:
        for packet in [*reversed(packets), packets[0]]:
            server.send(packet)
    finally:
        server.close()
    lines: list[str] = []

    decode_counters(source_in(zone), [str(server.detail)], True, lambda: spark, lines.append, lambda line: None)

    assert b"Event-Timestamp" not in server.detail.read_bytes()
    intervals = sorted((json.loads(line) for line in lines), key=lambda interval: interval["closed_at"])
    assert [(i["octets_up"], i["octets_down"]) for i in intervals if i["octets_down"]] == session.used
    assert {i["is_estimated"] for i in intervals} == {False}
    for quarters, interval in enumerate((i for i in intervals if i["octets_down"]), start=1):
        late = datetime.fromisoformat(interval["closed_at"]) - (session.begun + quarters * QUARTER)
        assert timedelta(0) <= late <= timedelta(seconds=30)
