"""The files of a figure: what was counted for the subscription in the month, by the rules that metering follows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.explain import TABLES
from jobs.lake_reader import reading
from jobs.provenance import provenance
from jobs.run import Settings
from schemas.tables import ACCEPTED, BATCHES, KEYS, LANDED, REJECTED, SUBSCRIPTIONS
from tests.audit_lake import MONTH, SMALL, settings_of, write

ANA, BEN = SMALL[0].key, SMALL[1].key
SIM, OTHER = b"sim".ljust(16, b"\0"), b"other".ljust(16, b"\0")
TENTH = datetime(2026, 10, 10, tzinfo=UTC)


def used(ordinal: int, file: int, octets: int, **more: Any) -> dict[str, Any]:
    """An accepted interval of ana's SIM on the 5th."""
    row = {
        "usage_month": MONTH,
        "batch": 1,
        "source": "pgw_pipe",
        "file_number": file,
        "record_ordinal": ordinal,
        "roaming_zone": "home",
    }
    row |= {
        "identifier_type": "imsi",
        "identifier_key": SIM,
        "closed_at": datetime(2026, 10, 5, tzinfo=UTC),
        "octets_down": octets,
    }
    return row | more


def held(subscription: bytes, begin: datetime, end: datetime | None, **more: Any) -> dict[str, Any]:
    row = {
        "batch": 1,
        "keys_from": date(2000, 1, 1),
        "subscription_key": subscription,
        "identifier_type": "imsi",
        "identifier_key": SIM,
    }
    record = subscription + begin.isoformat().encode()
    return row | {"record_key": record, "assigned_from": begin, "assigned_to": end, "active_from": begin} | more


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Ana holds the SIM until the 10th, ben from then on; files 1, 2 and 3, in batch 1."""
    found = settings_of(tmp_path)
    write(found, KEYS, [{"key_name": name, "serves_from": date(2000, 1, 1)} for name in ("identifier", "serving")])
    write(found, BATCHES, [{"batch": 1, "state": "committed"}])
    write(found, SUBSCRIPTIONS, [held(ANA, datetime(2025, 1, 1, tzinfo=UTC), TENTH), held(BEN, TENTH, None)])
    files = [{"file_number": n, "source": "pgw_pipe", "file_name": f"f{n}", "file_sequence": n} for n in (1, 2, 3)]
    write(found, LANDED, [file | {"file_hash": f"{file['file_number']:064x}"} for file in files])
    return found


def counted(settings: Settings, key: bytes = ANA, cutoff: int = 1) -> dict[str, int]:
    """Octets of a subscription by file."""
    with reading(settings.lake, TABLES) as connection:
        found = provenance(connection, settings, {"usage_month": MONTH, "revision": 1, "batch_cutoff": cutoff}, key, [])
    assert found["octets_of_records"] == sum(file["octets_down"] for file in found["files"])
    return {file["file_name"]: int(file["octets_down"]) for file in found["files"]}


def test_usage_is_of_the_holder_when_the_interval_closed(settings):
    rows = [
        used(1, 1, 5),
        used(2, 1, 7, closed_at=TENTH),
        used(3, 2, 9, identifier_key=OTHER),
        used(4, 2, 11, usage_month=date(2026, 9, 1)),
    ]
    write(settings, ACCEPTED, rows)

    assert counted(settings) == {"f1": 5}
    assert counted(settings, BEN) == {"f1": 7}


def test_a_batch_after_the_cutoff_an_uncommitted_one_and_a_withdrawn_file_do_not_count(settings):
    write(settings, ACCEPTED, [used(1, 1, 5), used(1, 2, 7, batch=2), used(1, 3, 9, batch=3)])
    write(
        settings, BATCHES, [{"batch": 2, "state": "committed", "withdrawn_file_numbers": [1]}, {"batch": 3, "state": "planned"}]
    )

    assert counted(settings, cutoff=1) == {"f1": 5}
    assert counted(settings, cutoff=3) == {"f2": 7}


@pytest.mark.parametrize(("copies", "expected"), [([], {"f2": 7}), ([(3, 1)], {"f1": 5})])
def test_of_records_with_one_key_the_content_that_was_delivered_last_counts(settings, copies, expected):
    same = {"record_key": b"call", "is_conflicting": True}
    write(settings, ACCEPTED, [used(1, 1, 5, **same), used(1, 2, 7, **same)])
    write(settings, REJECTED, [
        {"batch": 1, "source": "pgw_pipe", "file_number": file, "record_ordinal": 1, "reason": "duplicate", "record_key": b"call"}
        | {"duplicate_of_file_number": of, "duplicate_of_record_ordinal": 1}
        for file, of in copies
    ])  # fmt: skip

    assert counted(settings) == expected


def test_a_corrected_assignment_no_longer_holds(settings):
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    correction = held(BEN, begin, TENTH, record_key=ANA + begin.isoformat().encode(), file_number=2, is_conflicting=True)
    first = held(ANA, begin, TENTH, file_number=1, is_conflicting=True)
    write(settings, SUBSCRIPTIONS, [first, correction], mode="overwrite")
    write(settings, ACCEPTED, [used(1, 1, 5)])

    assert counted(settings) == {}
    assert counted(settings, BEN) == {"f1": 5}


def test_rejections_of_its_own_identifier_are_counted_by_reason(settings):
    write(settings, ACCEPTED, [used(1, 1, 5)])
    lost = {
        "batch": 1,
        "source": "pgw_pipe",
        "file_number": 1,
        "usage_month": MONTH,
        "identifier_type": "imsi",
        "identifier_key": SIM,
    }
    lost |= {"closed_at": datetime(2026, 10, 6, tzinfo=UTC)}
    write(settings, REJECTED, [lost | {"record_ordinal": n, "reason": "volume_malformed"} for n in (2, 3)])

    with reading(settings.lake, TABLES) as connection:
        found = provenance(connection, settings, {"usage_month": MONTH, "revision": 1, "batch_cutoff": 1}, ANA, [])

    assert found["rejected"] == [{"source": "pgw_pipe", "reason": "volume_malformed", "records": 2}]
