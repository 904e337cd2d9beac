"""A batch costs in proportion to itself: nothing reads data it does not need, and no skew breaks a stage."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jobs.run import usage_month
from tests.e2e.conftest import at_a_place
from tests.e2e.landing import HEADER, pipe, subscription, write

pytestmark = [pytest.mark.spark, pytest.mark.slow]

OCTOBER, DECEMBER = date(2026, 10, 1), date(2026, 12, 1)
HEAVY = "001010000000001"
RECORDS = 20_000


def records(day: str, begin: int, count: int, heavy: int) -> list[str]:
    """Records of a day, of which every ``heavy``-th is of one subscription; the others are of a hundred."""
    return [
        pipe(HEAVY if n % heavy == 0 else f"0010100001{n % 100:05d}", f"{day}{n % 24:02d}0000", f"c{n}", 1000, offset="+0100")
        for n in range(begin, begin + count)
    ]


def octets(settings: Any) -> dict[date, int]:
    """Octets of holders by month."""
    from jobs.lake import Lake
    from jobs.spark import session
    from schemas.tables import METERED

    metered = Lake(lambda: session(settings), settings.lake, lambda: None).read(METERED).where("attribution = 'holder'")
    return {row.usage_month: row[1] for row in metered.groupBy("usage_month").sum("octets_down").collect()}


def test_one_subscription_with_a_tenth_of_all_records_and_one_file_with_nine_tenths_are_added_up(settings, run):
    everyone = [HEAVY, *(f"0010100001{n:05d}" for n in range(100))]
    held = [subscription(f"s{imsi}", "mobile", ("imsi", imsi)) for imsi in everyone]
    write(Path(settings.landing), "subscriptions/subscriptions_20261231.csv", [HEADER, *held])
    few = RECORDS // 10
    write(Path(settings.landing), "pgw_pipe/S4PGWB000001", records("20261203", 0, few, 10))
    write(Path(settings.landing), "pgw_pipe/S4PGWB000002", records("20261204", few, RECORDS - few, 10))

    run(settings, "2026-12", ("land", "accept", "meter"))

    assert octets(settings) == {DECEMBER: RECORDS * 1000}


def test_one_compressed_file_with_nine_tenths_is_read_by_several_tasks(run, spark, tmp_path_factory, monkeypatch):
    from jobs import accept

    tasks: list[list[list[Any]]] = []
    grouped = accept._tasks

    def watched(workplace, deliveries):
        tasks.append(grouped(workplace, deliveries))
        return tasks[-1]

    monkeypatch.setattr(accept, "_tasks", watched)
    monkeypatch.setattr(accept, "SMALLEST_PART_OCTETS", 20_000)
    with at_a_place(tmp_path_factory.mktemp("place")) as settings:
        everyone = [HEAVY, *(f"0010100001{n:05d}" for n in range(100))]
        held = [subscription(f"s{imsi}", "mobile", ("imsi", imsi)) for imsi in everyone]
        write(Path(settings.landing), "subscriptions/subscriptions_20261231.csv", [HEADER, *held])
        few = RECORDS // 10
        write(Path(settings.landing), "pgw_pipe/S4PGWB000001", records("20261203", 0, few, 10))
        large = write(Path(settings.landing), "pgw_pipe/S4PGWB000002", records("20261204", few, RECORDS - few, 10))
        large.with_suffix(".gz").write_bytes(gzip.compress(large.read_bytes()))
        large.unlink()

        said = run(settings, "2026-12", ("land", "accept", "meter"))

        assert octets(settings) == {DECEMBER: RECORDS * 1000}
        assert f"{RECORDS + len(held):,} accepted, 0 duplicate, 0 rejected" in said[1]
    assert sum(any(work.place.endswith(".gz") for work in task) for found in tasks for task in found) > 1


def test_a_file_is_compared_only_with_data_of_its_own_time(settings, run, monkeypatch):
    from jobs import accept

    compared: list[Mapping[str, int]] = []
    remove = accept.repeats.remove

    def watched(lake, table, files, before, counting, rejected):
        compared.append(before)
        return remove(lake, table, files, before, counting, rejected)

    monkeypatch.setattr(accept.repeats, "remove", watched)
    for number, day in ((3, "20261010"), (4, "20261210"), (5, "20261203")):
        write(Path(settings.landing), f"pgw_pipe/S4PGWB00000{number}", records(day, RECORDS * number, 10, 2))
        run(settings, "2026-12", ("land", "accept"))

    nothing, other_day, same_day = compared
    assert nothing == {}
    assert other_day == {}, "the days before, and October, were left out"
    assert [*same_day.values()] == [RECORDS // 10], "of the three data files, and October's, the one of that day"


def test_a_stage_of_a_month_reads_the_partition_of_that_month(settings, run):
    from jobs.batches import AsOf
    from jobs.month import used_records
    from jobs.workplace import workplace

    with workplace(settings, "test", print) as opened:
        for month in ("2026-10", "2026-12"):
            first = usage_month(month)
            read = [path for of in used_records(opened, AsOf.now(opened.lake), first, 1).tables for path in of.rows_of]
            assert read
            assert all(f"usage_month={first}" in path for path in read)
