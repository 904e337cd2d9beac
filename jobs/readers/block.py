"""What every reader yields: records as Arrow columns with their position, and a tally of every octet.

A reader knows nothing of months, subscriptions or emissions. It keeps only the columns it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Positions = npt.NDArray[np.int64]


class ReadFault(Exception):
    """A file cannot be read further; the message names file and reason, never its content."""


@dataclass(frozen=True)
class Block:
    """Some records of a file.

    Attributes:
        records: the columns asked for, one row a record.
        ordinals: position of each record in its file, from 1.
        offsets: octet of the uncompressed file at which each record starts; for Parquet, of its row group.
        faults: what is wrong with a record as such (``too_few_fields`` …), null for a sound one. Fields that could not be read
            are null.
        interval_index: position of each row among the intervals of its record, from 0; null for a reader of one row a record.
    """

    records: pa.RecordBatch
    ordinals: Positions
    offsets: Positions
    faults: pa.StringArray
    interval_index: Positions | None = None


@dataclass(frozen=True)
class NodeDay:
    """Records of a network element on a day: how many, and between which of its sequence numbers."""

    records: int
    first_sequence: int
    last_sequence: int

    def with_more(self, other: NodeDay) -> NodeDay:
        """These and others."""
        return NodeDay(
            self.records + other.records,
            min(self.first_sequence, other.first_sequence),
            max(self.last_sequence, other.last_sequence),
        )


@dataclass(frozen=True)
class Part:
    """A part of a large file, from one record boundary to another, that is read on its own.

    ``end_octet`` is null for the rest of the file; ``first_ordinal`` is the position of its first record in the file.
    """

    begin_octet: int = 0
    end_octet: int | None = None
    first_ordinal: int = 1


WHOLE = Part()
"""A file that is read at once."""


def parts_between(begins: Sequence[tuple[int, int]]) -> list[Part]:
    """Parts that begin at an octet with a record of a position, each up to the next."""
    ends = [*(octet for octet, _ in begins[1:]), None]
    return [Part(begin, end, ordinal) for (begin, ordinal), end in zip(begins, ends, strict=True)]


@dataclass
class Tally:
    """Octets and records of one file, or of a part of it, counted apart from the parser.

    ``header + records + padding + quarantined`` octets are all octets of the file. ``records_declared`` is what the file itself
    says it holds, ``records_lost`` what it says was lost before; both null where it says nothing. ``node_days`` has the sequence
    numbers that network elements gave their records, by node and UTC day. ``spans_quarantined`` are what counts as a record and
    may be none, or the remains of several.
    """

    records: int = 0
    octets: int = 0
    octets_header: int = 0
    octets_records: int = 0
    octets_padding: int = 0
    octets_quarantined: int = 0
    spans_quarantined: int = 0
    records_declared: int | None = None
    records_lost: int | None = None
    warnings: dict[str, int] = field(default_factory=dict)
    node_days: dict[tuple[str, str], NodeDay] = field(default_factory=dict)

    def warn(self, warning: str, count: int = 1) -> None:
        """Count what is no error but must be seen."""
        if count:
            self.warnings[warning] = self.warnings.get(warning, 0) + count

    def count_sequence(self, node: str, day: str, sequence: NodeDay) -> None:
        """Add records of a node and day."""
        before = self.node_days.get((node, day))
        self.node_days[node, day] = before.with_more(sequence) if before else sequence

    def as_json(self) -> dict[str, Any]:
        """Everything counted, for a row of text."""
        sequences = [[*place, *astuple(found)] for place, found in sorted(self.node_days.items())]
        return {**vars(self), "node_days": sequences}


def count_warning(tally: Mapping[str, Any]) -> dict[str, int]:
    """A warning if a file holds other than it declares; what was quarantined may be none of its records, or one."""
    declared, records = tally["records_declared"], tally["records"]
    differs = declared is not None and not records - tally["spans_quarantined"] <= declared <= records
    return {"record_count_differs": 1} if differs else {}


def no_faults(rows: int) -> pa.StringArray:
    """The faults of sound records."""
    return pa.nulls(rows, pa.string())
