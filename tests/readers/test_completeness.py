"""Gaps of sequence numbers: what no file of a source holds, whatever the order and overlap of its files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobs.completeness import RESET_GAP, Gap, gaps

FIRST, SECOND = date(2026, 10, 1), date(2026, 10, 2)


@dataclass(frozen=True)
class Row:
    records: int
    first_sequence: int
    last_sequence: int
    node: str = "gw1"
    day: date = FIRST
    source: str = "pgw"


def missing(*rows: Row) -> list[tuple[date, int]]:
    return [(gap.day, gap.missing) for gap in gaps(rows)]


def test_files_that_follow_each_other_have_no_gap():
    assert missing(Row(100, 1, 100), Row(50, 101, 150), Row(1, 151, 151, day=SECOND)) == []


def test_nothing_is_missing_of_nothing_nor_before_the_first_number():
    assert missing() == []
    assert missing(Row(1, 5000, 5000)) == []


def test_numbers_between_files_are_missing_on_the_day_they_are_missed():
    assert missing(Row(100, 1, 100), Row(10, 111, 120, day=SECOND)) == [(SECOND, 10)]


def test_numbers_within_a_file_are_missing_too():
    assert missing(Row(97, 1, 100)) == [(FIRST, 3)]
    assert missing(Row(97, 1, 100), Row(10, 106, 115, day=SECOND)) == [(FIRST, 3), (SECOND, 5)]


def test_files_that_share_a_range_are_looked_at_together():
    odd, even = Row(50, 1, 99), Row(50, 2, 100)

    assert missing(odd, even) == []
    assert missing(odd, Row(49, 2, 100, day=SECOND)) == [(FIRST, 1)]
    assert missing(Row(50, 1, 99), Row(1, 50, 50), Row(49, 2, 100)) == []


def test_a_long_file_covers_those_within_it():
    assert missing(Row(80, 1, 100), Row(10, 20, 40), Row(10, 60, 80), Row(5, 101, 105)) == []


def test_a_record_that_came_twice_hides_a_gap():
    assert missing(Row(99, 1, 100), Row(1, 50, 50)) == []


def test_a_counter_that_began_anew_is_no_gap():
    assert missing(Row(10, 1, 10), Row(10, 11 + RESET_GAP + 1, 20 + RESET_GAP + 1)) == []
    assert missing(Row(10, 1, 10), Row(10, 11 + RESET_GAP, 20 + RESET_GAP)) == [(FIRST, RESET_GAP)]


def test_a_counter_that_went_round_within_a_file_is_no_gap():
    assert missing(Row(20, 5, 2**32 - 5)) == []


def test_nodes_and_sources_are_numbered_apart():
    rows = [
        Row(10, 1, 10),
        Row(10, 21, 30, node="gw2"),
        Row(10, 41, 50, source="chf"),
        Row(9, 11, 20, day=SECOND),
        Row(5, 33, 37, node="gw2"),
    ]

    assert gaps(rows) == [Gap("pgw", "gw1", SECOND, 1), Gap("pgw", "gw2", FIRST, 2)]


@given(lost=st.sets(st.integers(2, 299), max_size=40), cuts=st.sets(st.integers(2, 300)), order=st.randoms(use_true_random=False))
def test_what_never_came_is_what_is_missing_whatever_the_files(lost: set[int], cuts: set[int], order: object):
    bounds = [1, *sorted(cuts), 301]
    files = [[n for n in range(begin, end) if n not in lost] for begin, end in pairwise(bounds)]
    rows = [Row(len(held), held[0], held[-1]) for held in files if held]
    order.shuffle(rows)  # type: ignore[attr-defined]

    assert sum(count for _, count in missing(*rows)) == len(lost)
