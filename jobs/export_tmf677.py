"""export tmf677: what is published of each subscription, as TM Forum's usage consumption reports (TMF677, version 5.1.0).

A report has one bucket, the month's data, with one counter; its characteristics are the columns of ``published`` under their own
names. Amounts in grams are text, since the standard's numbers are single-precision floats. Nothing names the subscriber but
``subscription_key``, from which only the operator comes back to the subscription.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from jobs.export import Rows, opened, whole
from jobs.lake_reader import publication
from jobs.legal_calendar import bounds
from jobs.run import CallError, Settings
from schemas.table import Column
from schemas.tables import PUBLISHED

Report = dict[str, Any]

LINES, ARRAY = ".jsonl", ".json"
_NOT_CHARACTERISTICS = ("subscription_key", "usage_month")
_KINDS = {"BOOLEAN": ("BooleanCharacteristic", "boolean"), "STRING": ("StringCharacteristic", "string")}
_KINDS |= dict.fromkeys(("INT", "BIGINT"), ("IntegerCharacteristic", "integer"))


def write_tmf677(settings: Settings, usage_month: date, out: Path, subscription_key: str | None = None) -> int:
    """Write the reports of a month, or that of one subscription: JSON lines to ``*.jsonl``, a JSON array to ``*.json``.

    Returns:
        How many were written.

    Raises:
        Refused: nothing is published for the month, or for the subscription in it.
        CallError: the file has another ending, or cannot be written.
    """
    if out.suffix not in (LINES, ARRAY):
        raise CallError(f"--out: {out.name} ends neither with {LINES}, for JSON lines, nor with {ARRAY}, for an array")
    begin, between, end = ("[\n", ",\n", "\n]\n") if out.suffix == ARRAY else ("", "\n", "\n")
    count = 0
    with opened(settings, PUBLISHED.name, usage_month, subscription_key) as rows, whole(out) as file:
        for report in reports(rows, settings, usage_month):
            file.write((between if count else begin).encode())
            file.write(json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode())
            count += 1
        file.write(end.encode())
    return count


def reports(rows: Rows, settings: Settings, usage_month: date) -> Iterator[Report]:
    """A report for each row of ``published``, in the order of ``subscription_key``."""
    published_at = publication(rows.connection, usage_month, None)["published_at"]
    # The same instants in the time of the legal zone, where they are midnights.
    period = {
        name: instant.astimezone(settings.legal_timezone).isoformat()
        for name, instant in zip(("startDateTime", "endDateTime"), bounds(usage_month, settings.legal_timezone), strict=True)
    }
    for batch in rows.batches():
        for row in batch.to_pylist():
            yield _report(row, period, published_at)


def _report(row: dict[str, Any], period: dict[str, str], published_at: datetime) -> Report:
    key = row["subscription_key"]
    identity = f"{key}-{row['usage_month']:%Y-%m}-r{row['revision']}"
    counter = {
        "@type": "BucketCounter",
        "counterType": "used",
        "level": "global",
        "value": {"amount": row["data_volume_bytes"], "units": "byte"},
        "valueName": f"{row['data_volume_gb_displayed']} GB",
        "consumptionPeriod": period,
        "characteristic": [
            _characteristic(column, row[column.name])
            for column in PUBLISHED.columns
            if column.name not in _NOT_CHARACTERISTICS and row[column.name] is not None
        ],
    }
    bucket = {"@type": "Bucket", "id": f"{identity}-data", "name": f"Data, {row['network']} network", "usageType": "data"}
    return {
        "@type": "UsageConsumptionReport",
        "id": identity,
        "href": f"usageConsumptionReport/{identity}",
        "name": f"Data used in {row['usage_month']:%Y-%m} and its greenhouse-gas equivalent",
        "creationDate": published_at.isoformat(),
        "lastUpdate": published_at.isoformat(),
        "validPeriod": period,
        "product": [{"@type": "UsageConsumptionProductRef", "@referredType": "Product", "id": key}],
        "bucket": [
            {**bucket, "product": [{"@type": "ProductRef", "@referredType": "Product", "id": key}], "bucketCounter": [counter]}
        ],
    }


def _characteristic(column: Column, value: Any) -> Report:
    if isinstance(value, Decimal):
        return {"@type": "StringCharacteristic", "name": column.name, "valueType": "decimal", "value": format(value, "f")}
    kind, of_value = _KINDS[column.sql_type]
    return {"@type": kind, "name": column.name, "valueType": of_value, "value": value}
