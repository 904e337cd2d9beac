"""The plots of the bench page, as figures of Matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from jobs.launch import STAGES
from tests.bench.fit import LEAST_SIZES, power, power_beyond_fixed

Row = dict[str, Any]
BAR = 2.0
"""What the pipeline may take at most, in times of DuckDB's."""
_COLOURS = {
    "footprint": "#0072B2", "duckdb": "#D55E00", "polars": "#009E73",
    "delimited": "#0072B2", "ts32297": "#CC79A7", "chf": "#8C6D1F", "parquet": "#56B4E9",
}  # fmt: skip
_MARKERS = {"footprint": "o", "duckdb": "s", "polars": "^", "delimited": "o", "ts32297": "D", "chf": "v", "parquet": "P"}
_STAGE_COLOURS = {
    "land": "#9DB4C0", "accept": "#0072B2", "meter": "#56B4E9", "estimate": "#E69F00", "verify": "#009E73", "publish": "#CC79A7",
    "end": "#C8C8C8",
}  # fmt: skip
_LEAST_LABELLED_SHARE = 0.06
_STYLE: dict[Any, Any] = {
    "font.size": 10, "axes.titlesize": 11.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.grid": True,
    "grid.color": "#E4E4E4", "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#888888", "legend.frameon": False, "legend.fontsize": 9, "svg.hashsalt": "footprint",
}  # fmt: skip


def totals(rows: Sequence[Row]) -> list[Row]:
    """Rows of whole runs, by size."""
    return sorted((row for row in rows if row["stage"] == "total"), key=lambda row: row["records"])


def names(rows: Sequence[Row], column: str) -> list[str]:
    """Engines or formats, in the order in which they are always shown."""
    found = {row[column] for row in rows}
    return [name for name in _COLOURS if name in found] + sorted(found - set(_COLOURS))


def in_short(records: float, _: object = None) -> str:
    """10 k, 4.7 M."""
    unit, sign = next(((unit, f" {sign}") for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if records >= unit), (1, ""))
    return f"{two_digits(records / unit)}{sign}"


def two_digits(number: float) -> str:
    """0.84, 9.8, 51, 120."""
    return f"{number:.0f}" if number >= 9.95 else f"{number:.2g}"


def _figure(draw: Callable[[Axes], None], title: str, height: float = 3.7) -> Figure:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.2, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        draw(axes)
    return figure


def _size_axis(axes: Axes, rows: Sequence[Row]) -> None:
    """Sizes on a logarithmic axis, each with a tick unless it would run into the one before."""
    sizes = sorted({row["records"] for row in rows})
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
    spread = max(1.25, (sizes[-1] / sizes[0]) ** 0.06)
    ticks = [size for place, size in enumerate(sizes) if not place or size > sizes[place - 1] * spread]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(in_short))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_xlabel("records (logarithmic)")


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _points(axes: Axes, name: str, of: Sequence[Row], label: str, divided_by: Callable[[Row], float] = lambda _: 1.0) -> None:
    """Medians with bars from the least to the most."""
    middle, least, most = ([row[column] / divided_by(row) for row in of] for column in ("seconds", "seconds_min", "seconds_max"))
    errors = [[m - low for m, low in zip(middle, least, strict=True)], [high - m for m, high in zip(middle, most, strict=True)]]
    look: dict[str, Any] = {"color": _COLOURS.get(name, "#444444"), "marker": _MARKERS.get(name, "x"), "markersize": 5.5}
    axes.errorbar([row["records"] for row in of], middle, yerr=errors, linestyle="none", capsize=3, label=label, **look)


def time_against_size(rows: Sequence[Row], by: str, title: str) -> Figure:
    """Seconds against records, both logarithmic: dashed a power of the size, drawn through the power beyond a fixed cost."""

    def draw(axes: Axes) -> None:
        for name in names(rows, by):
            of = [row for row in totals(rows) if row[by] == name]
            sizes, seconds = [row["records"] for row in of], [row["seconds"] for row in of]
            label = name
            if len(of) > 1:
                factor, exponent = power(sizes, seconds)
                label = f"{name}: records$^{{{exponent:.2f}}}$"
                colour, along = _COLOURS.get(name, "#444444"), np.geomspace(sizes[0], sizes[-1], 60)
                axes.plot(along, factor * along**exponent, "--", lw=1.1, color=colour)
                if len(of) >= LEAST_SIZES:
                    fixed, factor, exponent = power_beyond_fixed(sizes, seconds)
                    label += f", or {two_digits(fixed)} s + c·records$^{{{exponent:.2f}}}$"
                    axes.plot(along, fixed + factor * along**exponent, lw=1, color=colour, alpha=0.55)
            _points(axes, name, of, label)
        _size_axis(axes, totals(rows))
        _logarithmic(axes)
        axes.set_ylabel("seconds (logarithmic)")
        axes.legend(loc="upper left")

    return _figure(draw, title)


def ratio_against_size(rows: Sequence[Row]) -> Figure:
    """Seconds in times of DuckDB's median, against records."""
    beside = {row["records"]: row["seconds"] for row in totals(rows) if row["engine"] == "duckdb"}
    known = [row for row in totals(rows) if row["records"] in beside]

    def draw(axes: Axes) -> None:
        axes.axhline(1, color=_COLOURS["duckdb"], lw=1.2)
        axes.axhline(BAR, color="#888888", lw=1, ls=":", label=f"bar at 20 M: {BAR:g}")
        for name in names(known, "engine"):
            of = [row for row in known if row["engine"] == name]
            line = axes.plot([row["records"] for row in of], [row["seconds"] / beside[row["records"]] for row in of], lw=1)
            line[0].set_color(_COLOURS.get(name, "#444444"))
            _points(axes, name, of, name, lambda row: float(beside[row["records"]]))
            for row in of if name != "duckdb" else ():
                ratio = row["seconds"] / beside[row["records"]]
                axes.annotate(
                    two_digits(ratio), (row["records"], ratio), color=_COLOURS.get(name, "#444444"), fontsize=8.5, ha="center",
                    xytext=(0, 7 if ratio >= 1 else -15), textcoords="offset points",
                )  # fmt: skip
        _size_axis(axes, known)
        _logarithmic(axes)
        axes.set_ylabel("times DuckDB's median (logarithmic)")
        axes.margins(y=0.15)
        axes.legend(loc="upper right")

    return _figure(draw, "Time in proportion to DuckDB")


def stage_shares(rows: Sequence[Row]) -> Figure:
    """What share of the time each stage takes: of the pipeline at every size, of the others at their largest one."""
    bars = [row for row in totals(rows) if row["engine"] == "footprint"]
    bars += [[row for row in totals(rows) if row["engine"] == name][-1] for name in names(rows, "engine") if name != "footprint"]
    bars.reverse()

    def draw(axes: Axes) -> None:
        for place, bar in enumerate(bars):
            stages = {r["stage"]: r for r in rows if (r["engine"], r["records"]) == (bar["engine"], bar["records"])}
            begin = 0.0
            for stage in (*STAGES, "end"):
                if stage not in stages:
                    continue
                share = stages[stage]["seconds"] / sum(row["seconds"] for name, row in stages.items() if name != "total")
                axes.barh(place, share, left=begin, color=_STAGE_COLOURS[stage], edgecolor="white", label=stage, height=0.72)
                if share >= _LEAST_LABELLED_SHARE:
                    ink = "white" if stage in ("accept", "verify") else "black"
                    axes.text(begin + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8.5, color=ink)
                begin += share
        axes.set_yticks(range(len(bars)), [f"{row['engine']} {in_short(row['records'])}, {row['seconds']:.3g} s" for row in bars])
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.set_xlabel("share of the time")
        axes.grid(axis="y", visible=False)
        shown = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        shown = {stage: shown[stage] for stage in (*STAGES, "end") if stage in shown}
        axes.figure.legend(
            shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), handlelength=1, columnspacing=1
        )

    return _figure(draw, "Where the time goes", height=max(2.6, 1.5 + 0.36 * len(bars)))


def memory_against_size(rows: Sequence[Row]) -> Figure:
    """Peak memory of all processes against records."""

    def draw(axes: Axes) -> None:
        for name in names(rows, "engine"):
            of = [row for row in totals(rows) if row["engine"] == name]
            look: dict[str, Any] = {
                "color": _COLOURS.get(name, "#444444"),
                "marker": _MARKERS.get(name, "x"),
                "markersize": 5.5,
                "lw": 1.2,
            }
            axes.plot([row["records"] for row in of], [row["peak_rss_bytes"] / 2**30 for row in of], label=name, **look)
        _size_axis(axes, totals(rows))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("GiB, sum of resident sets")
        axes.legend(loc="upper left")

    return _figure(draw, "Peak memory of all processes")
