"""Revisions of a month: which one is next, what was withdrawn in between, and from which counters the month after goes on."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.batches import AsOf, Batch, withdrawn_between
from jobs.run import Refused
from schemas.tables import BATCHES, CARRIED, CORRECTIONS, ERASURES, PUBLICATIONS
from tests.conftest import rows

pytestmark = pytest.mark.spark

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)


@pytest.fixture
def lake(spark, tmp_path) -> Any:
    from jobs.lake import Lake

    return Lake(lambda: spark, str(tmp_path), lambda: None)


def publish(lake: Any, text: str) -> None:
    columns = "| publication_id | usage_month | revision | batch_cutoff |"
    lake.append(PUBLICATIONS, rows(lake.spark, PUBLICATIONS, f"{columns}\n{text}"))


def carry(lake: Any, text: str) -> None:
    columns = "| usage_month | batch_cutoff | session_key | counter_octets_down | counter_bits |"
    lake.append(CARRIED, rows(lake.spark, CARRIED, f"{columns}\n{text}"))


def batches(lake: Any, count: int) -> AsOf:
    for state in ("planned", "committed"):
        text = "\n".join(f"| {number} | {state} |" for number in range(1, count + 1))
        lake.append(BATCHES, rows(lake.spark, BATCHES, f"| batch | state |\n{text}"))
    return AsOf.now(lake)


def octets_carried_into_november(lake: Any, cutoff: int) -> set[int]:
    from jobs.month import _carried_before

    carried = _carried_before(batches(lake, cutoff), NOVEMBER)
    return set() if carried is None else {row.counter_octets_down for row in carried.collect()}


def test_the_next_revision_is_the_first_of_an_unpublished_month_and_one_more_of_any_other(lake):
    from jobs.ledger import next_revision

    assert next_revision(lake, OCTOBER) == 1
    publish(lake, "| 1 | 2026-10-01 | 1 | 1 |\n| 2 | 2026-11-01 | 1 | 1 |\n| 3 | 2026-10-01 | 2 | 2 |")

    assert (next_revision(lake, OCTOBER), next_revision(lake, NOVEMBER), next_revision(lake, date(2026, 12, 1))) == (3, 2, 1)


def test_what_was_withdrawn_between_two_batches_is_told_of_committed_ones_only():
    told = [(1, True, (7,)), (2, True, (8, 9)), (3, True, (8,)), (4, False, (10,))]
    every = [Batch(number, is_committed, (), gone, None, "{}") for number, is_committed, gone in told]

    assert withdrawn_between(every, 1, 4) == [8, 9]
    assert withdrawn_between(every, 2, 2) == []


def test_an_unpublished_month_carries_over_what_it_did_when_it_was_last_metered(lake):
    carry(lake, "| 2026-10-01 | 1 | s | 100 | 64 |\n| 2026-10-01 | 3 | s | 300 | 64 |\n| 2026-10-01 | 9 | s | 900 | 64 |")

    assert octets_carried_into_november(lake, 5) == {300}


def test_a_published_month_carries_over_what_its_publication_says_whatever_was_tried_since(lake):
    carry(lake, "| 2026-10-01 | 1 | s | 100 | 64 |\n| 2026-10-01 | 3 | s | 300 | 64 |")
    publish(lake, "| 1 | 2026-10-01 | 1 | 1 |")
    assert octets_carried_into_november(lake, 5) == {100}

    publish(lake, "| 2 | 2026-10-01 | 2 | 3 |")
    assert octets_carried_into_november(lake, 5) == {300}


@pytest.mark.parametrize(("octets_now", "expected"), [(300, True), (100, False)])
def test_a_month_is_left_behind_when_the_one_before_is_restated_with_other_counters(lake, octets_now, expected):
    from jobs.month import is_left_behind

    carry(lake, f"| 2026-10-01 | 1 | s | 100 | 64 |\n| 2026-10-01 | 3 | s | {octets_now} | 64 |")
    publish(lake, "| 1 | 2026-10-01 | 1 | 1 |\n| 2 | 2026-11-01 | 1 | 2 |")
    assert not is_left_behind(lake, NOVEMBER)

    publish(lake, "| 3 | 2026-10-01 | 2 | 3 |")
    assert is_left_behind(lake, NOVEMBER) is expected
    assert not is_left_behind(lake, date(2026, 12, 1)), "it is not published"

    publish(lake, "| 4 | 2026-11-01 | 2 | 3 |")
    assert not is_left_behind(lake, NOVEMBER), "it was restated too"


# What stops a restatement before anything is computed


def test_a_month_that_is_not_published_or_of_which_figures_are_erased_is_refused(lake):
    from jobs.restate import restate_month

    place: Any = SimpleNamespace(lake=lake)
    with pytest.raises(Refused, match="2026-10 is not published, so there is nothing to restate: run it"):
        restate_month(place, OCTOBER, "late file")

    publish(lake, "| 1 | 2026-10-01 | 1 | 1 |")
    for day, kind in ((10, "records"), (12, "subscription")):
        erased = {"kind": kind, "usage_month": OCTOBER, "reason": "old", "erased_at": datetime(2027, 1, day, tzinfo=UTC)}
        lake.append_rows(ERASURES, [erased])
    with pytest.raises(Refused, match="2026-10 cannot be restated: a subscription's figures are erased since 2027-01-12"):
        restate_month(place, OCTOBER, "late file")


def test_a_restatement_that_billing_need_not_be_told_of_leaves_no_correction(spark, lake):
    told = rows(spark, CORRECTIONS, "| subscription_key | from_revision | to_revision |\n| ana | 1 | 2 |")

    lake.append(CORRECTIONS, told.limit(0), 2)
    assert lake.read(CORRECTIONS).isEmpty()
    lake.append(CORRECTIONS, told, 3)
    lake.append(CORRECTIONS, told, 3)

    assert lake.read(CORRECTIONS).count() == 1
