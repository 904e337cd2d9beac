"""Rows that travel between steps in pieces: thousands as one value of a row, by how their key begins.

Spark moves a value of some kilobytes as fast as one of some octets, and the driver sorts out few rows instead of many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from jobs.pseudonyms import PSEUDONYM, beginnings
from jobs.steps import Work
from schemas.table import Table

ENCODED = pa.dictionary(pa.int32(), pa.string())
"""Few texts, as numbers into a dictionary."""
PIECES = pa.schema([("piece", pa.int32()), ("kind", pa.string()), ("rows", pa.binary())])
"""Rows of some kind, in the stream format of Arrow's IPC."""
PIECE_ROWS = 1 << 20
"""Rows that a piece has at most, by and large: they, what they are joined with, and DuckDB's copy are some 300 octets each."""
_LEAST_PIECE_ROWS, _HANDED_ON_ROWS, _MOST_PIECES = 1 << 17, 1 << 19, 4096
_CUT_ROWS = 1 << 20
"""Rows that are cut at once: their copies take five times their room."""


def pieces_for(rows: int, processors: int) -> int:
    """How many pieces so many rows are in: of about PIECE_ROWS at most, the same for each processor, unless they are few."""
    if rows < PIECE_ROWS * processors:
        return max(1, min(processors, math.ceil(rows / _LEAST_PIECE_ROWS)))
    return processors * math.ceil(min(rows / PIECE_ROWS, _MOST_PIECES) / processors)


def handed_on(
    kind: str, columns: pa.Schema, key: str, count: int, told: Callable[[pa.RecordBatch], Any] = lambda rows: rows
) -> Work:
    """Work that hands rows on in pieces, some at a time.

    Args:
        kind: what the rows are, which ``of_pieces`` tells apart.
        columns: what is handed on of them.
        key: the column by which rows meet, a pseudonym.
        count: how many pieces there are.
        told: what has the columns, of rows that have others.
    """

    def hand_on(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: list[pa.Table] = []
        for rows in batches:
            held.append(of_schema(told(rows), columns))
            if sum(map(len, held)) >= _HANDED_ON_ROWS:
                yield from in_pieces(kind, pa.concat_tables(held), key, count)
                held = []
        if held:
            yield from in_pieces(kind, pa.concat_tables(held), key, count)

    return hand_on


def in_pieces(kind: str, rows: pa.Table, key: str, count: int) -> Iterator[pa.RecordBatch]:
    """Rows as one value for each piece that there is, of so many, by how their key begins; those without one are in the first.

    Args:
        kind: what the rows are, which ``of_pieces`` tells apart.
        rows: the rows; ``key`` is a pseudonym.
        key: the column.
        count: how many pieces there are.
    """
    for begin in range(0, len(rows), _CUT_ROWS):
        yield from _cut(kind, rows.slice(begin, _CUT_ROWS), key, count)


def _cut(kind: str, rows: pa.Table, key: str, count: int) -> Iterator[pa.RecordBatch]:
    keys = rows[key].cast(PSEUDONYM).combine_chunks()
    piece = np.zeros(len(rows), np.int64)
    piece[keys.is_valid().to_numpy(zero_copy_only=False)] = beginnings(keys.drop_null()) % np.uint64(count)
    order = np.argsort(piece.astype(np.uint16 if count <= 1 << 16 else np.int64), kind="stable")
    ordered = rows.unify_dictionaries().combine_chunks().take(pa.array(order))
    ends = np.cumsum(np.bincount(piece, minlength=count)).tolist()
    for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if begin < end:
            piece_of = {"piece": number, "kind": kind, "rows": _serialised(ordered.slice(begin, end - begin))}
            yield pa.RecordBatch.from_pylist([piece_of], PIECES)


def in_one(kind: str, rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Rows as one value, in the first piece."""
    yield pa.RecordBatch.from_pylist([{"piece": 0, "kind": kind, "rows": _serialised(rows)}], PIECES)


def tables_of(batches: Iterable[pa.RecordBatch], kinds: Iterable[str]) -> dict[str, list[pa.Table]]:
    """The rows of pieces of each kind, as they were handed on."""
    found: dict[str, list[pa.Table]] = {kind: [] for kind in kinds}
    for of in (row for batch in batches for row in batch.to_pylist()):
        if of["kind"] in found:
            found[of["kind"]].append(pa.ipc.open_stream(of["rows"]).read_all())
    return found


def of_pieces(batches: Iterable[pa.RecordBatch], schemas: Mapping[str, pa.Schema]) -> dict[str, pa.Table] | None:
    """The rows of pieces by kind, each of its schema; None without any."""
    found = tables_of(batches, schemas)
    if not any(found.values()):
        return None
    return {kind: pa.concat_tables([schemas[kind].empty_table(), *tables]).unify_dictionaries() for kind, tables in found.items()}


def travelling(table: Table, columns: Sequence[str]) -> pa.Schema:
    """Columns of a table as they travel: keys are pseudonyms, texts encoded."""
    kinds = {pa.binary(): PSEUDONYM, pa.string(): ENCODED}
    fields = [table.arrow_schema.field(name) for name in columns]
    return pa.schema([pa.field(field.name, kinds.get(field.type, field.type)) for field in fields])


def of_schema(rows: pa.RecordBatch | pa.Table | Mapping[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """Columns in the types of a schema, texts encoded."""
    columns = []
    for of in schema:
        is_plain = pa.types.is_dictionary(of.type) and not pa.types.is_dictionary(rows[of.name].type)
        columns.append(pc.dictionary_encode(rows[of.name]) if is_plain else rows[of.name].cast(of.type))
    return pa.table(columns, schema=schema)


def _serialised(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue())
