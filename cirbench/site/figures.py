"""The two pictures of the site: numbers with their intervals row by row, and numbers against a quantity."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

from cirbench.site.drawing import SHAPES, group, label, line, mark, path, picture, short, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup

_WIDTH = 760
_ROW = 19.0


@dataclasses.dataclass(frozen=True)
class Dot:
    """A number in percent with its interval.

    Attributes:
        value: The number.
        low: Lower end of its interval, or ``None``.
        high: Upper end.
        series: Which of the series it belongs to, from 0.
        measured: Whether the number and its interval were measured query by query; else they are drawn hollow.
    """

    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0
    measured: bool = True

    @property
    def ends(self) -> tuple[float, ...]:
        """What must fit into the picture."""
        return (self.value,) if self.low is None or self.high is None else (self.low, self.value, self.high)

    @property
    def text(self) -> str:
        """The number with its interval."""
        return f"{self.value:.2f}" + ("" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]")


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of a picture: a heading without dots, or a label with some; ``note`` stands at its end."""

    label: str
    dots: tuple[Dot, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Numbers against a quantity, in its order."""

    label: str
    points: tuple[tuple[float, Dot], ...]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture with its title, and what it shows in words."""

    drawing: Markup
    title: str
    text: str


def rows_figure(lines: Sequence[Line], series: Sequence[str], *, title: str, unit: str, text: str) -> Figure:
    """Draw dots with whiskers, one row each.

    Args:
        lines: Rows and headings; at least one has a dot.
        series: What each series is called; a legend names them if there are several.
        title: Of the picture.
        unit: What the numbers are.
        text: What it shows.
    """
    left, right = 250.0, _WIDTH - 64.0
    ends = [end for row in lines for dot in row.dots for end in dot.ends]
    ticks = steps(min(0.0, *ends) if min(ends) < 5 else min(ends), max(ends))
    x = _scale(ticks[0], ticks[-1], left, right)
    parts = _legend(series) if len(series) > 1 else []
    top = 34.0 + (22.0 if parts else 0.0)
    bottom = top + _ROW * len(lines) + 4
    for tick in ticks:
        parts += [
            line(x(tick), top - 4, x(tick), bottom, "grid"),
            label(x(tick), top - 9, f"{tick:g}", anchor="middle", class_="quiet"),
        ]
    for place, row in enumerate(lines):
        y = top + _ROW * (place + 0.5)
        if not row.dots:
            parts.append(label(0, y + 5, row.label, class_="heading"))
            continue
        parts.append(label(left - 14, y + 4, short(row.label, 38), anchor="end"))
        parts += [_dot(dot, x(dot.value), y, row.label, [(x(end), y) for end in dot.ends[::2]]) for dot in row.dots]
        parts.append(label(_WIDTH, y + 4, row.note, anchor="end", class_="quiet"))
    said = "; ".join(f"{row.label} {', '.join(dot.text for dot in row.dots)}" for row in lines if row.dots)
    drawing = picture(parts, width=_WIDTH, height=round(bottom + 6), title=title, text=f"{unit}. {said}.")
    return Figure(drawing, title, text)


def curves_figure(curves: Sequence[Curve], *, title: str, across: str, up: str, text: str, log: bool = False) -> Figure:
    """Draw curves with whiskers, each with its label where it ends.

    Args:
        curves: At least one, each with a point.
        title: Of the picture.
        across: The quantity, with its unit.
        up: The numbers, with their unit.
        text: What it shows.
        log: Whether the quantity is drawn by its logarithm.
    """
    left, right, top, bottom = 44.0, _WIDTH - 220.0, 34.0, 300.0
    bend: Callable[[float], float] = math.log if log else float
    places = sorted({place for curve in curves for place, _ in curve.points})
    ends = [end for curve in curves for _, dot in curve.points for end in dot.ends]
    ticks = steps(min(ends), max(ends))
    y = _scale(ticks[0], ticks[-1], bottom, top)
    margin = 0.04 * ((bend(places[-1]) - bend(places[0])) or 1.0)
    straight = _scale(bend(places[0]) - margin, bend(places[-1]) + margin, left, right)
    parts = [label(0, 14, up, class_="quiet"), label(right, bottom + 38, across, anchor="end", class_="quiet")]
    for tick in ticks:
        parts += [
            line(left, y(tick), right, y(tick), "grid"),
            label(left - 8, y(tick) + 4, f"{tick:g}", anchor="end", class_="quiet"),
        ]
    parts += [label(straight(bend(at)), bottom + 18, f"{at:.4g}", anchor="middle", class_="quiet") for at in places]
    heights = _apart([y(curve.points[-1][1].value) for curve in curves])
    for number, (curve, height) in enumerate(zip(curves, heights, strict=True)):
        drawn = [(straight(bend(at)), dot) for at, dot in curve.points]
        inside = [path([(across_, y(dot.value)) for across_, dot in drawn], "line")]
        for (at, _), (across_, dot) in zip(curve.points, drawn, strict=True):
            marked = dataclasses.replace(dot, series=number)
            whisker = [(across_, y(end)) for end in dot.ends[::2]]
            inside.append(_dot(marked, across_, y(dot.value), f"{curve.label} at {at:g}", whisker))
        last, lowered = drawn[-1][0], y(drawn[-1][1].value)
        inside.append(line(last + 7, lowered, right + 8, height, "rule"))
        inside.append(label(right + 12, height + 4, short(curve.label, 34)))
        parts.append(group(inside, class_=f"dash{number % 4}"))
    said = "; ".join(
        f"{curve.label}: {', '.join(f'{dot.text} at {at:g}' for at, dot in curve.points)}" for curve in curves
    )
    drawing = picture(parts, width=_WIDTH, height=346, title=title, text=f"{up} against {across}. {said}.")
    return Figure(drawing, title, text)


def _dot(dot: Dot, x: float, y: float, name: str, whisker: Sequence[tuple[float, float]]) -> Markup:
    """Draw one number: its interval where it has one, and its mark."""
    parts = [path(whisker, "whisker")] if len(whisker) == 2 else []
    parts.append(mark(SHAPES[dot.series % len(SHAPES)], x, y, f"{name}: {dot.text}"))
    return group(parts, class_=None if dot.measured else "hollow")


def _legend(series: Sequence[str]) -> list[Markup]:
    parts, x = [], 6.0
    for number, name in enumerate(series):
        shown = short(name, 30)
        parts += [mark(SHAPES[number % len(SHAPES)], x, 10, name), label(x + 10, 14, shown)]
        x += 26 + 6.6 * len(shown)
    return parts


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _apart(heights: Sequence[float]) -> list[float]:
    """Move labels down until none covers another."""
    placed = list(heights)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    for above, below in itertools.pairwise(order):
        placed[below] = max(placed[below], placed[above] + 15)
    return placed
