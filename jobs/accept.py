"""accept: read deliveries into the lake, batch by batch. Every record becomes accepted, duplicate, rejected or out of scope.

A batch is written ahead, then appended to its tables under its number (so a retry is skipped), then committed; until then
its rows exist for nobody. The balance of every file is checked before anything is written.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import outcomes
from jobs.batches import Batch, latest, read_batches, visible
from jobs.files import has_parts, parts_of, read_records
from jobs.lake import Lake, collected, versions
from jobs.land import Delivery, contents_that_count, place_of, read_deliveries, register_again
from jobs.pseudonyms import IDENTIFIER_KEY, SERVING_KEY
from jobs.readers.block import WHOLE, NodeDay, Part, ReadFault, Tally, count_warning
from jobs.run import Refused, code_version
from jobs.workplace import Workplace
from schemas.source import Source, SubscriptionSource, UsageSource
from schemas.table import Table
from schemas.tables import ACCEPTED, BATCHES, COMPLETENESS, FILE_BALANCES, REJECTED, SUBSCRIPTIONS

BATCH_OCTETS = 32 << 30
TASK_OCTETS = 128 << 20
_POSITION = ("file_number", "record_ordinal", "interval_index", "month_part", "keys_part")
_TABLES = (ACCEPTED, REJECTED, SUBSCRIPTIONS, FILE_BALANCES, COMPLETENESS)


def accept(workplace: Workplace) -> list[int]:
    """Finish a batch that was cut short, then read every pending delivery. Return the batches committed.

    Raises:
        Refused: a file's balance does not close; nothing of its batch was written.
    """
    done = []
    while batch := _unfinished(workplace) or _plan(workplace):
        _run_batch(workplace, batch)
        done.append(batch.number)
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
    workplace.lake.append(BATCHES, workplace.lake.rows(BATCHES, [row]))


def _run_batch(workplace: Workplace, batch: Batch) -> None:
    deliveries = {d.file_number: d for d in read_deliveries(workplace.lake) if d.file_number in batch.file_numbers}
    usage = [d for d in deliveries.values() if isinstance(workplace.sources[d.source], UsageSource)]
    subscriptions = [d for d in deliveries.values() if d not in usage]
    read = [
        _read(workplace, batch, chosen, table, schema)
        for chosen, table, schema in (
            (usage, ACCEPTED, outcomes.USAGE_OUTCOMES),
            (subscriptions, SUBSCRIPTIONS, outcomes.SUBSCRIPTION_OUTCOMES),
        )
        if chosen
    ]
    balances = [row for reading in read for row in reading.balances(deliveries, batch)]
    for reading in read:
        workplace.lake.append(reading.table, reading.accepted(batch), batch.number)
    if read:  # a batch may only withdraw
        rejected = functools.reduce(DataFrame.unionByName, [reading.rejected(batch) for reading in read])
        workplace.lake.append(REJECTED, rejected, batch.number)
        workplace.lake.append(FILE_BALANCES, workplace.lake.rows(FILE_BALANCES, balances), batch.number)
        sequences = [row for reading in read for row in reading.completeness(batch)]
        if sequences:
            workplace.lake.append(COMPLETENESS, workplace.lake.rows(COMPLETENESS, sequences), batch.number)
    _log(workplace, batch, "committed")
    for reading in read:
        reading.release()


def _read(workplace: Workplace, batch: Batch, deliveries: Sequence[Delivery], table: Table, schema: pa.Schema) -> _Reading:
    lake = workplace.lake
    frame = read_files(lake.spark, _tasks(workplace, deliveries), workplace, schema).persist()
    base = json.loads(batch.base_versions)
    batches = [*(b for b in read_batches(lake) if b.number < batch.number), replace(batch, is_committed=True)]
    existing = visible(lake.read(table, base[table.name]), batches, batch.number)
    candidates = frame.where("kind = 'accepted'").withColumn("content_hash", content_hash(table))
    if table is ACCEPTED:
        (span,) = collected(frame.agg(F.min("closed_at").alias("first"), F.max("closed_at").alias("last")))
        existing = existing.where(F.col("closed_at").between(F.lit(span.first), F.lit(span.last)))
    repeats = find_repeats(candidates.where("record_key IS NOT NULL"), existing, table).persist()
    names = {delivery.file_number: delivery.source for delivery in deliveries}
    return _Reading(table, frame, candidates.transform(_with_repeats, repeats, table), repeats, names)


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
        """Octets to read."""
        return (self.part.end_octet or self.size_octets) - self.part.begin_octet


def _tasks(workplace: Workplace, deliveries: Sequence[Delivery]) -> list[list[_Work]]:
    """Files in groups of about TASK_OCTETS, the largest first: one group a Spark task. Large files come in parts."""
    landing = workplace.settings.landing
    works = [_Work(d.file_number, d.source, place_of(landing, d), d.size_octets) for d in deliveries]
    divisible = [w for w in works if w.octets > 2 * TASK_OCTETS and has_parts(workplace.sources[w.source], w.place)]
    works = [work for work in works if work not in divisible] + _parts(workplace, divisible)
    tasks: list[list[_Work]] = []
    room = 0
    for work in sorted(works, key=lambda w: (-w.octets, w.file_number, w.part.begin_octet)):
        if not tasks or room < work.octets:
            tasks.append([])
            room = min(TASK_OCTETS, max(1, sum(w.octets for w in works) // 4))
        tasks[-1].append(work)
        room -= work.octets
    return tasks


def _parts(workplace: Workplace, files: Sequence[_Work]) -> list[_Work]:
    """Large files in parts of about TASK_OCTETS, from boundary to boundary; each file is looked through by one task."""
    if not files:
        return []
    sources, part_octets = dict(workplace.sources), TASK_OCTETS

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for place in batch.column(0).to_pylist():
                file = files[place]
                parts = parts_of(file.place, file.size_octets, sources[file.source], part_octets)
                yield pa.RecordBatch.from_pylist([{"file": place, **vars(part)} for part in parts], _PARTS)

    found = workplace.lake.spark.range(0, len(files), 1, len(files)).mapInArrow(look, from_arrow_schema(_PARTS))
    return [replace(files[row.file], part=Part(row.begin_octet, row.end_octet, row.first_ordinal)) for row in found.collect()]


_PARTS = pa.schema([(name, pa.int64()) for name in ("file", "begin_octet", "end_octet", "first_ordinal")])


def read_files(spark: SparkSession, tasks: Sequence[Sequence[_Work]], workplace: Workplace, schema: pa.Schema) -> DataFrame:
    """Read files on the workers into outcomes: accepted intervals, rejections, and a tally of each file or part of one."""
    sources, legal, keys = dict(workplace.sources), workplace.settings.legal_timezone.key, dict(workplace.keys)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column(0).to_pylist():
                for work in tasks[task]:
                    policy = outcomes.Policy(ZoneInfo(legal), keys[IDENTIFIER_KEY], keys[SERVING_KEY])
                    yield from _file_outcomes(work, sources[work.source], policy, schema)

    # Without Kryo or pickling of rows: each task picks its files by its number.
    return spark.range(0, len(tasks), 1, len(tasks)).mapInArrow(read, from_arrow_schema(schema))


def _file_outcomes(work: _Work, source: Source, policy: outcomes.Policy, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    number, place = work.file_number, work.place
    tally, counts = Tally(), outcomes.Counts()
    try:
        for block in read_records(place, work.size_octets, source, tally, work.part):
            decided = (
                outcomes.subscription_outcomes(block, source, policy)
                if isinstance(source, SubscriptionSource)
                else outcomes.usage_outcomes(block, source, policy, counts)
            )
            for columns in decided:
                yield _outcome_batch({**columns, "file_number": number}, schema)
    except ReadFault as fault:
        tally.octets = max(tally.octets, work.octets)
        tally.octets_quarantined += tally.octets - (
            tally.octets_header + tally.octets_records + tally.octets_padding + tally.octets_quarantined
        )
        whole_file = {
            "kind": ["rejected"],
            "record_ordinal": [0],
            "byte_offset": [0],
            "reason": ["unreadable_file"],
            "detail": [str(fault)],
        }
        yield _outcome_batch({**whole_file, "file_number": number}, schema)
    except Exception as error:  # noqa: BLE001 - a library's message may quote a subscriber's value
        raise ReadFault(f"{place}: {type(error).__name__} while reading: this is a defect, report it") from None
    yield _outcome_batch(
        {"kind": ["tally"], "file_number": number, "tally": [json.dumps(tally.as_json() | vars(counts), default=int)]}, schema
    )


def _outcome_batch(columns: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    rows = len(columns["kind"])
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(rows, field.type))
        elif isinstance(values, int):
            arrays.append(pa.repeat(pa.scalar(values, field.type), rows))
        else:
            arrays.append(values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def content_hash(table: Table) -> Column:
    """xxHash64 of what a record says, apart from where it was read: equal for true duplicates."""
    where = {*_POSITION, "batch", "source", "byte_offset", "keys_from", "record_key", "content_hash", "is_conflicting"}
    return F.xxhash64(*[name for name in table.names if name not in where])


def find_repeats(candidates: DataFrame, existing: DataFrame, table: Table) -> DataFrame:
    """Records that were received before, or whose key came with other content.

    A true duplicate has equal times, so it lies in the same month and its parts can be compared one by one. A conflict is seen
    where both contents have octets in one month.

    Returns:
        One row per repeated candidate: its position, ``duplicate_of_file_number`` (null if it is no duplicate) and
        ``is_conflicting``.
    """
    part = [name for name in ("interval_index", "month_part", "usage_month", "keys_from") if name in table.names]
    position = [name for name in _POSITION if name in table.names]
    columns = list(dict.fromkeys(["record_key", *part, "content_hash", *position]))
    old = existing.where("record_key IS NOT NULL").select(*columns, F.lit(False).alias("is_candidate"))
    both = old.unionByName(candidates.select(*columns, F.lit(True).alias("is_candidate")))
    # Conflicting content may be split at the month end where the other is not: parts are compared only where contents are equal.
    same_key = Window.partitionBy("record_key", *[name for name in part if name != "month_part"])
    same_content = Window.partitionBy("record_key", *part, "content_hash").orderBy(
        "is_candidate", "file_number", "record_ordinal"
    )
    judged = both.select(
        *position,
        "is_candidate",
        F.row_number().over(same_content).alias("copy"),
        F.first("file_number").over(same_content).alias("first_file_number"),
        (F.min("content_hash").over(same_key) != F.max("content_hash").over(same_key)).alias("is_conflicting"),
    )
    is_duplicate = F.col("copy") > 1
    return judged.where(F.col("is_candidate") & (is_duplicate | F.col("is_conflicting"))).select(
        *position, F.when(is_duplicate, F.col("first_file_number")).alias("duplicate_of_file_number"), "is_conflicting"
    )


def _with_repeats(candidates: DataFrame, repeats: DataFrame, table: Table) -> DataFrame:
    position = [name for name in _POSITION if name in table.names]
    return candidates.join(repeats, on=position, how="left").withColumn(
        "is_conflicting", F.coalesce("is_conflicting", F.lit(False))
    )


@dataclass(frozen=True)
class _Reading:
    """The files of one batch that fill one table, read and compared with what was there."""

    table: Table
    frame: DataFrame
    judged: DataFrame
    repeats: DataFrame
    sources: Mapping[int, str]

    def accepted(self, batch: Batch) -> DataFrame:
        """Rows for the table: what is no duplicate."""
        counted = self.judged.where("duplicate_of_file_number IS NULL")
        return _with_source(counted, batch, self.sources).select(*self.table.names)

    def rejected(self, batch: Batch) -> DataFrame:
        """Rows for ``rejected``: refused records, and one row per duplicate record."""
        present = {*self.judged.columns, "batch", "source", "reason", "detail"}
        refused = self.frame.where("kind = 'rejected'").withColumn("content_hash", F.lit(None).cast("bigint"))
        refused = refused.withColumn("duplicate_of_file_number", F.lit(None).cast("bigint"))
        duplicates = self.judged.where("duplicate_of_file_number IS NOT NULL").where(_is_first_row(self.table))
        duplicates = duplicates.withColumns({"reason": F.lit("duplicate"), "detail": F.lit(None).cast("string")})
        frames = [
            _with_source(rows, batch, self.sources).select(
                *[
                    F.col(field.name) if field.name in present else F.lit(None).cast(field.dataType).alias(field.name)
                    for field in REJECTED.spark_schema
                ]
            )
            for rows in (refused, duplicates)
        ]
        return frames[0].unionByName(frames[1])

    def balances(self, deliveries: Mapping[int, Delivery], batch: Batch) -> list[dict[str, Any]]:
        """Balance rows of every file. Raises Refused, naming the first file whose balance does not close."""
        tallies = self._tallies
        counted = {row.file_number: row.asDict() for row in collected(self._counted())}
        rows = [_balance(deliveries[n], batch, tally, counted.get(n, {})) for n, tally in tallies.items()]
        for row in rows:
            _check_balance(row, deliveries[row["file_number"]])
        return rows

    def completeness(self, batch: Batch) -> list[dict[str, Any]]:
        """Rows of ``completeness``: the sequence numbers of every network element, by file and day."""
        together: dict[tuple[int, str, str], NodeDay] = {}
        for number, tally in self._tallies.items():
            for node, day, *found in tally["node_days"]:
                before, numbered = together.get((number, node, day)), NodeDay(*found)
                together[number, node, day] = before.with_more(numbered) if before else numbered
        return [
            {"batch": batch.number, "source": self.sources[number], "file_number": number, "node": node}
            | {"day": date.fromisoformat(day), **vars(numbered)}
            for (number, node, day), numbered in sorted(together.items())
        ]

    @functools.cached_property
    def _tallies(self) -> dict[int, dict[str, Any]]:
        """What was counted of each file, its parts together."""
        found: dict[int, dict[str, Any]] = {}
        for row in self.frame.where("kind = 'tally'").select("file_number", "tally").collect():
            part = json.loads(row.tally)
            found[row.file_number] = _together(found[row.file_number], part) if row.file_number in found else part
        return found

    def release(self) -> None:
        """Forget what was kept in memory for the batch."""
        self.frame.unpersist()
        self.repeats.unpersist()

    def _counted(self) -> DataFrame:
        """Records and octets by file and what became of them, counted from the rows themselves."""
        volume = F.col("octets_up") + F.col("octets_down") if self.table is ACCEPTED else F.lit(0)
        closed = F.col("closed_at") if self.table is ACCEPTED else F.lit(None).cast("timestamp")
        first, repeated = _is_first_row(self.table), F.col("duplicate_of_file_number").isNotNull()
        kept = self.judged.groupBy("file_number").agg(
            F.count_if(first & ~repeated).alias("accepted"),
            F.count_if(first & repeated).alias("duplicate"),
            F.sum(F.when(repeated, 0).otherwise(volume)).alias("volume_accepted"),
            F.sum(F.when(repeated, volume).otherwise(0)).alias("volume_duplicate"),
            F.min(closed).alias("first_closed_at"),
            F.max(closed).alias("last_closed_at"),
        )
        is_refused = (F.col("kind") == "rejected") & (F.col("record_ordinal") > 0)
        refused = self.frame.groupBy("file_number").agg(F.count_if(is_refused).alias("rejected"))
        return refused.join(kept, on="file_number", how="left")


def _is_first_row(table: Table) -> Column:
    """One row stands for each record: its first interval, in its first month; an assignment's first under its earliest keys."""
    if table is not ACCEPTED:
        return F.col("keys_part") == 0
    return (F.col("interval_index") == 0) & (F.col("month_part") <= 1)


def _with_source(rows: DataFrame, batch: Batch, sources: Mapping[int, str]) -> DataFrame:
    names = F.create_map(*[F.lit(value) for pair in sorted(sources.items()) for value in pair])
    return rows.withColumns({"batch": F.lit(batch.number).cast("bigint"), "source": names[F.col("file_number")]})


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
