"""What the size of the landing folder decides on one machine: Java's compiler, Spark's own, and how many partitions there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs import spark
from jobs.run import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(spark, "TINY_LANDING_OCTETS", 100)
    (tmp_path / "landing" / "pgw_pipe").mkdir(parents=True)
    (tmp_path / "jars").symlink_to(Settings.from_environment().jars)
    return Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), "FOOTPRINT_SPARK_MASTER": "local[2]"})


def is_for_small_months(settings: Settings) -> bool:
    found = spark._machine(settings, None)
    is_small = found["spark.sql.shuffle.partitions"] != "64"
    assert is_first_alone(settings) or not is_small
    return is_small


def is_first_alone(settings: Settings) -> bool:
    """Java's first compiler is the only one."""
    return "TieredStopAtLevel=1" in spark._machine(settings, None)["spark.driver.extraJavaOptions"]


def are_plans_interpreted(settings: Settings) -> bool:
    return spark._machine(settings, None).get("spark.sql.codegen.factoryMode") == "NO_CODEGEN"


def test_a_landing_folder_that_holds_little_is_for_small_months(settings, tmp_path):
    (tmp_path / "landing" / "pgw_pipe" / "S4PGWB000001").write_bytes(b"x" * 1000)

    assert is_for_small_months(settings)


@pytest.mark.parametrize(("octets", "is_interpreted"), [(100, True), (101, False)])
def test_plans_of_a_tiny_month_are_interpreted(octets, is_interpreted, settings, tmp_path):
    (tmp_path / "landing" / "pgw_pipe" / "S4PGWB000001").write_bytes(b"x" * octets)

    assert is_for_small_months(settings)
    assert are_plans_interpreted(settings) == is_interpreted


@pytest.mark.parametrize(("octets", "is_interpreted"), [(100, True), (101, False)])
def test_a_lake_that_holds_more_than_a_tiny_month_is_not_read_by_interpreted_plans(octets, is_interpreted, settings, tmp_path):
    (tmp_path / "landing" / "pgw_pipe" / "S4PGWB000001").write_bytes(b"x" * 100)
    (tmp_path / "lake" / "accepted").mkdir(parents=True)
    (tmp_path / "lake" / "accepted" / "part-1.zstd.parquet").write_bytes(b"x" * octets)

    assert are_plans_interpreted(settings) == is_interpreted


def test_nor_is_a_lake_of_an_object_store_whose_size_is_not_known(settings, tmp_path):
    (tmp_path / "landing" / "pgw_pipe" / "S4PGWB000001").write_bytes(b"x" * 100)

    assert not are_plans_interpreted(replace(settings, lake="s3a://bucket/lake"))


def test_an_empty_landing_folder_says_nothing_of_the_lake(settings):
    assert not is_for_small_months(settings)


@pytest.mark.parametrize(("name", "octets"), [("S4PGWB000001", 10_001), ("fixed.csv.gz", 2_001), ("flattened.parquet", 2_001)])
def test_a_landing_folder_that_holds_much_or_much_that_is_compressed_is_for_large_months(
    name, octets, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(spark, "SMALL_LANDING_OCTETS", 10_000)
    (tmp_path / "landing" / "pgw_pipe" / name).write_bytes(b"x" * octets)

    assert not is_for_small_months(settings)


@pytest.mark.parametrize(("octets", "is_alone"), [(0, False), (10_001, True), (50_000, True), (50_001, False)])
def test_of_javas_compilers_the_second_comes_in_for_the_largest_months(octets, is_alone, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(spark, "SMALL_LANDING_OCTETS", 10_000)
    monkeypatch.setattr(spark, "FIRST_COMPILER_LANDING_OCTETS", 50_000)
    (tmp_path / "landing" / "pgw_pipe" / "S4PGWB000001").write_bytes(b"x" * octets)

    assert is_first_alone(settings) == is_alone


def test_files_of_a_linked_folder_count(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(spark, "SMALL_LANDING_OCTETS", 10_000)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "S4PGWB000001").write_bytes(b"x" * 10_001)
    (tmp_path / "landing" / "linked").symlink_to(tmp_path / "elsewhere")

    assert not is_for_small_months(settings)


def test_a_cluster_keeps_its_own_settings(settings, tmp_path):
    on_cluster = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), "FOOTPRINT_SPARK_MASTER": "yarn"})

    assert spark._machine(on_cluster, None).keys() == {"spark.jars", "spark.ui.showConsoleProgress"}
