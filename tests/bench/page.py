"""The page of plots: one file that needs nothing else. ``python -m tests.bench.page`` draws it anew from the results."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from html import escape
from io import StringIO
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from jobs.run import Settings, code_version
from tests.bench.fit import LEAST_SIZES, power, power_beyond_fixed
from tests.bench.plots import (
    Row,
    in_short,
    memory_against_size,
    names,
    ratio_against_size,
    stage_shares,
    time_against_size,
    totals,
)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff }
body { max-width: 1240px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 1.2rem }
figure { margin: 0 } svg { width: 100%; height: auto } p { max-width: 75ch }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #e5e5e5 } th { font-weight: 600 }
th:first-child, td:first-child { text-align: left } footer { color: #666; font-size: .85rem; margin-top: 2rem }
"""
_INTRODUCTION = """A month from landing to published by the pipeline (footprint), beside one DuckDB and one Polars script that
do the same work on the same files: parse, pseudonymise, deduplicate, keep what is accepted, cut the month, join subscriptions,
add up and estimate. The pipeline also rejects with reasons, balances every file, verifies and publishes to PostgreSQL; all of
that is in its time. Points are medians, bars go from the fastest to the slowest run; dashed lines are powers of the size fitted
by least squares on logarithms, drawn-through ones a fixed cost and a power of the size."""


def write_page(rows: Sequence[Row], path: Path) -> None:
    """Write the page of all results."""
    parts = [f"<h1>A month, measured</h1><p>{escape(_INTRODUCTION)}</p>"]
    for name in names(rows, "format"):
        parts.extend(_format_section(name, [row for row in rows if row["format"] == name]))
    ours = [row for row in rows if row["engine"] == "footprint"]
    if len(names(ours, "format")) > 1:
        plot = time_against_size(ours, "format", "The pipeline's time, by format")
        parts.append(f"<h2>Formats side by side</h2><div class=plots>{_svg(plot)}</div>")
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}; footprint {code_version()}"
    page = (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>Footprint: a month, measured</title><style>{_STYLE}</style>{''.join(parts)}"
        f"<footer>Drawn on a machine with {escape(machine)}. Memory is the sum of resident sets, so pages that processes share "
        "count for each. Bytes read are those asked for, from the page cache or a pipe too; bytes written went towards a disk."
        "</footer></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _format_section(name: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"<h2>{escape(name)} records</h2>"
    plots = [time_against_size(rows, "engine", "Time against size")]
    if {"duckdb", "footprint"} <= {row["engine"] for row in rows}:
        plots.append(ratio_against_size(rows))
    plots += [stage_shares(rows), memory_against_size(rows)]
    yield f"<div class=plots>{''.join(map(_svg, plots))}</div>"
    yield _table(("engine", "exponent", "fixed cost, s", "exponent beyond it"), _exponents(rows))
    measured = ("records", "engine", "runs", "seconds", "from–to", "to DuckDB", "records/s", "peak MiB", "read MB", "written MB")
    yield _table(measured, _measured(rows))


def _exponents(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    for name in names(rows, "engine"):
        of = [row for row in totals(rows) if row["engine"] == name]
        sizes, seconds = [row["records"] for row in of], [row["seconds"] for row in of]
        plain = f"{power(sizes, seconds)[1]:.2f}" if len(of) > 1 else "one size only"
        beyond = ("–", "–")
        if len(of) >= LEAST_SIZES:
            fixed, _, exponent = power_beyond_fixed(sizes, seconds)
            beyond = (f"{fixed:.1f}", f"{exponent:.2f}")
        yield name, plain, *beyond


def _measured(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    beside = {row["records"]: row["seconds"] for row in totals(rows) if row["engine"] == "duckdb"}
    for row in totals(rows):
        ratio = f"{row['seconds'] / beside[row['records']]:.2f}" if row["records"] in beside else "–"
        yield (
            f"{row['records']:,}", row["engine"], str(row["runs"]), f"{row['seconds']:.1f}",
            f"{row['seconds_min']:.1f}–{row['seconds_max']:.1f}", ratio, in_short(row["records"] / row["seconds"]),
            f"{row['peak_rss_bytes'] / 2**20:,.0f}", f"{row['read_bytes'] / 1e6:,.0f}", f"{row['written_bytes'] / 1e6:,.0f}",
        )  # fmt: skip


def _table(heads: Sequence[str], lines: Iterator[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}" for text in line) for line in lines)
    return f"<table><tr>{head}{body}</table>"


def _svg(plot: Figure) -> str:
    """A figure as it stands in a page: without the prologue of a file of its own."""
    written = StringIO()
    plot.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


def main() -> None:
    """Draw the page anew."""
    from tests.bench.month import PAGE, RESULTS

    bench = Settings.from_environment().var / "bench"
    write_page(json.loads((bench / RESULTS).read_text(encoding="utf-8")), bench / PAGE)


if __name__ == "__main__":
    main()
