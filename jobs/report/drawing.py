"""The figures of the report, each drawn for a desk and for a phone: text keeps its size, and the rest finds its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from jobs.report.flow import Flow, Node
from jobs.report.numbers import percent
from jobs.report.svg import colour, inline

PHONE, HALF, FULL = 356, 500, 1040
"""Widths of figures: of a phone's page, of one of two columns, of a whole page."""
_SIZE, _LINE = 12, 15
_POINTS_PER_INCH = 72


@dataclass(frozen=True)
class Told:
    """What a figure is called, and what it shows in words."""

    name: str
    title: str
    description: str


def drawn(told: Told, widest: int, draw: Callable[[int], Figure]) -> Markup:
    """A figure at two widths, of which the style sheet shows one."""
    wide = inline(draw(widest), f"{told.name}-wide", told.title, told.description, "wide")
    return wide + inline(draw(PHONE), f"{told.name}-narrow", told.title, told.description, "narrow")


def _canvas(width: int, height: float) -> tuple[Figure, Axes]:
    """A figure whose coordinates are units of the page, from its upper left corner."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return figure, axes


def _write(axes: Axes, place: tuple[float, float], text: str, side: str = "left", tone: str = "text", **more: Any) -> None:
    axes.text(*place, text, ha=side, va="center", color=colour(tone), fontsize=_SIZE, parse_math=False, **more)


def _box(axes: Axes, place: tuple[float, float], size: tuple[float, float], tone: str) -> None:
    axes.add_patch(Rectangle(place, *size, facecolor=colour(tone), edgecolor="none", linewidth=0))


@dataclass(frozen=True)
class Bar:
    """A bar of parts, each an amount in a colour, with its label before and its value behind it."""

    label: str
    parts: Sequence[tuple[float, str]]
    value: str


def bars(some: Sequence[Bar], label_width: int, value_width: int) -> Callable[[int], Figure]:
    """Horizontal bars: labels stay legible at the width of a phone."""
    row, thickness, gap = 22, 14, 1.5

    def draw(width: int) -> Figure:
        figure, axes = _canvas(width, row * len(some) + 8)
        longest = width - label_width - value_width
        greatest = max((sum(amount for amount, _ in bar.parts) for bar in some), default=0) or 1
        axes.plot([label_width] * 2, [2, row * len(some) + 6], color=colour("line"), linewidth=1)
        for place, bar in enumerate(some):
            middle, x = 4 + row * place + row / 2, label_width + 1.0
            _write(axes, (label_width - 8, middle), bar.label, "right")
            for amount, tone in bar.parts:
                long = amount / greatest * longest
                if amount:
                    _box(axes, (x, middle - thickness / 2), (max(long - gap, 1), thickness), tone)
                    x += max(long, 1 + gap)
            _write(axes, (x + 5, middle), bar.value, tone="soft")
        return figure

    return draw


def sankey(flow: Flow, said: Callable[[int], str], whole: int) -> Callable[[int], Figure]:
    """A flow whose ribbons are as wide as their amounts; those too thin to be seen are drawn as a hair.

    Args:
        flow: the flow.
        said: an amount in words.
        whole: what shares are of.
    """
    thick, between, longest = 12, 2 * _LINE + 4, 210

    def text(node: Node, width: int) -> str:
        amount = flow.through(node.name)
        return said(amount) if width == PHONE else f"{said(amount)} ({percent(amount, whole)})"

    def draw(width: int) -> Figure:
        layers = flow.layers
        scale = longest / max(sum(flow.through(node.name) for node in layer) for layer in layers)
        heights = [sum(max(flow.through(n.name) * scale, 1) for n in layer) + between * len(layer) for layer in layers]
        head = 2 * _LINE if len(layers) > 2 else 0  # the name of what lies between stands above it
        figure, axes = _canvas(width, head + max(heights) + 4)
        margin = (140, 170) if width > PHONE else (94, 104)
        step = (width - sum(margin) - thick) / (len(layers) - 1)
        tops: dict[str, float] = {}
        for place, layer in enumerate(layers):
            y = head + (max(heights) - heights[place]) / 2 + between / 2 + 2
            for node in layer:
                tops[node.name] = y
                y += max(flow.through(node.name) * scale, 1) + between
        left = {node.name: margin[0] + step * node.layer for layer in layers for node in layer}
        tones = {node.name: node.colour for node in flow.nodes}
        _ribbons(axes, flow, tops, left, scale, thick, tones)
        for place, layer in enumerate(layers):
            for node in layer:
                high = max(flow.through(node.name) * scale, 1)
                _box(axes, (left[node.name], tops[node.name]), (thick, high), node.colour)
                if 0 < place < len(layers) - 1:
                    above = (left[node.name] + thick / 2, tops[node.name] - _LINE)
                    _label(axes, node.name, text(node, width), above, "center")
                else:
                    beside = left[node.name] - 6 if place == 0 else left[node.name] + thick + 6
                    _label(axes, node.name, text(node, width), (beside, tops[node.name] + high / 2), "left" if place else "right")
        return figure

    return draw


def _label(axes: Axes, name: str, amount: str, place: tuple[float, float], side: str) -> None:
    x, middle = place
    over = [{"gid": f"over-{name}-{part}"} if side == "center" else {} for part in ("name", "amount")]
    _write(axes, (x, middle - _LINE / 2), name, side, **over[0])
    _write(axes, (x, middle + _LINE / 2), amount, side, "soft", **over[1])


def _ribbons(
    axes: Axes,
    flow: Flow,
    tops: Mapping[str, float],
    left: Mapping[str, float],
    scale: float,
    thick: float,
    tones: Mapping[str, str],
) -> None:
    leaving, coming = dict(tops), dict(tops)
    order = list(tops)
    for source, to in sorted(flow.links, key=lambda link: (order.index(link[0]), order.index(link[1]))):
        wide = flow.links[source, to] * scale
        begin, end = left[source] + thick, left[to]
        middle, y0, y1 = (begin + end) / 2, leaving[source], coming[to]
        seen = max(wide, 1)
        corners = [(begin, y0), (middle, y0), (middle, y1), (end, y1), (end, y1 + seen)]
        corners += [(middle, y1 + seen), (middle, y0 + seen), (begin, y0 + seen), (begin, y0)]
        codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
        axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour(tones[to]), alpha=0.45, linewidth=0))
        leaving[source] += wide
        coming[to] += wide


def heat(lines: Sequence[tuple[str, Sequence[int]]], heads: Sequence[str]) -> Callable[[int], Figure]:
    """A heat map: a line for each label, a cell for each day with the number of its class; the phone has it turned.

    Args:
        lines: labels, with a class for each day, from 0 (nothing came) to 5 (all of it).
        heads: the days.
    """

    def across(width: int) -> Figure:
        label, high = 230, 24
        wide = (width - label) / len(heads)
        figure, axes = _canvas(width, 22 + high * len(lines))
        for day, head in enumerate(heads):
            _write(axes, (label + wide * (day + 0.5), 10), head, "center", "soft")
        for place, (name, classes) in enumerate(lines):
            y = 22 + high * place
            _write(axes, (label - 8, y + high / 2), name, "right")
            for day, found in enumerate(classes):
                _box(axes, (label + wide * day + 1, y + 1), (wide - 2, high - 2), f"heat{found}")
        return figure

    def down(width: int) -> Figure:
        legend, high, label = _LINE * len(lines) + 12, 18, 28
        wide = min((width - label) / len(lines), 48)
        figure, axes = _canvas(width, legend + 20 + high * len(heads))
        for place, (name, classes) in enumerate(lines):
            _write(axes, (0, 8 + _LINE * place), f"{place + 1}  {name}")
            x = label + wide * place
            _write(axes, (x + wide / 2, legend + 8), str(place + 1), "center", "soft")
            for day, found in enumerate(classes):
                _box(axes, (x + 1, legend + 20 + high * day + 1), (wide - 2, high - 2), f"heat{found}")
        for day, head in enumerate(heads):
            _write(axes, (label - 8, legend + 20 + high * (day + 0.5)), head, "right", "soft")
        return figure

    return lambda width: down(width) if width == PHONE else across(width)
