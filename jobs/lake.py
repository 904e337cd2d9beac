"""The lake: the only module that reads or writes Delta tables.

Tables are made from their declaration in ``schemas`` with row rules as constraints, so that a wrong row is refused by every
writer. Errors of Delta and Spark quote the values of a row; here they are replaced by the table and the rule.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyarrow import fs
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.files import filesystem
from jobs.run import Refused
from schemas.table import Table

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECK = re.compile(r"\[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES\] CHECK constraint (\w+)")
_REQUIRED = re.compile(r"\[DELTA_NOT_NULL_CONSTRAINT_VIOLATED\] NOT NULL constraint violated for column: `?(\w+)`?")
_CONDITION = re.compile(r"(?:^|: )\[([A-Z][A-Z0-9_.]{5,})\] ", re.MULTILINE)
_UNNAMED = "EXPRESSION"
"""Delta's name for the one rule without a name, that of ``replaceWhere``."""

# PySpark writes the message of a failed expression, with the value it quotes, to standard error before anyone can catch it.
for _name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
    PySparkLogger.getLogger(_name).setLevel(logging.CRITICAL + 1)


class LakeError(RuntimeError):
    """A table could not be read or written; the message names the table and the rule or condition, never a value."""


class EmptyMonthError(Refused):
    """A frame without rows would have erased a month."""


@dataclass(frozen=True)
class Lake:
    """Delta tables under one root. ``fence`` is called before every commit and raises when another writer took over."""

    spark: SparkSession
    root: str
    fence: Callable[[], None]

    def path(self, table: Table) -> str:
        """Where the table lies."""
        return f"{self.root}/{table.name}"

    def exists(self, table: Table) -> bool:
        """The table has been written to."""
        return self.version(table) >= 0

    def version(self, table: Table) -> int:
        """The table's latest Delta version, -1 before it exists. Read from the names in the log, which costs no Spark job."""
        files, path = filesystem(self.path(table))
        entries = files.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
        commits = [match for entry in entries if (match := _COMMIT.fullmatch(entry.base_name))]
        return max((int(match[1]) for match in commits), default=-1)

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table's declared columns; no rows before it exists (or existed, at version -1)."""
        if version == -1 or not self.exists(table):
            return self.spark.createDataFrame([], table.spark_schema)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        with _redacted(table):
            return reader.load(self.path(table)).select(*table.names)

    def rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
        """A frame of the table's columns from a few rows of the driver."""
        arrow = pa.Table.from_pylist([dict(row) for row in rows], schema=table.arrow_schema)
        return self.spark.createDataFrame(arrow, table.spark_schema)

    def append(self, table: Table, frame: DataFrame, number: int | None = None) -> None:
        """Append rows. With ``number``, an append of the same or a later number that already happened is skipped."""
        self._create(table)
        writer = _conform(table, frame).write.format("delta").mode("append")
        if number is not None:
            writer = writer.option("txnAppId", table.name).option("txnVersion", number)
        self.fence()
        with _redacted(table):
            writer.save(self.path(table))

    def replace_month(self, table: Table, frame: DataFrame, usage_month: date) -> None:
        """Replace the rows of one month in one commit. Raises EmptyMonthError rather than erase a month."""
        self._create(table)
        with _redacted(table):
            # Kept, so that looking whether there are rows does not compute them twice.
            conformed = _conform(table, frame).persist()
            try:
                self._replace_month(table, conformed, usage_month)
            finally:
                conformed.unpersist()

    def _replace_month(self, table: Table, rows: DataFrame, usage_month: date) -> None:
        if rows.isEmpty():
            raise EmptyMonthError(f"{table.name} of {usage_month:%Y-%m} would be empty: the month is left as it was")
        self.fence()
        month = f"usage_month = DATE'{usage_month}'"
        rows.write.format("delta").mode("overwrite").option("replaceWhere", month).save(self.path(table))

    def erase(self, table: Table, condition: str) -> None:
        """Delete rows. Old versions of the table still hold them until ``vacuum``."""
        if self.exists(table):
            self.fence()
            with _redacted(table):
                self._delta(table).delete(condition)

    def erase_keys(self, table: Table, column: str, keys: DataFrame) -> None:
        """Delete rows whose column is among the keys, a frame of that one column."""
        if self.exists(table):
            self.fence()
            with _redacted(table):
                merged = self._delta(table).alias("row").merge(keys.distinct().alias("key"), f"row.{column} = key.{column}")
                merged.whenMatchedDelete().execute()

    def blank(self, table: Table, columns: Sequence[str], condition: str) -> None:
        """Set columns of rows to null."""
        if self.exists(table):
            self.fence()
            filled = " OR ".join(f"{name} IS NOT NULL" for name in columns)
            with _redacted(table):
                self._delta(table).update(f"({condition}) AND ({filled})", dict.fromkeys(columns, "NULL"))

    def vacuum(self, table: Table) -> None:
        """Remove files that no version within the retention of the table needs."""
        self.fence()
        with _redacted(table):
            self._delta(table).vacuum()

    def _delta(self, table: Table) -> DeltaTable:
        return DeltaTable.forPath(self.spark, self.path(table))

    def files_of_month(self, table: Table, usage_month: date) -> list[str]:
        """Addresses of the Parquet files that hold a month of a table that is partitioned by month."""
        with _redacted(table):
            return list(self.read(table).where(F.col("usage_month") == F.lit(usage_month)).inputFiles())

    def _create(self, table: Table) -> None:
        if self.exists(table):
            return
        builder = DeltaTable.createIfNotExists(self.spark).location(self.path(table)).comment(table.comment)
        builder = builder.addColumns(table.spark_schema).partitionedBy(*table.partitioned_by)
        for name, value in _properties(table).items():
            builder = builder.property(name, value)
        self.fence()
        with _redacted(table):
            builder.execute()


def _properties(table: Table) -> dict[str, str]:
    """Delta properties: row rules, a protocol every reader knows, and minima and maxima of declared columns only."""
    statistics = [name for name in table.statistics if name not in table.partitioned_by]
    kept = {"delta.dataSkippingStatsColumns": ",".join(statistics)} if statistics else {"delta.dataSkippingNumIndexedCols": "0"}
    retention = {
        "delta.logRetentionDuration": f"interval {table.history_days} days",
        "delta.deletedFileRetentionDuration": "interval 7 days",
    }
    rules = {f"delta.constraints.{name}": rule for name, rule in table.checks.items()}
    return {"delta.minReaderVersion": "1", **kept, **retention, **rules}


def _conform(table: Table, frame: DataFrame) -> DataFrame:
    declared = {field.name: field.dataType for field in table.spark_schema.fields}
    given = {field.name: field.dataType for field in frame.schema.fields}
    if given.keys() != declared.keys():
        raise LakeError(f"{table.name}: columns differ from the declaration: {sorted(given.keys() ^ declared.keys())}")
    wrong = [f"{name} is {given[name].simpleString()}" for name in declared if given[name] != declared[name]]
    if wrong:
        raise LakeError(f"{table.name}: types differ from the declaration: {', '.join(wrong)}")
    return frame.select(*table.names)


@contextmanager
def _redacted(table: Table) -> Iterator[None]:
    """Replace an error that may quote a row by one that names the table and the broken rule."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise LakeError(f"{table.name}: {harmless_cause(error)}") from None


def harmless_cause(error: Exception) -> str:
    """What went wrong in Spark or Delta, without the values that their messages quote."""
    text = str(error)
    worker = re.findall(r"ReadFault: [^\n]*", text)
    if worker:
        return str(worker[-1])
    broken = {"no row of another month" if rule == _UNNAMED else rule for rule in _CHECK.findall(text)}
    broken |= {f"{column} NOT NULL" for column in _REQUIRED.findall(text)}
    if broken:
        return f"refused by the rule {', '.join(sorted(broken))}"
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    conditions = sorted(set(_CONDITION.findall(text)))
    return condition or ", ".join(conditions) or type(error).__name__


def collected(frame: DataFrame) -> list[Row]:
    """A few rows on the driver. Instants keep their zone; ``collect`` would give local times of this machine."""
    return [Row(**row) for row in frame.toArrow().to_pylist()]


def versions(lake: Lake, tables: Sequence[Table]) -> str:
    """The Delta versions of the tables as JSON, to pin what a batch was planned on."""
    return json.dumps({table.name: lake.version(table) for table in tables}, sort_keys=True)
