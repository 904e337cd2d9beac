"""Figures that others published, read from ``benchmarks.toml``: what an operator's own can be shown beside."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

BENCHMARKS = Path(__file__).with_name("benchmarks.toml")


@dataclass(frozen=True)
class Benchmark:
    """One published figure, of the measure of a rule and a network."""

    measure: str
    network: str
    value: Decimal
    unit: str
    of: str
    source: str
    mark: str


def read_benchmarks(path: Path = BENCHMARKS) -> list[Benchmark]:
    """Every published figure."""
    declared = tomllib.loads(path.read_text(encoding="utf-8"))["published"]
    return [Benchmark(**entry | {"value": Decimal(entry["value"])}) for entry in declared]
