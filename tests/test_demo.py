"""The demo month, recounted from its files by a reader that shares nothing with the writer."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.demo import DemoSummary, generate
from schemas.source import read_sources

OCTOBER = date(2026, 10, 1)
PARIS = ZoneInfo("Europe/Paris")
SOURCES = read_sources(Path(__file__).parent.parent / "schemas" / "sources")
USAGE_SOURCES = ("pgw_pipe", "pgw_flattened", "fixed_deltas")

Octets = tuple[int, int]


@dataclass
class Recount:
    """What the files say, counted record by record."""

    month: date
    octets: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    counts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    suspects: list[set[str]] = field(default_factory=list)
    holders: defaultdict[tuple[str, str], list[tuple[datetime, datetime, str]]] = field(default_factory=lambda: defaultdict(list))
    activity: defaultdict[str, set[tuple[datetime, datetime]]] = field(default_factory=lambda: defaultdict(set))
    names: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def start(self) -> datetime:
        return datetime(self.month.year, self.month.month, 1, tzinfo=PARIS).astimezone(UTC)

    @property
    def end(self) -> datetime:
        after = (self.month + timedelta(days=31)).replace(day=1)
        return datetime(after.year, after.month, 1, tzinfo=PARIS).astimezone(UTC)

    def share(self, octets: int, opened: datetime, closed: datetime) -> int:
        """Octets of the month: an interval that straddles midnight of the 1st is split by elapsed seconds."""
        if closed <= self.start or opened >= self.end:
            return 0
        lasted = seconds(closed - opened)
        if opened < self.start:
            return octets - octets * seconds(self.start - opened) // lasted
        if closed > self.end:
            return octets * seconds(self.end - opened) // lasted
        return octets

    def holder(self, identifier: tuple[str, str], closed: datetime) -> str | None:
        found = [who for since, until, who in self.holders[identifier] if since <= closed < until]
        assert len(found) <= 1, f"{len(found)} holders"
        return found[0] if found else None

    def days(self, who: str) -> int:
        """Legal days with any moment of activity."""
        day, touched = self.start, 0
        while day < self.end:
            tomorrow = (day.astimezone(PARIS) + timedelta(days=1)).astimezone(UTC)
            touched += any(since < tomorrow and until > day for since, until in self.activity[who])
            day = tomorrow
        return touched

    def enter(self, source: str, identifier: tuple[str, str], closed: datetime, total: Octets, inside: Octets) -> None:
        who = self.holder(identifier, closed)
        self.counts[source]["subscriber_records" if who else "unknown_records"] += 1
        prefix = "subscriber" if who else "unknown"
        for direction, all_octets, octets_inside in zip(("up", "down"), total, inside, strict=True):
            self.counts[source][f"{prefix}_octets_{direction}"] += all_octets
            self.counts[source][f"{prefix}_octets_{direction}_in_month"] += octets_inside
        if who:
            self.octets[who][0] += inside[0]
            self.octets[who][1] += inside[1]

    def place(self, source: str, opened: datetime, closed: datetime) -> None:
        self.counts[source]["records_across_month_start"] += opened < self.start < closed
        self.counts[source]["records_across_month_end"] += opened < self.end < closed
        self.counts[source]["records_outside_month"] += closed <= self.start or opened >= self.end

    def enter_interval(self, source: str, identifier: tuple[str, str], when: tuple[datetime, datetime], total: Octets) -> None:
        opened, closed = when
        self.place(source, opened, closed)
        inside = (self.share(total[0], opened, closed), self.share(total[1], opened, closed))
        self.enter(source, identifier, closed, total, inside)

    def suspect(self, source: str, identifier: tuple[str, str] | None, volumes: list[bytes]) -> None:
        """A corrupt record; whoever may have held its identifier has lost octets, unless it says that there were none."""
        self.counts[source]["corrupt_records"] += 1
        if identifier and volumes != [b"0", b"0"]:
            self.suspects.append({who for _, _, who in self.holders[identifier]})


def seconds(elapsed: timedelta) -> int:
    assert elapsed.microseconds == 0
    return elapsed.days * 86_400 + elapsed.seconds


def octets_of(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return bytes(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd").read())
    return path.read_bytes()


def deliveries(landing: Path, source: str) -> list[tuple[int, Path]]:
    """Files by sequence number, each content once."""
    pattern = re.compile(str(SOURCES[source].files.sequence))
    numbered = []
    for path in (landing / source).iterdir():
        found = pattern.match(path.name)
        assert found, path.name
        numbered.append((int(found["sequence"]), path))
    by_hash = {hashlib.sha256(path.read_bytes()).digest(): (number, path) for number, path in sorted(numbered, reverse=True)}
    return sorted(by_hash.values())


def recount(landing: Path, month: date) -> Recount:
    counted = Recount(month)
    read_subscriptions(landing, counted)
    read_pipe(landing, counted)
    read_fixed(landing, counted)
    read_flattened(landing, counted)
    return counted


def read_subscriptions(landing: Path, counted: Recount) -> None:
    (path,) = (landing / "subscriptions").iterdir()
    forever = datetime(9999, 1, 1, tzinfo=UTC)
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            who, identifier = row["subscription_id"], (row["identifier_type"], row["identifier"])
            held_from, held_to, since, until = (
                datetime.fromisoformat(row[name]) if row[name] else forever
                for name in ("assigned_from", "assigned_to", "active_from", "active_to")
            )
            counted.holders[identifier].append((held_from, held_to, who))
            counted.activity[who].add((since, until))
            counted.names[who] = (row["network"], row["brand"])


def parse_pipe(line: bytes) -> tuple[list[str], datetime, datetime, Octets] | None:
    """Fields, interval, and octets up and down; nothing if the record is corrupt."""
    try:
        fields = line.decode().split("|")
        hours, minutes = int(fields[13][:3]), int(fields[13][0] + fields[13][3:])
        ahead = timedelta(hours=hours, minutes=minutes)
        opened = datetime.strptime(fields[6], "%Y%m%d%H%M%S").replace(tzinfo=UTC) - ahead
        lasted, down, up = (int(fields[position]) for position in (7, 8, 9))
    except (ValueError, IndexError):
        return None
    if len(fields) != 25 or min(lasted, down, up) < 0:
        return None
    return fields, opened, opened + timedelta(seconds=lasted), (up, down)


def read_pipe(landing: Path, counted: Recount) -> None:
    counts, by_key = counted.counts["pgw_pipe"], {}
    files = deliveries(landing, "pgw_pipe")
    late = {max(number for number, path in files if path.name.startswith(series)) for series in ("S4PGWB", "S4PGWM")}
    for number, path in files:
        content = octets_of(path)
        assert not content or content.endswith(b"\n")
        for line in content.split(b"\n")[:-1]:
            record = parse_pipe(line)
            if record is None:
                fields = line.split(b"|")
                identifier = ("imsi", fields[5].decode()) if len(fields) > 6 else None
                counted.suspect("pgw_pipe", identifier, fields[8:10])
                continue
            key = (record[0][0], record[0][24])
            counts["late_records"] += key not in by_key and number in late
            counts["duplicate_records"] += key in by_key and by_key[key][1] == line
            counts["conflicting_records"] += key in by_key and by_key[key][1] != line
            by_key[key] = (record, line)
    for record, _ in by_key.values():
        enter_pipe(counted, record)


def enter_pipe(counted: Recount, record: tuple[list[str], datetime, datetime, Octets]) -> None:
    fields, opened, closed, (up, down) = record
    counts = counted.counts["pgw_pipe"]
    counts["roaming_records"] += fields[0] == "RGP"
    counts["empty_records"] += up + down == 0
    out_of_scope = "inbound_roamer" if not fields[5].startswith("00101") else "ims" if fields[12] == "ims" else None
    if out_of_scope:
        counts[f"{out_of_scope}_records"] += 1
        counts[f"{out_of_scope}_octets_up"] += up
        counts[f"{out_of_scope}_octets_down"] += down
        counted.place("pgw_pipe", opened, closed)
        return
    counted.enter_interval("pgw_pipe", ("imsi", fields[5]), (opened, closed), (up, down))


def read_fixed(landing: Path, counted: Recount) -> None:
    counts, keys = counted.counts["fixed_deltas"], {}
    files = deliveries(landing, "fixed_deltas")
    for number, path in files:
        header, *lines = octets_of(path).split(b"\n")[:-1]
        assert header == b"line_id,interval_start,interval_end,octets_up,octets_down"
        for line in lines:
            fields = line.split(b",")
            record = parse_fixed(line)
            if record is None:
                identifier = ("line_id", fields[0].decode()) if len(fields) > 2 else None
                counted.suspect("fixed_deltas", identifier, fields[3:5])
                continue
            counts["duplicate_records"] += record[:2] in keys
            assert keys.setdefault(record[:2], record) == record
            counts["late_records"] += keys[record[:2]] is record and number == files[-1][0]
    for name, when, octets in keys.values():
        counts["empty_records"] += sum(octets) == 0
        counted.enter_interval("fixed_deltas", ("line_id", name), when, octets)


def parse_fixed(line: bytes) -> tuple[str, tuple[datetime, datetime], Octets] | None:
    try:
        ((name, start, end, up, down),) = csv.reader(io.StringIO(line.decode()))
        opened, closed = datetime.fromisoformat(start), datetime.fromisoformat(end)
        octets = (int(up), int(down))
    except ValueError:
        return None
    return (name, (opened, closed), octets) if opened < closed and min(octets) >= 0 else None


def read_flattened(landing: Path, counted: Recount) -> None:
    counts = counted.counts["pgw_flattened"]
    files = deliveries(landing, "pgw_flattened")
    for number, path in files:
        for row in pq.read_table(path).to_pylist():
            up, down = row["l_datavolumefbcuplink"], row["l_datavolumefbcdownlink"]
            counts["late_records"] += number == files[-1][0]
            counts["empty_records"] += up + down == 0
            closed = close_of(row)
            is_inside = counted.start <= closed < counted.end
            counts["records_outside_month"] += not is_inside
            if row["accesspointnameni"] == "ims":
                counts["ims_records"] += 1
                counts["ims_octets_up"] += up
                counts["ims_octets_down"] += down
                continue
            number_e164 = re.sub(r"^0(?=[1-9])", "33", row["mdn"])
            counted.enter("pgw_flattened", ("msisdn", number_e164), closed, (up, down), (up * is_inside, down * is_inside))


def close_of(row: dict[str, Any]) -> datetime:
    local = datetime.strptime(row["l_timeoflastusage"], "%Y%m%d%H%M%S").replace(tzinfo=PARIS)
    assert local.utcoffset() == local.replace(fold=1).utcoffset(), "the hour that comes twice"
    return local.astimezone(UTC)


def truth_of(summary: DemoSummary) -> list[dict[str, str]]:
    with summary.truth.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def hashes(landing: Path) -> dict[str, str]:
    files = [path for path in landing.rglob("*") if path.is_file()]
    return {str(path.relative_to(landing)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stated(row: dict[str, str]) -> tuple[str | int, ...]:
    numbers = (int(row[name]) for name in ("octets_up", "octets_down", "active_days"))
    return (row["network"], row["brand"], *numbers)


def assert_truth_is_what_the_files_say(summary: DemoSummary, landing: Path, month: date) -> Recount:
    counted, truth = recount(landing, month), truth_of(summary)
    expected = {
        who: (*names, *counted.octets[who], days) for who, names in counted.names.items() if (days := counted.days(who)) > 0
    }
    assert expected == {row["subscription_id"]: stated(row) for row in truth}
    unknowable = {row["subscription_id"] for row in truth if row["is_unknowable"] == "true"}
    assert all(unknowable & suspects for suspects in counted.suspects)
    assert unknowable <= set().union(*counted.suspects)
    return counted


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoSummary, Path]:
    landing = tmp_path_factory.mktemp("demo") / "landing"
    return generate(landing, OCTOBER, subscriptions=60, seed=7), landing


@pytest.fixture(scope="module")
def counted(demo: tuple[DemoSummary, Path]) -> Recount:
    return recount(demo[1], OCTOBER)


def test_the_same_arguments_give_the_same_octets(demo: tuple[DemoSummary, Path], tmp_path: Path) -> None:
    generate(tmp_path, OCTOBER, subscriptions=60, seed=7)
    assert hashes(tmp_path) == hashes(demo[1])


def test_another_seed_gives_another_month(demo: tuple[DemoSummary, Path], tmp_path: Path) -> None:
    generate(tmp_path, OCTOBER, subscriptions=60, seed=8)
    first, other = hashes(demo[1]), hashes(tmp_path)
    assert first.keys() == other.keys()
    # A file without records, as a series may have on a quiet day, cannot differ.
    assert len([name for name in first if first[name] == other[name]]) <= 2


@pytest.mark.parametrize(
    ("month", "subscriptions", "records_per_day"),
    [
        pytest.param(OCTOBER, 60, 6, id="October, with an hour twice"),
        pytest.param(date(2027, 3, 1), 61, 7, id="March, with an hour less, slots that do not fill the day"),
        pytest.param(date(2027, 2, 1), 20, 1, id="February, the smallest demo"),
        pytest.param(date(2026, 12, 1), 40, 48, id="December, records of half an hour"),
    ],
)
def test_the_truth_is_what_the_files_say(month: date, subscriptions: int, records_per_day: int, tmp_path: Path) -> None:
    summary = generate(tmp_path, month, subscriptions, 3, records_per_day)
    assert_truth_is_what_the_files_say(summary, tmp_path, month)


def test_the_truth_holds_across_chunks_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.demo.plan.CHUNK_RECORDS", 40 * 6)
    monkeypatch.setattr("jobs.demo.plan.FILE_RECORDS", 40 * 6)
    summary = generate(tmp_path, OCTOBER, subscriptions=170, seed=3)
    assert summary.files["fixed_deltas"] == 32 * 3 + 2
    assert_truth_is_what_the_files_say(summary, tmp_path, OCTOBER)


@pytest.mark.parametrize("source", USAGE_SOURCES)
def test_the_counts_are_what_the_files_say(source: str, demo: tuple[DemoSummary, Path], counted: Recount) -> None:
    counts = demo[0].counts[source]
    compared = counted.counts[source]
    assert compared == {name: counts[name] for name in compared}
    assert {"late_records", "unknown_records", "unknown_octets_up_in_month", "empty_records"} <= compared.keys()


@pytest.mark.parametrize("source", USAGE_SOURCES)
def test_every_record_is_counted(source: str, demo: tuple[DemoSummary, Path]) -> None:
    counts, landing = demo[0].counts[source], demo[1]
    if source == "pgw_flattened":
        written = sum(pq.read_metadata(path).num_rows for path in (landing / source).iterdir())
    else:
        header = source == "fixed_deltas"
        written = sum(octets_of(path).count(b"\n") - header for path in (landing / source).iterdir())
    named = ("distinct", "duplicate", "conflicting", "corrupt", "redelivered")
    assert written == counts["records"] == sum(counts.get(f"{name}_records", 0) for name in named)
    kinds = ("subscriber", "unknown", "inbound_roamer", "ims")
    assert counts["distinct_records"] == sum(counts[f"{name}_records"] for name in kinds)


@pytest.mark.parametrize(
    ("source", "occurrence"),
    [
        *(("pgw_pipe", name) for name in ("roaming", "inbound_roamer", "ims", "conflicting", "duplicate", "late", "unknown")),
        *(("pgw_flattened", name) for name in ("ims", "late", "unknown")),
        *(("fixed_deltas", name) for name in ("duplicate", "late", "unknown")),
        *((source, name) for source in ("pgw_pipe", "fixed_deltas") for name in ("corrupt", "empty", "redelivered")),
    ],
)
def test_it_occurs(source: str, occurrence: str, demo: tuple[DemoSummary, Path]) -> None:
    assert demo[0].counts[source][f"{occurrence}_records"] > 0


@pytest.mark.parametrize("source", ["pgw_pipe", "fixed_deltas"])
def test_records_straddle_both_month_ends(source: str, demo: tuple[DemoSummary, Path]) -> None:
    counts = demo[0].counts[source]
    assert counts["records_across_month_start"] > 0
    assert counts["records_across_month_end"] > 0


@pytest.mark.parametrize(("source", "kinds"), [("pgw_pipe", 8), ("fixed_deltas", 8)])
def test_every_kind_of_corruption_occurs(source: str, kinds: int, demo: tuple[DemoSummary, Path]) -> None:
    other = ("corrupt_records", "corrupt_octets_up", "corrupt_octets_down")
    named = {name: n for name, n in demo[0].counts[source].items() if name.startswith("corrupt_") and name not in other}
    assert len(named) == kinds
    assert sum(named.values()) == demo[0].counts[source]["corrupt_records"]


def test_identifiers_move_without_a_gap_or_an_overlap(counted: Recount) -> None:
    moved = {name: sorted(held) for name, held in counted.holders.items() if len({who for _, _, who in held}) > 1}
    assert {name[0] for name in moved} == {"imsi", "msisdn", "line_id"}
    for (_, ended, giver), (begun, _, taker) in moved.values():
        assert ended == begun
        assert giver != taker
        assert counted.octets[giver] != [0, 0] != counted.octets[taker]


def test_activity_has_holes_activations_and_terminations(counted: Recount) -> None:
    first = [min(since for since, _ in stretches) for stretches in counted.activity.values()]
    last = [max(until for _, until in stretches) for stretches in counted.activity.values()]
    assert any(len(stretches) == 2 for stretches in counted.activity.values())
    assert any(counted.start < since for since in first)
    assert any(until < counted.end for until in last)


def test_a_subscription_has_two_identifiers_of_a_type_at_once(counted: Recount) -> None:
    held = Counter((name[0], who, since) for name, rows in counted.holders.items() for since, _, who in rows)
    assert {name for (name, _, _), identifiers in held.items() if identifiers == 2} == {"imsi", "line_id"}


def test_some_subscriptions_use_nothing(demo: tuple[DemoSummary, Path]) -> None:
    idle = {row["network"] for row in truth_of(demo[0]) if row["octets_up"] == row["octets_down"] == "0"}
    assert idle == {"fixed", "mobile"}


@pytest.mark.parametrize("source", USAGE_SOURCES)
def test_files_are_named_as_the_source_declares_and_numbered_without_a_gap(source: str, demo: tuple[DemoSummary, Path]) -> None:
    numbers = defaultdict(list)
    for path in (demo[1] / source).iterdir():
        assert fnmatch.fnmatch(path.name, SOURCES[source].files.pattern)
        found = re.match(str(SOURCES[source].files.sequence), path.name)
        assert found
        numbers[found["series"]].append(int(found["sequence"]))
    for series in numbers.values():
        assert sorted(series) == list(range(min(series), max(series) + 1))


def test_the_files_of_the_next_month_continue_the_numbers(demo: tuple[DemoSummary, Path], tmp_path: Path) -> None:
    generate(tmp_path, date(2026, 11, 1), subscriptions=20, seed=7, records_per_day=1)
    last = max(path.name.removesuffix(".gz") for path in (demo[1] / "pgw_pipe").glob("S4PGWM*"))
    first = min(path.name.removesuffix(".gz") for path in (tmp_path / "pgw_pipe").glob("S4PGWM*"))
    assert int(first[-6:]) == int(last[-6:]) + 1


def test_no_file_is_left_unfinished(demo: tuple[DemoSummary, Path]) -> None:
    assert not list(demo[1].rglob("*.part"))
    assert {path.name for path in demo[1].iterdir() if path.is_file()} == {"truth_2026-10.csv", "truth_2026-10.json"}


def test_the_counts_are_beside_the_truth(demo: tuple[DemoSummary, Path]) -> None:
    assert json.loads(demo[0].truth_counts.read_text())["sources"] == demo[0].counts


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    reported = []
    generate(tmp_path, OCTOBER, 20, 1, 1, progress=lambda what, done, total: reported.append((what, done, total)))
    assert reported == [("usage records", done, 32) for done in range(1, 33)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"month": date(2026, 10, 2)}, "2026-10-02"),
        ({"subscriptions": 19}, "subscriptions is 19"),
        ({"records_per_day": 0}, "records_per_day is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        generate(tmp_path / "landing", **{"month": OCTOBER, "subscriptions": 20, "seed": 1, **arguments})
    assert not (tmp_path / "landing").exists()


MEASURE = """
import sys
from datetime import date
from pathlib import Path
from jobs.demo import generate
generate(Path(sys.argv[1]), date(2026, 10, 1), int(sys.argv[2]), 1)
(peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of the memory is read from /proc")
def test_memory_does_not_grow_with_the_subscriptions(tmp_path: Path) -> None:
    def peak_kilobytes(subscriptions: int) -> int:
        command = [sys.executable, "-c", MEASURE, str(tmp_path / str(subscriptions)), str(subscriptions)]
        root = Path(__file__).parent.parent
        return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout)

    assert peak_kilobytes(60_000) < peak_kilobytes(20_000) + 40_000
