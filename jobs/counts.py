"""What lies in data files that no table has yet, counted from the files themselves, and the rules of their table judged.

By DuckDB, which reads the rules as they are declared. What accept has written is counted from the files: a worker's own count of
it would only repeat its mistakes. Rows that DuckDB itself has worked out are judged as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jobs.data_files import DataFile, TableWriter
from jobs.grouped import Amounts, added_up
from jobs.lake import Lake, LakeError
from jobs.steps import asked
from jobs.table_rows import Files, OfFiles
from schemas.table import Table

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
    words = {*re.findall(r"\w+", " ".join(of_row for _, of_row in asked_for.values()))}
    rows = OfFiles(
        lake, [Files(table, {file.path: file.rows for file in files})], ["file_number", *sorted(words & {*table.names})]
    )
    found = {row.pop("file_number"): row for row in added_up(rows, ["file_number"], asked_for)}
    rules = [name.removeprefix(_BROKEN) for name in sorted(broken) if any(of_file[name] for of_file in found.values())]
    if rules:
        raise LakeError(f"{table.name}: refused by the rule {', '.join(rules)}")
    return {number: {name: of[name] for name in amounts if of[name] is not None} for number, of in found.items()}


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
    for name, value in of_all.items():
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, table.arrow_schema.field(name).type), len(rows)))
    rules = {name: f"count_if(({rule}) IS NOT TRUE)" for name, rule in table.checks.items()}
    counted = asked(f"SELECT {', '.join(rules.values())} FROM rows", rows=rows).to_pylist()[0].values() if rules else []
    broken = [*lacking, *(name for name, count in zip(rules, counted, strict=True) if count)]
    writer = TableWriter(table, place)
    if not broken:
        writer.write(columns)
    return {"files": [file.as_json() for file in writer.close()], "broken": broken}


def _lacks(values: Any) -> bool:
    return bool(values.null_count) if isinstance(values, pa.Array) else values is None
