"""Write the demo month: subscriptions, then day by day and chunk by chunk the records of every source, then the truth."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jobs.demo.deliveries import FixedSeries, FlattenedSeries, PipeSeries, Series, text_file
from jobs.demo.export import HEADER, export_lines
from jobs.demo.month import Clocks, Month
from jobs.demo.plan import Plan
from jobs.demo.sources import VISITED, FixedDeltas, PgwFlattened, PgwPipe, Source
from jobs.demo.subscribers import subscribers
from jobs.demo.truth import Ledger, count, enter, write_counts, write_truth
from jobs.demo.turns import Turn

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DemoSummary:
    """What was written: files and records by source, how often each thing was injected, and where the truth is.

    ``records`` counts every line or row, again with what is delivered twice; ``counts`` is also the JSON beside the truth.
    """

    files: dict[str, int]
    records: dict[str, int]
    counts: dict[str, dict[str, int]]
    truth: Path
    truth_counts: Path


def generate(
    landing: Path,
    month: date,
    subscriptions: int,
    seed: int,
    records_per_day: int = 6,
    progress: Progress | None = None,
) -> DemoSummary:
    """Write a month of usage records and its truth into the landing folder.

    ``records_per_day`` is per subscription with usage. ``progress`` is told what is being written, how much of it is done, and of
    how much. Raises ValueError if the month or a number cannot be used.
    """
    plan = Plan(landing, Month.of(month), subscriptions, seed, records_per_day)
    landing.mkdir(parents=True, exist_ok=True)
    clocks = Clocks.around(plan.month, [zone for _, zone in VISITED])
    channels = _channels(plan, clocks)
    with tempfile.TemporaryFile(dir=landing) as file:
        ledger = Ledger(file)
        assignments = _write_subscriptions(plan, ledger)
        _write_usage(plan, channels, ledger, progress or _silent)
        truth = write_truth(plan, ledger)
    counts = {channel.source.name: channel.totals() for channel in channels}
    return DemoSummary(
        files={"subscriptions": 1} | {name: occurred["files"] for name, occurred in counts.items()},
        records={"subscriptions": assignments} | {name: occurred["records"] for name, occurred in counts.items()},
        counts={name: dict(occurred) for name, occurred in counts.items()},
        truth=truth,
        truth_counts=write_counts(plan, counts),
    )


def _silent(what: str, done: int, total: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class _Channel:
    """A source, its series of files (the second one for roaming), and what has occurred in it."""

    source: Source
    series: tuple[Series, ...]
    counts: Counter[str]

    def totals(self) -> Counter[str]:
        """What occurred, with files and records of all series."""
        self.counts["files"] = sum(series.files for series in self.series)
        self.counts["records"] = sum(series.records for series in self.series)
        self.counts["redelivered_records"] = sum(series.redelivered_records for series in self.series)
        return self.counts


def _channels(plan: Plan, clocks: Clocks) -> tuple[_Channel, ...]:
    pipe = (PipeSeries(plan, "S4PGWB"), PipeSeries(plan, "S4PGWM"))
    return (
        _Channel(PgwPipe(plan, clocks), pipe, Counter()),
        _Channel(PgwFlattened(plan, clocks), (FlattenedSeries(plan, PgwFlattened.schema),), Counter()),
        _Channel(FixedDeltas(plan, clocks), (FixedSeries(plan, FixedDeltas.header),), Counter()),
    )


def _write_subscriptions(plan: Plan, ledger: Ledger) -> int:
    """The export, and an empty page of the ledger for each chunk. How many assignments there are."""
    path = plan.landing / "subscriptions" / f"subscriptions_{plan.month.first:%Y%m}.csv"
    with text_file(path, HEADER) as delivery:
        for chunk in range(plan.chunks):
            who = subscribers(plan, chunk)
            delivery.write(export_lines(plan, who))
            ledger.open_page(len(who))
    return delivery.records


def _write_usage(plan: Plan, channels: tuple[_Channel, ...], ledger: Ledger, progress: Progress) -> None:
    total, done = plan.file_days * plan.chunks, 0
    with ExitStack() as late_files:
        late = [[late_files.enter_context(series.of_late_records()) for series in channel.series] for channel in channels]
        for day, part, chunks in _file_turns(plan):
            with ExitStack() as files:
                today = [[files.enter_context(series.of_day(day, part)) for series in channel.series] for channel in channels]
                for chunk in chunks:
                    who = subscribers(plan, chunk)
                    for channel, now, later in zip(channels, today, late, strict=True):
                        turn = Turn.of(channel.source, day, chunk, who)
                        turn.deliver(now, later)
                        enter(ledger, turn)
                        channel.counts.update(count(turn))
                    done += 1
                    progress("usage records", done, total)
    for channel in channels:
        for series in channel.series:
            series.redeliver()


def _file_turns(plan: Plan) -> Iterator[tuple[int, int, range]]:
    """Day, part of the day's files, and the chunks of that part."""
    for day in range(plan.file_days):
        for part in range(plan.files_per_day):
            first = part * plan.chunks_per_file
            yield day, part, range(first, min(first + plan.chunks_per_file, plan.chunks))
