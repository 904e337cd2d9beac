"""Hashes of a month's published rows: the same for the same rows in any order, at any number of partitions.

Each row is hashed as the text of its columns; hashes are gathered by their first digits, sorted within, and hashed up. Written
and hashed by Arrow and hashlib in the tasks, as Spark takes several times as long to cast and hash a row. DuckDB works the same
hash out in ``jobs.exact_sql``, by which a pack is checked.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.steps import Steps, are_few
from jobs.table_rows import TableRows
from schemas.tables import PUBLISHED

_BEFORE_FIGURES, _AFTER_FIGURES = ("subscription_key",), ("revision", "publication_id")
"""Columns at the beginning and the end of a row that are no figures."""
_NAMES = ("rows_hash", "figures_hash")
_DIGEST = hashlib.sha256().digest_size
_DIGITS = 3
"""Hexadecimal digits of a row's hash, twelve bits, that choose its bucket: 4,096 keep each small for tens of millions of rows."""
_FIRST = 16
_SEPARATOR = "\x1f"
DIGESTS = pa.schema([("name", pa.string()), ("first", pa.int32()), ("digests", pa.binary())])
"""Hashes of rows one after the other, by the first hexadecimal digit of each."""
_BUCKETS = pa.schema([(name, pa.string()) for name in ("name", "bucket", "bucket_hash")])


def hashes(rows: TableRows) -> dict[str, str]:
    """SHA-256 of the sorted rows of ``published``.

    Returns:
        ``rows_hash``, of whole rows, and ``figures_hash``, without keys, revision and publication: equal figures, equal hash.
    """
    return hashed_up(rows.mapped(digests, DIGESTS, are_few(rows.counts)))


def digests(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Hashes of rows with the columns of PUBLISHED, as rows of DIGESTS, for ``hashed_up``."""
    found: dict[str, list[bytes]] = {name: [] for name in _NAMES}
    for batch in batches:
        written = {name: _written(batch[name]) for name in PUBLISHED.names}
        rows = pc.binary_join_element_wise(*written.values(), _SEPARATOR).cast(pa.binary()).to_pylist()
        before, after = (_octets(written, names) for names in (_BEFORE_FIGURES, _AFTER_FIGURES))
        figures = (row[begin : len(row) - end] for row, begin, end in zip(rows, before, after, strict=True))
        for name, texts in zip(_NAMES, (rows, figures), strict=True):
            found[name].append(b"".join(hashlib.sha256(text).digest() for text in texts))
    yield pa.RecordBatch.from_pylist([row for name, of in found.items() for row in _gathered(name, of)], DIGESTS)


def _octets(written: Mapping[str, pa.StringArray], names: Sequence[str]) -> list[int]:
    """How many octets of each row some columns are, each with a separator."""
    octets: list[int] = reduce(pc.add, [pc.add(pc.binary_length(written[name]), len(_SEPARATOR)) for name in names]).to_pylist()
    return octets


def hashed_up(steps: Steps) -> dict[str, str]:
    """What ``hashes`` returns, from the hashes of rows."""
    buckets = steps.then("first", _FIRST, _hashed_up, _BUCKETS).rows().to_pylist()
    found = sorted((row["name"], row["bucket"], row["bucket_hash"]) for row in buckets)
    together = {name: "".join(bucket_hash for of, _, bucket_hash in found if of == name) for name in _NAMES}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in together.items()}


def _written(values: pa.Array) -> pa.StringArray:
    """Values as text; of a decimal every place, never an exponent."""
    text = values.cast(pa.string())
    if pa.types.is_decimal(values.type):
        zero = pa.scalar(Decimal(0), values.type)
        text = pc.if_else(pc.fill_null(pc.equal(values, zero), False), format(zero.as_py(), "f"), text)
        has_exponent = pc.fill_null(pc.match_substring(text, "E"), False)
        if has_exponent.true_count:
            text = pc.replace_with_mask(
                text, has_exponent, pa.array([format(v, "f") for v in values.filter(has_exponent).to_pylist()])
            )
    return pc.fill_null(text, "null")


def _gathered(name: str, digests: Sequence[bytes]) -> Iterator[Mapping[str, object]]:
    octets = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _DIGEST)
    firsts = octets[:, 0] // _FIRST
    for first in np.unique(firsts):
        yield {"name": name, "first": int(first), "digests": octets[firsts == first].tobytes()}


def _hashed_up(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The hash of each bucket's sorted hashes; all of a bucket are in one task."""
    gathered: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    for batch in batches:
        for row in batch.to_pylist():
            gathered[row["name"], row["first"]].append(row["digests"])
    found = []
    for (name, _), some in gathered.items():
        octets = np.frombuffer(b"".join(some), np.uint8).reshape(-1, _DIGEST)
        numbers = (octets[:, 0].astype(np.uint16) << 4) | (octets[:, 1] >> 4)
        order, distinct = np.argsort(numbers, kind="stable"), np.unique(numbers)
        ends = np.searchsorted(numbers[order], distinct, side="right").tolist()
        for bucket, begin, end in zip(distinct.tolist(), [0, *ends], ends, strict=False):
            digests = "".join(sorted(digest.tobytes().hex() for digest in octets[order[begin:end]]))
            bucket_hash = hashlib.sha256(digests.encode()).hexdigest()
            found.append({"name": name, "bucket": f"{bucket:0{_DIGITS}x}", "bucket_hash": bucket_hash})
    yield pa.RecordBatch.from_pylist(found, _BUCKETS)
