"""What is read by one task: tasks of a little batch are alike, whatever its files are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.accept import _alike, _Work


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.integers(1, 8))
def test_files_are_dealt_out_once_in_their_order_and_no_task_has_a_whole_file_more(sizes, count):
    works = [_Work(number, "pgw", f"file{number}", size) for number, size in enumerate(sizes)]

    tasks = _alike(works, count)

    assert 1 <= len(tasks) <= count
    assert sorted((work for task in tasks for work in task), key=lambda work: work.file_number) == works
    assert all(task == sorted(task, key=lambda work: work.file_number) for task in tasks)
    loads = [sum(work.weight for work in task) for task in tasks] + [0] * (count - len(tasks))
    assert max(loads) - min(loads) <= max(sizes)


def test_a_compressed_file_weighs_as_much_as_it_will_be_read():
    works = [_Work(1, "pgw", "one.gz", 100), *(_Work(number, "pgw", f"file{number}", 125) for number in range(2, 6))]

    assert [{work.file_number for work in task} for task in _alike(works, 2)] == [{1}, {2, 3, 4, 5}]


def test_tens_of_thousands_of_files_are_dealt_out_at_one_go():
    works = [_Work(number, "pgw", f"file{number}", number % 7 + 1) for number in range(30_000)]

    assert {len(task) for task in _alike(works, 2)} == {15_000}
