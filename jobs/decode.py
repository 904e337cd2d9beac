"""decode: look inside a file of usage records, with the pipeline's own reader, without a lake or a source file.

Intervals go to standard output as JSON lines, what was read and what was wrong to standard error.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.files import decompressed
from jobs.places import filesystem
from jobs.readers.block import Block, ReadFault, Tally, count_warning
from jobs.readers.charging import read_charging
from jobs.run import Refused
from schemas.source import CHARGING_COLUMNS, Charging

EVERY_RECORD = Charging(
    record_types=("pgw", "ggsn", "egsn", "chf"),
    volumes="service_data_else_traffic_volumes",
    reporting_level="both",
    total_without_directions="reject",
)
"""Every container of every record; which of them an operator counts is the source's policy."""
_LONG_NUMBER = re.compile(r"\d{8,}")
_SHOWN_DIGITS = 5


@dataclass(frozen=True)
class Format:
    """How a format is read and how its rows are worded."""

    blocks: Callable[[Any, Tally], Iterator[Block]]
    interval: Callable[[Mapping[str, Any]], dict[str, Any]]


def decode(
    format_name: str, places: Sequence[str], is_clear: bool, say: Callable[[str], None], tell: Callable[[str], None]
) -> None:
    """Write the intervals of files as JSON lines.

    Args:
        format_name: one of FORMATS.
        places: files, local or URIs.
        is_clear: identifiers in the clear; else their last digits are masked.
        say: takes a line of output.
        tell: takes a line of summary.

    Raises:
        Refused: a file could not be read to its end; the others were read.
    """
    refuse(read_each(places, lambda place: _decode_file(FORMATS[format_name], place, is_clear, say, tell), tell), places)


def read_each(places: Sequence[str], read: Callable[[str], None], tell: Callable[[str], None]) -> list[str]:
    """Read files one after the other; give which could not be read to their end, and why."""
    unread = []
    for place in places:
        try:
            read(place)
        except ReadFault as fault:
            unread.append(f"{place}: {fault}")
            tell(unread[-1])
    return unread


def refuse(unread: Sequence[str], places: Sequence[str]) -> None:
    """Raise Refused if files could not be read to their end."""
    if unread:
        raise Refused(unread[0] if len(unread) == 1 else f"{len(unread)} of {len(places)} files, the first {unread[0]}")


def _decode_file(read: Format, place: str, is_clear: bool, say: Callable[[str], None], tell: Callable[[str], None]) -> None:
    tally, faults, intervals = Tally(), Counter[str](), 0
    try:
        with opened(place) as (file, path):
            for block in read.blocks(decompressed(file, path), tally):
                for row, fault, ordinal, offset, index in _rows(block):
                    if fault is not None:
                        faults[fault] += index == 0
                        continue
                    intervals += 1
                    where = {"record_ordinal": ordinal, "byte_offset": offset, "interval_index": index}
                    say(as_line(_masked(read.interval(row), is_clear) | where))
    finally:
        tell(summary(place, tally, f"{intervals:,} intervals", rejected(faults), "header"))


@contextmanager
def opened(place: str) -> Iterator[tuple[pa.NativeFile, str]]:
    """A file and its path. Raises ReadFault if it cannot be opened."""
    files, path = filesystem(place)
    try:
        opened = files.open_input_file(path)
    except FileNotFoundError:
        raise ReadFault("there is no such file") from None
    except OSError:
        raise ReadFault("it cannot be opened") from None
    with opened:
        yield opened, path


def _rows(block: Block) -> Iterator[tuple[dict[str, Any], str | None, int, int, int]]:
    index = [0] * len(block.ordinals) if block.interval_index is None else block.interval_index.tolist()
    rows = (block.records.to_pylist(), block.faults.to_pylist(), block.ordinals.tolist(), block.offsets.tolist(), index)
    return zip(*rows, strict=True)


def summary(place: str, tally: Tally, found: str, counted: Mapping[str, int], declared_by: str) -> str:
    """What was read of a file and what was wrong, in a line."""
    warnings = {**tally.warnings, **count_warning(vars(tally)), **counted}
    if tally.records_lost:
        warnings["CDRs lost before, by the header"] = tally.records_lost
    said = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in warnings.items()) or "none"
    declared = "" if tally.records_declared is None else f" ({declared_by} says {tally.records_declared:,})"
    return (
        f"{place}: {tally.records:,} records{declared}, {found}, {tally.octets:,} octets read, "
        f"{tally.octets_quarantined:,} quarantined; warnings: {said}"
    )


def rejected(reasons: Mapping[str, int]) -> dict[str, int]:
    """Rejected records by reason, as a summary words them."""
    return {f"rejected: {reason}": count for reason, count in sorted(reasons.items())}


def as_line(interval: Mapping[str, Any]) -> str:
    """An interval as a line of JSON."""
    return json.dumps(interval, default=_text, ensure_ascii=False)


def _masked(interval: dict[str, Any], is_clear: bool) -> dict[str, Any]:
    if is_clear:
        return interval
    hidden = {name: masked_numbers(interval[name]) for name in ("identifier", "session") if isinstance(interval[name], str)}
    return interval | hidden


def masked_numbers(text: str) -> str:
    """A text with the later digits of long numbers masked."""
    return _LONG_NUMBER.sub(lambda found: found[0][:_SHOWN_DIGITS] + "*" * (len(found[0]) - _SHOWN_DIGITS), text)


def masked_texts(values: pa.StringArray) -> pa.StringArray:
    """Texts with the later digits of long numbers masked."""
    return pc.replace_substring_regex(values, rf"(\d{{{_SHOWN_DIGITS}}})\d{{3,}}", r"\1***")


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(type(value).__name__)


def _charging_interval(row: Mapping[str, Any]) -> dict[str, Any]:
    identifier_type = "imsi" if row["servedIMSI"] else "msisdn" if row["servedMSISDN"] else None
    return {
        "record_type": row["recordType"],
        "identifier_type": identifier_type,
        "identifier": row["servedIMSI"] or row["servedMSISDN"] or None,
        "session": row["chargingSessionIdentifier"] or row["chargingID"],
        "sequence": row["recordSequenceNumber"],
        "opened_at": row["intervalOpened"],
        "closed_at": row["intervalClosed"],
        "octets_up": row["uplinkOctets"],
        "octets_down": row["downlinkOctets"],
        "is_estimated": False,
        "rating_group": row["ratingGroup"],
        "rat_type": row["rATType"],
        "node": row["nodeID"],
        "gateway_address": row["gatewayAddress"],
        "local_sequence": row["localSequenceNumber"],
        "apn": row["accessPointNameNI"],
        "serving_plmn": row["servingNodePLMNIdentifier"],
        "cause": row["causeForRecClosing"],
    }


def _charging(is_framed: bool) -> Format:
    return Format(
        lambda stream, tally: read_charging(stream, EVERY_RECORD, is_framed, CHARGING_COLUMNS, tally), _charging_interval
    )


FORMATS = {"ts32297": _charging(True), "ber": _charging(False)}
"""Formats by name, as sources name them."""
