"""A month from landing to published, beside a DuckDB and a Polars script that do the same work on the same files.

``python -m tests.bench.month [--records N[,N…]] [--runs R] [--format F] [--engines footprint,duckdb,polars]``. Engines run in
turn, each in a process of its own; the octets they find must be those of the demo's truth. The scripts read the delimited format;
others are run by the pipeline alone. Rows of a format, size and engine replace those in ``var/bench/latest.json``: a row for the
total and for each stage (``land`` begins with the start of the process), the median of the runs; and the page
``var/bench/index.html`` is drawn anew.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from jobs.run import Settings
from tests.bench.engines import ENGINES, Run
from tests.bench.landing import LAYOUTS, Landing, landing_of
from tests.bench.processes import Sample

Row = dict[str, Any]
RESULTS, PAGE = "latest.json", "index.html"
BESIDE = {"delimited": ("footprint", "duckdb", "polars")}
"""Engines that can read a format; the pipeline reads every one."""


def main() -> None:
    """Measure each size, and keep and show what was measured."""
    from tests.bench.page import write_page

    parser = argparse.ArgumentParser(prog="tests.bench.month", description=__doc__)
    parser.add_argument("--records", default="5000000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--format", default="delimited", choices=LAYOUTS)
    parser.add_argument("--engines", default="")
    asked = parser.parse_args()
    able = BESIDE.get(asked.format, ("footprint",))
    engines = asked.engines.split(",") if asked.engines else able
    if unable := sorted(set(engines) - set(able)):
        parser.error(f"{', '.join(unable)} cannot read {asked.format}: engines are {', '.join(able)}")
    bench = Settings.from_environment().var / "bench"
    bench.mkdir(parents=True, exist_ok=True)
    for size in sorted({int(number) for number in asked.records.split(",")}):
        print(f"{asked.format}, about {size:,} records", flush=True)
        landing = landing_of(bench, asked.format, size)
        measured = list(rows(asked.format, landing, in_turn(landing, bench, engines, asked.runs)))
        report(measured)
        known = json.loads((bench / RESULTS).read_text(encoding="utf-8")) if (bench / RESULTS).is_file() else []
        together = merged(known, measured)
        (bench / RESULTS).write_text(json.dumps(together, indent=1) + "\n", encoding="utf-8")
        write_page(together, bench / PAGE)
    print(f"\nfigures: {bench / RESULTS}\nplots:   {bench / PAGE}")


def in_turn(landing: Landing, bench: Path, engines: Sequence[str], runs: int) -> dict[str, list[Run]]:
    """Run the engines one after the other, several times. Exits if one does not find the octets that are there."""
    found: dict[str, list[Run]] = {engine: [] for engine in engines}
    for number in range(runs):
        for engine in engines:
            run = ENGINES[engine](landing, bench)
            print(f"run {number + 1} {engine:<10}{run.total.at:8.1f} s  {run.total.resident / 2**20:8,.0f} MiB", flush=True)
            if run.octets != landing.octets:
                sys.exit(f"{engine} finds {run.octets} octets in {landing.folder}, where there are {landing.octets}")
            found[engine].append(run)
    return found


def rows(of_format: str, landing: Landing, found: dict[str, list[Run]]) -> Iterator[Row]:
    """Rows of the results: medians of the runs, and the spread of the seconds."""
    for engine, runs in found.items():
        stages = {"total": [run.total for run in runs]}
        for stage in runs[0].stages:
            stages[stage] = [run.stages[stage] for run in runs]
        for stage, samples in stages.items():
            named = {"format": of_format, "records": landing.records, "engine": engine, "stage": stage}
            yield named | _amounts(samples) | {"runs": len(runs)}


def _amounts(samples: Sequence[Sample]) -> Row:
    seconds = [sample.at for sample in samples]
    return {
        "seconds": round(median(seconds), 3),
        "seconds_min": round(min(seconds), 3),
        "seconds_max": round(max(seconds), 3),
        "peak_rss_bytes": int(median(sample.resident for sample in samples)),
        "read_bytes": int(median(sample.read for sample in samples)),
        "written_bytes": int(median(sample.written for sample in samples)),
    }


def merged(known: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """All rows, those of a format, size and engine that was measured now in place of earlier ones."""
    anew = {(row["format"], row["records"], row["engine"]) for row in measured}
    kept = [row for row in known if (row["format"], row["records"], row["engine"]) not in anew]
    return sorted([*kept, *measured], key=lambda row: (row["format"], row["records"]))


def report(measured: Sequence[Row]) -> None:
    """The table that a person reads."""
    totals = {row["engine"]: row for row in measured if row["stage"] == "total"}
    print(f"\n{measured[0]['format']}, {measured[0]['records']:,} records")
    print(f"{'engine':<12}{'median s':>10}{'min-max':>18}{'to duckdb':>11}{'peak MiB':>10}{'read MB':>10}{'written MB':>12}")
    for row in measured:
        name = row["engine"] if row["stage"] == "total" else f"  {row['stage']}"
        beside = totals.get("duckdb") if row["stage"] == "total" else None
        ratio = f"{row['seconds'] / beside['seconds']:.2f}" if beside else ""
        spread = f"{row['seconds_min']:.1f}-{row['seconds_max']:.1f}"
        amounts = f"{row['peak_rss_bytes'] / 2**20:>10,.0f}{row['read_bytes'] / 1e6:>10,.0f}{row['written_bytes'] / 1e6:>12,.0f}"
        print(f"{name:<12}{row['seconds']:>10.1f}{spread:>18}{ratio:>11}{amounts}")


if __name__ == "__main__":
    main()
