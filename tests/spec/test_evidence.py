"""What verify keeps of a month beside its measurements: files, days and factors, in sums that add up and name nobody."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import Row

from jobs.evidence import Seen, Used, _days, applied, daily_usage, received
from jobs.legal_calendar import Month
from schemas.tables import (
    ACCEPTED,
    ESTIMATED,
    EVIDENCE_FACTORS,
    EVIDENCE_RECEIVED,
    FILE_BALANCES,
    METERED,
    SUBSCRIBED,
)
from tests.conftest import rows, table_of

OCTOBER = date(2026, 10, 1)
MONTH = Month(OCTOBER, datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC), "Europe/Paris")


def test_a_file_counts_once_in_the_legal_month_it_closed_in_and_one_without_a_time_in_every_month():
    files = table_of(
        """
        | source  | file_number | records_received | records_accepted | records_rejected | octets_received | first_closed_at     | last_closed_at      |
        | pgw     | 1           | 10               | 9                | 1                | 100             | 2026-10-02T00:00:00 | 2026-10-03T00:00:00 |
        | pgw     | 2           | 20               | 20               | 0                | 200             | 2026-09-30T21:59:59 | 2026-10-31T22:59:59 |
        | pgw     | 3           | 40               | 40               | 0                | 400             | 2026-10-31T22:00:00 | 2026-10-31T23:00:00 |
        | exports | 5           | 160              | 160              | 0                | 1600            |                     |                     |
        """,
        FILE_BALANCES,
    )

    found = received([Row(**row) for row in files.to_pylist()], MONTH)

    # File 3 touches October and closes in November, by the clocks of Paris.
    shown = {(r["source"], r["is_without_time"]): (r["files"], r["records_received"], r["octets_received"]) for r in found}
    assert shown == {("pgw", False): (2, 30, 300), ("exports", True): (1, 160, 1600)}
    assert {r["source"]: r["records_rejected"] for r in found} == {"pgw": 1, "exports": 0}
    assert set(found[0]) == set(EVIDENCE_RECEIVED.names) - {"usage_month", "verdict_id"}


@pytest.mark.spark
def test_octets_and_intervals_are_told_of_legal_days(spark):
    from jobs.sums import OF_INTERVAL
    from jobs.table_rows import OfFrame

    records = rows(
        spark,
        ACCEPTED,
        """
        | source | closed_at           | octets_up | octets_down |
        | pgw    | 2026-10-04T21:59:59 | 1         | 2           |
        | pgw    | 2026-10-04T22:00:00 | 10        | 20          |
        | pgw    | 2026-10-05T21:59:59 | 100       | 200         |
        | fixed  | 2026-10-26T23:00:00 | 5         | 0           |
        """,
    )

    assert daily_usage(OfFrame(records, OF_INTERVAL), "Europe/Paris") == {
        ("pgw", date(2026, 10, 4)): Used(3, 1),
        ("pgw", date(2026, 10, 5)): Used(330, 2),
        ("fixed", date(2026, 10, 27)): Used(5, 1),
    }


@pytest.mark.spark
def test_octets_of_a_day_never_wrap(spark):
    from jobs.sums import OF_INTERVAL
    from jobs.table_rows import OfFrame

    most = 1 << 61
    lines = "\n".join([f"| pgw | 2026-10-04T12:00:00 | {most} | {most - 1} |"] * 2)
    records = rows(spark, ACCEPTED, f"| source | closed_at | octets_up | octets_down |\n{lines}")

    assert daily_usage(OfFrame(records, OF_INTERVAL), "Europe/Paris") == {("pgw", date(2026, 10, 4)): Used((1 << 63) - 2, 2)}


def test_a_day_on_which_nothing_came_has_a_row_and_is_seen_to_be_silent():
    daily = {("pgw", date(2026, 10, day)): Used(100 + day, day) for day in range(1, 32) if day != 9}
    daily["pgw", date(2026, 11, 1)] = Used(1, 1)  # of an interval that goes on after the month

    found = {row["day"]: row for row in _days(Seen([], daily, []), OCTOBER)}

    assert len(found) == 32
    assert (found[date(2026, 10, 9)]["intervals"], found[date(2026, 10, 9)]["octets_share_of_median"]) == (0, 0)
    assert found[date(2026, 10, 31)]["octets_share_of_median"] == Decimal("1.129310")  # 131 over the median, 116
    assert found[date(2026, 11, 1)]["octets_share_of_median"] is None


def test_records_that_never_came_are_told_on_the_day_they_are_missed():
    def numbered(node: str, day: int, first: int, last: int, records: int) -> Any:
        return SimpleNamespace(
            source="pgw", node=node, day=date(2026, 10, day), records=records, first_sequence=first, last_sequence=last
        )

    # 1-10 and 8-12 of two files overlap; 13-14 never came; 15-20 lacks two; another node lacks none.
    ranges = [numbered("a", 1, 1, 10, 10), numbered("a", 1, 8, 12, 2), numbered("a", 2, 15, 20, 4), numbered("b", 2, 5, 9, 5)]

    found = list(_days(Seen([], {}, ranges), OCTOBER))

    shown = [(row["day"].day, row["nodes"], row["records_numbered"], row["records_missing"]) for row in found]
    assert shown == [(1, 1, 12, 0), (2, 2, 9, 4)]
    assert {row["intervals"] for row in found} == {0}


USAGE = """
    | subscription_key | octets_up | octets_down | attribution        |
    | ana              | 1         | 10          | holder             |
    | ana              | 2         | 20          | holder             |
    | ben              | 4         | 40          | holder             |
    |                  | 8         | 80          | unknown_identifier |
    """
SUBSCRIBED_ROWS = """
    | subscription_key | brand | network |
    | ana              | one   | mobile  |
    | ben              | two   | mobile  |
    | cy               | one   | fixed   |
    """


def applied_to(spark, estimated, usage: str, subscribed: str):
    from jobs.evidence import OF_COMPONENT, OF_SUBSCRIPTION, OF_USAGE
    from jobs.table_rows import OfFrame

    others = OfFrame(rows(spark, METERED, usage), OF_USAGE), OfFrame(rows(spark, SUBSCRIBED, subscribed), OF_SUBSCRIPTION)
    return applied(spark, OfFrame(estimated, OF_COMPONENT), *others)


@pytest.mark.spark
def test_factors_are_told_with_what_they_were_applied_to(spark):
    estimated = rows(
        spark,
        ESTIMATED,
        """
        | subscription_key | network | component    | access_technology | factor_id | gco2e_per_unit | quantity | quantity_unit      | gco2e |
        | ana              | mobile  | volume       | 4g                | A         | 12.3           | 2        | GB                 | 24.6  |
        | ana              | mobile  | volume       | 5g                | A         | 12.3           | 1        | GB                 | 12.3  |
        | ben              | mobile  | volume       | 4g                | A         | 12.3           | 1        | GB                 | 12.3  |
        | ana              | mobile  | subscription |                   | B         | 475            | 1        | subscription-month | 475   |
        """,
    )

    use = applied_to(spark, estimated, USAGE, SUBSCRIBED_ROWS)

    found = {row["factor_id"]: row for row in use.factors}
    assert (found["A"]["subscriptions"], found["A"]["quantity"], found["A"]["gco2e"]) == (2, 4, Decimal("49.2"))
    assert (found["B"]["subscriptions"], found["B"]["quantity"], found["B"]["gco2e"]) == (1, 1, 475)
    assert (found["A"]["components"], found["B"]["components"]) == (3, 1)
    assert set(found["A"]) - {"components", "inexact"} == set(EVIDENCE_FACTORS.names) - {"usage_month", "verdict_id"}
    assert use.repeated == {"mobile": 0}
    assert use.octets == {("one", "mobile"): (3, 30), ("two", "mobile"): (4, 40)}


@pytest.mark.spark
def test_a_component_that_stands_twice_and_a_product_that_is_none_are_told(spark):
    estimated = rows(
        spark,
        ESTIMATED,
        """
        | subscription_key | network | component    | access_technology | factor_id | gco2e_per_unit | quantity | quantity_unit      | gco2e          |
        | ana              | mobile  | volume       | 4g                | A         | 12.3           | 2        | GB                 | 24.6           |
        | ana              | mobile  | volume       | 4g                | A2        | 12.3           | 1        | GB                 | 12.3           |
        | ben              | mobile  | volume       | 4g                | A         | 12.3           | 1        | GB                 | 12.300000000001 |
        | cy               | fixed   | subscription |                   | B         | 4.1            | 1        | subscription-month | 4.1            |
        | cy               | fixed   | subscription |                   | B         | 4.1            | 1        | subscription-month | 4.1            |
        """,
    )

    use = applied_to(spark, estimated, USAGE, SUBSCRIBED_ROWS)

    assert use.repeated == {"mobile": 1, "fixed": 1}
    assert {row["factor_id"]: row["inexact"] for row in use.factors} == {"A": 1, "A2": 0, "B": 0}
