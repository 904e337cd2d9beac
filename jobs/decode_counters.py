"""decode, for counters that only grow: the deltas between consecutive readings in the files of one call, without a lake.

What becomes of a record is ``readings``, what was used between two is ``counters``, as for a month. Pseudonyms are under a key
that is made for the call and forgotten; whose they are stays in this process, and is masked unless asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from jobs import counters, normalise
from jobs.data_files import rows_of
from jobs.decode import as_line, masked_numbers, opened, read_each, refuse, rejected, summary
from jobs.files import decompressed, read_stream
from jobs.legal_calendar import Month
from jobs.normalise import Faults, text
from jobs.outcomes import Counts, Policy, identifiers_of
from jobs.pseudonyms import FROM_THE_BEGINNING, IDENTIFIER_KEY, SERVING_KEY, Keys, make_key
from jobs.readers.block import Block, Tally
from jobs.readings import reading_outcomes
from jobs.run import CallError
from schemas.source import RADIUS_FORMATS, CounterSource
from schemas.tables import READINGS

_IDENTIFIERS = {
    "radius-detail": [("line_id", "User-Name"), ("line_id", "Calling-Station-Id")],
    "radacct": [("line_id", "username")],
    "samis-xml": [("mac", "CmMacAddr")],
    "ipdr-xdr": [("mac", "CmMacAddr")],
}
"""Who a record names: what a line id is, only an operator's source can say."""
_SESSIONS = {"radius-detail": "Acct-Session-Id", "radacct": "acctsessionid"}
_ANY_NAME = r"^[^\x00-\x1f\x7f]{1,253}$"
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:.-]){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}")
_SHOWN_CHARACTERS = 5
_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = (
    *("status", "opened_at", "closed_at", "octets_up", "octets_down", "is_estimated", "reason", "octets_unknown_at_most"),
    *("wraps", "record_ordinal"),
)


def source_of(format_name: str, direction: str | None, zone: str, delimiter: str = ",") -> CounterSource:
    """A source as a call describes it.

    Args:
        format_name: one of COUNTER_FORMATS.
        direction: what Acct-Input-Octets (RADIUS) or ServiceDirection 1 (SAMIS) is, ``up`` or ``down``: writers disagree.
        zone: the clock of times without an offset.
        delimiter: of radacct.

    Raises:
        CallError: the direction is missing, or a value cannot be used.
    """
    is_radius = format_name in RADIUS_FORMATS
    if direction is None:
        option, what = ("--input-octets", "Acct-Input-Octets") if is_radius else ("--service-direction-1", "ServiceDirection 1")
        raise CallError(f"--format {format_name} needs {option} up or down: writers disagree on what {what} is")
    settings = {
        "kind": "counters",
        "name": "decode",
        "description": "files of one call",
        "format": format_name,
        "network": "fixed",
        "volume_counted": "up_and_down",
        "files": {"pattern": "*", "on_changed_file": "refuse"},
        "delimited": {"delimiter": delimiter, "quote": '"', "header": True} if format_name == "radacct" else None,
        "counters": {"input_octets" if is_radius else "service_direction_1": direction, "zone": zone},
        "identifier": [{"type": kind, "column": column} for kind, column in _IDENTIFIERS[format_name]],
        "identifiers": {"line_id_pattern": _ANY_NAME},
        "roaming": {"constant": "home"},
    }
    try:
        return CounterSource.model_validate(settings)
    except ValidationError as error:
        raise CallError("; ".join(str(each["msg"]) for each in error.errors())) from None


def decode_counters(
    source: CounterSource,
    places: Sequence[str],
    is_clear: bool,
    start_spark: Callable[[], SparkSession],
    say: Callable[[str], None],
    tell: Callable[[str], None],
) -> None:
    """Write the deltas of files as JSON lines, in the order of the readings at their ends.

    Args:
        source: how the files are read.
        places: files, local or URIs; a session may go on from one to the next.
        is_clear: identifiers in the clear; else only their first characters are shown.
        start_spark: called once there are readings.
        say: takes a line of output.
        tell: takes a line of summary.

    Raises:
        Refused: a file could not be read to its end; what was read of it counts, and the others were read.
    """
    found, unread = read_readings(source, places, tell)
    if found.tables:
        counted = Counter[str]()
        for interval in _intervals(found, places, start_spark()):
            counted.update(["intervals", *([interval["reason"]] if interval["is_estimated"] else ())])
            say(as_line(interval if is_clear else masked(interval)))
        reasons = ", ".join(
            f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(counted.items()) if name != "intervals"
        )
        tell(f"{counted['intervals']:,} intervals; not exact: {reasons or 'none'}")
    refuse(unread, places)


def read_readings(source: CounterSource, places: Sequence[str], tell: Callable[[str], None]) -> tuple[Readings, list[str]]:
    """The readings of files, under keys that are forgotten, and which files could not be read to their end, and why."""
    found, numbers = Readings(source), count()
    with TemporaryDirectory() as folder:
        identifier, serving = (make_key(Path(folder), name, FROM_THE_BEGINNING) for name in (IDENTIFIER_KEY, SERVING_KEY))
        policy = Policy(ZoneInfo("UTC"), Keys(Path(folder), (identifier,)), Keys(Path(folder), (serving,)))
        return found, read_each(places, lambda place: found.read(place, next(numbers), policy, tell), tell)


@dataclass
class Readings:
    """The readings of the files of a call, each record once, and whom records name in the order of the files."""

    source: CounterSource
    tables: list[pa.Table] = field(default_factory=list)
    named: list[pa.RecordBatch] = field(default_factory=list)
    known: set[bytes] = field(default_factory=set)

    def read(self, place: str, number: int, policy: Policy, tell: Callable[[str], None]) -> None:
        """Take in a file. Raises ReadFault."""
        tally, counts, reasons, readings, repeated = Tally(), Counts(), Counter[str](), 0, 0
        try:
            with opened(place) as (file, path):
                for block in read_stream(decompressed(file, path), self.source, self.source.whitelist, tally):
                    self.named.append(_named(block, self.source, number))
                    for columns in reading_outcomes(block, self.source, policy, counts):
                        if columns["kind"][0].as_py() == "rejected":
                            reasons.update(columns["reason"].to_pylist())
                            continue
                        same = {"batch": 1, "source": self.source.name, "file_number": number}
                        added = self._once(rows_of(READINGS, {**columns, **same}))
                        readings, repeated = readings + added, repeated + len(columns["kind"]) - added
        finally:
            outside = {f"out of scope: {reason}": records for reason, records in counts.out_of_scope.items() if records}
            said = rejected(reasons) | outside | ({"duplicate": repeated} if repeated else {})
            tell(summary(place, tally, f"{readings:,} readings", said, "its end"))

    def _once(self, rows: pa.RecordBatch) -> int:
        """Take in the rows that no earlier record repeats; give how many."""
        before = len(self.known)
        keep = []
        for key in rows["record_key"].to_pylist():
            keep.append(key not in self.known)
            self.known.add(key)
        self.tables.append(pa.Table.from_batches([rows.filter(pa.array(keep))]))
        return len(self.known) - before


def _named(block: Block, source: CounterSource, file_number: int) -> pa.RecordBatch:
    """Whom the records of a block name, and the session as they have it."""
    records = normalise.column_arrays(block.records)
    kinds, identifiers = identifiers_of(records, source, Faults.none(block.records.num_rows))
    columns = {
        "file_number": pa.array(np.full(len(block.ordinals), file_number)),
        "record_ordinal": pa.array(block.ordinals),
        "identifier_type": kinds,
        "identifier": identifiers,
        "session": text(records[_SESSIONS.get(source.format, "ServiceIdentifier")]),
    }
    return pa.RecordBatch.from_pydict(columns)


def _intervals(found: Readings, places: Sequence[str], spark: SparkSession) -> Iterator[dict[str, Any]]:
    """Deltas as they are written, the order of the readings at their ends."""
    names = (name for batch in found.named for name in batch.to_pylist())
    rows = _deltas(found, spark).orderBy("file_number", "record_ordinal").toArrow()
    for row in (row for batch in rows.to_batches() for row in batch.to_pylist()):
        position = (row["file_number"], row["record_ordinal"])
        who = next(name for name in names if (name["file_number"], name["record_ordinal"]) == position)
        whose = {name: who[name] for name in ("identifier_type", "identifier", "session")}
        where = {"file": places[row["file_number"]], "node": row["node"]}
        yield whose | {name: row[name] for name in _SHOWN} | where


def _deltas(found: Readings, spark: SparkSession) -> DataFrame:
    rows = pa.concat_tables(found.tables)
    readings = spark.createDataFrame(rows, READINGS.spark_schema)
    is_reset = readings["status"] == counters.RESET
    resets = readings.where(is_reset)
    limits = {found.source.name: counters.Limits.of(found.source)}
    return counters.deltas(readings.where(~is_reset), resets, None, limits, _whole_time(rows), 1)


def _whole_time(rows: pa.Table) -> Month:
    """A month that no interval straddles: it ends with the last reading, so only what was silent by then counts as lost."""
    last = pc.max(rows["closed_at"]).as_py()
    return Month(date(1970, 1, 1), _BEFORE_ALL, last + timedelta(microseconds=1), "UTC")


# Masking


def masked(interval: Mapping[str, Any]) -> dict[str, Any]:
    """An interval with the first characters of whom it names."""
    identifier, session = interval["identifier"], interval["session"]
    hidden = re.sub(re.escape(identifier), lambda same: masked_name(same[0]), session, flags=re.IGNORECASE)
    hidden = masked_numbers(_MAC.sub(lambda mac: masked_name(mac[0]), hidden))
    return {**interval, "identifier": masked_name(identifier), "session": hidden}


def masked_name(name: str) -> str:
    """The first characters of a name, never more than half of it."""
    shown = min(_SHOWN_CHARACTERS, len(name) // 2)
    return name[:shown] + "*" * (len(name) - shown)
