"""Which rows exist for a reader: those of committed batches up to the cutoff, less what was withdrawn by then."""

from __future__ import annotations

import pytest

from jobs.batches import Batch, latest, visible, visible_rows
from schemas.tables import ACCEPTED
from tests.conftest import rows

pytestmark = pytest.mark.spark

ROWS = """
    | record_key | file_number | batch |
    | first      | 1           | 1     |
    | wrong      | 2           | 1     |
    | second     | 3           | 2     |
    | mended     | 2           | 3     |
    | next       | 4           | 4     |
    | cut short  | 5           | 5     |
"""


def batch(number: int, *, withdrawn: tuple[int, ...] = (), is_committed: bool = True) -> Batch:
    return Batch(number, is_committed, (), withdrawn, "a reason" if withdrawn else None, "{}")


BATCHES = [batch(1), batch(2), batch(3, withdrawn=(2,)), batch(4), batch(5, withdrawn=(1,), is_committed=False)]


def seen(spark, batches: list[Batch], cutoff: int) -> set[str]:
    found = visible(rows(spark, ACCEPTED, ROWS), batches, cutoff)
    assert found.columns == list(ACCEPTED.names)
    assert sorted(found.collect()) == sorted(visible_rows(rows(spark, ACCEPTED, ROWS).collect(), batches, cutoff))
    return {bytes(row.record_key).rstrip(b"\0").decode() for row in found.collect()}


def test_rows_exist_up_to_the_cutoff_and_a_withdrawal_hides_earlier_rows_from_its_batch_on(spark):
    assert seen(spark, BATCHES, 0) == set()
    assert seen(spark, BATCHES, 2) == {"first", "wrong", "second"}
    assert seen(spark, BATCHES, 3) == {"first", "second", "mended"}
    assert seen(spark, BATCHES, 4) == {"first", "second", "mended", "next"}


def test_an_uncommitted_batch_shows_and_withdraws_nothing(spark):
    assert seen(spark, BATCHES, 5) == {"first", "second", "mended", "next"}
    assert latest(BATCHES) == 4
    assert latest([batch(1, is_committed=False)]) == latest([]) == 0


def test_a_delivery_that_is_withdrawn_twice_shows_its_last_rows_only(spark):
    again = [batch(1), batch(2), batch(3, withdrawn=(2,)), batch(4, withdrawn=(2, 3)), batch(5)]

    assert seen(spark, again, 5) == {"first", "next", "cut short"}


def test_batches_are_read_with_the_last_one_planned_only(spark, tmp_path):
    from datetime import UTC, datetime

    from jobs import batches
    from jobs.lake import Lake
    from schemas import tables

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    logged = [
        {"batch": number, "state": state, "file_numbers": [number, 9], "withdrawn_file_numbers": [8] if number == 2 else []}
        for number, state in ((2, "planned"), (1, "committed"), (1, "planned"), (3, "planned"), (2, "committed"))
    ]
    common = {"reason": "why", "base_versions": "{}", "code_version": "0", "written_at": datetime(2026, 11, 1, tzinfo=UTC)}

    assert batches.read_batches(lake) == []
    lake.append(tables.BATCHES, lake.rows(tables.BATCHES, [row | common for row in logged]))

    found = batches.read_batches(lake)
    assert [(b.number, b.is_committed, b.file_numbers, b.withdrawn_file_numbers) for b in found] == [
        (1, True, (1, 9), ()),
        (2, True, (2, 9), (8,)),
        (3, False, (3, 9), ()),
    ]
    now = batches.AsOf.now(lake)
    assert (now.cutoff, now.at(1).cutoff) == (2, 1)
