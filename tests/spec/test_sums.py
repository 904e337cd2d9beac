"""Sums of intervals are those of plain Python, whichever way the intervals come."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.pseudonyms import PSEUDONYM, beginnings
from schemas.tables import ACCEPTED, SUBSCRIPTIONS
from tests.conftest import key, rows, table_of
from tests.spec.test_meter import OCTOBER

pytestmark = pytest.mark.spark

MIDDLE = datetime(2026, 10, 15, 12, tzinfo=UTC)
SIMS = [key(f"sim {n}") for n in range(40)]
CHANGES = {sim: [MIDDLE + timedelta(days=n) for n in range(1 + at % 3)] for at, sim in enumerate(SIMS[:9])}


def some_records(count: int) -> pa.Table:
    """Rows of accepted: few identifiers, many intervals, of which some close at the moment of a change or after the month."""
    chosen = random.Random(20261001)
    usual = table_of("| month_part |\n| 0 |", ACCEPTED).to_pylist()[0]
    days = [datetime(2026, 10, 1, tzinfo=UTC) + timedelta(days=n / 2) for n in range(60)]
    found = []
    for n in range(count):
        sim = chosen.choice(SIMS)
        moments = CHANGES.get(sim, [MIDDLE])
        closed = chosen.choice([*days, *moments, moments[0] - timedelta(microseconds=1), datetime(2026, 11, 3, tzinfo=UTC)])
        own = {
            "batch": chosen.choice([1, 2, 3]),
            "source": chosen.choice(["pgw", "bng"]),
            "file_number": chosen.choice([1, 2]),
            "record_ordinal": n,
            "identifier_type": "imsi",
            "identifier_key": sim,
            "closed_at": closed,
            "octets_up": chosen.randrange(10**12),
            "octets_down": chosen.randrange(10**12),
            "access_technology": chosen.choice(["4g", "5g", None]),
            "roaming_zone": chosen.choice(["home", "roaming"]),
            "month_part": chosen.choice([0, 0, 1, 2]),
            "is_estimated": chosen.random() < 0.1,
        }
        found.append(usual | own)
    return pa.Table.from_pylist(found, ACCEPTED.arrow_schema)


def held_at(record: dict) -> datetime:
    """Since when the identifier has the holder of the close."""
    if record["closed_at"] >= OCTOBER.end:
        return record["closed_at"]
    passed = [moment for moment in CHANGES.get(record["identifier_key"], []) if moment <= record["closed_at"]]
    return max(passed, default=OCTOBER.begin)


def by_python(records: list[dict]) -> dict:
    sums: dict = defaultdict(lambda: [0, 0, 0, False])
    for record in records:
        told = [record[name] for name in ("identifier_key", "source", "access_technology", "roaming_zone")]
        of = sums[*told, held_at(record)]
        of[0] += record["octets_up"]
        of[1] += record["octets_down"]
        of[2] += record["month_part"] <= 1
        of[3] |= record["is_estimated"]
    return dict(sums)


def by_steps(spark, intervals) -> dict:
    from jobs.pieces import of_pieces
    from jobs.sums import SUMS, USAGE, Changes, by_identifier
    from jobs.table_rows import OfFrame

    lines = [f"| imsi | sim {SIMS.index(sim)} | {moment:%Y-%m-%dT%H:%M} |" for sim, of in CHANGES.items() for moment in of]
    held = rows(spark, SUBSCRIPTIONS, "\n".join(["| identifier_type | identifier_key | assigned_from |", *lines]))
    assignments = OfFrame(held, ("identifier_key", "assigned_from", "assigned_to"))
    changes = Changes.of(OCTOBER.begin, OCTOBER.end, assignments, is_little=True)
    pieces = by_identifier(intervals, changes, 7, is_little=False, processors=2).rows()
    found = of_pieces(pieces.to_batches(), {USAGE: SUMS})[USAGE].to_pylist()
    of_piece = {row["identifier_key"]: set() for row in found}
    for piece in pieces.to_batches():
        for number in set(piece["piece"].to_pylist()):
            some = piece.filter(pa.compute.equal(piece["piece"], number))
            for row in of_pieces([some], {USAGE: SUMS})[USAGE].to_pylist():
                of_piece[row["identifier_key"]].add(number)
    assert {len(numbers) for numbers in of_piece.values()} == {1}, "an identifier is in one piece"
    sums: dict = defaultdict(lambda: [0, 0, 0, False])
    for row in found:
        of = sums[tuple(row[n] for n in ("identifier_key", "source", "access_technology", "roaming_zone", "held_at"))]
        for at, name in enumerate(("octets_up", "octets_down", "intervals")):
            of[at] += row[name]
        of[3] |= row["is_estimated"]
    assert len(found) <= 4 * len(sums), "added up by whoever reads them"
    return dict(sums)


def of_frame(spark, records, parts=1):
    from jobs.sums import OF_INTERVAL
    from jobs.table_rows import OfFrame

    return OfFrame(spark.createDataFrame(records, ACCEPTED.spark_schema).repartition(parts), OF_INTERVAL)


def test_intervals_are_added_up_by_identifier_holder_and_texts(spark):
    records = some_records(3000)

    found = by_steps(spark, of_frame(spark, records, parts=3))

    assert found == by_python(records.to_pylist())
    assert {instant for *_, instant in found} > {OCTOBER.begin, MIDDLE, datetime(2026, 11, 3, tzinfo=UTC)}


def test_of_more_changes_than_a_task_is_told_each_close_stands_for_itself(spark, monkeypatch):
    from jobs import sums

    records = some_records(500)
    told_apart = by_steps(spark, of_frame(spark, records))
    monkeypatch.setattr(sums, "_MOST_CHANGES", 3)

    found = by_steps(spark, of_frame(spark, records))

    assert {instant for *_, instant in found} == {record["closed_at"] for record in records.to_pylist()}
    assert [sum(of[at] for of in found.values()) for at in range(3)] == [
        sum(of[at] for of in told_apart.values()) for at in range(3)
    ]


def test_rows_of_data_files_that_do_not_count_are_left_out(spark, tmp_path: Path):
    from jobs.batches import AsOf, Batch
    from jobs.data_files import TableWriter
    from jobs.lake import Lake
    from jobs.sums import OF_INTERVAL
    from jobs.table_rows import POSITION, OfFiles, but_for, files_of

    lake, records = Lake(lambda: spark, str(tmp_path), lambda: None), some_records(2000)
    files = []
    for begin in (0, 1500):
        writer = TableWriter(ACCEPTED, lake.path(ACCEPTED))
        some = records.slice(begin, 1500).combine_chunks()
        writer.write({name: some[name].combine_chunks() for name in ACCEPTED.names})
        files += writer.close()
    lake.commit(ACCEPTED, files)
    # Batch 2 was not committed; batch 3 withdrew what batch 1 had read of file 2; two records were corrected.
    batches = [Batch(1, True, (1, 2), (), None, "{}"), Batch(2, False, (), (), None, "{}"), Batch(3, True, (2,), (2,), "", "{}")]
    dropped = [(r["file_number"], r["record_ordinal"]) for r in records.to_pylist()[7:1600:1500]]
    positions = pa.table({"file_number": [f for f, _ in dropped], "record_ordinal": [o for _, o in dropped]})

    accepted = files_of(AsOf(lake, batches, 3), ACCEPTED, judged_by=POSITION, also=but_for(positions))
    found = by_steps(spark, OfFiles(lake, [accepted], OF_INTERVAL))

    counting = [
        record
        for record in records.to_pylist()
        if record["batch"] in (1, 3)
        and (record["file_number"] != 2 or record["batch"] == 3)
        and (record["file_number"], record["record_ordinal"]) not in dropped
    ]
    assert len(files) == 2
    assert 0 < len(counting) < 2000
    assert found == by_python(counting)


def test_row_groups_in_which_a_flag_is_never_true_may_be_left_out(tmp_path: Path, monkeypatch):
    from jobs.data_files import TableWriter, data_file_batches

    monkeypatch.setattr("jobs.data_files._ROW_GROUP_ROWS", 500)
    records, writer = some_records(2000), TableWriter(ACCEPTED, str(tmp_path))
    for begin in range(0, 2000, 500):
        some = records.slice(begin, 500).combine_chunks()
        flags = {"is_conflicting": pa.array([begin == 1000 and n == 7 for n in range(500)])}
        writer.write({name: some[name].combine_chunks() for name in ACCEPTED.names} | flags)
    (file,) = writer.close()

    every, flagged = (
        [
            row
            for batch in data_file_batches(str(tmp_path), file.path, ACCEPTED, ["record_ordinal"], (), flag)
            for row in batch["record_ordinal"].to_pylist()
        ]
        for flag in (None, "is_conflicting")
    )

    assert every == [*range(2000)]
    assert flagged == [*range(1000, 1500)]


@pytest.mark.parametrize("places", [[], [(1, 5)], [(2, 9), (1, 7), (2, 3), (1, 5), (3, 1)]])
def test_rows_at_some_positions_are_left_out(places):
    from jobs.table_rows import but_for

    def table(of: list[tuple[int, int]]) -> pa.Table:
        columns = [pa.array([row[at] for row in of], pa.int64()) for at in range(2)]
        return pa.table(columns, ["file_number", "record_ordinal"])

    every = [(file, ordinal) for ordinal in range(10) for file in range(1, 5)]

    kept = but_for(table(places))(table(every).to_batches()[0])

    assert [place for place, is_kept in zip(every, kept, strict=True) if is_kept] == [p for p in every if p not in places]


def test_what_is_visible_on_a_worker_is_what_spark_sees(spark):
    from jobs.batches import AsOf, Batch, visible
    from jobs.lake import Lake

    batches = [
        Batch(1, True, (1, 2, 3), (), None, "{}"),
        Batch(2, False, (4,), (), None, "{}"),
        Batch(3, True, (2,), (1, 2), "again", "{}"),
        Batch(4, True, (5,), (3,), "gone", "{}"),
    ]
    told = [(batch, file, f"{batch} {file}") for batch in range(1, 6) for file in range(1, 7)]
    lines = [f"| {batch} | {file} | {name} |" for batch, file, name in told]
    held = "\n".join(["| batch | file_number | source |", *lines])
    for cutoff in range(6):
        of = AsOf(Lake(lambda: spark, "", lambda: None), batches, cutoff)
        arrow = table_of(held, ACCEPTED).combine_chunks().to_batches()[0]

        found = arrow.filter(pa.array(of.visible.rows(arrow)))["source"].to_pylist()

        assert sorted(found) == sorted(r.source for r in visible(rows(spark, ACCEPTED, held), batches, cutoff).collect())


@pytest.mark.parametrize(("octets", "fits"), [((1 << 62) - 1, True), (1 << 62, False)])
def test_a_sum_that_does_not_fit_is_refused_and_never_wraps(octets, fits):
    from jobs.sums import _INTERVAL, _added_up

    one = {"identifier_key": key("sim"), "texts": 0, "held_at": MIDDLE, "octets_up": octets, "octets_down": 1, "intervals": 1}
    intervals = pa.RecordBatch.from_pylist([one | {"is_estimated": False}] * 2, _INTERVAL)
    if fits:
        assert _added_up([intervals])["octets_up"].to_pylist() == [(1 << 63) - 2]
    else:
        with pytest.raises(OverflowError, match=r"a sum does not fit into its type$"):
            _added_up([intervals])


def test_identifiers_of_one_beginning_are_not_added_together():
    from jobs.sums import _INTERVAL, _added_up

    sims = [b"the same" + bytes([n] * 8) for n in range(3)]
    one = {"texts": 0, "held_at": MIDDLE, "octets_up": 1, "octets_down": 1, "intervals": 1, "is_estimated": False}
    found = _added_up([pa.RecordBatch.from_pylist([one | {"identifier_key": sim} for sim in sims * 2], _INTERVAL)])

    assert sorted(found["identifier_key"].to_pylist()) == sims
    assert found["octets_up"].to_pylist() == [2, 2, 2]
    assert len(np.unique(beginnings(pa.array(sims, PSEUDONYM)))) == 1
