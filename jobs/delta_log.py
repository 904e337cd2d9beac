"""The log of a Delta table: which data files hold its rows, and how files join them or take their place.

By delta-rs, on the driver: Spark's Delta answers the same questions by Spark jobs, some fifty in a month (docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.transaction import Transaction
from pyarrow import fs

from jobs.data_files import DataFile
from jobs.places import filesystem, without_hadoop
from schemas.table import Table

Where = Mapping[str, Any]
"""Columns with the value that rows have in them, or with the least and the greatest as a pair."""
ANY: Where = {}

_COMMIT = re.compile(r"(\d{20})\.json")
UNKNOWN_ROWS = 1 << 30
_ROUNDED = timedelta(milliseconds=1)
"""Statistics of instants are in whole milliseconds (Delta protocol, Per-file Statistics)."""


def log_of(place: str, version: int | None = None) -> DeltaTable | None:
    """The log of a table, latest or of a version; None before the table exists."""
    uri = without_hadoop(place)
    return DeltaTable(uri, version) if DeltaTable.is_deltatable(uri) else None


def latest_version(place: str) -> int:
    """The latest version of a table, -1 before it exists: read from the names in the log, which opens no file."""
    files, path = filesystem(place)
    entries = files.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
    commits = [match for entry in entries if (match := _COMMIT.fullmatch(entry.base_name))]
    return max((int(match[1]) for match in commits), default=-1)


def create(place: str, table: Table) -> None:
    """Make a table without rows: row rules as constraints, a protocol every reader knows, minima and maxima as declared."""
    DeltaTable.create(
        without_hadoop(place),
        Schema.from_json(table.spark_schema.json()),
        partition_by=list(table.partitioned_by),
        description=table.comment,
        configuration=_properties(table),
        raise_if_key_not_exists=False,  # a constraint's name is its own
    )


def _properties(table: Table) -> dict[str, str | None]:
    statistics = [name for name in table.statistics if name not in table.partitioned_by]
    return {
        # Constraints ask it of a writer (Delta protocol, CHECK Constraints).
        "delta.minWriterVersion": "3" if table.checks else "2",
        **({"delta.dataSkippingStatsColumns": ",".join(statistics)} if statistics else {"delta.dataSkippingNumIndexedCols": "0"}),
        "delta.checkpointInterval": "10",  # as Spark's Delta does; of delta-rs it is 100, a request to the store for each
        "delta.logRetentionDuration": f"interval {table.history_days} days",
        "delta.deletedFileRetentionDuration": "interval 7 days",
        **{f"delta.constraints.{name}": rule for name, rule in table.checks.items()},
    }


def ends(wanted: Any) -> tuple[Any, Any]:
    """The least and the greatest value that is wanted of a column."""
    return wanted if isinstance(wanted, tuple) else (wanted, wanted)


def files_that_may_hold(log: DeltaTable, where: Where) -> dict[str, int]:
    """Paths under the table of the data files that may hold such rows, by their partitions, minima and maxima, with their rows.

    Of a file that no writer has counted, which this project's always do, UNKNOWN_ROWS are said.
    """
    files = pa.table(log.get_add_actions(flatten=True))
    kept = pa.repeat(True, len(files))
    for name, wanted in where.items():
        least, greatest = ends(wanted)
        partition = (f"partition.{name}",) * 2
        first, last = partition if partition[0] in files.column_names else (f"min.{name}", f"max.{name}")
        if first in files.column_names and last in files.column_names:
            from_least = pc.greater_equal(files[last], least - _ROUNDED if isinstance(least, datetime) else least)
            lies_there = pc.and_kleene(from_least, pc.less_equal(files[first], greatest))
            kept = pc.and_(kept, pc.fill_null(lies_there, True))  # a file without statistics may hold anything
    found = files.filter(kept)
    return dict(zip(found["path"].to_pylist(), pc.fill_null(found["num_records"], UNKNOWN_ROWS).to_pylist(), strict=True))


def commit(log: DeltaTable, table: Table, files: Sequence[DataFile], number: int | None, replaced: Where | None = None) -> int:
    """Add files in one transaction, in the place of those of a partition if one is replaced. Return the new version.

    Args:
        log: the log, as it was when what is added was decided: a version that came since is refused.
        table: the table.
        files: data files under the table.
        number: number of the append, kept in the log.
        replaced: the values of the partition columns whose files they replace.

    Raises:
        DeltaError: the table has another version by now.
    """
    said = {"predicate": " AND ".join(f"{name} = '{value}'" for name, value in replaced.items())} if replaced else {}
    mode = "overwrite" if replaced else "append"
    log.create_write_transaction(
        [file.add for file in files],
        mode,
        log.schema(),
        list(table.partitioned_by),
        [(name, "=", str(value)) for name, value in replaced.items()] if replaced else None,
        commit_properties=CommitProperties(
            custom_metadata={"operationParameters": {"mode": mode.capitalize(), **said}},
            max_commit_retries=0,
            app_transactions=None if number is None else [Transaction(table.name, number)],
        ),
    )
    return int(log.version()) + 1


def last_number(log: DeltaTable, table: Table) -> int:
    """The greatest number of an append to the table; -1 if none had one."""
    found = log.transaction_version(table.name)
    return -1 if found is None else int(found)
