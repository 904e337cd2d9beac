"""publish: rows, hashes, one commit in the ledger, then two projections that run until they agree with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from factors.expression import DECIMAL_GIGABYTE
from factors.registry import method_text
from jobs import ledger, serving
from jobs.counts import write_judged
from jobs.data_files import FOUND, DataFile, TableWriter, data_file_batches
from jobs.difference import corrections, total
from jobs.grouped import Amounts, added_up, distinct, sums_of, together
from jobs.lake import Lake, in_month, judged_files, redacted
from jobs.pieces import PIECES, in_one, tables_of, travelling
from jobs.postgres import connect
from jobs.pseudonyms import PSEUDONYM, beginnings
from jobs.row_hashes import hashes
from jobs.run import Refused, code_version, lock_hash
from jobs.serving_schema import BESIDE, prepare
from jobs.steps import Steps, are_few, asked, begin
from jobs.table_rows import OfFiles, TableRows, files_where, meet
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
_CELLS: Amounts = {"subscriptions": ("sum", "1"), **{name: ("sum", name) for name in _SUMMED}}
_OF_SUBSCRIPTION = ("network", "brand", "factor_set", "method_id")
OF_COMPONENT = (
    *("subscription_key", "component", *_OF_SUBSCRIPTION),
    *("quantity", "gco2e", "gco2e_low", "gco2e_high", "is_estimated", "is_national_default"),
)
"""What is read of a component."""
OF_SUBSCRIBED = ("subscription_key", "segment")
_COMPONENTS, _SUBSCRIBED = (
    travelling(table, columns) for table, columns in ((ESTIMATED, OF_COMPONENT), (SUBSCRIBED, OF_SUBSCRIBED))
)
# All components of a subscription have network, brand, set and method in common. An interval of some of them would be too narrow.
_SUMS = f"""
    SELECT subscription_key AS key, lower(hex(subscription_key)) AS subscription_key, segment, summed.* EXCLUDE (subscription_key)
    FROM (
        SELECT subscription_key, {", ".join(_OF_SUBSCRIPTION)},
            sum(quantity) FILTER (component = 'volume') AS gigabytes,
            bool_or(is_estimated) AS is_estimated, bool_or(is_national_default) AS is_national_default,
            sum(gco2e) FILTER (component = 'volume') AS volume_gco2e,
            sum(gco2e) FILTER (component <> 'volume') AS subscription_gco2e,
            CASE WHEN count(gco2e_low) = count(*) THEN sum(gco2e_low) END AS footprint_gco2e_low,
            CASE WHEN count(gco2e_high) = count(*) THEN sum(gco2e_high) END AS footprint_gco2e_high
        FROM components GROUP BY ALL
    ) AS summed LEFT JOIN subscribed USING (subscription_key)
"""
_GIGABYTES, _GCO2E = pa.decimal128(27, 9), PUBLISHED.arrow_schema.field("footprint_gco2e").type
_OCTETS_PER_GIGABYTE = pa.scalar(Decimal(DECIMAL_GIGABYTE), pa.decimal128(10, 0))


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


def compose(
    spark: SparkSession,
    estimated: TableRows,
    subscribed: TableRows,
    told: Callable[[pa.Table], Iterable[pa.RecordBatch]],
    schema: pa.Schema,
) -> Steps:
    """One row per subscription from its components, with the decree's display, and what is told of some of them at a time.

    Volume and grams are rounded half up to the unit, each from its unrounded value (decree 2021-1732; method reference §2.2).

    Args:
        spark: the session.
        estimated: rows of ``estimated`` of one revision, columns OF_COMPONENT.
        subscribed: rows of ``subscribed`` of the same revision, columns OF_SUBSCRIBED.
        told: of rows sorted by their key, with the columns of PUBLISHED but for what all of a publication have, and ``segment``.
        schema: of what is told.
    """
    tables = {"components": (estimated, _COMPONENTS), "subscribed": (subscribed, _SUBSCRIBED)}

    def composed(**of: pa.Table) -> Iterable[pa.RecordBatch]:
        return told(_displayed(asked(_SUMS, **of)))

    return meet(spark, "subscription_key", tables, composed, schema)


def _displayed(sums: pa.Table) -> pa.Table:
    """Rows of _SUMS as they are published, sorted by their key, as the index of a restated month takes them in sooner.

    Raises OverflowError.
    """
    rows = sums.take(pa.array(np.argsort(beginnings(sums["key"].cast(PSEUDONYM).combine_chunks()))))
    nothing = pa.scalar(Decimal(0))
    try:  # by Arrow, whose decimals of 128 bits take a tenth of the time of DuckDB's; its messages quote values
        gigabytes = pc.fill_null(rows["gigabytes"].cast(_GIGABYTES), nothing.cast(_GIGABYTES))
        grams = (rows[name].cast(_GCO2E) for name in ("volume_gco2e", "subscription_gco2e"))
        volume, subscription = (pc.fill_null(of, nothing.cast(_GCO2E)) for of in grams)
        footprint = pc.add(volume, subscription).cast(_GCO2E)
        worked_out = {
            "data_volume_bytes": pc.multiply(gigabytes, _OCTETS_PER_GIGABYTE).cast(pa.int64()),
            "data_volume_gb_displayed": _rounded(gigabytes),
            "volume_gco2e": volume,
            "subscription_gco2e": subscription,
            "footprint_gco2e": footprint,
            "footprint_gco2e_displayed": _rounded(footprint),
            **{name: rows[name].cast(_GCO2E) for name in ("footprint_gco2e_low", "footprint_gco2e_high")},
        }
    except pa.ArrowInvalid:
        raise OverflowError("a sum does not fit into its type") from None
    as_summed = ("subscription_key", *_OF_SUBSCRIPTION, "is_estimated", "is_national_default", "segment")
    return pa.table({**{name: rows[name] for name in as_summed}, **worked_out})


def _rounded(amounts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Half up to the unit; none is negative."""
    wide = amounts.cast(pa.decimal128(38, amounts.type.scale))  # what is rounded up may have a digit more
    return pc.round(wide, 0, "half_towards_infinity").cast(pa.int64())


def composed_of(
    lake: Lake, usage_month: date, revision: int, told: Callable[[pa.Table], Iterable[pa.RecordBatch]], schema: pa.Schema
) -> Steps:
    """As ``compose``, of a revision that is estimated."""
    of_revision = in_month(usage_month, revision=revision)
    estimated, subscribed = (
        OfFiles(lake, [files_where(lake, table, of_revision)], columns)
        for table, columns in ((ESTIMATED, OF_COMPONENT), (SUBSCRIBED, OF_SUBSCRIBED))
    )
    return compose(lake.spark, estimated, subscribed, told, schema)


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

    PostgreSQL takes it in meanwhile, and the Delta table ``published``, too, if it is the first of its month.

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
    cells = _append(lake, usage_month, state["revision"], number)
    with _served_meanwhile(workplace, usage_month, number) as served:
        publication = _publication(workplace, usage_month, number, cause, verdict, state, cells)
        lake.append_rows(PUBLICATIONS, [publication], number)
        served.set_result(None)
        if cause.restated is None:  # a restatement that is cut short is known by what is left to project
            _replace_published(workplace, ledger.months_with_erased_figures(lake))  # PostgreSQL takes longer


def _append(lake: Lake, usage_month: date, revision: int, number: int) -> list[dict[str, Any]]:
    """Append the rows of a publication to ``revisions``. Return their sums by what totals are told of."""
    of_all = {"usage_month": usage_month, "revision": revision, "publication_id": number}
    write, query = partial(write_judged, REVISIONS, lake.path(REVISIONS), of_all), sums_of(TOTALS_BY, _CELLS)

    def told(rows: pa.Table) -> Iterator[pa.RecordBatch]:
        yield from in_one("cells", asked(query, rows=rows))
        yield from in_one("files", pa.table({"found": [json.dumps(write(rows.drop_columns(["segment"])))]}))

    with redacted(REVISIONS):
        found = composed_of(lake, usage_month, revision, told, PIECES).rows()
    files = tables_of(found.to_batches(), ["files"])["files"]
    lake.commit(REVISIONS, judged_files(REVISIONS, [json.loads(of["found"][0].as_py()) for of in files]), number)
    return together(found, TOTALS_BY, _CELLS, "cells")


def _publication(
    workplace: Workplace,
    usage_month: date,
    number: int,
    cause: Cause,
    verdict: Row,
    state: Mapping[str, Any],
    cells: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The row of the ledger for rows that are in ``revisions``; what it is beside is written. Raises Refused as ``commit``."""
    lake = workplace.lake
    rows = _rows_of(lake, REVISIONS, usage_month, number)
    of = {"publication_id": number, "usage_month": usage_month, "revision": state["revision"]}
    totals = totals_of(cells)
    lake.append_rows(PUBLISHED_TOTALS, [{**of, **row} for row in totals], number)
    previous = cause.restated
    if previous is not None:
        lake.append_rows(RESTATEMENTS, [{**of, **row} for row in cause.differences], number)
        before, now = (_frame_of(lake, usage_month, of_publication) for of_publication in (previous.publication_id, number))
        told = corrections(before, now, cause.reason, workplace.settings.materiality_gco2e)
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


def totals_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sums of rows in all and by network, brand and segment, with what display rounding adds to each.

    Args:
        cells: ``subscriptions``, octets and grams of rows of ``published``, and those displayed, by TOTALS_BY.

    Returns:
        Columns of ``published_totals`` but those that name the publication; sorted.
    """
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    with localcontext() as exact:
        exact.prec = 60
        for cell in cells:
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


def _totals(rows: OfFiles) -> dict[str, Any]:
    amounts = {"subscriptions": ("sum", "1"), **{name: ("sum", name) for name in ("data_volume_bytes", "footprint_gco2e")}}
    found = added_up(rows.of_columns(["factor_set", "data_volume_bytes", "footprint_gco2e"]), ["factor_set"], amounts)
    with localcontext() as exact:
        exact.prec = 60
        sums = {name: sum(row[name] for row in found) for name in amounts}
    return sums | {"factor_sets": ", ".join(sorted(row["factor_set"] for row in found))}


def _projected_id(workplace: Workplace, usage_month: date) -> int | None:
    rows = OfFiles(workplace.lake, [files_where(workplace.lake, PUBLISHED, in_month(usage_month))], ["publication_id"])
    ids = [row["publication_id"] for row in distinct(rows, ["publication_id"])]
    return ids[0] if len(ids) == 1 else None


def _rows_of(lake: Lake, table: Table, usage_month: date, publication_id: int) -> OfFiles:
    """The rows of a publication, straight from the data files of a table."""
    return OfFiles(lake, [files_where(lake, table, in_month(usage_month, publication_id=publication_id))], table.names)


def _frame_of(lake: Lake, usage_month: date, publication_id: int) -> DataFrame:
    return lake.read(REVISIONS, in_month(usage_month)).where(F.col("publication_id") == publication_id)


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
    methods = [row["method_id"] for row in distinct(rows.of_columns(["method_id"]), ["method_id"])]
    folder = workplace.settings.factors
    return {(method, language): method_text(folder, method, language) for method in methods for language in ("fr", "en")}


def _arrow_rows(lake: Lake, table: Table, usage_month: date, publication_id: int) -> Iterator[pa.RecordBatch]:
    """The rows of a publication in flat memory."""
    for rows in _rows_of(lake, table, usage_month, publication_id).batches():
        yield rows.cast(table.arrow_schema)
