"""Counters over months: each counts from what the month before carried over, whatever came late and whichever keys serve.

Two lines of one gateway. LINE-1's session goes on from October into December; LINE-2 stops in November. Months are those of
Paris: October ends on 31 October 23:00 UTC, November on 30 November 23:00 UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from jobs.run import Settings
from tests.e2e.landing import HEADER, subscription, write

pytestmark = [pytest.mark.spark, pytest.mark.slow]

OCTOBER, NOVEMBER, DECEMBER = (date(2026, month, 1) for month in (10, 11, 12))


def packet(line: str, session: str, status: str, began: str, read: str, down: int | None, up: int = 0) -> str:
    """An accounting packet as FreeRADIUS writes it into a detail file."""
    closed = datetime.fromisoformat(read).replace(tzinfo=UTC)
    elapsed = int((closed - datetime.fromisoformat(began).replace(tzinfo=UTC)).total_seconds())
    attributes = {
        "User-Name": f'"{line}"',
        "NAS-IP-Address": "192.0.2.1",
        "Acct-Session-Id": f'"{session}"',
        "Acct-Status-Type": status,
        "Acct-Session-Time": elapsed,
        "Event-Timestamp": f'"{closed:%b %e %Y %H:%M:%S} UTC"',
    }
    if down is not None:
        attributes |= {"Acct-Input-Octets": up, "Acct-Output-Octets": down % 2**32, "Acct-Output-Gigawords": down // 2**32}
    lines = [f"\t{name} = {value}" for name, value in attributes.items()]
    return "\n".join([f"{closed:%a %b %e %H:%M:%S %Y}", *lines, ""])


def metered(settings: Settings, spark, month: date) -> int:
    """Octets of the month, both directions, of the latest look at it."""
    rows = spark.read.format("delta").load(f"{settings.lake}/metered").where(f"usage_month = '{month}'").collect()
    return sum(row.octets_up + row.octets_down for row in rows)


def land(settings: Settings, run, number: int, packets: list[str]) -> None:
    write(Path(settings.landing), f"bng_radius/detail-20261001-{number:06d}", packets)
    run(settings, "2026-10", ("land", "accept"))


@pytest.fixture(scope="module")
def place(settings: Settings):
    """The export, and the readings of October and the first of November."""
    from tests.e2e.conftest import run_stages

    lines = [subscription(f"S{n}", "fixed", ("line_id", f"LINE-{n}")) for n in (1, 2)]
    write(Path(settings.landing), "subscriptions/subscriptions_202610.csv", [HEADER, *lines])
    land(
        settings,
        run_stages,
        1,
        [
            packet("LINE-1", "A", "Start", "2026-10-31T21:00:00", "2026-10-31T21:00:00", 0),
            packet("LINE-1", "A", "Interim-Update", "2026-10-31T21:00:00", "2026-10-31T22:30:00", 3_000_000_000),
            packet("LINE-2", "B", "Interim-Update", "2026-10-31T22:00:00", "2026-10-31T22:50:00", 500),
            packet("LINE-1", "A", "Interim-Update", "2026-10-31T21:00:00", "2026-10-31T23:30:00", 9_000_000_000),
            packet("LINE-2", "B", "Stop", "2026-10-31T22:00:00", "2026-10-31T23:10:00", 900),
        ],
    )
    return settings


def test_a_month_counts_up_to_its_end_and_carries_its_counters_over(place, run, spark):
    run(place, "2026-10", ("meter",))

    # LINE-1: half of the hour lies in October; LINE-2: half of its twenty minutes.
    assert metered(place, spark, OCTOBER) == 6_000_000_000 + 700
    carried = spark.read.format("delta").load(f"{place.lake}/carried").collect()
    assert sorted(row.counter_octets_down for row in carried) == [700, 6_000_000_000]


def test_the_next_month_counts_from_there_under_keys_of_its_own(place, run, spark):
    from jobs.workplace import rotate_key, workplace

    with workplace(place, "test", print) as opened:
        rotate_key(opened, "identifier", DECEMBER)
    land(
        place,
        run,
        2,
        [
            packet("LINE-1", "A", "Interim-Update", "2026-10-31T21:00:00", "2026-11-30T22:00:00", 9_000_100_000),
            packet("LINE-1", "A", "Interim-Update", "2026-10-31T21:00:00", "2026-11-30T23:30:00", 9_000_400_000),
            packet("LINE-1", "A", "Stop", "2026-10-31T21:00:00", "2026-12-01T00:30:00", 9_000_400_500),
        ],
    )
    # The export comes again under the keys of December, as it does every month.
    write(
        Path(place.landing),
        "subscriptions/subscriptions_202612.csv",
        [HEADER, subscription("S1", "fixed", ("line_id", "LINE-1"))],
    )
    run(place, "2026-11", ("land", "accept", "meter"))
    run(place, "2026-12", ("meter",))

    # Two of the three parts of the last interval before the month's end lie in November.
    assert metered(place, spark, NOVEMBER) == 3_000_000_000 + 200 + 100_000 + 200_000
    assert metered(place, spark, DECEMBER) == 100_000 + 500
    deltas = spark.read.format("delta").load(f"{place.lake}/deltas").where(f"usage_month = '{DECEMBER}'").collect()
    assert len({bytes(row.identifier_key) for row in deltas}) == 1


def test_a_late_packet_changes_its_month_and_what_the_next_counts_from(place, run, spark):
    late = packet("LINE-1", "A", "Interim-Update", "2026-10-31T21:00:00", "2026-10-31T22:59:00", 8_999_999_998)
    land(place, run, 3, [late, late])
    run(place, "2026-10", ("meter",))
    run(place, "2026-11", ("meter",))

    # Of the last two octets before half past, one of thirty-one minutes lies in October: none of them.
    assert metered(place, spark, OCTOBER) == 8_999_999_998 + 700
    assert metered(place, spark, NOVEMBER) == 2 + 200 + 100_000 + 200_000
    balances = spark.read.format("delta").load(f"{place.lake}/counter_balances").where(f"usage_month = '{OCTOBER}'").collect()
    assert sorted(row.octets_of_month for row in balances) == [6_000_000_700, 9_000_000_698]
    assert len({row.batch_cutoff for row in spark.read.format("delta").load(f"{place.lake}/carried").collect()}) > 1
