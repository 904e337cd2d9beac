"""A lake of its own for a test module, with its own embedded PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.run import Settings


@contextmanager
def _place(folder: Path, jars: Path) -> Iterator[Settings]:
    from jobs.postgres import stop_embedded

    (folder / "landing").mkdir(parents=True)
    (folder / "jars").symlink_to(jars)
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(folder), "FOOTPRINT_SPARK_MASTER": "local[2]"})
    try:
        yield settings
    finally:
        stop_embedded(settings)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> Iterator[Settings]:
    """Settings of an empty place that lives as long as the test module."""
    with _place(tmp_path_factory.mktemp("place"), Settings.from_environment().jars) as found:
        yield found


@pytest.fixture
def run() -> Callable[..., list[str]]:
    """Run stages of a month in this process; return what they said."""
    from jobs import stages
    from jobs.launch import STAGES
    from jobs.run import usage_month
    from jobs.workplace import workplace

    def run_stages(settings: Settings, month: str, only: tuple[str, ...] = STAGES) -> list[str]:
        said: list[str] = []
        with workplace(settings, "test", said.append) as opened:
            for stage in only:
                stages.run(opened, stage, usage_month(month))
        return said

    return run_stages
