"""Write the demo month: subscriptions, then day by day and chunk by chunk the records of every source, then the truth."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from jobs.demo.charging import ChfRecords, PgwRecords
from jobs.demo.counters import DetailSeries, RadiusDetail, Samis, SamisSeries
from jobs.demo.deliveries import ChfSeries, FixedSeries, FlattenedSeries, PgwSeries, PipeSeries, Series, text_file
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
    formats: Sequence[str] = ("delimited",),
    progress: Progress | None = None,
) -> DemoSummary:
    """Write a month of usage records and its truth into the landing folder.

    ``records_per_day`` is per subscription with usage. Some ``formats`` share out the records of the first mobile brand, some
    those of the fixed lines (``deltas``, or the counters of ``radius`` and ``samis``); the figures are the same whichever carry
    them. ``progress`` is told what is being written, how much of it is done, and of
    how much. Raises ValueError if the month or a number cannot be used.
    """
    plan = Plan(landing, Month.of(month), subscriptions, seed, records_per_day, tuple(formats))
    landing.mkdir(parents=True, exist_ok=True)
    clocks = Clocks.around(plan.month, [zone for _, zone in VISITED])
    groups = _channels(plan, clocks)
    channels = [channel for group in groups for channel in group]
    with tempfile.TemporaryFile(dir=landing) as file:
        ledger = Ledger(file)
        assignments = _write_subscriptions(plan, ledger)
        _write_usage(plan, groups, ledger, progress or _silent)
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
    counts: Counter[str] = field(default_factory=Counter)

    def totals(self) -> Counter[str]:
        """What occurred, with files and records of all series."""
        self.counts["files"] = sum(series.files for series in self.series)
        self.counts["records"] = sum(series.records for series in self.series)
        self.counts["redelivered_records"] = sum(series.redelivered_records for series in self.series)
        return self.counts


def _channels(plan: Plan, clocks: Clocks) -> tuple[tuple[_Channel, ...], ...]:
    """Channels, those together that share out the same records among formats."""
    pipe = _Channel(PgwPipe(plan, clocks), (PipeSeries(plan, "S4PGWB"), PipeSeries(plan, "S4PGWM")))
    of_format = {
        "delimited": pipe,
        "ts32297": _Channel(PgwRecords(plan, clocks), (PgwSeries(plan),)),
        "chf": _Channel(ChfRecords(plan, clocks), (ChfSeries(plan),)),
    }
    of_fixed = {
        "deltas": _Channel(FixedDeltas(plan, clocks), (FixedSeries(plan, FixedDeltas.header),)),
        "radius": _Channel(RadiusDetail(plan, clocks), (DetailSeries(plan),)),
        "samis": _Channel(Samis(plan, clocks), (SamisSeries(plan),)),
    }
    return (
        tuple(of_format[name] for name in plan.mobile_formats),
        (_Channel(PgwFlattened(plan, clocks), (FlattenedSeries(plan, PgwFlattened.schema),)),),
        tuple(of_fixed[name] for name in plan.fixed_formats),
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


def _write_usage(plan: Plan, groups: tuple[tuple[_Channel, ...], ...], ledger: Ledger, progress: Progress) -> None:
    total, done = plan.file_days * plan.chunks, 0
    every = [series for group in groups for channel in group for series in channel.series]
    with ExitStack() as late_files:
        late = {id(series): late_files.enter_context(series.of_late_records()) for series in every}
        for day, part, chunks in _file_turns(plan):
            with ExitStack() as files:
                today = {id(series): files.enter_context(series.of_day(day, part)) for series in every}
                for chunk in chunks:
                    who = subscribers(plan, chunk)
                    for group in groups:
                        turn = Turn.of(group[0].source, day, chunk, who)
                        for channel, mine in zip(group, turn.parts([channel.source for channel in group]), strict=True):
                            mine.deliver(*([kept[id(series)] for series in channel.series] for kept in (today, late)))
                            enter(ledger, mine)
                            channel.counts.update(count(mine))
                    done += 1
                    progress("usage records", done, total)
    for series in every:
        series.redeliver()


def _file_turns(plan: Plan) -> Iterator[tuple[int, int, range]]:
    """Day, part of the day's files, and the chunks of that part."""
    for day in range(plan.file_days):
        for part in range(plan.files_per_day):
            first = part * plan.chunks_per_file
            yield day, part, range(first, min(first + plan.chunks_per_file, plan.chunks))
