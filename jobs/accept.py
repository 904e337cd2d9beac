"""accept: read deliveries into the lake, batch by batch. Every record becomes accepted, duplicate, rejected or out of scope.

A batch is written ahead, then appended to its tables under its number (so a retry is skipped), then committed; until then
its rows exist for nobody. The balance of every file is checked before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from heapq import heapreplace
from itertools import accumulate, groupby
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import functions as F

from jobs import counts, outcomes, repeats
from jobs.batches import AsOf, Batch, latest, read_batches, visible
from jobs.data_files import DataFile, TableWriter, remove_data_files
from jobs.files import COMPRESSES, has_parts, is_compressed, parts_of, read_records
from jobs.key_beginnings import Met
from jobs.lake import Lake, meeting, versions
from jobs.land import Delivery, contents_that_count, place_of, read_deliveries, register_again
from jobs.pseudonyms import IDENTIFIER_KEY, SERVING_KEY
from jobs.readers.block import WHOLE, Block, NodeDay, Part, ReadFault, Tally, count_warning
from jobs.run import Refused, code_version
from jobs.spark import said_by_tasks
from jobs.steps import begin
from jobs.workplace import Workplace
from schemas.source import CounterSource, Source, SubscriptionSource
from schemas.table import Table
from schemas.tables import ACCEPTED, BATCHES, FILE_BALANCES, READINGS, REJECTED, SEQUENCES, SUBSCRIPTIONS

BATCH_OCTETS = 32 << 30
TASK_OCTETS = 128 << 20
SMALLEST_PART_OCTETS = 4 << 20
"""A part of a file is no smaller: each is opened apart, and looking for the parts is a task, too."""
_DRIVER_OCTETS = 256 << 20
"""Of large files, decompressed, that the driver looks through itself for their parts."""
_PARTS_OF_TASK = 6
"""A file that is more than a task reads comes in parts of which so many are one, so that tasks become alike."""
_LITTLE_OCTETS = 256 << 20
"""Of a batch, decompressed, whose records are of few days, or so few that it does not matter which data file they are in."""
_FILLED = {"usage": ACCEPTED, "counters": READINGS, "subscriptions": SUBSCRIPTIONS}
"""The table that each kind of source fills."""
_TABLES = (ACCEPTED, READINGS, REJECTED, SUBSCRIPTIONS, FILE_BALANCES, SEQUENCES)


@dataclass(frozen=True)
class Done:
    """A batch that was committed: the balances of its files, and why files could not be read to their end, by file number."""

    number: int
    balances: Sequence[Mapping[str, Any]]
    faults: Mapping[int, str]


def accept(workplace: Workplace) -> list[Done]:
    """Finish a batch that was cut short, then read every pending delivery. Return what was committed.

    Raises:
        Refused: a file's balance does not close; nothing of its batch was written.
    """
    done = []
    while batch := _unfinished(workplace) or _plan(workplace):
        done.append(_run_batch(workplace, batch))
    return done


def reaccept(workplace: Workplace, delivery: Delivery, reason: str) -> int:
    """Withdraw what a file holds and read it anew, with the files that hold duplicates of it. Return the batch.

    Raises:
        Refused: a file that must be read again is no longer in the landing folder.
    """
    accept(workplace)
    delivery = register_again(workplace.lake, workplace.settings.landing, workplace.sources, delivery, workplace.now())
    batches, deliveries = read_batches(workplace.lake), read_deliveries(workplace.lake)
    pending, withdrawn = due(batches, deliveries)
    read = _read_so_far(batches, deliveries)
    if delivery.content in read:
        pending, withdrawn = [*pending, delivery], [*withdrawn, read[delivery.content]]
    batch = _write_ahead(workplace, pending, withdrawn, reason)
    _run_batch(workplace, batch)
    return batch.number


def _unfinished(workplace: Workplace) -> Batch | None:
    return next((batch for batch in read_batches(workplace.lake) if not batch.is_committed), None)


def due(batches: Sequence[Batch], deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[int]]:
    """What must be read and what withdrawn, so that each content that counts has been read once and no other counts.

    Returns:
        Deliveries to read, in their order, and deliveries whose rows cease to count.
    """
    counting, read = contents_that_count(deliveries), _read_so_far(batches, deliveries)
    pending = sorted((d for content, d in counting.items() if content not in read), key=lambda d: d.file_number)
    return pending, sorted(number for content, number in read.items() if content not in counting)


def _read_so_far(batches: Sequence[Batch], deliveries: Sequence[Delivery]) -> dict[tuple[str, str], int]:
    """Contents whose rows count, with the delivery they were read from."""
    numbers: set[int] = set()
    for batch in batches:
        numbers = numbers - set(batch.withdrawn_file_numbers) | set(batch.file_numbers)
    return {d.content: d.file_number for d in deliveries if d.file_number in numbers}


def _plan(workplace: Workplace) -> Batch | None:
    """The next batch: what must be withdrawn, and what must be read, in the order of delivery, up to BATCH_OCTETS."""
    pending, withdrawn = due(read_batches(workplace.lake), read_deliveries(workplace.lake))
    chosen: list[Delivery] = []
    for delivery in pending:
        if chosen and sum(d.size_octets for d in chosen) + delivery.size_octets > BATCH_OCTETS:
            break
        chosen.append(delivery)
    if not chosen and not withdrawn:
        return None
    return _write_ahead(workplace, chosen, withdrawn, "superseded by a later delivery" if withdrawn else None)


def _write_ahead(workplace: Workplace, chosen: Sequence[Delivery], withdrawn: Sequence[int], reason: str | None) -> Batch:
    lake, numbers = workplace.lake, {delivery.file_number for delivery in chosen}
    batches = read_batches(lake)
    dependants = _holders_of_duplicates(lake, batches, withdrawn) - set(withdrawn) - numbers
    _require_files(workplace, dependants)
    batch = Batch(
        max((b.number for b in batches), default=0) + 1,
        False,
        tuple(sorted({*numbers, *dependants})),
        tuple(sorted({*withdrawn, *dependants})),
        reason,
        versions(lake, _TABLES),
    )
    _log(workplace, batch, "planned")
    return batch


def _holders_of_duplicates(lake: Lake, batches: Sequence[Batch], withdrawn: Sequence[int]) -> set[int]:
    """Deliveries with records that only count as duplicates because a withdrawn delivery held them too."""
    if not withdrawn:
        return set()
    rejected = visible(lake.read(REJECTED), batches, latest(batches))
    found = rejected.where(F.col("duplicate_of_file_number").isin(list(withdrawn))).select("file_number").distinct().collect()
    return {row.file_number for row in found}


def _require_files(workplace: Workplace, numbers: set[int]) -> None:
    for delivery in read_deliveries(workplace.lake):
        if delivery.file_number in numbers:
            place = place_of(workplace.settings.landing, delivery)
            try:
                next(read_records(place, delivery.size_octets, workplace.sources[delivery.source], Tally()), None)
            except ReadFault as fault:
                raise Refused(
                    f"{place} must be read again, since it holds duplicates of the withdrawn file, but {fault}"
                ) from None


def _log(workplace: Workplace, batch: Batch, state: str) -> None:
    row = {
        "batch": batch.number,
        "state": state,
        "file_numbers": list(batch.file_numbers),
        "withdrawn_file_numbers": list(batch.withdrawn_file_numbers),
        "reason": batch.reason,
        "base_versions": batch.base_versions,
        "code_version": code_version(),
        "written_at": workplace.now(),
    }
    workplace.lake.append_rows(BATCHES, [row])


def _run_batch(workplace: Workplace, batch: Batch) -> Done:
    lake = workplace.lake
    deliveries = {d.file_number: d for d in read_deliveries(lake) if d.file_number in batch.file_numbers}
    read = []
    for table in _FILLED.values():
        chosen = [d for d in deliveries.values() if _FILLED[workplace.sources[d.source].kind] is table]
        if chosen:
            read.append(_read(workplace, batch, chosen, table))
    balances = [row for reading in read for row in reading.balances(lake, deliveries, batch)]
    for reading in read:
        lake.commit(reading.table, reading.accepted, batch.number)
    if read:  # a batch may only withdraw
        lake.commit(REJECTED, [file for reading in read for file in reading.rejected], batch.number)
        lake.append_rows(FILE_BALANCES, balances, batch.number)
        sequences = [row for reading in read for row in reading.completeness(batch)]
        if sequences:
            lake.append_rows(SEQUENCES, sequences, batch.number)
    _log(workplace, batch, "committed")
    return Done(batch.number, balances, {number: fault for reading in read for number, fault in reading.faults.items()})


def _read(workplace: Workplace, batch: Batch, deliveries: Sequence[Delivery], table: Table) -> _Reading:
    """Read deliveries into data files that are not yet part of the tables, without what was received before."""
    lake = workplace.lake
    reading = _Reading(table, {delivery.file_number: delivery.source for delivery in deliveries})
    for found in _read_files(workplace, batch, _tasks(workplace, deliveries), table):
        reading.add(found)
    of_its_time = {"closed_at": span} if (span := reading.span) else {}
    before = lake.paths(table, of_its_time, json.loads(batch.base_versions)[table.name])
    batches = [*(b for b in read_batches(lake) if b.number < batch.number), replace(batch, is_committed=True)]
    visible = AsOf(lake, batches, batch.number).visible

    def counting(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return visible.rows(rows) & meeting(rows, of_its_time)

    for rewritten in repeats.remove(lake, table, reading.accepted, before, counting, lake.path(REJECTED)):
        reading.replace(rewritten)
    remove_data_files(lake.path(table), reading.replaced)
    return reading


@dataclass(frozen=True)
class _Work:
    """A file, or a part of one, to be read by one task."""

    file_number: int
    source: str
    place: str
    size_octets: int
    part: Part = WHOLE

    @property
    def octets(self) -> int:
        """Octets to read, of a compressed file as it lies or, in parts, as they are decompressed."""
        return (self.part.end_octet or self.size_octets) - self.part.begin_octet

    @property
    def weight(self) -> int:
        """About as many octets, decompressed."""
        return self.octets * (COMPRESSES if self.part == WHOLE and is_compressed(self.place) else 1)


def _tasks(workplace: Workplace, deliveries: Sequence[Delivery]) -> list[list[_Work]]:
    """Files in groups of up to about TASK_OCTETS, alike: one group a Spark task.

    There are as many groups for each processor. A file that would keep one processor at work while others wait comes in parts;
    a compressed one in no more than there are processors for.
    """
    landing = workplace.settings.landing
    works = [_Work(d.file_number, d.source, place_of(landing, d), d.size_octets) for d in deliveries]
    share = max(1, sum(work.weight for work in works) // _parallelism(workplace))
    most = min(TASK_OCTETS, share)
    part_octets = max(most // _PARTS_OF_TASK, SMALLEST_PART_OCTETS)
    divisible = {
        work: -(-work.weight // share)
        for work in works
        if work.weight > max(share if is_compressed(work.place) else most // 2, part_octets)
        and has_parts(workplace.sources[work.source])
    }
    works = [work for work in works if work not in divisible] + _parts(workplace, divisible, part_octets)
    works.sort(key=lambda work: (work.file_number, work.part.begin_octet))
    total, parallelism = sum(work.weight for work in works), _parallelism(workplace)
    count = parallelism * max(1, round(total / (most * parallelism)))
    tasks = _alike(works, count) if total <= _LITTLE_OCTETS else _in_order(works, count)
    return sorted(tasks, key=lambda task: -sum(work.weight for work in task))


def _in_order(works: Sequence[_Work], count: int) -> list[list[_Work]]:
    """So many groups in the order of delivery.

    Files that follow each other hold the same days, so the data files that are written from them do, and a late file is compared
    with few of them.
    """
    total = max(1, sum(work.weight for work in works))
    middles = [end - work.weight / 2 for end, work in zip(accumulate(work.weight for work in works), works, strict=True)]
    of_task = groupby(zip(middles, works, strict=True), lambda placed: int(placed[0] * count / total))
    return [[work for _, work in placed] for _, placed in of_task]


def _alike(works: Sequence[_Work], count: int) -> list[list[_Work]]:
    """So many groups, or fewer, as alike as can be: the heaviest first, each to who has least. Within a group the order stays."""
    loads, group_of = [(0, group) for group in range(count)], {}
    for work in sorted(works, key=lambda work: -work.weight):
        load, group_of[work] = loads[0]
        heapreplace(loads, (load + work.weight, group_of[work]))
    groups: dict[int, list[_Work]] = {}
    for work in works:
        groups.setdefault(group_of[work], []).append(work)
    return [*groups.values()]


def _parallelism(workplace: Workplace) -> int:
    return int(workplace.lake.spark.sparkContext.defaultParallelism)


def _parts(workplace: Workplace, divisible: Mapping[_Work, int], part_octets: int) -> list[_Work]:
    """Large files in parts of about so many octets, from boundary to boundary; each file is looked through at one go.

    Args:
        workplace: where the files lie.
        divisible: the files, and in how many parts each one comes if it is compressed.
        part_octets: about how large a part of the others is.
    """
    if not divisible:
        return []
    sources, files, most = dict(workplace.sources), list(divisible), list(divisible.values())

    def look(number: int) -> Iterator[pa.RecordBatch]:
        file = files[number]
        parts = parts_of(file.place, file.size_octets, sources[file.source], part_octets, most[number])
        yield pa.RecordBatch.from_pylist([{"file": number, **vars(part)} for part in parts], _PARTS)

    is_little = sum(file.weight for file in files) <= _DRIVER_OCTETS
    found = begin(workplace.lake.spark, is_little, len(files), look, _PARTS).rows().to_pylist()
    return [replace(files[row.pop("file")], part=Part(**row)) for row in found]


_PARTS = pa.schema([(name, pa.int64()) for name in ("file", "begin_octet", "end_octet", "first_ordinal")])


def _read_files(
    workplace: Workplace, batch: Batch, tasks: Sequence[Sequence[_Work]], table: Table
) -> Iterator[Mapping[str, Any]]:
    """Read files on the workers, and write what becomes of their records into data files.

    Yields:
        For each task its data files of ``accepted`` and ``rejected``, and a tally of each file or part of one.
    """
    sources, legal, keys = dict(workplace.sources), workplace.settings.legal_timezone.key, dict(workplace.keys)
    number, path = batch.number, workplace.lake.path
    accepted, rejected = path(table), path(REJECTED)

    def read(task: int) -> str:
        writers = {"accepted": TableWriter(table, accepted, Met()), "rejected": TableWriter(REJECTED, rejected)}
        tallies = []
        for work in tasks[task]:
            policy = outcomes.Policy(ZoneInfo(legal), keys[IDENTIFIER_KEY], keys[SERVING_KEY])
            tallies.append([work.file_number, *_read_file(work, number, sources[work.source], policy, writers)])
        files = {kind: [file.as_json() for file in writer.close()] for kind, writer in writers.items()}
        return json.dumps(files | {"tallies": tallies}, default=int)

    yield from map(json.loads, said_by_tasks(workplace.lake.spark, len(tasks), read))


def _read_file(
    work: _Work, batch: int, source: Source, policy: outcomes.Policy, writers: Mapping[str, TableWriter]
) -> tuple[dict[str, Any], str | None]:
    """Read one file, or part of one, into the writers; give what was counted, and why it could not be read to its end."""
    place, tally, counts, unread = work.place, Tally(), outcomes.Counts(), None
    same = {"batch": batch, "source": work.source, "file_number": work.file_number, "is_conflicting": False}
    try:
        for block in read_records(place, work.size_octets, source, tally, work.part):
            for columns in _decided(block, source, policy, counts):
                writers[columns["kind"][0].as_py()].write({**columns, **same})
    except ReadFault as fault:
        tally.octets = max(tally.octets, work.octets)
        tally.octets_quarantined += tally.octets - (
            tally.octets_header + tally.octets_records + tally.octets_padding + tally.octets_quarantined
        )
        unread = str(fault)
        whole_file = {"record_ordinal": [0], "byte_offset": 0, "reason": "unreadable_file", "detail": unread}
        writers["rejected"].write({**whole_file, **same})
    except Exception as error:  # noqa: BLE001 - a library's message may quote a subscriber's value
        raise ReadFault(f"{place}: {type(error).__name__} while reading: this is a defect, report it") from None
    return tally.as_json() | vars(counts), unread


def _decided(block: Block, source: Source, policy: outcomes.Policy, counts: outcomes.Counts) -> Iterator[dict[str, Any]]:
    """What becomes of the records of a block."""
    if isinstance(source, SubscriptionSource):
        return outcomes.subscription_outcomes(block, source, policy)
    if isinstance(source, CounterSource):
        from jobs.readings import reading_outcomes  # most sources have no counters

        return reading_outcomes(block, source, policy, counts)
    return outcomes.usage_outcomes(block, source, policy, counts)


@dataclass
class _Reading:
    """The files of one batch that fill one table: their data files, not yet part of the tables, and what was counted."""

    table: Table
    sources: Mapping[int, str]
    accepted: list[DataFile] = field(default_factory=list)
    rejected: list[DataFile] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    tallies: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What was counted of each file, its parts together."""
    duplicates: dict[int, dict[str, int]] = field(default_factory=dict)
    """Duplicates removed from each file: records and octets of volume."""
    faults: dict[int, str] = field(default_factory=dict)
    """Why files could not be read to their end."""

    def add(self, found: Mapping[str, Any]) -> None:
        """Take in what a task has read."""
        self.accepted += [DataFile(**file) for file in found["accepted"]]
        self.rejected += [DataFile(**file) for file in found["rejected"]]
        for number, part, fault in found["tallies"]:
            self.tallies[number] = _together(self.tallies.get(number), part)
            if fault:
                self.faults[number] = fault

    def replace(self, rewritten: Mapping[str, Any]) -> None:
        """Take in data files without their duplicates in the place of those with them."""
        self.replaced += rewritten["replaced"]
        self.accepted = [file for file in self.accepted if file.path not in rewritten["replaced"]]
        self.accepted += [DataFile(**file) for file in rewritten["accepted"]]
        self.rejected += [DataFile(**file) for file in rewritten["rejected"]]
        for number, counted in rewritten["duplicates"]:
            self.duplicates[number] = _together(self.duplicates.get(number), counted)

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """Earliest and latest close, from the statistics of the data files; null for assignments, which have none."""
        if self.table is SUBSCRIPTIONS or not self.accepted:
            return None
        least, most = ([file.statistics[end]["closed_at"] for file in self.accepted] for end in ("minValues", "maxValues"))
        return datetime.fromisoformat(min(least)).astimezone(UTC), datetime.fromisoformat(max(most)).astimezone(UTC)

    def balances(self, lake: Lake, deliveries: Mapping[int, Delivery], batch: Batch) -> list[dict[str, Any]]:
        """Balance rows of every file. Raises Refused, naming the first file whose balance does not close."""
        counted = self._counted(lake)
        rows = [_balance(deliveries[n], batch, tally, counted.get(n, {})) for n, tally in sorted(self.tallies.items())]
        for row in rows:
            _check_balance(row, deliveries[row["file_number"]])
        return rows

    def completeness(self, batch: Batch) -> list[dict[str, Any]]:
        """Rows of ``completeness``: the sequence numbers of every network element, by file and day."""
        together: dict[tuple[int, str, str], NodeDay] = {}
        for number, tally in self.tallies.items():
            for node, day, *found in tally["node_days"]:
                before, numbered = together.get((number, node, day)), NodeDay(*found)
                together[number, node, day] = before.with_more(numbered) if before else numbered
        return [
            {"batch": batch.number, "source": self.sources[number], "file_number": number, "node": node}
            | {"day": date.fromisoformat(day), **vars(numbered)}
            for (number, node, day), numbered in sorted(together.items())
        ]

    def _counted(self, lake: Lake) -> dict[int, dict[str, Any]]:
        """Records and octets by file and what became of them, counted from the data files that the workers wrote.

        Raises:
            LakeError: a row breaks a rule of its table.
        """
        # Counters are totals: what was used between them is known only when a month's are put in order.
        volume = "CAST(octets_up AS HUGEINT) + octets_down" if self.table is ACCEPTED else "0"
        closed = "NULL" if self.table is SUBSCRIPTIONS else "closed_at"
        accepted = {
            "accepted": ("sum", f"CASE WHEN {repeats.is_first_row(self.table)} THEN 1 ELSE 0 END"),
            "volume_accepted": ("sum", volume),
            "first_closed_at": ("min", closed),
            "last_closed_at": ("max", closed),
        }
        refused = {"rejected": ("sum", f"CASE WHEN record_ordinal > 0 AND reason <> '{repeats.DUPLICATE}' THEN 1 ELSE 0 END")}
        found: dict[int, dict[str, Any]] = {}
        for table, files, amounts in ((self.table, self.accepted, accepted), (REJECTED, self.rejected, refused)):
            for number, counted in counts.by_file(lake, table, files, amounts).items():
                found.setdefault(number, {}).update(counted)
        for number, counted in self.duplicates.items():
            found.setdefault(number, {}).update(counted)
        return found


def _together(one: Any, other: Any) -> Any:
    """Tallies of two parts of a file as one: numbers are added, what only one part says is kept."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        return {name: _together(one.get(name), other.get(name)) for name in {**one, **other}}
    return one + other


def _balance(delivery: Delivery, batch: Batch, tally: Mapping[str, Any], counted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "batch": batch.number,
        "source": delivery.source,
        "file_number": delivery.file_number,
        "records_received": tally["records"],
        **{name: tally[name] for name in ("records_declared", "records_lost")},
        "records_accepted": counted.get("accepted") or 0,
        "records_duplicate": counted.get("duplicate") or 0,
        "records_rejected": counted.get("rejected") or 0,
        "records_out_of_scope": sum(tally["out_of_scope"].values()),
        "out_of_scope_reasons": json.dumps({k: v for k, v in sorted(tally["out_of_scope"].items()) if v}),
        "octets_received": tally["octets"],
        **{name: tally[name] for name in ("octets_header", "octets_records", "octets_padding", "octets_quarantined")},
        "volume_parsed_octets": tally["volume_parsed_octets"],
        "volume_accepted_octets": counted.get("volume_accepted") or 0,
        "volume_duplicate_octets": counted.get("volume_duplicate") or 0,
        "volume_out_of_scope_octets": tally["volume_out_of_scope_octets"],
        "first_closed_at": counted.get("first_closed_at"),
        "last_closed_at": counted.get("last_closed_at"),
        "warnings": json.dumps(tally["warnings"] | count_warning(tally), sort_keys=True),
    }


def _check_balance(row: Mapping[str, Any], delivery: Delivery) -> None:
    """Raise Refused if records, octets or volume of a file are not all accounted for."""
    for total, parts in _IDENTITIES.items():
        if row[total] != sum(row[part] for part in parts):
            found = " + ".join(f"{part} {row[part]}" for part in parts)
            raise Refused(
                f"{delivery.source}/{delivery.file_name}: {total} is {row[total]}, but {found}: the balance does not close"
            )


_IDENTITIES = {
    "records_received": ("records_accepted", "records_duplicate", "records_rejected", "records_out_of_scope"),
    "octets_received": ("octets_header", "octets_records", "octets_padding", "octets_quarantined"),
    "volume_parsed_octets": ("volume_accepted_octets", "volume_duplicate_octets", "volume_out_of_scope_octets"),
}
