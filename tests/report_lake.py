"""A lake with all that a month report tells of, written without Spark: ``audit_lake``'s month, of enough subscriptions."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import Row

from jobs.evidence import received
from jobs.legal_calendar import Month, bounds
from jobs.run import Settings
from schemas.tables import (
    COUNTER_BALANCES,
    ESTIMATED,
    EVIDENCE,
    EVIDENCE_DAYS,
    EVIDENCE_RECEIVED,
    FILE_BALANCES,
    PUBLICATIONS,
    REJECTED,
    RESTATEMENTS,
    REVISIONS,
    SEQUENCES,
    STAGE_RUNS,
)
from tests.audit_lake import EVIDENCE_ROW, MONTH, NOW, Used, write, write_month

SEPTEMBER = date(2026, 9, 1)
MOBILE, FIXED = 400, 160
WIDELY_USED = ("4g", "5g")


def used(mobile: int = MOBILE, fixed: int = FIXED) -> list[Used]:
    """Subscriptions of which some use nothing, three use 2G, and one more than all others."""
    some = []
    for n in range(mobile):
        octets = 0 if n % 17 == 0 else (n * n * 700_001) % 60_000_000_000
        volumes = [(WIDELY_USED[n % 2], "home", octets // 10, octets - octets // 10)] if octets else []
        volumes += [("2g", "roaming", 1_000, 2_000)] if n in (1, 2, 3) else []
        some.append(Used(f"m{n:04}", "mobile", tuple(volumes), is_estimated=n % 20 == 0))
    some += [
        Used(f"f{n:04}", "fixed", (("fibre", "home", n * 10**8, n * n * 40_000_003),) if n % 9 else ()) for n in range(fixed)
    ]
    return some


def write_lake(var: Path, mobile: int = MOBILE, fixed: int = FIXED) -> Settings:
    """A published October, a September that was restated, and all that stands beside them."""
    settings = write_month(var, used(mobile, fixed))
    octets = sum(up + down for each in used(mobile, fixed) for _, _, up, down in each.volumes) + 7  # one that nobody holds
    _balances(settings, octets)
    _september(settings)
    _completeness(settings)
    write(
        settings,
        EVIDENCE,
        [EVIDENCE_ROW, EVIDENCE_ROW | {"rule": "mean_gigabytes_per_subscription", "network": "mobile"}],
        "overwrite",
    )
    ran = {"usage_month": MONTH, "code_version": "0.1.0"}
    seconds = {"land": 2, "accept": 61, "meter": 20, "estimate": 8, "verify": 15, "publish": 5}
    began = NOW - timedelta(minutes=10)
    write(settings, STAGE_RUNS, [ran | {"stage": "accept", "began_at": began - timedelta(days=1), "ended_at": began}])
    for stage, took in seconds.items():
        write(settings, STAGE_RUNS, [ran | {"stage": stage, "began_at": began, "ended_at": began + timedelta(seconds=took)}])
    docs = settings.data_docs / "2026-10"
    docs.mkdir(parents=True)
    (docs / "index.html").write_text("<!doctype html><title>Data Docs</title>", encoding="utf-8")
    return settings


def _balances(settings: Settings, octets: int) -> None:
    """Two sources of records, one of counters, and a file of the month after."""
    times = {
        "first_closed_at": datetime(2026, 10, 1, 12, tzinfo=UTC),
        "last_closed_at": datetime(2026, 10, 31, 22, 30, tzinfo=UTC),
    }
    pipe = {
        "batch": 1,
        "source": "pgw_pipe",
        "file_number": 1,
        "records_received": 1_000,
        "records_accepted": 930,
        "records_duplicate": 20,
        "records_rejected": 3,
        "records_out_of_scope": 47,
        "octets_received": 10_000,
        "octets_records": 9_990,
        "octets_quarantined": 10,
        "out_of_scope_reasons": json.dumps({"ims_apn": 40, "inbound_roamer": 7}),
        "volume_parsed_octets": octets // 2 + 700,
        "volume_accepted_octets": octets // 2,
        "volume_duplicate_octets": 500,
        "volume_out_of_scope_octets": 200,
        "warnings": "{}",
    }
    nothing = {name: 0 for name in pipe if name.startswith(("records", "octets", "volume"))} | {"out_of_scope_reasons": "{}"}
    chf = pipe | nothing | {"source": "chf_ts32297", "file_number": 2, "records_received": 400, "records_accepted": 400}
    counters = pipe | nothing | {"source": "bng_radius", "file_number": 3, "records_received": 90, "records_accepted": 90}
    after = pipe | {
        "file_number": 4,
        "first_closed_at": times["last_closed_at"],
        "last_closed_at": datetime(2026, 10, 31, 23, tzinfo=UTC),
    }
    unread = chf | {
        "file_number": 5,
        "first_closed_at": None,
        "last_closed_at": None,
        "records_received": 9,
        "records_accepted": 9,
    }
    balances = [pipe | times, chf | times, counters | times, after, unread]
    write(settings, FILE_BALANCES, balances, "overwrite")
    none = dict.fromkeys((c.name for c in FILE_BALANCES.columns if c.sql_type == "BIGINT"), 0)
    october = Month(MONTH, *bounds(MONTH, settings.legal_timezone), settings.legal_timezone.key)
    kept = received([Row(**none | row) for row in balances], october)
    write(settings, EVIDENCE_RECEIVED, [{"usage_month": MONTH, "verdict_id": 1} | row for row in kept], "overwrite")
    of_month = {"usage_month": MONTH, "batch_cutoff": 1, "source": "bng_radius", "estimated_reasons": "{}"}
    write(settings, COUNTER_BALANCES, [of_month | {"octets_of_month": Decimal(octets - octets // 2)}])
    refused = {"batch": 1, "source": "pgw_pipe", "file_number": 1}
    reasons = ["too_few_fields", "too_few_fields", "time_malformed", "duplicate"]
    write(settings, REJECTED, [refused | {"record_ordinal": place, "reason": each} for place, each in enumerate(reasons)])


def _september(settings: Settings) -> None:
    """September as October's mobile lines, published twice: a second time for late records and a correction of three lines."""
    published = DeltaTable(f"{settings.lake}/{REVISIONS.name}").to_pyarrow_table().to_pylist()
    ledger = DeltaTable(f"{settings.lake}/{PUBLICATIONS.name}").to_pyarrow_table().to_pylist()[0]
    for number, revision in ((100, 1), (101, 2)):
        rows = [
            row | {"usage_month": SEPTEMBER, "revision": revision, "publication_id": number}
            for row in published
            if row["network"] == "mobile" or revision == 2
        ]
        write(settings, REVISIONS, rows)
        told = {"usage_month": SEPTEMBER, "revision": revision, "publication_id": number, "subscriptions": len(rows)}
        told |= {
            "published_at": datetime(2026, 10, 5 + revision, tzinfo=UTC),
            "reason": "late files" if revision > 1 else "first publication",
        }
        write(settings, PUBLICATIONS, [ledger | told | {"supersedes_publication_id": 100 if revision > 1 else None}])
    change = {"publication_id": 101, "usage_month": SEPTEMBER, "revision": 2, "network": "mobile"}
    causes = [
        {"cause": "late_usage", "octets": 31_415_000_000, "gco2e": Decimal("386.4045"), "subscriptions": 120},
        {"cause": "subscriptions", "octets": 27_182_818, "gco2e": Decimal("2.7182818"), "subscriptions": 3},
    ]
    write(settings, RESTATEMENTS, [change | cause for cause in causes])


def _completeness(settings: Settings) -> None:
    """Two network elements: one without a gap, one that misses ten numbers on the 4th and is silent on the 20th."""
    rows: list[dict[str, Any]] = []
    for node in ("PGW-1", "PGW-2"):
        last = 0
        for day in range(1, 32):
            if node == "PGW-2" and day == 20:
                continue
            first = last + 1 + (10 if (node, day) == ("PGW-2", 4) else 0)
            last = first + 99
            number = {"records": 100, "first_sequence": first, "last_sequence": last}
            rows.append(
                {"batch": 1, "source": "chf_ts32297", "file_number": 2, "node": node, "day": date(2026, 10, day)} | number
            )
    write(settings, SEQUENCES, rows)
    days = [date(2026, 10, day) for day in range(1, 32)]
    seen = [
        {"source": source, "day": day, "octets": octets, "octets_share_of_median": Decimal(octets) / 1_000}
        for source in ("pgw_pipe", "bng_radius")
        for day in days
        for octets in [5 if (source, day.day) == ("pgw_pipe", 9) else 1_000]
    ]
    write(settings, EVIDENCE_DAYS, [{"usage_month": MONTH, "verdict_id": 1} | row for row in seen], "overwrite")


def estimated_rows(settings: Settings) -> list[dict[str, Any]]:
    """The components of the month."""
    return list(DeltaTable(f"{settings.lake}/{ESTIMATED.name}").to_pyarrow_table().to_pylist())
