"""Which legal month an instant belongs to, and what of an interval lies in which month."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.legal_calendar import bounds, month_index, month_starts, months, split

PARIS = ZoneInfo("Europe/Paris")
SECOND, HOUR = 1_000_000, 3_600_000_000


def at(text: str) -> int:
    """Microseconds UTC of a local time in Paris, or of one with its offset."""
    instant = datetime.fromisoformat(text)
    return round((instant if instant.tzinfo else instant.replace(tzinfo=PARIS)).timestamp()) * SECOND


def month_of(instant: int, legal: ZoneInfo = PARIS) -> date:
    return months(month_index(np.array([instant]), legal))[0].item()


def parts(opened: str, closed: str, up: int, down: int = 0) -> list[tuple[str, int, int]]:
    found = split(at(opened), at(closed), (up, down), PARIS)
    return [(str(months(np.array(index))), *octets) for index, octets in found]


@pytest.mark.parametrize(
    ("month", "hours"),
    [
        (date(2026, 10, 1), 745),
        (date(2026, 3, 1), 743),
        (date(2026, 1, 1), 31 * 24),
        (date(2026, 2, 1), 28 * 24),
        (date(2028, 2, 1), 29 * 24),
        (date(2026, 12, 1), 31 * 24),
    ],
)
def test_a_month_lasts_from_local_midnight_to_local_midnight(month, hours):
    begin, end = bounds(month, PARIS)

    assert end - begin == timedelta(hours=hours)
    assert [instant.astimezone(PARIS).time().isoformat() for instant in (begin, end)] == ["00:00:00", "00:00:00"]


def test_october_begins_in_summer_time_and_ends_in_winter_time():
    assert bounds(date(2026, 10, 1), PARIS) == (datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["Europe/Paris", "UTC", "America/Havana", "Pacific/Apia", "America/Asuncion", "Asia/Kathmandu"])
def test_both_ways_to_know_a_month_agree_and_months_leave_no_gap(zone):
    legal = ZoneInfo(zone)
    starts = month_starts(legal)

    assert (np.diff(starts) > 0).all()
    for index, month in enumerate(months(np.arange(len(starts) - 1)).tolist()):
        begin, end = bounds(month, legal)
        assert (round(begin.timestamp()) * SECOND, round(end.timestamp()) * SECOND) == (starts[index], starts[index + 1])


@pytest.mark.parametrize(
    ("instant", "month"),
    [
        ("2026-09-30T23:59:59", date(2026, 9, 1)),
        ("2026-10-01T00:00:00", date(2026, 10, 1)),
        ("2026-09-30T21:59:59+00:00", date(2026, 9, 1)),
        ("2026-09-30T22:00:00+00:00", date(2026, 10, 1)),
        ("2026-10-31T22:59:59+00:00", date(2026, 10, 1)),
        ("2026-10-31T23:00:00+00:00", date(2026, 11, 1)),
    ],
)
def test_an_instant_belongs_to_the_month_on_the_legal_clock(instant, month):
    assert month_of(at(instant)) == month


def test_the_microsecond_before_midnight_is_still_the_old_month():
    midnight = at("2026-10-01T00:00:00")

    assert (month_of(midnight - 1), month_of(midnight)) == (date(2026, 9, 1), date(2026, 10, 1))


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        ("UTC", "2026-10-01T00:00:00+00:00"),
        ("America/Martinique", "2026-10-01T04:00:00+00:00"),
        ("Indian/Reunion", "2026-09-30T20:00:00+00:00"),
        ("Asia/Kathmandu", "2026-09-30T18:15:00+00:00"),
    ],
)
def test_another_legal_zone_has_its_own_midnight(zone, midnight):
    legal = ZoneInfo(zone)

    assert (month_of(at(midnight) - 1, legal), month_of(at(midnight), legal)) == (date(2026, 9, 1), date(2026, 10, 1))


def test_a_midnight_that_never_came_is_the_instant_the_clock_jumped():
    # Asunción went from 23:59:59 on 30 September 2017 to 01:00 on 1 October.
    begin, _ = bounds(date(2017, 10, 1), ZoneInfo("America/Asuncion"))

    assert begin == datetime(2017, 10, 1, 4, tzinfo=UTC)


def test_a_midnight_that_came_twice_is_the_first_one():
    # Havana went from 00:59:59 on 1 November 2020 back to 00:00.
    begin, _ = bounds(date(2020, 11, 1), ZoneInfo("America/Havana"))

    assert begin == datetime(2020, 11, 1, 4, tzinfo=UTC)


def test_an_interval_across_a_month_end_is_split_by_elapsed_time():
    # A quarter of an hour of the hour lies in October.
    assert parts("2026-10-31T23:45:00", "2026-11-01T00:45:00", 4000, 800) == [
        ("2026-10-01", 1000, 200),
        ("2026-11-01", 3000, 600),
    ]


def test_the_first_part_is_rounded_down_and_the_rest_goes_on_up_and_down_apart():
    # A third of 100 is 33 1/3, a third of 2 is 2/3.
    assert parts("2026-10-31T23:40:00", "2026-11-01T00:40:00", 100, 2) == [
        ("2026-10-01", 33, 0),
        ("2026-11-01", 67, 2),
    ]


def test_elapsed_time_counts_the_hour_that_comes_twice():
    # 1 October 00:00 to 2 November 00:00 is 745 + 24 hours.
    assert parts("2026-10-01T00:00:00", "2026-11-02T00:00:00", 769) == [("2026-10-01", 745, 0), ("2026-11-01", 24, 0)]


def test_an_interval_over_several_months_is_split_month_by_month():
    # Two hours of September, 745 of October, 720 of November, one of December.
    assert parts("2026-09-30T22:00:00", "2026-12-01T01:00:00", 1468 * 10) == [
        ("2026-09-01", 20, 0),
        ("2026-10-01", 7450, 0),
        ("2026-11-01", 7200, 0),
        ("2026-12-01", 10, 0),
    ]


def test_an_interval_that_ends_at_midnight_used_nothing_of_the_new_month():
    assert parts("2026-10-31T23:00:00", "2026-11-01T00:00:00", 7, 5) == [("2026-10-01", 7, 5)]


def test_an_interval_that_begins_at_midnight_used_nothing_of_the_old_month():
    assert parts("2026-11-01T00:00:00", "2026-11-01T01:00:00", 7, 5) == [("2026-11-01", 7, 5)]


def test_an_interval_within_a_month_is_one_part():
    assert parts("2026-10-01T00:00:00", "2026-10-02T00:00:00", 7, 5) == [("2026-10-01", 7, 5)]


def test_the_largest_volume_is_split_without_a_float():
    # 10^14 · 1/3 has no exact float; the parts are whole octets.
    assert parts("2026-10-31T23:40:00", "2026-11-01T00:40:00", 10**14) == [
        ("2026-10-01", 33_333_333_333_333, 0),
        ("2026-11-01", 66_666_666_666_667, 0),
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(at("2020-01-01T00:00:00"), at("2030-01-01T00:00:00")),
    st.integers(1, 400 * 24 * HOUR),
    st.integers(0, 10**14),
    st.integers(0, 10**14),
    st.sampled_from(["Europe/Paris", "UTC", "America/Havana", "Asia/Kathmandu"]),
)
def test_the_parts_add_up_and_follow_each_other(opened, length, up, down, zone):
    legal, closed = ZoneInfo(zone), opened + length

    found = list(split(opened, closed, (up, down), legal))

    assert [sum(octets[way] for _, octets in found) for way in (0, 1)] == [up, down]
    assert all(part >= 0 for _, octets in found for part in octets)
    first, last = month_index(np.array([opened, closed - 1]), legal).tolist()
    assert [index for index, _ in found] == list(range(first, last + 1))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 10**14))
def test_the_first_part_is_the_floor_of_its_share(before, after, octets):
    midnight = at("2026-11-01T00:00:00")

    (_, first), (_, second) = split(midnight - before * SECOND // 1000, midnight + after * SECOND // 1000, (octets, 0), PARIS)

    assert first[0] == octets * before // (before + after)
    assert second[0] == octets - first[0]
