"""What every reader yields: records as Arrow columns with their position, and a tally of every octet.

A reader knows nothing of months, subscriptions or emissions. It keeps only the columns it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    records: pa.RecordBatch
    ordinals: Positions
    offsets: Positions
    faults: pa.StringArray


@dataclass
class Tally:
    """Octets and records of one file, counted apart from the parser.

    ``header + records + padding + quarantined`` octets are all octets of the file.
    """

    records: int = 0
    octets: int = 0
    octets_header: int = 0
    octets_records: int = 0
    octets_padding: int = 0
    octets_quarantined: int = 0


def no_faults(rows: int) -> pa.StringArray:
    """The faults of sound records."""
    return pa.nulls(rows, pa.string())
