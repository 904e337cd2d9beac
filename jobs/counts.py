"""What lies in data files that no table has yet, counted from the files themselves, and the rules of their table judged.

By DuckDB, which reads the rules as they are declared: a worker's own count of what it wrote would only repeat its mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jobs.data_files import DataFile, TableWriter, data_file_batches
from jobs.lake import Lake, LakeError
from jobs.steps import are_few, asked, begin, in_groups
from schemas.table import Table

Amounts = Mapping[str, tuple[str, str]]
"""By name: how it adds up over rows (``sum``, ``min`` or ``max``), and its expression of a row."""
_TYPES = {"sum": pa.decimal128(38), "min": pa.timestamp("us", "UTC"), "max": pa.timestamp("us", "UTC")}
_CAST = {"sum": "DECIMAL(38, 0)", "min": "TIMESTAMPTZ", "max": "TIMESTAMPTZ"}
_BROKEN = "breaks "


def by_file(lake: Lake, table: Table, files: Sequence[DataFile], amounts: Amounts) -> dict[int, dict[str, Any]]:
    """Amounts of the rows of data files by ``file_number``; one that no row has is left out.

    Args:
        lake: the lake.
        table: the table that the files are for.
        files: the files.
        amounts: numbers are added, of instants the first or the last is asked.

    Raises:
        LakeError: rows break a rule of the table; nothing but its name and the table's is said.
    """
    broken = {f"{_BROKEN}{name}": ("sum", f"CASE WHEN NOT ({rule}) THEN 1 ELSE 0 END") for name, rule in table.checks.items()}
    asked_for = {**amounts, **broken}
    found: dict[int, dict[str, Any]] = {}
    for row in _of_groups(lake, table, files, asked_for):
        of_file = found.setdefault(row.pop("file_number"), {})
        for name, value in row.items():
            if value is not None:
                of_file[name] = _TOGETHER[asked_for[name][0]]([value, of_file[name]] if name in of_file else [value])
    rules = [name.removeprefix(_BROKEN) for name in sorted(broken) if any(of_file[name] for of_file in found.values())]
    if rules:
        raise LakeError(f"{table.name}: refused by the rule {', '.join(rules)}")
    return {number: {name: of_file[name] for name in amounts if name in of_file} for number, of_file in found.items()}


def write_judged(table: Table, place: str, of_all: Mapping[str, Any], rows: pa.Table) -> dict[str, Any]:
    """Write rows of a table to data files that are no part of it yet, unless they break its rules.

    Args:
        table: the table.
        place: where it lies.
        of_all: values that all rows have in some columns.
        rows: the others.

    Returns:
        The ``files`` and the names of ``broken`` rules, for ``lake.judged_files``.
    """
    columns: dict[str, Any] = {**of_all, **{name: rows[name].combine_chunks() for name in rows.column_names}}
    required = [column.name for column in table.columns if column.is_required]
    lacking = [f"{name} NOT NULL" for name in required if _lacks(columns.get(name))]
    rules = {name: f"count_if(({rule}) IS NOT TRUE)" for name, rule in table.checks.items()}
    counted = asked(f"SELECT {', '.join(rules.values())} FROM rows", rows=rows).to_pylist()[0].values() if rules else []
    broken = [*lacking, *(name for name, count in zip(rules, counted, strict=True) if count)]
    writer = TableWriter(table, place)
    if not broken:
        writer.write(columns)
    return {"files": [file.as_json() for file in writer.close()], "broken": broken}


def _lacks(values: Any) -> bool:
    return bool(values.null_count) if isinstance(values, pa.Array) else values is None


_TOGETHER: Mapping[str, Callable[[Sequence[Any]], Any]] = {"sum": lambda values: sum(map(int, values)), "min": min, "max": max}


def _of_groups(lake: Lake, table: Table, files: Sequence[DataFile], amounts: Amounts) -> Iterator[dict[str, Any]]:
    """Amounts by file, of each group of data files."""
    schema = pa.schema([("file_number", pa.int64()), *((name, _TYPES[how]) for name, (how, _) in amounts.items())])
    chosen = [f'CAST({how}({of_row}) AS {_CAST[how]}) AS "{name}"' for name, (how, of_row) in amounts.items()]
    query = f"SELECT file_number, {', '.join(chosen)} FROM rows GROUP BY file_number"
    columns = sorted({"file_number", *re.findall(r"\w+", " ".join(of_row for _, of_row in amounts.values()))} & {*table.names})
    rows = [file.rows for file in files]
    paths, place, groups = [file.path for file in files], lake.path(table), in_groups(rows)
    of_table = pa.schema([field for field in table.arrow_schema if field.name in columns])

    def count(group: int) -> Iterator[pa.RecordBatch]:
        batches = (batch for number in groups[group] for batch in data_file_batches(place, paths[number], table, columns))
        found = asked(query, rows=pa.RecordBatchReader.from_batches(of_table, batches))
        yield from found.cast(schema).combine_chunks().to_batches()

    yield from begin(lake.spark, are_few(rows), len(groups), count, schema).rows().to_pylist()
