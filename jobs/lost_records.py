"""Records that are known to be lost: rejected, but it is known whose they were, and never delivered soundly."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.batches import AsOf
from jobs.completeness import files_of_month
from jobs.key_beginnings import Sought
from jobs.lake import in_month
from jobs.legal_calendar import Month
from jobs.meter import LOST
from jobs.repeats import DUPLICATE
from jobs.table_rows import OfFiles, files_of, having, read
from schemas.tables import ACCEPTED, REJECTED

_JUDGED_BY = ("reason", "source", "usage_month", "file_number", "record_key", "identifier_key")
_REFUSED = pa.schema([("record_key", pa.binary()), ("file_number", pa.int64()), ("usage_month", pa.date32())])
_KEYS = pa.schema([("record_key", pa.binary())])


def lost_records(counted: AsOf, month: Month, sources: Collection[str]) -> OfFiles:
    """Records of the month that are known to be lost.

    A record whose time cannot be read counts for every month that its file has records of.

    Args:
        counted: the lake as of a batch.
        month: the month.
        sources: those whose records are lost if they are rejected.

    Returns:
        ``identifier_type, identifier_key, closed_at`` (null if it cannot be read).
    """
    lake, of_sources = counted.lake, pa.array(sorted(sources), pa.string())

    def is_refused(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        is_known = pc.and_(pc.is_valid(rows["identifier_key"]), pc.not_equal(rows["reason"], DUPLICATE))
        is_of_month = pc.fill_null(pc.equal(rows["usage_month"], month.usage_month), True)
        return np.asarray(pc.and_(pc.and_(is_known, is_of_month), pc.is_in(rows["source"], of_sources)), bool)

    rejected = OfFiles(lake, [files_of(counted, REJECTED, judged_by=_JUDGED_BY, also=is_refused)], _REFUSED.names)
    refused = read(rejected, _REFUSED)
    if not len(refused):
        return OfFiles(lake, [], LOST.names)
    touching = [row.file_number for row in files_of_month(counted, month) if row.first_closed_at is not None]
    files = pa.array({*touching, *refused["file_number"].filter(refused["usage_month"].is_valid()).to_pylist()}, pa.int64())
    of_refused = having(Sought.among(refused["record_key"]))
    accepted = OfFiles(lake, [files_of(counted, ACCEPTED, in_month(month.usage_month), _KEYS.names, of_refused)], _KEYS.names)
    # Some of them only begin as a refused one does: whole keys are compared below.
    delivered = read(accepted, _KEYS)["record_key"].unique()

    def is_lost(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        may_be_of_month = pc.or_(pc.is_valid(rows["usage_month"]), pc.is_in(rows["file_number"], files))
        was_delivered = pc.is_in(rows["record_key"].cast(pa.binary()), delivered)
        is_so: npt.NDArray[np.bool_] = is_refused(rows) & np.asarray(pc.and_not(may_be_of_month, was_delivered), bool)
        return is_so

    return OfFiles(lake, [files_of(counted, REJECTED, judged_by=_JUDGED_BY, also=is_lost)], LOST.names)
