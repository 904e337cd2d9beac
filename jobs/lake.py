"""The lake: the only module that writes Delta tables, and that reads them with Spark; their log is ``delta_log``'s.

Tables are made from their declaration in ``schemas`` with row rules as constraints, so that a wrong row is refused by every
writer. Errors of Delta and Spark quote the values of a row; here they are replaced by the table and the rule.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property, reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from delta.tables import DeltaTable as SparkDeltaTable
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JJavaError
from pyarrow.compute import Expression
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import IntegerType

from jobs import delta_log
from jobs.data_files import FOUND, DataFile, TableWriter
from jobs.delta_log import ANY, Where, files_that_may_hold, log_of
from jobs.lake_reader import dataset
from jobs.run import Refused
from schemas.table import Table

_CHECK = re.compile(r"\[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES\] CHECK constraint (\w+)")
_REQUIRED = re.compile(r"\[DELTA_NOT_NULL_CONSTRAINT_VIOLATED\] NOT NULL constraint violated for column: `?(\w+)`?")
_BROKEN = "broken_rule"
_CONDITION = re.compile(r"(?:^|: )\[([A-Z][A-Z0-9_.]{5,})\] ", re.MULTILINE)

# PySpark writes the message of a failed expression, with the value it quotes, to standard error before anyone can catch it.
for _name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
    PySparkLogger.getLogger(_name).setLevel(logging.CRITICAL + 1)

NEW = 0
"""The version that a table is made with."""


class LakeError(RuntimeError):
    """A table could not be read or written; the message names the table and the rule or condition, never a value."""


class EmptyMonthError(Refused):
    """A frame without rows would have erased a month."""


@dataclass(frozen=True)
class Told:
    """Columns of a frame that follow from a number in each of its rows: only the number is handed to the workers.

    Args:
        number: the column of the number, which is none of the table.
        rows: the columns, a row for each number from 0.
    """

    number: str
    rows: pa.Table

    @property
    def names(self) -> list[str]:
        """The columns that follow."""
        return list(self.rows.column_names)


@dataclass(frozen=True)
class Part:
    """Rows of a table, and what the workers know of them without being handed it."""

    frame: DataFrame
    told: Told | None = None


@dataclass(frozen=True)
class Lake:
    """Delta tables under one root.

    ``session`` is called when Spark is first asked for, ``fence`` before every commit: it raises when another writer took over.

    A table of many rows is read and written as a Spark frame; one that only the driver reads, a few rows for each batch or
    month, as ``small`` and ``append_rows``, which start no Spark job.
    """

    session: Callable[[], SparkSession]
    root: str
    fence: Callable[[], None]
    _small: dict[str, tuple[int, list[Row]]] = field(default_factory=dict)
    _found: dict[str, tuple[int, dict[str, DataFrame]]] = field(default_factory=dict)
    _kept: dict[str, tuple[object, Any]] = field(default_factory=dict)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session."""
        return self.session()

    def path(self, table: Table) -> str:
        """Where the table lies."""
        return f"{self.root}/{table.name}"

    def exists(self, table: Table) -> bool:
        """The table has been written to."""
        return self.version(table) >= 0

    def version(self, table: Table) -> int:
        """The table's latest Delta version, -1 before it exists."""
        return delta_log.latest_version(self.path(table))

    def read(self, table: Table, where: Where = ANY, version: int | None = None) -> DataFrame:
        """Rows of a table, its declared columns; none before it exists (or existed, at version -1).

        Args:
            table: the table.
            where: what the rows have in some columns, such as ``in_month`` gives. Only data files are read that may hold such
                rows; what a query asks beyond it leaves out partitions, but no file by its minima and maxima.
            version: a version of the table; by default the latest, with all the columns that are declared now.
        """
        at = self.version(table) if version is None else version
        kept_at, kept = self._found.get(table.name, (at, {}))
        if kept_at != at:
            kept = {}
        self._found[table.name] = (at, kept)
        asked = repr(sorted(where.items()))
        if asked not in kept:
            with redacted(table):
                kept[asked] = self._rows(table, at, where, is_latest=version is None)
        return kept[asked]

    def _rows(self, table: Table, version: int, where: Where, is_latest: bool) -> DataFrame:
        log = self._log_as_of(table, version)
        if log is None:
            return self._rows_of_files(table, [])
        if is_latest:
            self._require_columns(table, [field.name for field in log.schema().fields])
        return self._rows_of_files(table, [*files_that_may_hold(log, where)]).where(meets(where))

    def paths(self, table: Table, where: Where, version: int | None = None) -> dict[str, int]:
        """Paths under the table of the data files that may hold such rows, now or as of a version, with how many rows they have.

        At version -1 there is no table.
        """
        with redacted(table):
            log = self._log_as_of(table, version)
            return {} if log is None else files_that_may_hold(log, where)

    def _log_as_of(self, table: Table, version: int | None) -> DeltaTable | None:
        """The log, now or as of a version; none as of -1, before the table."""
        return None if version == -1 else log_of(self.path(table), version)

    def _rows_of_files(self, table: Table, paths: Sequence[str]) -> DataFrame:
        """Rows of data files under the table, by Spark's own reader of Parquet."""
        if not paths:
            return self.rows(table, [])
        place = self.path(table)
        reader = self.spark.read.schema(table.spark_schema).option("basePath", place)
        return reader.parquet(*[f"{place}/{path}" for path in paths]).select(*table.names)

    def _require_columns(self, table: Table, found: Sequence[str]) -> None:
        missing = [name for name in table.names if name not in found]
        if missing:
            raise Refused(
                f"{self.path(table)} lacks {', '.join(missing)}: the lake was made by an earlier version of this code. "
                "Go on with that version, or set FOOTPRINT_LAKE to a new lake and read the files again"
            )

    def rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
        """A frame of the table's columns from a few rows of the driver."""
        return self.spark.createDataFrame(_arrow(table, rows), table.spark_schema)

    def small(self, table: Table) -> list[Row]:
        """All rows of a small table on the driver, in no order, instants with their zone. Kept while the table stays as it is."""
        version = self.version(table)
        kept = self._small.get(table.name)
        if kept is None or kept[0] != version:
            kept = self._small[table.name] = (version, self.few(table))
        return list(kept[1])

    def few(self, table: Table, where: Expression | None = None) -> list[Row]:
        """Rows of a small table on the driver that meet a condition, read by Arrow: a Spark job for a few rows takes longer."""
        found = dataset(self.root, table)
        self._require_columns(table, found.schema.names)
        return _driver_rows(found.to_table(list(table.names), where).cast(table.arrow_schema))

    def kept(self, name: str, state: object, find: Callable[[], Any]) -> Any:
        """Something that was found in the lake, found anew only where the state that it depends on is another."""
        if name not in self._kept or self._kept[name][0] != state:
            self._kept[name] = (state, find())
        return self._kept[name][1]

    def last_number(self, table: Table) -> int:
        """The greatest number that an append to the table had; -1 if none had one."""
        log = log_of(self.path(table))
        return -1 if log is None else delta_log.last_number(log, table)

    def append(self, table: Table, frame: DataFrame, number: int | None = None) -> None:
        """Append rows. With ``number``, an append of the same or a later number that already happened is skipped."""
        conformed = _conform(table, frame)
        with redacted(table):
            log = self._log(table)
            if not _has_happened(log, table, number):
                self._commit(log, table, self._written(table, conformed), number)

    def append_rows(self, table: Table, rows: Sequence[Mapping[str, Any]], number: int | None = None) -> None:
        """Append a few rows of the driver; otherwise as ``append``.

        Raises:
            LakeError: a row breaks a rule of the table; nothing is written.
        """
        arrow = _arrow(table, rows)
        broken = broken_rules(table, arrow.to_pylist())
        if broken:
            raise LakeError(f"{table.name}: refused by the rule {', '.join(broken)}")
        writer = TableWriter(table, self.path(table))
        writer.write({name: arrow[name].combine_chunks() for name in table.names})
        version = self.commit(table, writer.close(), number)
        known = self._small.get(table.name)
        if known is not None and version == known[0] + 1:
            self._small[table.name] = (version, [*known[1], *_driver_rows(arrow)])

    def commit(self, table: Table, files: Sequence[DataFile], number: int | None = None) -> int | None:
        """Add files that are written to the table in one transaction; with ``number``, skipped as ``append`` is.

        Whoever wrote the files answers for the rules of the table: ``broken_rules`` for a few rows, ``_first_broken`` for
        those of a frame, ``jobs.counts`` for what accept reads.

        Returns:
            The table's new version; None if the append was skipped.
        """
        with redacted(table):
            log = self._log(table)
            return None if _has_happened(log, table, number) else self._commit(log, table, files, number)

    def replace_month(self, table: Table, rows: DataFrame | Sequence[Part], usage_month: date, **within: int) -> int:
        """Replace the rows of one month in one commit. Return how many they are now.

        Args:
            table: the table, partitioned by month.
            rows: its rows; all together, or in parts.
            usage_month: the month.
            within: values of the table's other partition columns, such as ``revision=2``: only their rows are replaced.

        Raises:
            EmptyMonthError: there is no row; the month is left as it was, rather than erased.
            LakeError: a row breaks a rule of the table, or is of another month.
        """
        replaced = in_month(usage_month, **within)
        if replaced.keys() != set(table.partitioned_by):
            raise LakeError(f"{table.name}: a month is replaced within {', '.join(table.partitioned_by)}")
        parts = [Part(rows)] if isinstance(rows, DataFrame) else rows
        conformed = [(_conform(table, part.frame, part.told), part.told) for part in parts]
        with redacted(table):
            log = self._log(table)
            # While one part is planned, or ends, another has the processors.
            with ThreadPoolExecutor(max(1, len(conformed))) as side_by_side:
                written = [*side_by_side.map(lambda part: self._written(table, *part), conformed)]
            return self._replace(log, table, [file for part in written for file in part], replaced)

    def replace_files(self, table: Table, files: Sequence[DataFile], usage_month: date, **within: int) -> int:
        """As ``replace_month``, by files that are written; whoever wrote them answers for the rules, as of ``commit``."""
        with redacted(table):
            return self._replace(self._log(table), table, files, in_month(usage_month, **within))

    def _replace(self, log: DeltaTable, table: Table, files: Sequence[DataFile], replaced: Where) -> int:
        require_rows(table, files, replaced["usage_month"])
        if any(file.partition != {name: str(value) for name, value in replaced.items()} for file in files):
            raise LakeError(f"{table.name}: refused by the rule no row of another month")
        self._commit(log, table, files, replaced=replaced)
        return sum(file.rows for file in files)

    def _log(self, table: Table) -> DeltaTable:
        """The log of a table, which is made if it is not there."""
        if (log := log_of(self.path(table))) is not None:
            return log
        self.fence()
        delta_log.create(self.path(table), table)
        self._small[table.name] = (NEW, [])
        return self._log(table)

    def _written(self, table: Table, conformed: DataFrame, told: Told | None = None) -> list[DataFile]:
        """Data files with the rows of a frame, not part of the table yet; the workers write them, if no row breaks a rule."""
        place, known = self.path(table), {} if told is None else {name: told.rows[name].combine_chunks() for name in told.names}
        number = None if told is None else told.number

        def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            writer, broken = TableWriter(table, place), set()
            for batch in batches:
                broken |= set(pc.unique(batch[_BROKEN].drop_null()).to_pylist())
                if not broken:
                    handed = {name: batch[name] for name in batch.schema.names}
                    writer.write(handed | {name: _looked_up(values, batch[number]) for name, values in known.items()})
            files = [] if broken else [file.as_json() for file in writer.close()]
            yield pa.RecordBatch.from_pylist([{"found": json.dumps({"files": files, "broken": sorted(broken)})}], FOUND)

        handed = [name for name in conformed.columns if name not in known]
        rows = (
            conformed.select(*handed, _first_broken(table).alias(_BROKEN)).mapInArrow(write, from_arrow_schema(FOUND)).collect()
        )
        return judged_files(table, [json.loads(row.found) for row in rows])

    def _commit(
        self, log: DeltaTable, table: Table, files: Sequence[DataFile], number: int | None = None, replaced: Where | None = None
    ) -> int:
        """Commit on the log as it was before anything was written: what came meanwhile is not written over."""
        self.fence()
        return delta_log.commit(log, table, files, number, replaced)

    def erase(self, table: Table, condition: str | Column) -> None:
        """Delete rows. Old versions of the table still hold them until ``vacuum``."""
        if self.exists(table):
            self.fence()
            with redacted(table):
                self._delta(table).delete(condition)

    def erase_keys(self, table: Table, column: str, keys: DataFrame) -> None:
        """Delete rows whose column is among the keys, a frame of that one column."""
        if self.exists(table):
            self.fence()
            with redacted(table):
                merged = self._delta(table).alias("row").merge(keys.distinct().alias("key"), f"row.{column} = key.{column}")
                merged.whenMatchedDelete().execute()

    def blank(self, table: Table, columns: Sequence[str], condition: str) -> None:
        """Set columns of rows to null."""
        if self.exists(table):
            self.fence()
            filled = " OR ".join(f"{name} IS NOT NULL" for name in columns)
            with redacted(table):
                self._delta(table).update(f"({condition}) AND ({filled})", dict.fromkeys(columns, "NULL"))

    def vacuum(self, table: Table) -> None:
        """Remove files that no version within the retention of the table needs."""
        self.fence()
        with redacted(table):
            self._delta(table).vacuum()

    def _delta(self, table: Table) -> SparkDeltaTable:
        return SparkDeltaTable.forPath(self.spark, self.path(table))


def require_rows(table: Table, files: Sequence[DataFile], usage_month: date) -> None:
    """Raises EmptyMonthError, if there are no files that would hold the rows of a month."""
    if not files:
        raise EmptyMonthError(f"{table.name} of {usage_month:%Y-%m} would be empty: the month is left as it was")


def judged_files(table: Table, found: Sequence[Mapping[str, Any]]) -> list[DataFile]:
    """What tasks say of the ``files`` that they wrote. Raises LakeError, if rows had ``broken`` rules of the table."""
    if broken := {rule for of_task in found for rule in of_task["broken"]}:
        raise LakeError(f"{table.name}: refused by the rule {', '.join(sorted(broken))}")
    return [DataFile(**file) for of_task in found for file in of_task["files"]]


def in_month(usage_month: date, **within: int) -> dict[str, Any]:
    """The rows that are of the month, and of the values given for other columns, such as ``revision=2``."""
    return {"usage_month": usage_month, **within}


def meets(where: Where) -> Column:
    """Whether a row is so."""
    ranges = [(F.col(name), *delta_log.ends(wanted)) for name, wanted in where.items()]
    met = [c == F.lit(a) if a == b else c.between(F.lit(a), F.lit(b)) for c, a, b in ranges]
    return reduce(Column.__and__, met, F.lit(True))


def meeting(rows: pa.RecordBatch, where: Where) -> npt.NDArray[np.bool_]:
    """As ``meets``, of rows of Arrow: those that are so."""
    met = np.ones(len(rows), bool)
    for name, (least, greatest) in ((name, delta_log.ends(wanted)) for name, wanted in where.items()):
        lies_there = pc.and_kleene(pc.greater_equal(rows[name], least), pc.less_equal(rows[name], greatest))
        met &= pc.fill_null(lies_there, False).to_numpy(zero_copy_only=False)
    return met


def _has_happened(log: DeltaTable, table: Table, number: int | None) -> bool:
    """The append of that number, or a later one, is in the log."""
    return number is not None and delta_log.last_number(log, table) >= number


def _first_broken(table: Table) -> Column:
    """The first required column that a row lacks, or rule of the table that it breaks; null if there is none."""
    rules = {f"{column.name} NOT NULL": F.col(column.name).isNotNull() for column in table.columns if column.is_required}
    rules |= {name: F.coalesce(F.expr(rule), F.lit(False)) for name, rule in sorted(table.checks.items())}
    return F.coalesce(F.lit(None).cast("string"), *[F.when(~is_met, name) for name, is_met in rules.items()])


def broken_rules(table: Table, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the rules that rows break. SQLite judges: it reads the same SQL, and a Spark job for a few rows takes longer."""
    with _judging(table, rows) as count:
        return [name for name, rule in sorted(table.checks.items()) if count(f"NOT ({rule})")]


def rows_that_break_rules(table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """How many rows break a rule of their table, or several."""
    with _judging(table, rows) as count:
        return count(" OR ".join(f"NOT ({rule})" for rule in table.checks.values()))


@contextmanager
def _judging(table: Table, rows: Sequence[Mapping[str, Any]]) -> Iterator[Callable[[str], int]]:
    """How many of some rows meet a condition."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE judged ({', '.join(table.names)})")
        values = [[_sqlite(row[name]) for name in table.names] for row in rows]
        database.executemany(f"INSERT INTO judged VALUES ({', '.join('?' * len(table.names))})", values)
        yield lambda condition: int(database.execute(f"SELECT count(*) FROM judged WHERE {condition}").fetchone()[0])


def _sqlite(value: Any) -> Any:
    """A value as SQLite compares it like Spark does."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return json.dumps(value) if isinstance(value, list) else value


def _arrow(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=table.arrow_schema)


def _driver_rows(rows: pa.Table) -> list[Row]:
    return [Row(**row) for row in rows.to_pylist()]


def _looked_up(values: pa.Array, numbers: pa.Array) -> pa.Array:
    """Values by their number; texts stay numbers into a dictionary, as they are written."""
    return pa.DictionaryArray.from_arrays(numbers, values) if pa.types.is_string(values.type) else values.take(numbers)


def _conform(table: Table, frame: DataFrame, told: Told | None = None) -> DataFrame:
    declared = {field.name: field.dataType for field in table.spark_schema.fields}
    if told is not None:
        declared[told.number] = IntegerType()
    given = {field.name: field.dataType for field in frame.schema.fields}
    if given.keys() != declared.keys():
        raise LakeError(f"{table.name}: columns differ from the declaration: {sorted(given.keys() ^ declared.keys())}")
    wrong = [f"{name} is {given[name].simpleString()}" for name in declared if given[name] != declared[name]]
    if wrong:
        raise LakeError(f"{table.name}: types differ from the declaration: {', '.join(wrong)}")
    return frame.select(*declared)


@contextmanager
def redacted(table: Table) -> Iterator[None]:
    """Replace an error that may quote a row by one that names the table and the broken rule."""
    try:
        yield
    except (OverflowError, PySparkException, Py4JJavaError, DeltaError) as error:
        raise LakeError(f"{table.name}: {harmless_cause(error)}") from None


def harmless_cause(error: Exception) -> str:
    """What went wrong in Spark or Delta, without the values that their messages quote."""
    text = f"OverflowError: {error}" if isinstance(error, OverflowError) else str(error)  # this project's own, on the driver
    worker = re.findall(r"(?:ReadFault|OverflowError): [^\n]*", text)
    if worker:
        return str(worker[-1])
    broken = set(_CHECK.findall(text))
    broken |= {f"{column} NOT NULL" for column in _REQUIRED.findall(text)}
    if broken:
        return f"refused by the rule {', '.join(sorted(broken))}"
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    conditions = sorted(set(_CONDITION.findall(text)))
    return condition or ", ".join(conditions) or type(error).__name__


def collected(frame: DataFrame) -> list[Row]:
    """A few rows on the driver. Instants keep their zone; ``collect`` would give local times of this machine."""
    return _driver_rows(frame.toArrow())


def versions(lake: Lake, tables: Sequence[Table]) -> str:
    """The Delta versions of the tables as JSON, to pin what a batch was planned on."""
    return json.dumps({table.name: lake.version(table) for table in tables}, sort_keys=True)
