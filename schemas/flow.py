"""Which tables each stage reads and writes: the lineage that is told to others, and what a stage's page in Airflow says.

Names only, so that a DAG is parsed without Arrow or Spark. Tables that say how a stage did its own bookkeeping (``batches``,
``keys``) are with the stage that writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

LANDING, FACTORS, SERVED, REPORTS = "landing", "factors", "footprint.published", "reports"
"""What is no table of the lake: the folders of files, factor sets and month reports, the table of PostgreSQL."""


@dataclass(frozen=True)
class Flow:
    """What one stage reads and what it writes, by name."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


_RECORDS = ("landed", "batches", "accepted", "readings", "subscriptions", "carried")
_METERED = ("deltas", "carried", "counter_balances", "metered", "subscribed")
_MEASURED = ("file_balances", "sequences", "accepted", *_METERED, "estimated", "published", FACTORS)
_EVIDENCE = ("evidence", "evidence_received", "evidence_days", "evidence_factors")
_PUBLISHED = ("revisions", "published_totals", "publications", "published", SERVED)
_KEPT_FOR_A_TIME = (
    "accepted",
    "readings",
    "rejected",
    "subscriptions",
    "deltas",
    "carried",
    "metered",
    "subscribed",
    "estimated",
)

FLOWS = {
    "land": Flow((LANDING,), ("landed",)),
    "accept": Flow(
        (LANDING, "landed"),
        ("batches", "accepted", "readings", "rejected", "subscriptions", "file_balances", "sequences"),
    ),
    "meter": Flow(_RECORDS, _METERED),
    "estimate": Flow(("metered", "subscribed", FACTORS), ("estimated",)),
    "verify": Flow(_MEASURED, (*_EVIDENCE, "verdicts")),
    "publish": Flow(("estimated", "subscribed", "verdicts"), _PUBLISHED),
    "report": Flow((*_MEASURED, *_EVIDENCE, "verdicts", "revisions", "publications", "restatements", "stage_runs"), (REPORTS,)),
    "restate": Flow(
        (*_RECORDS, *_MEASURED, "publications"),
        (*_METERED, "estimated", *_EVIDENCE, "verdicts", "restatements", "corrections", *_PUBLISHED),
    ),
    "upkeep": Flow(
        ("landed", "batches", "file_balances", "publications"),
        (LANDING, *_KEPT_FOR_A_TIME, "revisions", "published", "corrections", "erasures", SERVED),
    ),
}
"""By stage. A table may be read and written: `carried` is of the month before and of this one."""
