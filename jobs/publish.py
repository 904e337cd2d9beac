"""publish: rows, hashes, one commit in the ledger, then two projections that run until they agree with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from factors.registry import method_text
from jobs import ledger, serving
from jobs.files import filesystem
from jobs.postgres import connect
from jobs.run import Refused, code_version
from jobs.serving_schema import prepare
from jobs.verify import estimated_state, latest_verdict
from jobs.workplace import Workplace
from schemas.tables import ESTIMATED, PUBLICATIONS, PUBLISHED, REVISIONS, VERDICTS

FIRST_PUBLICATION = "first publication"
_BUCKETS = 3
"""Hexadecimal digits of a row's hash that choose its bucket: 4,096 buckets keep each small for tens of millions of rows."""
_NOT_FIGURES = ("subscription_key", "revision", "publication_id")


def publish_month(workplace: Workplace, usage_month: date) -> Row:
    """Publish a verified month, unless it is published, and bring the projections up to the ledger.

    Returns:
        The publication that counts.

    Raises:
        Refused: the month has no passed verdict on what is estimated now.
    """
    published = ledger.current(workplace.lake, usage_month)
    if published is None:
        _commit(workplace, usage_month)
    project(workplace)
    current = ledger.current(workplace.lake, usage_month)
    assert current is not None
    return current


def compose(estimated: DataFrame, revision: int, publication_id: int) -> DataFrame:
    """One row per subscription and month from its components, with the decree's display.

    Volume and grams are rounded half up to the unit, each from its unrounded value (decree 2021-1732; method reference §2.2).

    Args:
        estimated: rows of ``estimated`` of one month.
        revision: revision of the month.
        publication_id: publication the rows belong to.

    Returns:
        Rows of ``published``.
    """
    is_volume = F.col("component") == "volume"
    gigabytes = F.sum(F.when(is_volume, F.col("quantity")).otherwise(F.lit(Decimal(0))))
    grams = {
        "volume_gco2e": F.sum(F.when(is_volume, F.col("gco2e")).otherwise(F.lit(Decimal(0)))),
        "subscription_gco2e": F.sum(F.when(is_volume, F.lit(Decimal(0))).otherwise(F.col("gco2e"))),
        "footprint_gco2e": F.sum("gco2e"),
        "footprint_gco2e_low": _sum_if_complete("gco2e_low"),
        "footprint_gco2e_high": _sum_if_complete("gco2e_high"),
    }
    rows = estimated.groupBy("subscription_key", "usage_month").agg(
        (gigabytes * F.lit(Decimal(1_000_000_000))).cast("bigint").alias("data_volume_bytes"),
        gigabytes.alias("gigabytes"),
        F.bool_or("is_estimated").alias("is_estimated"),
        F.bool_or("is_national_default").alias("is_national_default"),
        *[F.max(name).alias(name) for name in ("network", "brand", "factor_set", "method_id")],
        *[amount.cast("decimal(24,12)").alias(name) for name, amount in grams.items()],
    )
    return rows.withColumns(
        {
            "subscription_key": F.lower(F.hex("subscription_key")),
            "data_volume_gb_displayed": F.round("gigabytes", 0).cast("bigint"),
            "footprint_gco2e_displayed": F.round("footprint_gco2e", 0).cast("bigint"),
            "revision": F.lit(revision),
            "publication_id": F.lit(publication_id).cast("bigint"),
        }
    ).select(*PUBLISHED.names)


def hashes(rows: DataFrame) -> dict[str, str]:
    """SHA-256 of the sorted rows: the same for the same rows in any order and any number of partitions.

    Rows are hashed one by one, gathered by the first digits of their hash, sorted within, and hashed up.

    Returns:
        ``rows_hash``, of whole rows, and ``figures_hash``, without keys, revision and publication: equal figures, equal hash.
    """
    written = {name: F.coalesce(F.col(name).cast("string"), F.lit("null")) for name in rows.columns}
    columns = {
        "rows_hash": list(written.values()),
        "figures_hash": [text for name, text in written.items() if name not in _NOT_FIGURES],
    }
    each = F.array(
        *[F.struct(F.lit(n).alias("name"), F.sha2(F.concat_ws("\x1f", *c), 256).alias("row_hash")) for n, c in columns.items()]
    )
    hashed = rows.select(F.inline(each)).groupBy("name", F.substring("row_hash", 1, _BUCKETS).alias("bucket"))
    buckets = hashed.agg(F.sha2(F.concat_ws("", F.sort_array(F.collect_list("row_hash"))), 256).alias("bucket_hash"))
    found = sorted((row.name, row.bucket, row.bucket_hash) for row in buckets.collect())
    together = {name: "".join(bucket_hash for of, _, bucket_hash in found if of == name) for name in columns}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in together.items()}


def project(workplace: Workplace) -> None:
    """Bring ``published`` and PostgreSQL up to the ledger; a projection that agrees is left alone."""
    current, erased = ledger.current_by_month(workplace.lake), ledger.months_with_erased_figures(workplace.lake)
    for usage_month, publication in current.items():
        if _projected_id(workplace, usage_month) != publication.publication_id:
            rows = _rows_of(workplace, publication)
            if usage_month not in erased or not rows.isEmpty():
                workplace.lake.replace_month(PUBLISHED, rows, usage_month)
    _serve(workplace, erased)


def _commit(workplace: Workplace, usage_month: date) -> None:
    lake = workplace.lake
    state = estimated_state(workplace, usage_month)
    verdict = latest_verdict(workplace, usage_month)
    if verdict is None or not verdict.passed or {name: verdict[name] for name in state} != state:
        raise Refused(f"{usage_month:%Y-%m} has no passed verdict on what is estimated now: run verify")
    number = ledger.next_publication_id(lake)
    estimated = lake.read(ESTIMATED).where(F.col("usage_month") == F.lit(usage_month))
    # Sorted keys load into PostgreSQL's index about twice as fast.
    lake.append(REVISIONS, compose(estimated, 1, number).sortWithinPartitions("subscription_key"), number)
    rows = lake.read(REVISIONS).where((F.col("publication_id") == number) & (F.col("usage_month") == F.lit(usage_month)))
    publication = {
        "publication_id": number,
        "usage_month": usage_month,
        "revision": 1,
        "supersedes_publication_id": None,
        "reason": FIRST_PUBLICATION,
        **state,
        "code_version": code_version(),
        "verdict_id": verdict.verdict_id,
        **_totals(rows),
        **hashes(rows),
        "published_at": workplace.now(),
    }
    lake.append_rows(PUBLICATIONS, [publication], number)


def _totals(rows: DataFrame) -> dict[str, Any]:
    row = rows.agg(
        F.count("*").alias("subscriptions"),
        F.coalesce(F.sum("data_volume_bytes"), F.lit(0)).alias("data_volume_bytes"),
        F.coalesce(F.sum("footprint_gco2e"), F.lit(0)).cast("decimal(38,12)").alias("footprint_gco2e"),
        F.array_join(F.sort_array(F.collect_set("factor_set")), ", ").alias("factor_sets"),
    ).collect()[0]
    return row.asDict()


def _sum_if_complete(column: str) -> Any:
    """The sum, or null where a component has no value: a partial interval would be too narrow."""
    return F.when(F.count(column) == F.count("*"), F.sum(column))


def _projected_id(workplace: Workplace, usage_month: date) -> int | None:
    month = workplace.lake.read(PUBLISHED).where(F.col("usage_month") == F.lit(usage_month))
    ids = [row.publication_id for row in month.select("publication_id").distinct().collect()]
    return ids[0] if len(ids) == 1 else None


def _rows_of(workplace: Workplace, publication: Row) -> DataFrame:
    revisions = workplace.lake.read(REVISIONS).where(F.col("usage_month") == F.lit(publication.usage_month))
    return revisions.where(F.col("publication_id") == publication.publication_id)


def _serve(workplace: Workplace, erased: set[date]) -> None:
    publications = {int(row.publication_id): row for row in ledger.publications(workplace.lake)}
    with closing(connect(workplace.settings)) as connection:
        prepare(connection)
        for number in serving.missing(connection, publications):
            publication = publications[number]
            (verdict,) = [row for row in workplace.lake.small(VERDICTS) if row.verdict_id == publication.verdict_id]
            batches = _arrow_rows(workplace, publication)
            left = _totals(_rows_of(workplace, publication)) if publication.usage_month in erased else None
            serving.load_publication(
                connection, publication.asDict(), batches, verdict.asDict(), _method_texts(workplace, publication), left
            )


def _method_texts(workplace: Workplace, publication: Row) -> dict[tuple[str, str], str]:
    methods = [row.method_id for row in _rows_of(workplace, publication).select("method_id").distinct().collect()]
    folder = workplace.settings.factors
    return {(method, language): method_text(folder, method, language) for method in methods for language in ("fr", "en")}


def _arrow_rows(workplace: Workplace, publication: Row) -> Iterator[pa.RecordBatch]:
    """The rows of a publication straight from its Parquet files, in flat memory."""
    month, number = publication.usage_month, publication.publication_id
    for place in workplace.lake.files_of_month(REVISIONS, month):
        files, path = filesystem(place)
        with files.open_input_file(path) as file:
            for batch in pa.parquet.ParquetFile(file).iter_batches():
                table = pa.Table.from_batches([batch])
                table = table.filter(pa.compute.equal(table["publication_id"], number))
                if "usage_month" not in table.column_names:  # a partition column need not be in the file
                    table = table.append_column("usage_month", pa.repeat(pa.scalar(month, pa.date32()), len(table)))
                yield from table.select(PUBLISHED.names).cast(PUBLISHED.arrow_schema).to_batches()
