"""Counters that only grow: what was used between two readings, whatever came twice, late, wrapped or was lost.

The month is October 2026 in Paris: from 2026-09-30 22:00 to 2026-10-31 23:00 UTC. A line carries 1,000,000 octets a second
unless a test says otherwise.
"""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from jobs.legal_calendar import bounds
from schemas.tables import CARRIED, READINGS
from tests.conftest import rows

pytestmark = pytest.mark.spark

PARIS = "Europe/Paris"
SECOND = timedelta(seconds=1)


def month_of(first: date):
    from jobs.legal_calendar import Month

    return Month(first, *bounds(first, ZoneInfo(PARIS)), PARIS)


OCTOBER, NOVEMBER = month_of(date(2026, 10, 1)), month_of(date(2026, 11, 1))


class Months:
    """What a month's readings come to: its deltas, what it carries over, and its balance."""

    def __init__(self, spark, readings, carried=None, month=OCTOBER, fastest=1_000_000, packet=1_500, silent=7_200):
        from jobs.counters import Limits, balances, carried_over, deltas

        limits = {"bng": Limits(fastest, packet, silent), "-": Limits(fastest, packet, silent)}
        every = readings if not isinstance(readings, str) else rows(spark, READINGS, readings)
        before = rows(spark, CARRIED, carried) if isinstance(carried, str) else carried
        sound, resets = every.where("status <> 'reset'"), every.where("status = 'reset'")
        self.frame = deltas(sound, resets, before, limits, month, 7).persist()
        self.deltas = self.frame.collect()
        self.carried_frame = carried_over(self.frame, before, resets, month, 7)
        self.carried = self.carried_frame.collect()
        self.balance = {row.source: row for row in balances(self.frame, self.carried_frame, month, 7).collect()}

    @property
    def octets(self) -> tuple[int, int]:
        """Octets of the month, up and down."""
        return sum(row.octets_up for row in self.deltas), sum(row.octets_down for row in self.deltas)

    @property
    def reasons(self) -> list[str]:
        """Why octets are not exact."""
        return sorted(row.reason for row in self.deltas if row.reason)


def test_a_session_is_the_sum_of_its_deltas_and_the_first_counts_from_0(spark):
    found = Months(
        spark,
        """
        | session_key | status  | started_at       | closed_at           | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | s           | start   | 2026-10-05T10:00 | 2026-10-05T10:00:00 | 0         | 64           |                   |                     | 1              |
        | s           | interim | 2026-10-05T10:00 | 2026-10-05T10:05:00 | 300       | 64           | 100               | 1_000               | 2              |
        | s           | interim | 2026-10-05T10:00 | 2026-10-05T10:10:00 | 600       | 64           | 150               | 5_000               | 3              |
        | s           | stop    | 2026-10-05T10:00 | 2026-10-05T10:12:00 | 720       | 64           | 170               | 5_001               | 4              |
        """,
    )

    assert found.octets == (170, 5_001)
    assert sorted(row.octets_down for row in found.deltas) == [0, 1, 1_000, 4_000]
    assert found.reasons == []
    assert found.carried == []


def test_nothing_changes_when_packets_come_twice_out_of_order_or_after_the_stop(spark):
    found = Months(
        spark,
        """
        | session_key | status  | started_at          | closed_at           | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | file_number | record_ordinal |
        | s           | stop    | 2026-10-05T10:00:02 | 2026-10-05T10:12:02 | 720       | 64           | 170               | 5_001               | 1           | 1              |
        | s           | interim | 2026-10-05T10:00:00 | 2026-10-05T10:10:00 | 600       | 64           | 150               | 5_000               | 1           | 2              |
        | s           | interim | 2026-10-05T10:00:00 | 2026-10-05T10:10:00 | 600       | 64           | 150               | 5_000               | 2           | 1              |
        | s           | interim | 2026-10-05T10:00:01 | 2026-10-05T10:05:01 | 300       | 64           | 100               | 1_000               | 1           | 3              |
        | s           | interim | 2026-10-05T10:00:01 | 2026-10-05T10:15:01 | 900       | 64           | 999               | 9_999               | 1           | 4              |
        """,
    )

    assert found.octets == (170, 5_001)
    assert found.reasons == []


def test_an_id_used_again_after_a_restart_is_another_session(spark):
    found = Months(
        spark,
        """
        | session_key | status | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | s           | stop   | 2026-10-05T10:00 | 2026-10-05T10:30 | 1800      | 64           | 10                | 100                 | 1              |
        | s           | stop   | 2026-10-05T11:00 | 2026-10-05T11:10 | 600       | 64           | 7                 | 80                  | 2              |
        """,
    )

    assert found.octets == (17, 180)
    assert found.balance["-"].sessions == 2


def test_a_32_bit_counter_that_wraps_goes_on_and_is_exact_where_packets_leave_no_doubt(spark):
    readings = """
        | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | counter_packets_up | counter_packets_down | record_ordinal |
        | s           | interim | 2026-10-05T10:00 | 2026-10-05T12:00 | 7200      | 32           | 0                 | 4_294_967_000       | 0                  | 3_000_000            | 1              |
        | s           | stop    | 2026-10-05T10:00 | 2026-10-05T13:00 | 10800     | 32           | 0                 | 704                 | 0                  | 3_000_010            | 2              |
        """
    exact = Months(spark, readings)
    fast = Months(spark, readings.replace("3_000_0", "9_000_0"), fastest=10_000_000)

    assert exact.octets == (0, 4_294_968_000)
    assert exact.reasons == []
    assert sum(row.wraps for row in exact.deltas) == 1
    assert fast.octets == (0, 4_294_968_000)
    assert fast.reasons == ["may_have_wrapped"]  # nine million packets may be 13.5 GB: twice and thrice around
    assert [row.octets_unknown_at_most for row in fast.deltas if row.reason] == [2 * (1 << 32)]


def test_a_32_bit_counter_without_packets_is_exact_only_if_the_line_is_too_slow_to_wrap_unseen(spark):
    readings = """
        | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | s           | interim | 2026-10-05T10:00 | 2026-10-05T10:10 | 600       | 32           | 0                 | 500_000_000         | 1              |
        | s           | stop    | 2026-10-05T10:00 | 2026-10-05T10:20 | 1200      | 32           | 0                 | 900_000_000         | 2              |
        """

    assert Months(spark, readings).reasons == []
    assert Months(spark, readings, fastest=100_000_000).reasons == ["may_have_wrapped", "may_have_wrapped"]


def test_a_fall_of_a_64_bit_counter_counts_nothing_twice_and_is_flagged(spark):
    found = Months(
        spark,
        """
        | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | s           | interim | 2026-10-05T10:00 | 2026-10-05T10:10 | 600       | 64           | 0                 | 1_000               | 1              |
        | s           | interim | 2026-10-05T10:00 | 2026-10-05T10:20 | 1200      | 64           | 0                 | 900                 | 2              |
        | s           | stop    | 2026-10-05T10:00 | 2026-10-05T10:30 | 1800      | 64           | 0                 | 1_200               | 3              |
        """,
    )

    assert found.octets == (0, 1_200)
    assert found.reasons == ["counter_fell"]


def test_one_absurd_counter_is_left_out_and_one_that_stays_is_refused(spark):
    found = Months(
        spark,
        """
        | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down   | record_ordinal |
        | glitch      | interim | 2026-10-05T10:00 | 2026-10-05T10:10 | 600       | 64           | 0                 | 1_000                 | 1              |
        | glitch      | interim | 2026-10-05T10:00 | 2026-10-05T10:20 | 1200      | 64           | 0                 | 900_000_000_000       | 2              |
        | glitch      | stop    | 2026-10-05T10:00 | 2026-10-05T10:30 | 1800      | 64           | 0                 | 3_000                 | 3              |
        | stays       | interim | 2026-10-05T10:00 | 2026-10-05T10:10 | 600       | 64           | 0                 | 1_000                 | 4              |
        | stays       | interim | 2026-10-05T10:00 | 2026-10-05T10:20 | 1200      | 64           | 0                 | 900_000_000_000       | 5              |
        | stays       | interim | 2026-10-05T10:00 | 2026-10-05T10:30 | 1800      | 64           | 0                 | 900_000_002_000       | 6              |
        | stays       | stop    | 2026-10-05T10:00 | 2026-10-05T10:40 | 2400      | 64           | 0                 | 900_000_005_000       | 7              |
        """,
    )
    by_session = {}
    for row in found.deltas:
        by_session[bytes(row.session_key)[:6]] = by_session.get(bytes(row.session_key)[:6], 0) + row.octets_down

    assert by_session == {b"glitch": 3_000, b"stays\0": 1_000 + 3_000}
    assert found.reasons == ["counter_grew_too_fast"]
    assert found.balance["-"].octets_refused == Decimal(900_000_001_000)


def test_a_stop_without_octets_keeps_what_was_counted_and_says_that_the_rest_is_unknown(spark):
    found = Months(
        spark,
        """
        | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | s           | interim | 2026-10-05T10:00 | 2026-10-05T10:10 | 600       | 64           | 5                 | 1_000               | 1              |
        | s           | stop    | 2026-10-05T10:00 | 2026-10-05T10:11 | 660       | 64           |                   |                     | 2              |
        """,
    )

    assert found.octets == (5, 1_000)
    assert found.reasons == ["stop_without_octets"]
    assert [row.octets_unknown_at_most for row in found.deltas if row.reason] == [(60 + 60) * 1_000_000]
    assert found.carried == []


def test_a_lost_stop_is_flagged_and_bounded_by_a_reset_of_its_network_element_or_by_silence(spark):
    found = Months(
        spark,
        """
        | session_key | node | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | reset       | n1   | interim | 2026-10-05T10:00 | 2026-10-05T10:10 | 600       | 64           | 5                 | 1_000               | 1              |
        |             | n1   | reset   |                  | 2026-10-05T10:11 |           | 64           |                   |                     | 2              |
        |             | n2   | reset   |                  | 2026-10-05T10:05 |           | 64           |                   |                     | 3              |
        | silent      | n2   | interim | 2026-10-05T10:00 | 2026-10-05T10:10 | 600       | 64           | 5                 | 1_000               | 4              |
        """,
    )
    unknown = {bytes(row.session_key).rstrip(b"\0"): row.octets_unknown_at_most for row in found.deltas}

    assert found.reasons == ["stop_is_missing", "stop_is_missing"]
    assert unknown == {b"reset": (60 + 60) * 1_000_000, b"silent": (7_200 + 60) * 1_000_000}
    # Its element did not say that it began anew, so it may come back: then it must count on, not again.
    assert [bytes(row.session_key).rstrip(b"\0") for row in found.carried] == [b"silent"]
    assert found.balance["-"].sessions_lost == 2


def test_a_session_over_the_month_end_is_split_by_time_and_the_next_month_counts_from_there(spark):
    readings = """
        | usage_month | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | 2026-10-01  | s           | interim | 2026-10-31T22:00 | 2026-10-31T22:50 | 3000      | 64           | 10                | 1_000               | 1              |
        | 2026-11-01  | s           | interim | 2026-10-31T22:00 | 2026-10-31T23:05 | 3900      | 64           | 14                | 1_900               | 2              |
        | 2026-11-01  | s           | stop    | 2026-10-31T22:00 | 2026-10-31T23:20 | 4800      | 64           | 20                | 2_000               | 3              |
        """
    every = rows(spark, READINGS, readings)
    october = Months(spark, every)
    november = Months(spark, every.where("usage_month = '2026-11-01'"), october.carried_frame, NOVEMBER)

    # Ten of the fifteen minutes lie in October: floor(4 · 10 / 15) and floor(900 · 10 / 15).
    assert october.octets == (10 + 2, 1_000 + 600)
    assert november.octets == (2 + 6, 300 + 100)
    assert [(row.closed_at, row.counter_octets_up, row.counter_octets_down) for row in october.carried] == [
        (OCTOBER.end.astimezone().replace(tzinfo=None), 12, 1_600)
    ]
    assert november.carried == []
    assert october.reasons == november.reasons == []


def test_a_session_that_was_open_before_the_first_month_is_prorated_from_its_start_and_flagged(spark):
    found = Months(
        spark,
        """
        | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | s           | interim | 2026-09-30T16:00 | 2026-10-01T02:00 | 36000     | 64           | 0                 | 1_000               | 1              |
        | s           | stop    | 2026-09-30T16:00 | 2026-10-01T02:10 | 36600     | 64           | 0                 | 1_500               | 2              |
        """,
    )

    assert found.octets == (0, 400 + 500)  # four of ten hours lie in October
    assert found.reasons == ["long_over_month_end"]
    assert found.balance["-"].octets_before == 600


def test_a_session_silent_all_month_stays_carried_until_its_element_begins_anew(spark):
    carried = """
        | usage_month | session_key | node | started_at       | closed_at        | counter_bits | counter_octets_up | counter_octets_down |
        | 2026-09-01  | quiet       | n1   | 2026-09-05T10:00 | 2026-09-30T22:00 | 64           | 5                 | 1_000               |
        | 2026-09-01  | reset       | n2   | 2026-09-05T10:00 | 2026-09-30T22:00 | 64           | 5                 | 1_000               |
        | 2026-09-01  | goes on     | n1   | 2026-09-05T10:00 | 2026-09-30T22:00 | 64           | 5                 | 1_000               |
        """
    found = Months(
        spark,
        """
        | session_key | node | status  | started_at          | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        |             | n2   | reset   |                     | 2026-10-05T10:11 |           | 64           |                   |                     | 1              |
        | goes on     | n1   | interim | 2026-09-05T10:00:09 | 2026-10-31T22:55 | 4885000   | 64           | 6                 | 1_007               | 2              |
        """,
        carried,
        fastest=1_000_000_000,
    )

    assert found.octets == (1, 7)
    assert {bytes(row.session_key).rstrip(b"\0"): row.counter_octets_down for row in found.carried} == {
        b"quiet": 1_000,
        b"goes on": 1_007,
    }


def test_the_counter_before_the_month_is_not_counted_where_nothing_was_carried_over(spark):
    found = Months(
        spark,
        """
        | usage_month | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal |
        | 2026-09-01  | s           | interim | 2026-09-05T10:00 | 2026-09-30T21:55 | 2202900   | 64           | 100               | 7_000               | 1              |
        | 2026-10-01  | s           | interim | 2026-09-05T10:00 | 2026-09-30T22:05 | 2203500   | 64           | 110               | 8_000               | 2              |
        | 2026-10-01  | s           | stop    | 2026-09-05T10:00 | 2026-09-30T22:10 | 2203800   | 64           | 120               | 8_100               | 3              |
        """,
    )

    assert found.octets == (5 + 10, 500 + 100)
    assert found.reasons == []
    assert found.balance["-"].octets_first == 7_100


def test_octets_of_random_sessions_are_conserved_over_three_months_whatever_order_copies_and_cuts(spark):
    """Sessions of months with counters of both widths: exact where they can be, and every month adds up."""
    import random

    from pyspark.sql import functions as F

    random.seed(7)
    months = [month_of(date(2026, m, 1)) for m in (9, 10, 11)]
    begin, end = months[0].begin, months[-1].end
    readings, truth = [], {}
    for number in range(40):
        start = begin + (end - begin) * random.random() * 0.9
        start -= timedelta(microseconds=start.microsecond)
        bits, up, down, packets, elapsed = random.choice((32, 64)), 0, 0, [0, 0], 0
        wrap = (1 << 32) if bits == 32 else 1 << 62
        key = f"s{number}".encode().ljust(16, b"\0")
        last = random.randint(2, 60)
        seconds = int((end - start).total_seconds()) // (last + 1)
        for step in range(last + 1):
            if step:
                passed = min(random.randint(60, 3_600 * 24), seconds)
                elapsed += passed
                grown = (random.randint(0, passed * 10_000), random.randint(0, passed * 200_000))
                up, down = up + grown[0], down + grown[1]
                packets = [packets[0] + grown[0] // 1_000 + 1, packets[1] + grown[1] // 1_400 + 1]
            closed = start + elapsed * SECOND
            status = "start" if not step else "stop" if step == last else "interim"
            month = max(m.usage_month for m in months if m.begin <= closed)
            row = {
                "usage_month": month,
                "session_key": key,
                "status": status,
                "started_at": start + random.randint(-2, 2) * SECOND,
            }
            row |= {"closed_at": closed, "elapsed_s": elapsed, "counter_bits": bits, "identifier_key": key, "record_key": key}
            row |= {"counter_octets_up": up % wrap, "counter_octets_down": down % wrap}
            row |= {"counter_packets_up": packets[0] % (1 << 32), "counter_packets_down": packets[1] % (1 << 32)}
            row |= {"source": "bng", "node": "n", "identifier_type": "line_id", "roaming_zone": "home", "batch": 1}
            readings += [row] * random.choice((1, 1, 1, 2))
        truth[key] = up + down
    random.shuffle(readings)
    for ordinal, row in enumerate(readings):
        readings[ordinal] = row | {"file_number": random.randint(1, 9), "record_ordinal": ordinal, "byte_offset": ordinal}

    import pyarrow as pa

    every = spark.createDataFrame(pa.Table.from_pylist(readings, READINGS.arrow_schema), READINGS.spark_schema).persist()
    counted, unknown, carried = {}, {}, None
    for month in months:
        window = every.where(F.col("closed_at") >= F.lit(month.begin)).where(
            F.col("closed_at") < F.lit(month.end + timedelta(days=2))
        )
        found = Months(spark, window, carried, month, fastest=400_000, packet=2_500, silent=86_400)
        balance = found.balance["bng"]
        left = (
            balance.octets_last - balance.octets_first + balance.octets_wrapped + balance.octets_fallen - balance.octets_refused
        )
        assert left == balance.octets_before + balance.octets_of_month
        assert set(found.reasons) <= {"may_have_wrapped"}
        for row in found.deltas:
            assert row.octets_before == 0
            key = bytes(row.session_key)
            counted[key] = counted.get(key, 0) + row.octets_up + row.octets_down
            unknown[key] = unknown.get(key, 0) + row.octets_unknown_at_most
        carried = spark.createDataFrame(found.carried_frame.toArrow(), CARRIED.spark_schema).persist()

    exact = {key for key, most in unknown.items() if not most}
    assert {key: counted[key] for key in exact} == {key: truth[key] for key in exact}
    assert len(exact) > 10
    assert all(counted[key] <= truth[key] <= counted[key] + unknown[key] for key in set(truth) - exact)


def test_a_stop_that_is_missing_just_before_the_month_s_end_is_flagged_once_later_readings_show_the_silence(spark):
    found = Months(
        spark,
        """
        | session_key | status  | started_at       | closed_at        | elapsed_s | counter_bits | counter_octets_up | counter_octets_down | record_ordinal | usage_month |
        | silent      | interim | 2026-10-31T21:00 | 2026-10-31T21:30 | 1800      | 64           | 10                | 100                 | 1              | 2026-10-01  |
        | other       | interim | 2026-10-31T21:00 | 2026-10-31T22:30 | 5400      | 64           | 10                | 100                 | 2              | 2026-10-01  |
        | other       | interim | 2026-10-31T21:00 | 2026-11-01T00:10 | 11400     | 64           | 10                | 100                 | 3              | 2026-11-01  |
        """,
    )

    assert found.reasons == ["stop_is_missing"]
