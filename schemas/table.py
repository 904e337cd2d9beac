"""What a table is: one declaration from which every store derives its schema.

Spark and Delta, Arrow, PostgreSQL, the evidence rules and the data dictionary all read the same text, so a type, a unit or a
meaning can only be changed in one place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

_COLUMN = re.compile(
    r"^(?P<name>\w+)\s+(?P<type>[A-Z]+(?:<[A-Z]+>)?(?:\(\d+,\s*\d+\))?)"
    r"(?P<required>\s+NOT NULL)?\s+COMMENT '(?P<comment>(?:[^']|'')+)'$"
)
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")

_ARROW: dict[str, pa.DataType] = {
    "STRING": pa.string(),
    "BINARY": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "ARRAY<BIGINT>": pa.list_(pa.int64()),
}
_SPARK = {"INT": "integer", "BIGINT": "long"}
_POSTGRES = {
    "STRING": "text",
    "BINARY": "bytea",
    "BOOLEAN": "boolean",
    "INT": "integer",
    "BIGINT": "bigint",
    "DATE": "date",
    "TIMESTAMP": "timestamptz",
    "ARRAY<BIGINT>": "bigint[]",
}


@dataclass(frozen=True)
class Column:
    """One column: its SQL type, whether it may be null, and what it means."""

    name: str
    sql_type: str
    is_required: bool
    comment: str

    @property
    def decimal(self) -> tuple[int, int] | None:
        """Precision and scale of a decimal column, else None."""
        match = _DECIMAL.fullmatch(self.sql_type)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def arrow_type(self) -> pa.DataType:
        """The column's type in Arrow."""
        return pa.decimal128(*self.decimal) if self.decimal else _ARROW[self.sql_type]

    @property
    def spark_type(self) -> str | dict[str, Any]:
        """The column's type as Spark writes it in its JSON schemas."""
        if self.sql_type == "ARRAY<BIGINT>":
            return {"type": "array", "elementType": "long", "containsNull": False}
        return _SPARK.get(self.sql_type, self.sql_type.lower())

    @property
    def postgres_type(self) -> str:
        """The column's type in PostgreSQL."""
        return self.sql_type.replace("DECIMAL", "numeric") if self.decimal else _POSTGRES[self.sql_type]


@dataclass(frozen=True)
class Table:
    """A table of the lake, as an auditor may read it.

    Args:
        name: folder under the lake and name in PostgreSQL.
        comment: what one row is.
        text: the columns, a line each: ``name TYPE [NOT NULL] COMMENT 'meaning'``.
        key: columns that identify a row; none where rows that are alike may repeat and nothing may tell them apart.
        checks: row rules by name, as SQL that must not be false.
        partitioned_by: partition columns of the Delta table.
        statistics: columns Delta may keep minimum and maximum of. Pseudonyms are never among them, since the log outlives an
            erased row.
        history_days: days Delta keeps the history of the table.
    """

    name: str
    comment: str
    text: str
    key: tuple[str, ...]
    checks: dict[str, str] = field(default_factory=dict)
    partitioned_by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    history_days: int = 30

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The declared columns in their order. Raises ValueError on a line that is not a column."""
        return tuple(_column(self.name, line) for line in _lines(self.text))

    @property
    def names(self) -> tuple[str, ...]:
        """The column names in their order."""
        return tuple(column.name for column in self.columns)

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the columns of text, but for keys: of these every row may have another, so that they have no dictionary."""
        return tuple(c.name for c in self.columns if c.sql_type == "STRING" and not c.name.endswith("_key"))

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")

    @property
    def arrow_schema(self) -> pa.Schema:
        """The table's schema in Arrow, with nullability."""
        return pa.schema([pa.field(c.name, c.arrow_type, nullable=not c.is_required) for c in self.columns])

    @property
    def spark_schema(self) -> StructType:
        """The table's schema in Spark, with nullability and comments."""
        from pyspark.sql.types import StructType

        fields = [
            {"name": c.name, "type": c.spark_type, "nullable": not c.is_required, "metadata": {"comment": c.comment}}
            for c in self.columns
        ]
        return StructType.fromJson({"type": "struct", "fields": fields})

    def postgres_ddl(self, schema: str, parted_by: str | None = None) -> str:
        """CREATE TABLE for PostgreSQL with key, row rules and comments, safe to repeat; in parts by the values of a column."""
        lines = [f"{c.name} {c.postgres_type}{' NOT NULL' if c.is_required else ''}" for c in self.columns]
        lines += [f"CONSTRAINT {name} CHECK ({rule})" for name, rule in self.checks.items()]
        lines += [f"PRIMARY KEY ({', '.join(self.key)})"] if self.key else []
        name = f"{schema}.{self.name}"
        comments = [f"COMMENT ON TABLE {name} IS {_quoted(self.comment)}"]
        comments += [f"COMMENT ON COLUMN {name}.{c.name} IS {_quoted(c.comment)}" for c in self.columns]
        parts = f" PARTITION BY LIST ({parted_by})" if parted_by else ""
        return f"CREATE TABLE IF NOT EXISTS {name} (\n  " + ",\n  ".join(lines) + f"\n){parts};\n" + ";\n".join(comments) + ";"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _lines(text: str) -> list[str]:
    return [line.strip().rstrip(",") for line in text.strip().splitlines() if line.strip()]


def _column(table: str, line: str) -> Column:
    match = _COLUMN.match(line)
    if not match:
        raise ValueError(f"table {table}: not a column declaration: {line}")
    comment = match["comment"].replace("''", "'")
    return Column(match["name"], match["type"].replace(", ", ","), bool(match["required"]), comment)
