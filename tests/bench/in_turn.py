"""Ways to read the same records, measured in turn; every one must find the same records and octets.

Seconds are of the processor, all threads together, so that a figure is one of a core however busy the machine is.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np


class Totals(NamedTuple):
    """Records, octets up and down."""

    records: int
    up: int
    down: int


@dataclass(frozen=True)
class Input:
    """A file in memory."""

    octets: bytes
    records: int


@dataclass(frozen=True)
class Engine:
    """A way to read a file; one that only finds the records gives how many."""

    name: str
    run: Callable[[Any], Totals | int]
    given: Input


@dataclass(frozen=True)
class Comparison:
    """Ways to read one format; the first is our reader, by which the others are judged."""

    format: str
    engines: Sequence[Engine]


@dataclass(frozen=True)
class Result:
    """What was measured of an engine. The ratio is that of its octets a second to our reader's."""

    format: str
    engine: str
    octets: int
    records: int
    megabytes_per_second_median: float
    spread: tuple[float, float]
    records_per_second_median: int
    ratio: float

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self)


def measured(comparison: Comparison, runs: int) -> list[Result]:
    """What each engine does, in turn, after a first time that is not counted.

    Raises:
        AssertionError: an engine finds other records or octets than our reader.
    """
    ours = comparison.engines[0]
    expected = {id(engine.given): ours.run(engine.given) for engine in comparison.engines}
    seconds: list[list[float]] = [[] for _ in comparison.engines]
    for run in range(runs + 1):
        for taken, engine in zip(seconds, comparison.engines, strict=True):
            gc.collect()
            begun = time.process_time()
            found = engine.run(engine.given)
            elapsed = time.process_time() - begun
            totals = expected[id(engine.given)]
            assert isinstance(totals, Totals)
            assert found in (totals, totals.records), f"{comparison.format}, {engine.name} found {found}, our reader {totals}"
            if run:
                taken.append(elapsed)
    ours_rate = len(ours.given.octets) / float(np.median(seconds[0]))
    return [_result(comparison.format, *each, ours_rate) for each in zip(comparison.engines, seconds, strict=True)]


def _result(format_name: str, engine: Engine, seconds: Sequence[float], ours_rate: float) -> Result:
    octets, records, median = len(engine.given.octets), engine.given.records, float(np.median(seconds))
    rates = sorted(round(octets / 1e6 / taken, 2) for taken in seconds)
    return Result(
        format_name,
        engine.name,
        octets,
        records,
        round(octets / 1e6 / median, 2),
        (rates[0], rates[-1]),
        round(records / median),
        round(octets / median / ours_rate, 4),
    )


def table(results: Sequence[Result]) -> Iterator[str]:
    """Lines of a table for people."""
    yield f"{'format':<26} {'engine':<32} {'MB':>6} {'MB/s':>8} {'least - most':>17} {'records/s':>11} {'ratio':>7}"
    for one in results:
        least, most = one.spread
        spread = f"{least:,.1f} - {most:,.1f}"
        yield (
            f"{one.format:<26} {one.engine:<32} {one.octets / 1e6:>6.1f} {one.megabytes_per_second_median:>8,.1f} {spread:>17} "
            f"{one.records_per_second_median:>11,} {one.ratio:>7.3f}"
        )
