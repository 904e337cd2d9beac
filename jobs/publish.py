"""publish: rows, hashes, one commit in the ledger, then two projections that run until they agree with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from factors.expression import DECIMAL_GIGABYTE
from factors.registry import method_text
from jobs import ledger, serving
from jobs.data_files import FOUND, DataFile, TableWriter, data_file_batches
from jobs.difference import corrections, total
from jobs.lake import Lake, in_month
from jobs.postgres import connect
from jobs.row_hashes import hashes
from jobs.run import Refused, code_version, lock_hash
from jobs.serving_schema import BESIDE, prepare
from jobs.steps import are_few, begin
from jobs.verify import estimated_state, latest_verdict
from jobs.workplace import Workplace
from schemas.table import Table
from schemas.tables import (
    CORRECTIONS,
    ESTIMATED,
    PUBLICATIONS,
    PUBLISHED,
    PUBLISHED_TOTALS,
    RESTATEMENTS,
    REVISIONS,
    SUBSCRIBED,
    TOTALS_BY,
)

FIRST_PUBLICATION = "first publication"
_NATIONAL = "all"
_COUNTED = ("data_volume_bytes", "data_volume_gb_displayed", "footprint_gco2e_displayed")
_SUMMED = (*_COUNTED, "footprint_gco2e")
_OF_SUBSCRIPTION = ("network", "brand", "factor_set", "method_id")


@dataclass(frozen=True)
class Cause:
    """Why a revision is published; of a restatement, also what it restates and what changed, rows of ``difference.split``."""

    reason: str
    approver: str | None = None
    restated: Row | None = None
    differences: Sequence[Mapping[str, Any]] = ()


def publish_month(workplace: Workplace, usage_month: date) -> Row:
    """Publish a verified month, unless it is published, and bring the projections up to the ledger.

    Returns:
        The publication that counts.

    Raises:
        Refused: the month has no passed verdict on what is estimated now.
    """
    if ledger.current(workplace.lake, usage_month) is None:
        commit(workplace, usage_month, Cause(FIRST_PUBLICATION))
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
    # All components of a subscription have these in common. As keys, since Spark sorts to take the maximum of a text.
    rows = estimated.groupBy("subscription_key", "usage_month", *_OF_SUBSCRIPTION).agg(
        (gigabytes * F.lit(Decimal(DECIMAL_GIGABYTE))).cast("bigint").alias("data_volume_bytes"),
        gigabytes.alias("gigabytes"),
        F.bool_or("is_estimated").alias("is_estimated"),
        F.bool_or("is_national_default").alias("is_national_default"),
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


def project(workplace: Workplace) -> set[date]:
    """Bring ``published`` and PostgreSQL up to the ledger; one that agrees is left alone. Return the months that did not."""
    erased = ledger.months_with_erased_figures(workplace.lake)
    # Neither projection reads the other, and PostgreSQL works in a process of its own.
    with ThreadPoolExecutor(1) as beside:
        served = beside.submit(_serve, workplace, erased)
        return _replace_published(workplace, erased) | served.result()


def _replace_published(workplace: Workplace, erased: set[date]) -> set[date]:
    brought: set[date] = set()
    for usage_month, publication in ledger.current_by_month(workplace.lake).items():
        if _projected_id(workplace, usage_month) != publication.publication_id:
            files = _copied(workplace.lake, usage_month, publication.publication_id)
            if files or usage_month not in erased:
                workplace.lake.replace_files(PUBLISHED, files, usage_month)
                brought.add(usage_month)
    return brought


def _copied(lake: Lake, usage_month: date, publication_id: int) -> list[DataFile]:
    """Rows of a publication as data files of ``published``, which has the columns and the rules that they were written by."""
    place, copied = lake.path(REVISIONS), lake.path(PUBLISHED)
    rows_of = lake.paths(REVISIONS, in_month(usage_month, publication_id=publication_id))
    paths = [*rows_of]

    def copy(number: int) -> Iterator[pa.RecordBatch]:
        writer = TableWriter(PUBLISHED, copied)
        for rows in data_file_batches(place, paths[number], REVISIONS, encoded=REVISIONS.texts):
            kept = rows.filter(pc.equal(rows["publication_id"], publication_id))
            writer.write({name: kept[name] for name in PUBLISHED.names})
        yield pa.RecordBatch.from_pylist([{"found": json.dumps([file.as_json() for file in writer.close()])}], FOUND)

    found = begin(lake.spark, are_few(rows_of.values()), len(paths), copy, FOUND).rows()["found"].to_pylist()
    return [DataFile(**file) for of_task in found for file in json.loads(of_task)]


def commit(workplace: Workplace, usage_month: date, cause: Cause) -> None:
    """Publish the revision that is estimated and verified: its rows, what it changed, and then one row of the ledger.

    Raises:
        Refused: there is no passed verdict on what is estimated now, or the month was published otherwise in the meantime.
        CallError: PostgreSQL serves another lake.
    """
    lake = workplace.lake
    state = estimated_state(workplace, usage_month)
    verdict = latest_verdict(workplace, usage_month)
    if verdict is None or not verdict.passed or {name: verdict[name] for name in state} != state:
        raise Refused(f"{usage_month:%Y-%m} has no passed verdict on what is estimated now: run verify")
    _require_own_copy(workplace)
    number = ledger.next_publication_id(lake)
    estimated = lake.read(ESTIMATED, in_month(usage_month, revision=state["revision"]))
    # Sorted keys load into PostgreSQL's index about twice as fast.
    lake.append(REVISIONS, compose(estimated, state["revision"], number).sortWithinPartitions("subscription_key"), number)
    with _served_meanwhile(workplace, usage_month, number) as served:
        publication = _publication(workplace, usage_month, number, cause, verdict, state)
        lake.append_rows(PUBLICATIONS, [publication], number)
        served.set_result(None)


def _publication(
    workplace: Workplace, usage_month: date, number: int, cause: Cause, verdict: Row, state: Mapping[str, Any]
) -> dict[str, Any]:
    """The row of the ledger for rows that are in ``revisions``; what it is beside is written. Raises Refused as ``commit``."""
    lake = workplace.lake
    rows = _rows_of(lake, REVISIONS, usage_month, number)
    of = {"publication_id": number, "usage_month": usage_month, "revision": state["revision"]}
    totals = totals_of(rows, lake.read(SUBSCRIBED, in_month(usage_month, revision=state["revision"])))
    lake.append_rows(PUBLISHED_TOTALS, [{**of, **row} for row in totals], number)
    previous = cause.restated
    if previous is not None:
        lake.append_rows(RESTATEMENTS, [{**of, **row} for row in cause.differences], number)
        before = _rows_of(lake, REVISIONS, usage_month, previous.publication_id)
        told = corrections(before, rows, cause.reason, workplace.settings.materiality_gco2e)
        lake.append(CORRECTIONS, told.sortWithinPartitions("subscription_key"), number)
    publication = {
        "publication_id": number,
        "usage_month": usage_month,
        "supersedes_publication_id": previous.publication_id if previous else None,
        "reason": cause.reason,
        "approver": cause.approver,
        **state,
        "code_version": code_version(),
        "lock_hash": lock_hash(),
        "verdict_id": verdict.verdict_id,
        **_totals(rows),
        **hashes(rows),
        "published_at": workplace.now(),
    }
    require_sums(totals, publication)
    if previous is not None and total(cause.differences) != publication["footprint_gco2e"] - previous.footprint_gco2e:
        raise ArithmeticError(f"{usage_month:%Y-%m}: the causes do not add up to the difference of the two publications")
    if ledger.current(lake, usage_month) != previous:
        raise Refused(f"{usage_month:%Y-%m} was published by another run in the meantime: nothing is published twice")
    return publication


def _require_own_copy(workplace: Workplace) -> None:
    """PostgreSQL holds nothing that the ledger does not. Raises CallError: its next publication would pass for another lake's."""
    with closing(connect(workplace.settings)) as connection:
        prepare(connection)
        serving.missing(connection, [row.publication_id for row in ledger.publications(workplace.lake)])


@contextmanager
def _served_meanwhile(workplace: Workplace, usage_month: date, number: int) -> Iterator[Future[None]]:
    """Let PostgreSQL take in the rows of a publication while the rest of it is worked out.

    Gives what is to be told when it is in the ledger; PostgreSQL's transaction waits for that, and ends without a trace if it
    does not come. If PostgreSQL fails, it does so again, and says why, when the projections are brought up to the ledger.
    """
    in_ledger: Future[None] = Future()

    def awaited() -> tuple[dict[str, Any], serving.Beside]:
        in_ledger.result()
        (publication,) = [row for row in ledger.publications(workplace.lake) if row.publication_id == number]
        return publication.asDict(), _beside_of(workplace, publication)

    def load() -> None:
        named = {"publication_id": number, "usage_month": usage_month}
        rows = _arrow_rows(workplace.lake, REVISIONS, usage_month, number)
        with closing(connect(workplace.settings)) as connection:
            serving.load_publication(connection, named, rows, awaited=awaited)

    with ThreadPoolExecutor(1) as beside:
        beside.submit(load)
        try:
            yield in_ledger
        finally:
            in_ledger.cancel()  # unless it was told


def totals_of(rows: DataFrame, subscribed: DataFrame) -> list[dict[str, Any]]:
    """Sums of rows in all and by network, brand and segment, with what display rounding adds to each.

    Args:
        rows: rows of ``published`` of one publication.
        subscribed: rows of ``subscribed`` of the same revision, which have the segment.

    Returns:
        Columns of ``published_totals`` but those that name the publication; sorted.
    """
    segments = subscribed.select(F.lower(F.hex("subscription_key")).alias("subscription_key"), "segment")
    sums = [F.sum(F.col(name).cast("decimal(20,0)") if name in _COUNTED else F.col(name)).alias(name) for name in _SUMMED]
    cells = rows.join(segments, "subscription_key", "left").groupBy(*TOTALS_BY)
    found = cells.agg(F.count("*").alias("subscriptions"), *sums).collect()
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    with localcontext() as exact:
        exact.prec = 60
        for cell in found:
            for grouped_by in (_NATIONAL, *TOTALS_BY):
                name = _NATIONAL if grouped_by == _NATIONAL else cell[grouped_by]
                group = groups.setdefault((grouped_by, name), dict.fromkeys(("subscriptions", *_SUMMED), Decimal(0)))
                for column in group:
                    group[column] += cell[column]
        return [_with_residual(grouped_by, name, group) for (grouped_by, name), group in sorted(groups.items())]


def _with_residual(grouped_by: str, name: str, group: Mapping[str, Decimal]) -> dict[str, Any]:
    return {
        "grouped_by": grouped_by,
        "name": name,
        **{column: int(total) if column != "footprint_gco2e" else total for column, total in group.items()},
        "residual_bytes": int(group["data_volume_gb_displayed"]) * DECIMAL_GIGABYTE - int(group["data_volume_bytes"]),
        "residual_gco2e": group["footprint_gco2e_displayed"] - group["footprint_gco2e"],
    }


def require_sums(totals: Sequence[Mapping[str, Any]], publication: Mapping[str, Any]) -> None:
    """Each grouping adds up to what the ledger says, to the last decimal. Raises ArithmeticError."""
    summed = ("subscriptions", "data_volume_bytes", "footprint_gco2e")
    for grouped_by in (_NATIONAL, *TOTALS_BY):
        rows = [row for row in totals if row["grouped_by"] == grouped_by]
        found = {name: sum(row[name] for row in rows) for name in summed}
        if found != {name: publication[name] for name in summed}:
            raise ArithmeticError(f"{publication['usage_month']:%Y-%m}: sums by {grouped_by} are not the sums of its rows")


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
    month = workplace.lake.read(PUBLISHED, in_month(usage_month))
    ids = [row.publication_id for row in month.select("publication_id").distinct().collect()]
    return ids[0] if len(ids) == 1 else None


def _rows_of(lake: Lake, table: Table, usage_month: date, publication_id: int) -> DataFrame:
    return lake.read(table, in_month(usage_month)).where(F.col("publication_id") == publication_id)


def _serve(workplace: Workplace, erased: set[date]) -> set[date]:
    publications = {int(row.publication_id): row for row in ledger.publications(workplace.lake)}
    served: set[date] = set()
    with closing(connect(workplace.settings)) as connection:
        prepare(connection)
        for number in serving.missing(connection, publications):
            publication = publications[number]
            of_publication = (publication.usage_month, number)
            left = _totals(_rows_of(workplace.lake, REVISIONS, *of_publication)) if publication.usage_month in erased else None
            serving.load_publication(
                connection,
                publication.asDict(),
                _arrow_rows(workplace.lake, REVISIONS, *of_publication),
                _beside_of(workplace, publication),
                left,
            )
            served.add(publication.usage_month)
    return served


def _beside_of(workplace: Workplace, publication: Row) -> serving.Beside:
    """What comes with the rows of a publication."""
    return serving.Beside(
        [(table, _beside(workplace.lake, table, publication)) for table in BESIDE],
        _arrow_rows(workplace.lake, CORRECTIONS, publication.usage_month, publication.publication_id),
        _method_texts(workplace, publication),
    )


def _beside(lake: Lake, table: Table, publication: Row) -> list[dict[str, Any]]:
    """Rows of a small table that are of a publication, or of the verdict that let it pass."""
    of = "publication_id" if "publication_id" in table.names else "verdict_id"
    return [row.asDict() for row in lake.small(table) if row[of] == publication[of]]


def _method_texts(workplace: Workplace, publication: Row) -> dict[tuple[str, str], str]:
    rows = _rows_of(workplace.lake, REVISIONS, publication.usage_month, publication.publication_id)
    methods = [row.method_id for row in rows.select("method_id").distinct().collect()]
    folder = workplace.settings.factors
    return {(method, language): method_text(folder, method, language) for method in methods for language in ("fr", "en")}


def _arrow_rows(lake: Lake, table: Table, usage_month: date, publication_id: int) -> Iterator[pa.RecordBatch]:
    """The rows of a publication straight from the data files of a table, in flat memory."""
    for path in lake.paths(table, in_month(usage_month, publication_id=publication_id)):
        for rows in data_file_batches(lake.path(table), path, table):
            yield rows.filter(pc.equal(rows["publication_id"], publication_id))
