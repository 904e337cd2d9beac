"""The short table at the end of a run: what was received and what became of it, what is published, and where to look next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date

from jobs import ledger
from jobs.batches import AsOf
from jobs.completeness import files_of_month, gaps_of_month
from jobs.grouped import Amounts, added_up
from jobs.lake import in_month
from jobs.land import read_deliveries, sequence_gaps
from jobs.repeats import DUPLICATE
from jobs.report import place
from jobs.run import revision_name
from jobs.table_rows import OfFiles, files_of, files_where
from jobs.verify import latest_verdict, verdict_of
from jobs.workplace import Workplace
from schemas.tables import PUBLISHED, REJECTED

_COUNT: Amounts = {"count": ("sum", "1")}
_PUBLISHED: Amounts = {
    **_COUNT,
    "octets": ("sum", "data_volume_bytes"),
    "gco2e": ("sum", "footprint_gco2e"),
    "estimated": ("sum", "CASE WHEN is_estimated THEN 1 ELSE 0 END"),
}
Lines = Iterator[tuple[str, str]]
_GAPS = 5
"""Network elements with the most missing records that are named."""


def write(workplace: Workplace, usage_month: date, say: Callable[[str], None]) -> None:
    """Say the summary of a month, a line a fact."""
    say("")
    say(f"{usage_month:%Y-%m}")
    for name, text in (*_received(workplace, usage_month), *_published(workplace, usage_month), *_places(workplace, usage_month)):
        say(f"  {name:<20}{text}")


def _received(workplace: Workplace, usage_month: date) -> Lines:
    lake, month = workplace.lake, workplace.month(usage_month)
    deliveries = read_deliveries(lake)
    counts = Counter(delivery.status for delivery in deliveries)
    again = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()) if status != "new")
    yield "files", f"{len(deliveries):,} delivered" + (f", of which {again}" if again else "")
    for series, numbers in sequence_gaps(deliveries).items():
        yield "missing files", f"{series}: {len(numbers):,}, the first {numbers[0]}"
    now = AsOf.now(lake)
    for gap in sorted(gaps_of_month(now, month), key=lambda gap: -gap.missing)[:_GAPS]:
        yield "missing records", f"{gap.source} {gap.node}, {gap.day}: {gap.missing:,} sequence numbers never came"
    rows = [row for row in files_of_month(now, month) if row.source in workplace.networks]
    for name in ("received", "accepted", "duplicate"):
        yield f"records {name}", f"{sum(row[f'records_{name}'] for row in rows):,}"
    rejected = added_up(OfFiles(lake, [files_of(now, REJECTED)], ["reason", "file_number"]), ("reason", "file_number"), _COUNT)
    of_month, by_reason = {row.file_number for row in rows}, Counter[str]()
    for found in rejected:
        if found["reason"] != DUPLICATE and found["file_number"] in of_month:
            by_reason[found["reason"]] += found["count"]
    yield "  rejected", _by_reason(by_reason)
    out_of_scope: Counter[str] = Counter()
    for row in rows:
        out_of_scope.update(json.loads(row.out_of_scope_reasons))
    yield "  out of scope", _by_reason(out_of_scope)


def _by_reason(counts: dict[str, int] | Counter[str]) -> str:
    total = f"{sum(counts.values()):,}"
    reasons = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(counts.items()))
    return f"{total} ({reasons})" if reasons else total


def _published(workplace: Workplace, usage_month: date) -> Lines:
    lake = workplace.lake
    publication = ledger.current(lake, usage_month)
    verdict = verdict_of(workplace, publication) if publication else latest_verdict(workplace, usage_month)
    columns = ["network", "data_volume_bytes", "footprint_gco2e", "is_estimated"]
    published = OfFiles(lake, [files_where(lake, PUBLISHED, in_month(usage_month))], columns)
    for row in sorted(added_up(published, ["network"], _PUBLISHED), key=lambda row: str(row["network"])):
        grams, gigabytes = float(row["gco2e"]), row["octets"] / 1e9
        yield (
            row["network"],
            f"{row['count']:,} subscriptions, {gigabytes:,.1f} GB, {grams / 1e6:,.3f} tCO2e, "
            f"{row['estimated']:,} with estimated data",
        )
    if verdict is None:
        yield "verdict", "not judged yet"
    else:
        yield (
            "verdict",
            f"{'fit to publish' if verdict.passed else 'NOT fit to publish'}, {verdict.rules} rules; {verdict.summary}",
        )
    if publication is None:
        yield "published", "no"
        return
    yield (
        "published",
        f"revision {publication.revision}, factors {publication.factor_sets}, figures {publication.figures_hash[:16]}",
    )
    for month, late in ledger.held(lake).items():
        yield (
            "held",
            f"{late.records:,} late records with {late.octets / 1e9:,.3f} GB for {month:%Y-%m}, until it is restated",
        )


def _places(workplace: Workplace, usage_month: date) -> Lines:
    settings, publication = workplace.settings, ledger.current(workplace.lake, usage_month)
    docs = settings.data_docs / revision_name(usage_month, publication.revision if publication else 1)
    yield "tables", f"{settings.lake} (Delta: published, estimated, file_balances, rejected, …)"
    yield "data docs", f"{docs / 'index.html'}"
    if publication is not None:
        yield (
            "month report",
            f"{place(settings, usage_month, publication.revision)} (footprint report --month {usage_month:%Y-%m})",
        )
    yield "postgresql", (settings.serving_url and "FOOTPRINT_SERVING_URL, schema footprint") or "footprint serving url"
    yield "try next", f"footprint show --subscription ID --month {usage_month:%Y-%m}"
