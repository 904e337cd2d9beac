"""The same input gives the same figures, whatever the order, the batches, the splitting of files, partitions and time zone."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from jobs.run import Settings
from schemas.tables import PUBLISHED
from tests.e2e.conftest import at_a_place

pytestmark = [pytest.mark.spark, pytest.mark.slow]

MONTH = "2026-10"
FIGURES = ("land", "accept", "meter", "estimate")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:

    from jobs.demo import generate

    folder = tmp_path_factory.mktemp("demo")
    generate(folder, date(2026, 10, 1), 60, 3)
    return folder


def figures(settings: Settings, run, spark) -> str:
    """Hash of what would be published."""
    from jobs.row_hashes import hashes
    from jobs.table_rows import OfFrame
    from tests.composed import composed

    run(settings, MONTH, FIGURES)
    estimated = spark.read.format("delta").load(f"{settings.lake}/estimated").where("usage_month = DATE'2026-10-01'")
    rows = composed(spark, estimated).select(PUBLISHED.names)
    return hashes(OfFrame(spark.createDataFrame(rows, PUBLISHED.spark_schema), PUBLISHED.names))["figures_hash"]


@contextmanager
def other_settings(spark, others: Mapping[str, str]) -> Iterator[None]:
    """The running session with other settings, and then as it was."""
    before = {name: spark.conf.get(name) for name in others}
    for name, value in others.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)


@pytest.fixture(scope="module")
def expected(demo: Path, tmp_path_factory: pytest.TempPathFactory, spark) -> str:
    from tests.e2e.conftest import run_stages

    with at_a_place(tmp_path_factory.mktemp("place")) as settings:
        shutil.copytree(demo, settings.landing, dirs_exist_ok=True)
        return figures(settings, run_stages, spark)


@pytest.mark.parametrize(
    ("driver_rows", "are_sought"),
    [(1 << 22, False), (-1, False), (-1, True)],
    ids=["looked at by the driver", "looked at by tasks", "looked for by tasks"],
)
def test_files_delivered_in_another_order_and_in_three_batches(
    driver_rows, are_sought, demo, expected, run, spark, tmp_path_factory, monkeypatch
):
    from jobs.key_beginnings import Sought

    sought: list[int] = []
    of = Sought.of
    monkeypatch.setattr(Sought, "of", lambda found: sought.append(len(found)) or of(found))
    monkeypatch.setattr("jobs.steps.DRIVER_ROWS", driver_rows)
    monkeypatch.setattr("jobs.steps.GROUP_ROWS", 100)
    monkeypatch.setattr("jobs.steps.FILE_ROWS", 1)
    if are_sought:
        monkeypatch.setattr("jobs.alike.are_sought", lambda rows_of, new_files: 0 < new_files < len(rows_of))
    with at_a_place(tmp_path_factory.mktemp("place")) as settings:
        files = sorted((path for path in demo.rglob("*") if path.is_file() and path.parent != demo), reverse=True)
        for part in range(3):
            for path in files[part::3]:
                target = Path(settings.landing) / path.relative_to(demo)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
            run(settings, MONTH, ("land", "accept"))

        assert figures(settings, run, spark) == expected
    assert bool(sought) == are_sought


def test_files_split_and_records_shuffled_under_other_partitions_and_another_time_zone_and_with_no_rows_taken_for_few(
    demo, expected, run, spark, tmp_path_factory, monkeypatch
):
    monkeypatch.setattr("jobs.spark.FEW_ROWS", 0)
    monkeypatch.setattr("jobs.conflicts.FEW_ROWS", 0)
    monkeypatch.setattr("jobs.steps.DRIVER_ROWS", -1)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    with at_a_place(tmp_path_factory.mktemp("place")) as settings:
        shutil.copytree(demo, settings.landing, dirs_exist_ok=True)
        split_fixed_files(Path(settings.landing) / "fixed_deltas")
        try:
            with other_settings(spark, {"spark.sql.shuffle.partitions": "7"}):
                assert figures(settings, run, spark) == expected
        finally:
            monkeypatch.undo()
            time.tzset()


def test_plans_interpreted_and_not_adapted_as_those_of_a_tiny_landing_folder_are(demo, expected, run, spark, tmp_path_factory):
    from jobs.spark import INTERPRETED

    with at_a_place(tmp_path_factory.mktemp("place")) as settings, other_settings(spark, INTERPRETED):
        shutil.copytree(demo, settings.landing, dirs_exist_ok=True)

        assert figures(settings, run, spark) == expected


def test_the_same_month_in_charging_records_of_5g(expected, run, spark, tmp_path_factory):

    from jobs.demo import generate

    with at_a_place(tmp_path_factory.mktemp("place")) as settings:
        generate(Path(settings.landing), date(2026, 10, 1), 60, 3, formats=("chf",))

        assert figures(settings, run, spark) == expected


@pytest.mark.parametrize(("form", "source", "files"), [("ts32297", "pgw_ts32297", 33), ("delimited", "pgw_pipe", 66)])
def test_the_same_month_in_files_read_in_parts(form, source, files, expected, run, spark, tmp_path_factory, monkeypatch):

    from jobs import accept
    from jobs.demo import generate
    from schemas.tables import FILE_BALANCES

    cut: dict[int, int] = {}
    in_parts = accept._parts

    def watched(workplace, large, octets):
        found = in_parts(workplace, large, octets)
        cut.update({file.file_number: sum(part.file_number == file.file_number for part in found) for file in large})
        return found

    monkeypatch.setattr(accept, "TASK_OCTETS", 5_000)
    monkeypatch.setattr(accept, "SMALLEST_PART_OCTETS", 5_000)
    monkeypatch.setattr(accept, "_parts", watched)
    with at_a_place(tmp_path_factory.mktemp("place")) as settings:
        generate(Path(settings.landing), date(2026, 10, 1), 60, 3, formats=(form,))

        assert figures(settings, run, spark) == expected
        balances = spark.read.format("delta").load(f"{settings.lake}/{FILE_BALANCES.name}").where(f"source = '{source}'")
        numbers = [row.file_number for row in balances.select("file_number").collect()]
        assert len(set(numbers)) == len(numbers) == files
        assert any(cut.get(number, 1) > 1 for number in numbers)


def test_the_same_month_with_fixed_lines_in_counters_that_only_grow(expected, run, spark, tmp_path_factory, monkeypatch):

    from jobs import accept
    from jobs.demo import generate
    from schemas.tables import CARRIED, COUNTER_BALANCES

    monkeypatch.setattr(accept, "TASK_OCTETS", 20_000)
    monkeypatch.setattr(accept, "SMALLEST_PART_OCTETS", 20_000)
    with at_a_place(tmp_path_factory.mktemp("place")) as settings:
        generate(Path(settings.landing), date(2026, 10, 1), 60, 3, formats=("radius", "samis"))

        assert figures(settings, run, spark) == expected
        read = spark.read.format("delta").load
        balances = {row.source: row for row in read(f"{settings.lake}/{COUNTER_BALANCES.name}").collect()}
        carried = read(f"{settings.lake}/{CARRIED.name}").collect()
        assert set(balances) == {"bng_radius", "cable_samis"}
        assert all(set(json.loads(row.estimated_reasons)) <= {"stop_without_octets"} for row in balances.values())
        # Every line that goes on is carried over where its counters stood at the month's end.
        assert len(carried) == sum(row.sessions_carried for row in balances.values()) > 0
        assert {row.closed_at.astimezone(UTC) for row in carried} == {datetime(2026, 10, 31, 23, tzinfo=UTC)}


def split_fixed_files(folder: Path) -> None:
    """Turn each gzip file into two plain ones, its records in reverse order."""
    for path in list(folder.glob("*.csv.gz")):
        header, *records = gzip.decompress(path.read_bytes()).split(b"\n")
        records = [record for record in records if record][::-1]
        half = len(records) // 2
        for name, part in (("a", records[:half]), ("b", records[half:])):
            (folder / path.name.replace(".csv.gz", f"_{name}.csv")).write_bytes(b"\n".join([header, *part]) + b"\n")
        path.unlink()
