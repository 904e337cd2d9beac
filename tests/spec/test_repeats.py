"""Once: the same content under the same key is a duplicate, other content a conflict; nothing else is either."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from schemas.tables import ACCEPTED, READINGS, REJECTED, SUBSCRIPTIONS
from tests.conftest import hashed, table_of

NOTHING = "| record_key |"


def repeats(candidates: str, existing: str = NOTHING, table=ACCEPTED) -> dict[tuple[int, ...], tuple[int | None, bool]]:
    """By (file, ordinal, part): the delivery it repeats, and whether its key came with other content."""
    from jobs.repeats import find_repeats

    both = [table_of(text, hashed(table)) for text in (candidates, existing)]
    is_candidate = pa.array([True] * len(both[0]) + [False] * len(both[1]))
    told = pa.concat_tables(both).drop_columns("is_conflicting").append_column("is_candidate", is_candidate)
    found = find_repeats(told, table).to_pylist()
    part = ("month_part",) if table is ACCEPTED else ()
    judged = {
        tuple(row[name] for name in ("file_number", "record_ordinal", *part)): (
            row["duplicate_of_file_number"],
            row["is_conflicting"],
        )
        for row in found
    }
    assert len(judged) == len(found)
    return judged


def test_a_key_is_moved_with_the_row_that_it_is_in(monkeypatch):
    from jobs import key_beginnings

    keys = [None if n % 7 == 3 else hashlib.md5(b"%d" % (n // 2)).digest() for n in range(100)]
    batches = [pa.RecordBatch.from_pydict({"record_key": pa.array(keys[n : n + 17], pa.binary())}) for n in range(0, 100, 17)]
    for bits in (5, 24):  # a file of a hundred rows in four parts, and in one
        monkeypatch.setattr(key_beginnings, "_ROW_BITS", np.uint64(bits))
        monkeypatch.setattr(key_beginnings, "_ROW_MASK", np.uint64((1 << bits) - 1))

        moved = key_beginnings.bucketed([batch["record_key"] for batch in batches], 9, 8).to_pylist()

        found = {}
        for row in moved:
            numbers = np.frombuffer(row["keys"], np.uint64).tolist()
            assert numbers == sorted(numbers)
            assert {number >> 61 for number in numbers} <= {row["bucket"]}
            found |= {row["first_row"] + number % (1 << bits): number >> bits for number in numbers}
        assert {row["data_file"] for row in moved} == {9}
        assert found == {n: int.from_bytes(key[:8], "big") >> bits for n, key in enumerate(keys) if key}


def batches_of(*names: str | None) -> list[pa.RecordBatch]:
    """Rows with the record keys of those names, three a batch."""
    keys = [name and hashlib.md5(name.encode()).digest() for name in names]
    return [pa.RecordBatch.from_pydict({"record_key": pa.array(keys[n : n + 3], pa.binary())}) for n in range(0, len(keys), 3)]


def test_a_record_that_comes_again_in_a_task_is_told_apart_and_its_other_intervals_are_not():
    from jobs.key_beginnings import Met

    met = Met()

    assert met(batches_of("a", "a", "b", None, "c", "a", "a", "b", None)).tolist() == [*[False] * 5, True, True, True, False]
    assert met(batches_of("d", "c", "c", "d")).tolist() == [False, True, True, True]
    assert met(batches_of(*[f"e{n}" for n in range(2000)], "b")).tolist() == [*[False] * 2000, True], "other numbers of rows"
    assert met([]).tolist() == []


def test_keys_are_sought_that_stand_twice_or_were_there_before():
    from jobs.key_beginnings import _is_among, _repeated

    new, before = [[1, 2, 9], [2, 3, 5], []], [[0, 3, 4], [7, 9], []]
    sought = _repeated(*([np.array(keys, np.uint64) for keys in some] for some in (new, before)))

    assert sought.tolist() == [2, 3, 9], "4 and 7 stand only where nothing is new"
    assert _is_among(np.array([0, 2, 4, 9, 11], np.uint64), sought).tolist() == [False, True, False, True, False]
    assert _repeated([], []).tolist() == []


def test_of_many_keys_those_that_are_sought_are_found_where_they_lie():
    from jobs import key_beginnings
    from jobs.key_beginnings import Sought, bucketed

    def numbers(batches, sought=None):
        moved = bucketed([batch["record_key"] for batch in batches], 3, 8, sought).to_pylist()
        return sorted(number for row in moved for number in np.frombuffer(row["keys"], np.uint64).tolist())

    new, before = batches_of("a", "b", None, "c", "c"), batches_of(*[f"x{n}" for n in range(1000)], "c", None, "a", "c", "y")
    sought = Sought.of(pa.Table.from_batches([bucketed([batch["record_key"] for batch in new], 0, 8)]))
    of_new = {number >> 24 for number in numbers(new)}

    assert numbers(before, sought) == [number for number in numbers(before) if number >> 24 in of_new]
    assert {number % (1 << 24) for number in numbers(before, sought)} == {1000, 1002, 1003}
    assert numbers(before, Sought.of(pa.Table.from_batches([], key_beginnings.KEYS))) == []


def test_a_batch_of_few_rows_is_looked_for_among_many(monkeypatch):
    from jobs.alike import are_sought

    monkeypatch.setattr("jobs.steps.DRIVER_ROWS", 10)
    monkeypatch.setattr("jobs.steps.FILE_ROWS", 1)

    assert are_sought([5, 5, 1], 2)
    assert not are_sought([5, 5], 1), "the driver looks at all"
    assert not are_sought([6, 6, 1], 2), "they are not few"


@pytest.mark.parametrize("many", [0, 1, 40, 5000])
@pytest.mark.parametrize("few", [0, 1, 7, 5000])
def test_keys_are_found_among_others_whether_these_are_few_or_many(many, few):
    from jobs.key_beginnings import _is_among

    chosen = np.random.default_rng(many + few)
    keys = np.sort(chosen.integers(0, 600, many, np.uint64))
    some = np.unique(chosen.integers(0, 700, few, np.uint64))

    assert (_is_among(keys, some) == np.isin(keys, some)).all()


def test_a_record_delivered_twice_counts_where_it_came_first():
    found = repeats(
        """
        | record_key | content_hash | file_number | record_ordinal |
        | twice      | 1            | 7           | 4              |
        | twice      | 1            | 7           | 2              |
        | in files   | 1            | 8           | 1              |
        | in files   | 1            | 7           | 9              |
        | in files   | 1            | 9           | 1              |
        | before     | 1            | 7           | 5              |
        | before     | 1            | 6           | 6              |
        | new        | 1            | 7           | 7              |
        """,
        # What was accepted in an earlier batch came first, whatever its number.
        """
        | record_key | content_hash | file_number | record_ordinal |
        | before     | 1            | 30          | 5              |
        | untouched  | 1            | 3           | 6              |
        """,
    )

    assert found == {
        (7, 4, 0): (7, False),
        (8, 1, 0): (7, False),
        (9, 1, 0): (7, False),
        (7, 5, 0): (30, False),
        (6, 6, 0): (30, False),
    }


def test_a_key_with_other_content_is_kept_and_flagged():
    found = repeats(
        """
        | record_key   | content_hash | file_number | record_ordinal |
        | within       | 1            | 7           | 1              |
        | within       | 2            | 7           | 2              |
        | before       | 2            | 7           | 3              |
        | again        | 1            | 7           | 4              |
        | other record | 2            | 7           | 5              |
        """,
        """
        | record_key | content_hash | file_number | record_ordinal |
        | before     | 1            | 3           | 1              |
        | again      | 1            | 3           | 2              |
        | again      | 2            | 3           | 3              |
        """,
    )

    # A conflict is no duplicate; a duplicate of a record in conflict is both.
    assert found == {(7, 1, 0): (None, True), (7, 2, 0): (None, True), (7, 3, 0): (None, True), (7, 4, 0): (3, True)}


def test_the_parts_of_a_split_record_do_not_repeat_each_other_but_are_repeated_one_by_one():
    header = "| record_key | usage_month | month_part | content_hash | file_number | record_ordinal |"
    first = """
        | split      | 2026-10-01  | 1          | 1            | 3           | 1              |
        | split      | 2026-11-01  | 2          | 1            | 3           | 1              |
    """
    second = first.replace("| 3 ", "| 7 ")

    assert repeats(header + first) == {}
    assert repeats(header + second, header + first) == {(7, 1, 1): (3, False), (7, 1, 2): (3, False)}


def test_records_without_a_key_in_the_lake_repeat_nothing():
    found = repeats(
        """
        | record_key | content_hash | file_number | record_ordinal |
        | known      | 1            | 7           | 1              |
        """,
        """
        | record_key | content_hash | file_number | record_ordinal |
        |            | 1            | 3           | 1              |
        |            | 1            | 3           | 2              |
        """,
    )

    assert found == {}


def test_an_assignment_exported_again_is_a_duplicate_and_a_changed_one_a_correction():
    found = repeats(
        """
        | record_key | content_hash | file_number | record_ordinal |
        | same       | 1            | 7           | 1              |
        | ended      | 2            | 7           | 2              |
        """,
        """
        | record_key | content_hash | file_number | record_ordinal |
        | same       | 1            | 3           | 1              |
        | ended      | 1            | 3           | 2              |
        """,
        SUBSCRIPTIONS,
    )

    assert found == {(7, 1): (3, False), (7, 2): (None, True)}


def test_an_assignment_under_other_keys_is_neither_a_duplicate_nor_a_conflict():
    found = repeats(
        """
        | record_key | keys_from  | keys_part | content_hash | file_number | record_ordinal |
        | lasting    | 2000-01-01 | 0         | 1            | 7           | 1              |
        | lasting    | 2027-01-01 | 1         | 2            | 7           | 1              |
        """,
        """
        | record_key | keys_from  | keys_part | content_hash | file_number | record_ordinal |
        | lasting    | 2000-01-01 | 0         | 1            | 3           | 1              |
        """,
        SUBSCRIPTIONS,
    )

    assert found == {(7, 1): (3, False)}


def test_a_record_within_the_month_conflicts_with_one_of_its_key_that_straddles_the_months_end():
    found = repeats(
        """
        | record_key | usage_month | month_part | content_hash | file_number | record_ordinal |
        | longer     | 2026-10-01  | 1          | 2            | 7           | 1              |
        | longer     | 2026-11-01  | 2          | 3            | 7           | 1              |
        """,
        """
        | record_key | usage_month | month_part | content_hash | file_number | record_ordinal |
        | longer     | 2026-10-01  | 0          | 1            | 3           | 1              |
        """,
    )

    assert found[7, 1, 1] == (None, True)


WHERE = {
    *("batch", "source", "file_number", "record_ordinal", "byte_offset"),
    *("interval_index", "month_part", "keys_from", "keys_part"),
}
DECIDED = {"record_key", "is_conflicting"}
OTHER = {
    "STRING": "other",
    "BINARY": b"other",
    "BIGINT": 77,
    "INT": 77,
    "BOOLEAN": True,
    "DATE": date(2026, 11, 1),
    "TIMESTAMP": datetime(2026, 10, 20, 12, tzinfo=UTC),
}


@pytest.mark.parametrize("table", [ACCEPTED, SUBSCRIPTIONS], ids=lambda table: table.name)
def test_the_content_of_a_record_is_all_it_says_and_nothing_of_where_it_was_read(table):
    from jobs.repeats import content_hash
    from jobs.steps import asked

    row = table_of("| record_key |\n| key |", table).to_pylist()[0]
    changed = [row | {name: OTHER[table.column(name).sql_type]} for name in table.names]
    found = asked(
        f"SELECT {content_hash(table)} AS content FROM rows", rows=pa.Table.from_pylist([row, *changed], table.arrow_schema)
    )
    plain, *hashes = found["content"].to_pylist()

    says = {name for name, content in zip(table.names, hashes, strict=True) if content != plain}
    assert says == set(table.names) - WHERE - DECIDED


@pytest.mark.spark
@pytest.mark.parametrize("on_driver", [True, False], ids=["on the driver", "in tasks"])
@pytest.mark.parametrize("table", [ACCEPTED, READINGS, SUBSCRIPTIONS], ids=lambda table: table.name)
def test_a_record_that_comes_twice_is_taken_out_of_each_table_whoever_looks_for_it(
    table, on_driver, spark, tmp_path, monkeypatch
):
    from jobs import repeats
    from jobs.data_files import TableWriter
    from jobs.lake import Lake

    if not on_driver:
        monkeypatch.setattr("jobs.steps.DRIVER_ROWS", -1)
    lake, files = Lake(lambda: spark, str(tmp_path), lambda: None), []
    delivered = table_of(
        """
        | record_key | file_number | record_ordinal |
        | once       | 1           | 1              |
        | twice      | 1           | 2              |
        | twice      | 2           | 1              |
        """,
        table,
    )
    for begin, count in ((0, 2), (2, 1)):
        writer, some = TableWriter(table, lake.path(table)), delivered.slice(begin, count).combine_chunks()
        writer.write({name: some[name].combine_chunks() for name in table.names})
        files += writer.close()

    found = list(repeats.remove(lake, table, files, {}, lambda rows: np.ones(len(rows), bool), lake.path(REJECTED)))

    assert [path for of in found for path in of["replaced"]] == [files[1].path]
    assert [of for of_task in found for of in of_task["accepted"]] == []
    assert [(file, of["duplicate"]) for of_task in found for file, of in of_task["duplicates"]] == [(2, 1)]
    assert sum(of["rows"] for of_task in found for of in of_task["rejected"]) == 1
