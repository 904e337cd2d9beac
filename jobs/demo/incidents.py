"""What goes wrong on the way: records that come twice, late, with other content, or corrupt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from jobs.demo.month import Flags, Integers, Month
from jobs.demo.usage import Usage

Fields = list[bytes]

CONFLICT_DAY = 10
"""The day whose first file has a record that comes again, in the late file, with other content."""


class Fate(IntEnum):
    """How a record is delivered. The first three are in the file of the day."""

    ON_TIME = 0
    REPEATED = 1
    REPEATED_LATE = 2
    LATE = 3
    CORRUPT = 4
    CONFLICTING = 5


@dataclass(frozen=True)
class Faults:
    """How the records of a source get corrupt.

    ``of_records`` damage a record whose identifier stays readable, so that its octets are lost; ``of_empty_records`` one that had
    none; ``of_nobody`` are lines that belong to nobody. ``conflicting`` is the field of which an earlier delivery had half.
    """

    separator: bytes
    of_records: dict[str, Callable[[Fields], Fields]]
    of_empty_records: dict[str, Callable[[Fields], Fields]]
    of_nobody: dict[str, bytes]
    conflicting: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All kinds of corruption: of records, of empty records, of nobody."""
        return (*self.of_records, *self.of_empty_records, *self.of_nobody)

    def due(self, day: int, chunk: int) -> str | None:
        """The kind that certainly occurs on that day: each one does once a month."""
        return self.names[day // 3] if chunk == 0 and day % 3 == 0 and day // 3 < len(self.names) else None

    def damaged(self, line: bytes, name: str) -> bytes:
        """The line with the fault."""
        return self._changed(line, (self.of_records | self.of_empty_records)[name])

    def earlier(self, line: bytes) -> bytes:
        """The line as it was delivered first, under the same key with other content."""
        assert self.conflicting is not None  # only such sources have conflicts
        half = int(line.split(self.separator)[self.conflicting]) // 2
        return self._changed(line, _replaced(self.conflicting, b"%d" % half))

    def _changed(self, line: bytes, change: Callable[[Fields], Fields]) -> bytes:
        return self.separator.join(change(line.removesuffix(b"\n").split(self.separator)))


def _replaced(position: int, value: bytes) -> Callable[[Fields], Fields]:
    return lambda fields: [*fields[:position], value, *fields[position + 1 :]]


def _truncated(length: int) -> Callable[[Fields], Fields]:
    return lambda fields: fields[:length]


PIPE_FAULTS = Faults(
    separator=b"|",
    of_records={
        "volume_not_a_number": _replaced(8, b"12x4"),
        "volume_negative": _replaced(9, b"-4096"),
        "duration_negative": _replaced(7, b"-3600"),
        "time_impossible": _replaced(6, b"20261332256199"),
        "fields_missing": _truncated(8),
    },
    of_empty_records={"text_not_utf8": _replaced(23, b"caf\xe9")},
    of_nobody={"line_empty": b"", "line_garbage": b"~~ block lost ~~"},
    conflicting=8,
)

FIXED_FAULTS = Faults(
    separator=b",",
    of_records={
        "volume_not_a_number": _replaced(3, b"12x4"),
        "volume_negative": _replaced(4, b"-4096"),
        "end_before_start": lambda fields: [fields[0], fields[2], fields[1], *fields[3:]],
        "time_impossible": _replaced(2, b"2026-13-32T25:61:00Z"),
        "fields_missing": _truncated(3),
    },
    of_empty_records={},
    of_nobody={"line_empty": b"", "line_garbage": b"~~ block lost ~~", "line_not_utf8": b"\xff\xfe block lost \xff"},
)

NO_FAULTS = Faults(b"", {}, {}, {})


@dataclass(frozen=True)
class RecordFaults(Faults):
    """How binary records get corrupt: in their opening time, whose tag is known, so that whose they are stays readable."""

    opening_tag: int = 0

    def _changed(self, line: bytes, change: Callable[[Fields], Fields]) -> bytes:
        begin = line.index(bytes([self.opening_tag, 9])) + 2
        before, opening, after = line[:begin], line[begin : begin + 9], line[begin + 9 :]
        return before + b"".join(change([opening[at : at + 1] for at in range(9)])) + after


def record_faults(opening_tag: int) -> RecordFaults:
    """Faults of charging records, under the names of those of the text they stand for."""
    return RecordFaults(
        separator=b"",
        of_records={
            "volume_not_a_number": _replaced(1, b"\x1a"),
            "volume_negative": _replaced(3, b"\x99"),
            "duration_negative": _replaced(6, b"*"),
            "time_impossible": _replaced(1, b"\x13"),
            "fields_missing": _replaced(8, b"\x07"),
        },
        of_empty_records={"text_not_utf8": _replaced(2, b"\x32")},
        of_nobody={"line_empty": b"\xff" * 64, "line_garbage": b"~~ block lost ~~"},
        conflicting=0,
        opening_tag=opening_tag,
    )


def fates(usage: Usage, month: Month, has_key: bool, random: np.random.Generator) -> Integers:
    """How each record is delivered: 1 % late, and of a source with a key 0.2 % twice and 0.01 % corrupt."""
    draw = random.integers(0, 10_000, len(usage))
    is_victim = usage.is_attributed & has_key
    chosen = [
        is_victim & (draw < 10),
        is_victim & (draw < 20),
        (draw >= 20) & (draw < 120),
        is_victim & (draw == 120) & usage.lies_in(month) & ~usage.is_empty,
    ]
    return np.select(chosen, [Fate.REPEATED, Fate.REPEATED_LATE, Fate.LATE, Fate.CORRUPT], Fate.ON_TIME).astype(np.int64)


def undisturbed(usage: Usage, fate: Integers, month: Month, is_empty: bool) -> Integers:
    """Positions of records of subscriptions, at home and within the month, to which nothing happened yet."""
    is_free: Flags = usage.is_attributed & usage.lies_in(month) & (fate == Fate.ON_TIME) & (usage.zone == 0)
    return np.flatnonzero(is_free & (usage.is_empty if is_empty else usage.down > 1))
