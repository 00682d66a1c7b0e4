"""Charts as inline SVG. Colours are classes ``s0`` ... ``s8`` of the page's style sheet, which knows both schemes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from searchrl.evaluation.report.markup import Markup, element, join

COLOURS = 9
LINE = 15.0
"""Height of a line of text."""
LABEL = 100.0
"""Room for a method's name."""


@dataclass(frozen=True)
class Point:
    """One method in a chart: its mean with a 95% interval (NaN: none)."""

    name: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Frame:
    """Maps data to pixels and draws the axes."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 720.0
    height: float = 340.0
    left: float = 60.0
    right: float = 150.0
    top: float = 12.0
    bottom: float = 46.0

    def px(self, x: float) -> float:
        """Pixels from the left."""
        low, high = self.x
        return self.left + (x - low) / (high - low) * (self.width - self.left - self.right)

    def py(self, y: float) -> float:
        """Pixels from the top."""
        low, high = self.y
        return self.height - self.bottom - (y - low) / (high - low) * (self.height - self.top - self.bottom)

    def axes(self, x_label: str, y_label: str) -> Markup:
        """Grid, ticks and labels."""
        left, right, foot = self.left, self.width - self.right, self.height - self.bottom
        parts = []
        for tick in ticks(*self.y):
            y = self.py(tick)
            parts.append(element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
            parts.append(element("text", f"{tick:g}", x=left - 8, y=y + 4, text_anchor="end"))
        for tick in ticks(*self.x):
            x = self.px(tick)
            parts.append(element("line", class_="grid", x1=x, x2=x, y1=self.top, y2=foot))
            parts.append(element("text", f"{tick:,g}", x=x, y=foot + 18, text_anchor="middle"))
        parts.append(element("text", x_label, x=(left + right) / 2, y=self.height - 8, text_anchor="middle"))
        middle = (self.top + foot) / 2
        turned = f"rotate(-90 14 {middle:.1f})"
        parts.append(element("text", y_label, x=14.0, y=middle, text_anchor="middle", transform=turned))
        return join(*parts)


def svg(title: str, width: float, height: float, *content: str) -> Markup:
    """Wrap a drawing; ``title`` is what a screen reader says."""
    box = f"0 0 {width:.0f} {height:.0f}"
    attributes = {"viewBox": box, "width": f"{width:.0f}", "height": f"{height:.0f}", "role": "img"}
    return element("svg", element("title", title), *content, **attributes)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers within a range, about ``count`` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def extent(values: Iterable[float], margin: float = 0.06, least: float = 0.02) -> tuple[float, float]:
    """Lowest and highest of the finite values with some room around; never an empty range."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = max((high - low) * margin, least / 2)
    return low - room, high + room


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str) -> Markup:
    """One labelled point a method with its interval as a whisker; x from 0."""
    widest = max((p.x for p in points), default=1.0) or 1.0
    frame = Frame((0.0, widest * 1.05), extent(v for p in points for v in (p.y, p.low, p.high)))
    marks, names = [], []
    for i, (p, at) in enumerate(zip(points, _label_heights(points, frame), strict=True)):
        x, y, colour = frame.px(p.x), frame.py(p.y), f"s{i % COLOURS}"
        if math.isfinite(p.low):
            low, high = frame.py(p.low), frame.py(p.high)
            marks.append(element("line", class_=f"{colour} whisker", x1=x, x2=x, y1=low, y2=high))
        marks.append(element("circle", class_=colour, cx=x, cy=y, r=5.0))
        names.append(element("line", class_="leader", x1=x + 5, y1=y, x2=x + 14, y2=at))
        names.append(element("text", p.name, class_=f"{colour} name", x=x + 17, y=at + 4))
    return svg(title, frame.width, frame.height, frame.axes(x_label, y_label), *marks, *names)


def _label_heights(points: Sequence[Point], frame: Frame) -> list[float]:
    """Pixels from the top for each label, so that no two lie upon each other."""
    order = sorted(range(len(points)), key=lambda i: frame.py(points[i].y))
    heights = [frame.py(p.y) for p in points]
    floor = frame.height - frame.bottom

    def near(i: int, others: Sequence[int]) -> list[float]:
        return [heights[j] for j in others if abs(frame.px(points[i].x) - frame.px(points[j].x)) < LABEL]

    for place, i in enumerate(order):  # downwards, then back up from the axis
        heights[i] = max([heights[i], *(h + LINE for h in near(i, order[:place]))])
    for place, i in reversed(list(enumerate(order))):
        heights[i] = min([heights[i], floor, *(h - LINE for h in near(i, order[place + 1 :]))])
    return heights


def intervals(title: str, points: Sequence[Point], label: str) -> Markup:
    """One row a method: mean (the points' ``y``) and 95% interval."""
    left, right, row = 120.0, 20.0, 24.0
    height = row * len(points) + 46.0
    frame = Frame(extent(v for p in points for v in (p.y, p.low, p.high)), (0.0, 1.0), 720.0, height, left, right, 4.0)
    parts = []
    for tick in ticks(*frame.x):
        x = frame.px(tick)
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=4.0, y2=height - 40))
        parts.append(element("text", f"{tick:g}", x=x, y=height - 26, text_anchor="middle"))
    for i, p in enumerate(points):
        y, colour = 16.0 + row * i, f"s{i % COLOURS}"
        parts.append(element("text", p.name, x=left - 10, y=y + 4, text_anchor="end"))
        if math.isfinite(p.low):
            parts.append(
                element("line", class_=f"{colour} whisker", x1=frame.px(p.low), x2=frame.px(p.high), y1=y, y2=y)
            )
        parts.append(element("circle", class_=colour, cx=frame.px(p.y), cy=y, r=5.0))
    parts.append(element("text", label, x=(left + 720.0 - right) / 2, y=height - 6, text_anchor="middle"))
    return svg(title, 720.0, height, *parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> Markup:
    """Curves of (x, y) points, a legend at the right; points that are not finite are left out."""
    finite = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    everything = [point for points in finite.values() for point in points]
    widest = max((x for x, _ in everything), default=1.0) or 1.0
    frame = Frame((0.0, widest), extent(y for _, y in everything))
    parts = []
    for i, (name, points) in enumerate(finite.items()):
        path = " ".join(f"{frame.px(x):.1f},{frame.py(y):.1f}" for x, y in points)
        colour, y = f"s{i % COLOURS}", frame.top + 10 + i * 20
        parts.append(element("polyline", class_=f"{colour} curve dash{i % 4}", points=path))
        if len(points) == 1:
            parts.append(element("circle", class_=colour, cx=frame.px(points[0][0]), cy=frame.py(points[0][1]), r=3.0))
        x = frame.width - frame.right + 12
        parts.append(element("line", class_=f"{colour} curve dash{i % 4}", x1=x, x2=x + 24, y1=y, y2=y))
        parts.append(element("text", name, x=x + 30, y=y + 4))
    return svg(title, frame.width, frame.height, frame.axes(x_label, y_label), *parts)


def bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[float]], y_label: str) -> Markup:
    """Groups of bars from 0 to 1, one bar a series; no bar where there is no value (NaN)."""
    frame = Frame((0.0, float(len(groups))), (0.0, 1.0), height=300.0)
    width = (frame.px(1.0) - frame.px(0.0)) * 0.8 / max(len(series), 1)
    parts = []
    for tick in ticks(*frame.y):
        y = frame.py(tick)
        parts.append(element("line", class_="grid", x1=frame.left, x2=frame.width - frame.right, y1=y, y2=y))
        parts.append(element("text", f"{tick:g}", x=frame.left - 8, y=y + 4, text_anchor="end"))
    for i, (name, values) in enumerate(series.items()):
        colour = f"s{i % COLOURS}"
        for g, value in enumerate(values):
            if math.isfinite(value):
                x, y = frame.px(g + 0.1) + i * width, frame.py(value)
                tip = element("title", f"{name}, {groups[g]}: {value:.4f}")
                size = {"x": x, "y": y, "width": width * 0.92, "height": frame.py(0.0) - y}
                parts.append(element("rect", tip, class_=colour, **size))
        x, y = frame.width - frame.right + 12, frame.top + i * 20
        parts.append(element("rect", class_=colour, x=x, y=y, width=12.0, height=12.0))
        parts.append(element("text", name, x=x + 18, y=y + 11))
    for g, group in enumerate(groups):
        parts.append(element("text", group, x=frame.px(g + 0.5), y=frame.height - 26, text_anchor="middle"))
    turned = f"rotate(-90 14 {frame.height / 2:.1f})"
    parts.append(element("text", y_label, x=14.0, y=frame.height / 2, text_anchor="middle", transform=turned))
    return svg(title, frame.width, frame.height, *parts)


def shares(title: str, counts: Sequence[int], classes: Sequence[str]) -> Markup:
    """One small bar divided in proportion."""
    width, total, at, parts = 60.0, max(sum(counts), 1), 0.0, []
    for count, name in zip(counts, classes, strict=True):
        part = width * count / total
        parts.append(element("rect", class_=name, x=at, y=0.0, width=part, height=12.0))
        at += part
    return svg(title, width, 12.0, *parts)
