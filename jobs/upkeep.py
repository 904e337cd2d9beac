"""upkeep: erase what may no longer be kept, from the lake, the landing folder and PostgreSQL, and have Delta forget it.

What stays holds no subscriber: balances, reasons of rejections, verdicts, the ledger with its totals and hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import date

from pyspark.sql import functions as F

from jobs import retention, serving
from jobs.lake import in_month
from jobs.land import Delivery, place_of
from jobs.legal_calendar import month_number
from jobs.places import filesystem
from jobs.postgres import connect
from jobs.pseudonyms import SERVING_KEY
from jobs.retention import FIGURES, Due
from jobs.run import Refused
from jobs.serving_schema import prepare
from jobs.workplace import Workplace
from schemas.tables import ERASURES, REJECTED, REVISIONS, SUBSCRIPTIONS, TABLES

_BLANKED = ("identifier_key", "record_key", "closed_at")
"""Columns of a rejection that could lead to a subscriber; where it was and why it was refused stays."""


def upkeep(workplace: Workplace) -> None:
    """Erase what is due, then remove the files that no recent version of a table needs. Cut short, it goes on when run again."""
    found = retention.due(workplace)
    _erase_records(workplace, found)
    for delivery in found.files:
        _remove(workplace, delivery)
    if found.figure_months:
        _log(workplace, "figures", found.figure_months, f"kept for {workplace.settings.figures_kept_months} months")
        for table in FIGURES:
            workplace.lake.erase(table, _in(found.figure_months))
        _erase_served(workplace, found.figure_months)
    for table in TABLES:
        if workplace.lake.exists(table):
            workplace.lake.vacuum(table)
    _say(workplace, found)


def erase_subscription(workplace: Workplace, subscription_id: str, reason: str) -> None:
    """Erase the figures of one subscription in every month whose records are erased (GDPR art. 17).

    A month whose records are kept is kept for the legal duty to tell the subscriber (art. 17(3)(b)); it is said until when.

    Raises:
        Refused: there is nothing that may be erased now.
    """
    months_by_key: dict[str, list[date]] = {}
    for month in sorted(retention.months_of(workplace, REVISIONS)):
        key = workplace.keys[SERVING_KEY].of_month(month_number(month)).pseudonym("subscription", subscription_id).hex()
        rows = workplace.lake.read(REVISIONS, in_month(month)).where(F.col("subscription_key") == key)
        if rows.isEmpty():
            continue
        end = retention.records_end(workplace, month, True)
        if end <= workplace.now():
            months_by_key.setdefault(key, []).append(month)
        else:
            workplace.say(f"erase     {month:%Y-%m} is kept for the legal duty until {end:%Y-%m-%d}: call again then")
    if not months_by_key:
        raise Refused("no figure of this subscription may be erased now, or none is kept")
    erased = sorted(month for months in months_by_key.values() for month in months)
    _log(workplace, "subscription", erased, reason)
    for key, months in months_by_key.items():
        for table in FIGURES:
            is_binary = table.column("subscription_key").sql_type == "BINARY"
            workplace.lake.erase(table, f"({_in(months)}) AND subscription_key = {'X' if is_binary else ''}'{key}'")
        _erase_served(workplace, months, key)
    workplace.say(f"erase     {_named(erased)} erased; upkeep removes what old versions of the tables still hold")


def _erase_records(workplace: Workplace, found: Due) -> None:
    lake = workplace.lake
    if found.record_months:
        _log(workplace, "records", found.record_months, f"kept for {workplace.settings.records_kept_days} days after the month")
    for table in retention.RECORDS:
        batch = "batch" if "batch" in table.names else "batch_cutoff"
        lake.erase(table, f"{_in(found.record_months)} OR {batch} <= {found.oldest_batch}")
    of_old_months = f"{_in(found.record_months)} OR usage_month < DATE'{found.first_month}'"
    of_no_month = f"usage_month IS NULL AND batch <= {found.old_batch}"
    lake.blank(REJECTED, _BLANKED, f"{of_old_months} OR {of_no_month} OR batch <= {found.oldest_batch}")
    if lake.exists(SUBSCRIPTIONS):
        lake.erase_keys(SUBSCRIPTIONS, "record_key", retention.ended_assignments(workplace, found))


def _remove(workplace: Workplace, delivery: Delivery) -> None:
    place = place_of(workplace.settings.landing, delivery)
    files, path = filesystem(place)
    files.delete_file(path)
    marker = workplace.sources[delivery.source].files.done_marker if delivery.source in workplace.sources else None
    if marker and files.get_file_info(f"{path}{marker}").is_file:
        files.delete_file(f"{path}{marker}")


def _erase_served(workplace: Workplace, months: Sequence[date], subscription_key: str | None = None) -> None:
    with closing(connect(workplace.settings)) as connection:
        prepare(connection)
        serving.erase(connection, months, subscription_key)


def _log(workplace: Workplace, kind: str, months: Iterable[date], reason: str) -> None:
    at = workplace.now()
    rows = [{"kind": kind, "usage_month": month, "reason": reason, "erased_at": at} for month in months]
    workplace.lake.append_rows(ERASURES, rows)


def _in(months: Sequence[date]) -> str:
    """An SQL condition: the row is of one of the months."""
    return " OR ".join(f"usage_month = DATE'{month}'" for month in months) or "false"


def _named(months: Sequence[date]) -> str:
    return ", ".join(f"{month:%Y-%m}" for month in months)


def _say(workplace: Workplace, found: Due) -> None:
    workplace.say(f"upkeep    records erased: {_named(found.record_months) or 'none'}, with {len(found.files):,} files")
    workplace.say(f"upkeep    figures erased: {_named(found.figure_months) or 'none'}")
    for month in found.unpublished:
        until = retention.records_end(workplace, month, False)
        workplace.say(f"upkeep    {month:%Y-%m} is not published: its records are kept, until {until:%Y-%m-%d} at the longest")
    for place in retention.idle_keys(workplace, found):
        workplace.say(f"upkeep    {place} serves no month that is kept: destroy it and every copy of it")
