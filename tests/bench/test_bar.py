"""The pipeline has not become slower beside the DuckDB script: ratios, since seconds are another machine's tomorrow."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.bench.engines import Run
from tests.bench.landing import landing_of
from tests.bench.month import in_turn

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.timed]

RECORDS, RUNS = 300_000, 1
BARS = tomllib.loads(Path(__file__).with_name("bars.toml").read_text(encoding="utf-8"))["bar"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    bench = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JDK_JAVA_OPTIONS", raising=False)  # what the tests run Java with is not what a month is run with
        found = in_turn(landing_of(bench, "delimited", RECORDS), bench, ("duckdb", "footprint"), RUNS)
    return {engine: of[0] for engine, of in found.items()}


@pytest.mark.parametrize("bar", BARS, ids=[bar["name"] for bar in BARS])
def test_no_ratio_is_worse_than_its_bar(runs: dict[str, Run], bar: dict[str, Any]) -> None:
    ours = runs["footprint"]
    seconds = sum((ours.total if stage == "total" else ours.stages[stage]).at for stage in bar["stages"])
    ratio = seconds / runs["duckdb"].total.at

    assert ratio <= bar["ratio"] * (1 + bar["slack"]), f"{bar['name']}: {ratio:.1f} times DuckDB's whole time"
