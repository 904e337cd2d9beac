"""Steps of work: the same rows, whether the driver does the work or Spark's tasks."""

from __future__ import annotations

import pyarrow as pa
import pytest

NUMBERS = pa.schema([("number", pa.int32()), ("value", pa.int64())])
SUMS = pa.schema([("number", pa.int32()), ("sum", pa.int64())])


def numbers(part: int):
    """Rows of numbers 0 to 2, and none of the last part."""
    if part < 3:
        yield pa.RecordBatch.from_pylist([{"number": n % 3, "value": n + part} for n in range(7)], NUMBERS)


def added(batches):
    """The number and the sum of its values; nothing of nothing."""
    rows = pa.Table.from_batches(batches, NUMBERS)
    if len(rows):
        (number,) = set(rows["number"].to_pylist())
        yield pa.RecordBatch.from_pylist([{"number": number, "sum": sum(rows["value"].to_pylist())}], SUMS)


@pytest.mark.parametrize("is_little", [True, False], ids=["on the driver", "in tasks"])
@pytest.mark.spark
def test_work_is_done_on_all_rows_of_a_number_at_a_time(spark, is_little):
    from jobs.steps import begin

    found = begin(spark, is_little, 4, numbers, NUMBERS).then("number", 5, added, SUMS).rows()

    expected = {n: sum(value + part for part in range(3) for value in range(n, 7, 3)) for n in range(3)}
    assert dict(zip(*found.to_pydict().values(), strict=True)) == expected
    assert len(found) == 3


@pytest.mark.parametrize("is_little", [True, False], ids=["on the driver", "in tasks"])
@pytest.mark.spark
def test_few_rows_come_with_all_of_their_number(spark, is_little):
    from jobs.steps import begin

    def counted(batches):
        rows = pa.Table.from_batches(batches, NUMBERS)
        for number in set(rows["number"].to_pylist()):
            of_number = [value for n, value in zip(*rows.to_pydict().values(), strict=True) if n == number]
            yield pa.RecordBatch.from_pylist([{"number": number, "sum": sum(of_number)}], SUMS)

    found = begin(spark, is_little, 4, numbers, NUMBERS).then("number", 5, counted, SUMS, are_mostly_few=True).rows()

    assert sorted(found["number"].to_pylist()) == [0, 1, 2], "no number is in two calls"
    assert sum(found["sum"].to_pylist()) == sum(value + part for part in range(3) for value in range(7))


@pytest.mark.parametrize("is_little", [True, False], ids=["on the driver", "in tasks"])
@pytest.mark.spark
def test_of_nothing_comes_nothing(spark, is_little):
    from jobs.steps import begin

    assert len(begin(spark, is_little, 0, numbers, NUMBERS).then("number", 5, added, SUMS).rows()) == 0


def test_small_files_are_looked_at_together_and_a_large_one_alone(monkeypatch):
    from jobs.steps import in_groups

    monkeypatch.setattr("jobs.steps.DRIVER_GROUP_ROWS", 10)
    monkeypatch.setattr("jobs.steps.FILE_ROWS", 3)

    assert in_groups([]) == []
    assert in_groups([4, 4, 4, 30, 3, 3]) == [[0, 1, 2], [3], [4, 5]]
    assert in_groups([0, 1, 2, 3, 0]) == [[0, 1, 2, 3], [4]], "each must be opened"
    assert [n for group in in_groups([7] * 50) for n in group] == [*range(50)]
