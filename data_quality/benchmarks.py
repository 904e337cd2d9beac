"""Figures that others published, read from ``benchmarks.toml``: what an operator's own can be shown beside."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

BENCHMARKS = Path(__file__).with_name("benchmarks.toml")


@dataclass(frozen=True)
class Benchmark:
    """One published figure of a measure and a network, ``all`` for a whole sector."""

    measure: str
    network: str
    value: Decimal
    unit: str
    of: str
    source: str
    mark: str


def read_benchmarks(kind: Literal["published", "energy", "sector"] = "published", path: Path = BENCHMARKS) -> list[Benchmark]:
    """Figures of a kind: ``published`` are of measures that a rule judges, ``energy`` for each gigabyte, ``sector`` totals."""
    declared = tomllib.loads(path.read_text(encoding="utf-8"))[kind]
    return [Benchmark(**entry | {"value": Decimal(entry["value"])}) for entry in declared]
