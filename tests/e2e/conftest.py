"""A lake of its own for a test module, with its own embedded PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.launch import STAGES
from jobs.run import Settings


@contextmanager
def at_a_place(folder: Path) -> Iterator[Settings]:
    """Settings of an empty place, whose PostgreSQL stops with the block."""
    from jobs.postgres import stop_embedded

    (folder / "landing").mkdir(parents=True)
    (folder / "jars").symlink_to(Settings.from_environment().jars)
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(folder), "FOOTPRINT_SPARK_MASTER": "local[2]"})
    try:
        yield settings
    finally:
        stop_embedded(settings)
        _forget_tables()
        shutil.rmtree(folder, ignore_errors=True)


def _forget_tables() -> None:
    """Delta remembers the state of each table of this place for an hour; those of all places would fill the session's memory."""
    from pyspark.sql import SparkSession

    if (spark := SparkSession.getActiveSession()) is not None:
        spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> Iterator[Settings]:
    """Settings of an empty place that lives as long as the test module."""
    with at_a_place(tmp_path_factory.mktemp("place")) as found:
        yield found


def run_stages(settings: Settings, month: str, only: tuple[str, ...] = STAGES) -> list[str]:
    """Run stages of a month in this process; return what they said."""
    from jobs import stages
    from jobs.run import usage_month
    from jobs.workplace import workplace

    said: list[str] = []
    with workplace(settings, "test", said.append) as opened:
        for stage in only:
            stages.run(opened, stage, usage_month(month))
    return said


@pytest.fixture
def run() -> Callable[..., list[str]]:
    """Run stages of a month in this process."""
    return run_stages
