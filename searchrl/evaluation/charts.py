"""The report's drawings, by matplotlib: as SVG whose colours are the page's own, light or dark, and as PNG files.

A figure is drawn in the light colours below; ``svg`` puts the page's CSS variables in their place. No element keeps a
style of its own, which the page's content security policy would forbid.
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from searchrl.env.tree import ROOT, Action, Tree
from searchrl.evaluation.comparison import BIN_RULES, BINS, ComparisonTable, DifficultyTable
from searchrl.evaluation.report_data import visits
from searchrl.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, LINE, TIE = "#1c2024", "#d8dde3", "#b4bcc5"
SERIES = ("#5b6570", "#8a6d3b", "#b4690e", "#0072b2", "#56a0d3", "#8e8e93", "#7b4fa3", "#d1495b", "#1a7f4b")
VARIABLES = {INK: "ink", LINE: "line", TIE: "tie"} | {colour: f"c{i}" for i, colour in enumerate(SERIES)}
"""Colour -> the variable in page.css that stands for it in both schemes."""
ACTIONS = (SERIES[0], SERIES[3], SERIES[2], TIE)
"""By action id."""
MARKERS = "osD^vPX*h"
DASHES: tuple[Any, ...] = ("-", (0, (6, 3)), (0, (2, 3)), (0, (8, 3, 2, 3)))
WIDTH = 720.0
"""Pixels; a figure has 72 of them an inch."""
PRESENTATION = {"fill", "fill-opacity", "opacity", "stroke", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap"}
PRESENTATION |= {"stroke-linejoin", "stroke-opacity", "stroke-width", "text-anchor"}
PAID = ("searches", "LM calls")
QUALITY_COST_FILE = "quality_cost.png"
DIFFICULTY_FILE = "difficulty.png"
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 12,
    "grid.color": LINE,
    "legend.frameon": False,
    "lines.markersize": 7,
    "text.color": INK,
    "text.parse_math": False,  # names are text, whatever they hold
    "xtick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.color": LINE,
    "ytick.labelcolor": INK,
}
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Point:
    """One method or setting: its mean quality, a 95% interval of it (NaN: none), and mean costs by name."""

    name: str
    quality: float
    low: float
    high: float
    costs: Mapping[str, float]


def _drawn(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Have a function draw in ``STYLE``, whatever the user's own matplotlib settings are."""

    @functools.wraps(draw)
    def drawn(*given: Arguments.args, **named: Arguments.kwargs) -> Figure:
        from matplotlib import rc_context, rcParamsDefault

        settings: dict[Any, Any] = {k: v for k, v in rcParamsDefault.items() if not k.startswith("backend")}
        with rc_context(settings | STYLE):
            return draw(*given, **named)

    return drawn


def points(table: ComparisonTable) -> list[Point]:
    """The methods of a table."""
    return [Point(m.name, m.means[table.measure], *table.intervals[m.name], m.costs) for m in table.methods]


def paid(shown: Sequence[Point]) -> list[str]:
    """Those of the costs in ``PAID`` that some point has."""
    return [cost for cost in PAID if any(point.costs[cost] > 0 for point in shown)]


@_drawn
def intervals(shown: Sequence[Point], label: str) -> Figure:
    """One row a point: mean and interval."""
    figure = _figure(26.0 * len(shown) + 60.0)
    axes = figure.subplots()
    for row, (point, colour, marker) in enumerate(_styled(shown)):
        axes.plot([point.low, point.high], [row, row], color=colour, linewidth=2, alpha=0.6)
        axes.plot([point.quality], [row], marker, color=colour)
    axes.set_yticks(range(len(shown)), [point.name for point in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    return figure


@_drawn
def quality_cost(shown: Sequence[Point], costs: Sequence[str], label: str) -> Figure:
    """A panel a cost, one labelled point a method with its interval as a whisker; costs from 0."""
    figure = _figure(330.0)
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, cost in zip(panels, costs, strict=True):
        for point, colour, marker in _styled(shown):
            x = point.costs[cost]
            axes.plot([x, x], [point.low, point.high], color=colour, linewidth=2, alpha=0.6)
            axes.plot([x], [point.quality], marker, color=colour, label=point.name)
        axes.set_xlabel(f"{cost} per query")
        axes.set_xlim(left=0, right=max(point.costs[cost] for point in shown) * 1.05 or 1.0)
    panels[0].set_ylabel(label)
    return _with_legend(figure, panels[0])


@_drawn
def difficulty(table: DifficultyTable, label: str) -> Figure:
    """A group of bars for each bin, one bar a method."""
    figure = _figure(320.0)
    axes = figure.subplots()
    width = 0.8 / len(table.means)
    for i, (name, values) in enumerate(table.means.items()):
        places = [group + (i - len(table.means) / 2 + 0.5) * width for group in range(len(BINS))]
        axes.bar(places, np.nan_to_num(values), width * 0.92, label=name, color=SERIES[i % len(SERIES)])
    labels = [f"{name} {rule}\n{n} queries" for name, rule, n in zip(BINS, BIN_RULES, table.counts, strict=True)]
    axes.set_xticks(range(len(BINS)), labels)
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 1.02), ylabel=label)
    return _with_legend(figure, axes)


@_drawn
def lines(series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> Figure:
    """Curves of (x, y) points; points that are not finite are left out."""
    figure = _figure(300.0)
    axes = figure.subplots()
    for i, (name, given) in enumerate(series.items()):
        finite = [(x, y) for x, y in given if math.isfinite(y)]
        x, y = zip(*finite, strict=True) if finite else ((), ())
        marker = "o" if len(finite) == 1 else ""
        axes.plot(x, y, color=SERIES[i % len(SERIES)], linestyle=DASHES[i % 4], marker=marker, label=name)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_xlim(left=0)
    return _with_legend(figure, axes)


@_drawn
def action_tree(tree: Tree, ends: NDArray[np.int64], gains: NDArray[np.float64]) -> Figure:
    """The states that were visited, each branch as wide as it is often taken, and the mean gain at each end.

    ends: (n,) states in which episodes ended. gains: (n,) their differences from the single pass.
    """
    drawing = _ActionTree(tree, ends, gains)
    drawing.place(ROOT, 0)
    figure = _figure(drawing.rows * 34.0 + 10.0, 40.0 + drawing.depth * drawing.column + 280.0, layout="none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, figure.get_figwidth() * 72), ylim=(figure.get_figheight() * 72, 0))
    axes.set_axis_off()
    drawing.draw(axes)
    return figure


def svg(figure: Figure, title: str) -> Markup:
    """The drawing as an SVG element for the page; ``title`` is what a screen reader says. Same figure, same text."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True)
    drawn = ElementTree.fromstring(buffer.getvalue())
    _, _, width, height = str(drawn.get("viewBox")).split()
    root = ElementTree.Element("svg", {"viewBox": f"0 0 {width} {height}", "width": width, "height": height})
    root.set("role", "img")
    ElementTree.SubElement(root, "title").text = title
    root.extend(_plain(child) for child in drawn if _name(child.tag) not in ("metadata", "defs"))
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def write_pictures(folder: Path, table: ComparisonTable) -> None:
    """PNG plots beside the report, for papers and slides: quality against cost, and difficulty.

    Each file appears whole or not at all. Raises OutputError when the place cannot be written.
    """
    shown = points(table)
    costs = paid(shown)
    figures = {QUALITY_COST_FILE: quality_cost(shown, costs, table.measure)} if costs else {}
    if table.difficulty is not None:
        figures[DIFFICULTY_FILE] = difficulty(table.difficulty, table.measure)
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=144, facecolor="white")
        write_bytes(folder / name, picture.getvalue())


class _ActionTree:
    """Lays the tree out from left to right, ends in rows of their own; ``place`` first, then ``draw``."""

    column = 130.0
    widest = 16.0
    """Stroke of the branch that every episode takes."""

    def __init__(self, tree: Tree, ends: NDArray[np.int64], gains: NDArray[np.float64]) -> None:
        self.tree, self.ends, self.gains = tree, tree.state[ends].astype(np.int64), gains
        self.visits = visits(tree, self.ends)
        self.rows = 0
        self.depth = 0
        self.branches: list[tuple[tuple[float, float], tuple[float, float], int, int | None]] = []
        self.states: list[tuple[float, float]] = []
        self.stops: list[tuple[float, float, str]] = []

    def place(self, node: int, depth: int) -> float:
        """Lay out a state and what follows; returns its height."""
        self.depth = max(self.depth, depth)
        x = 20.0 + depth * self.column
        following = [int(child) for child in self.tree.children[node] if child >= 0 and self.visits[child]]
        below = [(child, self.place(child, depth + 1)) for child in following]
        heights = [y for _, y in below]
        stopped = self.ends == node
        if stopped.any():
            self.rows += 1
            heights.append(self.rows * 34.0 - 12.0)
            how = "step limit" if self.tree.step[node] >= self.tree.max_steps else "terminate"
            share, gain = stopped.sum() / len(self.ends), self.gains[stopped].mean()
            self.stops.append((x + 41.0, heights[-1], f"{how} {share:.0%} ({stopped.sum()}), gain {gain:+.4f}"))
        y = sum(heights) / len(heights)
        for child, child_y in below:
            to = (x + self.column, child_y)
            self.branches.append(((x, y), to, int(self.visits[child]), self.tree.states[child].action))
        if stopped.any():
            self.branches.append(((x, y), (x + 40.0, heights[-1]), int(stopped.sum()), None))
        self.states.append((x, y))
        return y

    def draw(self, axes: Axes) -> None:
        """Put everything on axes whose units are pixels, y downwards."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path as Curve

        bend = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
        for (x, y), (to_x, to_y), count, action in self.branches:
            middle, share = (x + to_x) / 2, count / len(self.ends)
            curve = Curve([(x, y), (middle, y), (middle, to_y), (to_x, to_y)], bend)
            colour = ACTIONS[Action.TERMINATE if action is None else action]
            width = max(self.widest * share, 1.0)
            axes.add_patch(
                PathPatch(curve, fill=False, edgecolor=colour, linewidth=width, alpha=0.55, capstyle="round")
            )
            if action is not None:
                label = f"{Action(action).name.lower()} {share:.0%}"
                axes.text(to_x - 10, to_y - 11, label, ha="right")
        axes.plot(*zip(*self.states, strict=True), "o", color=INK, markersize=9, linestyle="none")
        for x, y, label in self.stops:
            axes.plot([x], [y], "s", color=INK, markersize=9)
            axes.text(x + 11, y + 4, label)


def _figure(height: float, width: float = WIDTH, layout: Any = "constrained") -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)
    if layout == "constrained":
        figure.set_layout_engine("constrained", w_pad=0.12)
    return figure


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    """The same with a legend of these axes at the right."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _styled(shown: Sequence[Point]) -> list[tuple[Point, str, str]]:
    """Each point with a colour and a marker of its own."""
    return [(p, SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]) for i, p in enumerate(shown)]


def _plain(drawn: ElementTree.Element, within: str = "") -> ElementTree.Element:
    """matplotlib's element as the page may have it: attributes for styles, variables for colours, no needless ids."""
    plain = ElementTree.Element(_name(drawn.tag))
    attributes = {_name(key): value for key, value in drawn.attrib.items()}
    for declaration in attributes.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in PRESENTATION:
            attributes[key] = f"var(--{VARIABLES[value]})" if value in VARIABLES else value
    for key, value in attributes.items():
        if key != "clip-path" and (key != "id" or within == "defs"):
            plain.set(key, re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value))
    plain.text, plain.tail = drawn.text and drawn.text.strip(), None
    plain.extend(_plain(child, _name(drawn.tag)) for child in drawn if isinstance(child.tag, str))
    return plain


def _name(tag: str) -> str:
    """A tag or attribute without its namespace."""
    return tag.rpartition("}")[2]
