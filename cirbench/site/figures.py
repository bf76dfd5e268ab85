"""The pictures of the site: numbers with their intervals row by row, and numbers against a quantity."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from markupsafe import Markup

from cirbench.site.drawing import SHAPES, group, label, line, mark, path, picture, short
from cirbench.tables.axes import value_axis
from cirbench.tables.plot import Plot, Point, Series, to_svg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.tables import Number

_WIDTH = 640
_LEFT, _RIGHT = 222.0, 566.0
_ROW, _APART = 13.0, 8.0
_INDENT, _KEY, _LETTER = 6.0, 20.0, 7.0


@dataclasses.dataclass(frozen=True)
class Dot:
    """A number in percent with its interval.

    Attributes:
        number: The number.
        series: Which of the series it belongs to, from 0.
        measured: Whether the number and its interval were measured query by query; else they are drawn hollow.
    """

    number: Number
    series: int = 0
    measured: bool = True

    @property
    def ends(self) -> tuple[float, ...]:
        """What must fit into the picture."""
        return (self.number.value, *(self.number.ends or ()))


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of a picture: a heading without dots, or a label with some; ``note`` stands at its end."""

    label: str
    dots: tuple[Dot, ...] = ()
    note: str = ""


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
    axis = value_axis([0.0, *(end for row in lines for dot in row.dots for end in dot.ends)])

    def x(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * axis.place(value)

    keys, rows_of_keys = _legend(series) if len(series) > 1 else ([], 0)
    parts = [label(0, 16, title, class_="title"), *keys]
    top = 58.0 + _KEY * rows_of_keys
    height = _ROW + _APART * len(series)
    bottom = top + height * len(lines) + 4
    for tick in axis.ticks:
        at = _LEFT + (_RIGHT - _LEFT) * tick.place
        parts.append(line(at, top - 4, at, bottom, "grid"))
        parts.append(label(at, top - 9, tick.text, anchor="middle", class_="quiet"))
    for place, row in enumerate(lines):
        y = top + height * (place + 0.5)
        if not row.dots:
            parts.append(label(0, y + 5, row.label, class_="heading"))
            continue
        parts.append(label(_LEFT - 14, y + 4, short(row.label, 32), anchor="end"))
        for dot in row.dots:
            parts.append(_dot(dot, x, y + _APART * (dot.series - (len(series) - 1) / 2), row.label))
        parts.append(label(_WIDTH, y + 4, row.note, anchor="end", class_="quiet"))
    said = "; ".join(f"{row.label} {', '.join(str(dot.number) for dot in row.dots)}" for row in lines if row.dots)
    drawing = picture(parts, width=_WIDTH, height=round(bottom + 6), title=title, text=f"{unit}. {said}.")
    return Figure(drawing, title, text)


def curves_figure(
    curves: Sequence[tuple[str, Sequence[tuple[float, Number]]]], *, title: str, across: str, up: str, text: str
) -> Figure:
    """Draw numbers with their intervals against a quantity.

    Args:
        curves: The name and the points of each.
        title: Of the picture.
        across: The quantity, with its unit.
        up: The numbers, with their unit.
        text: What it shows.
    """
    series = tuple(Series(name, tuple(Point(at, number) for at, number in points)) for name, points in curves)
    return Figure(Markup(to_svg(Plot(title, across, up, series))), title, text)


def _dot(dot: Dot, x: Callable[[float], float], y: float, name: str) -> Markup:
    """Draw one number: its interval where it has one, and its mark."""
    parts = [path([(x(end), y) for end in dot.number.ends], "whisker")] if dot.number.ends else []
    parts.append(mark(SHAPES[dot.series % len(SHAPES)], x(dot.number.value), y, f"{name}: {dot.number}"))
    return group(parts, class_=f"series{dot.series + 1}{'' if dot.measured else ' hollow'}")


def _legend(series: Sequence[str]) -> tuple[list[Markup], int]:
    """Name the series, side by side as far as there is room; return that and on how many lines."""
    parts, x, row = [], _INDENT, 0
    for number, name in enumerate(series):
        shown = short(name, 40)
        width = 26 + _LETTER * len(shown)
        if x > _INDENT and x + width > _WIDTH:
            x, row = _INDENT, row + 1
        y = 36 + _KEY * row
        key = group([mark(SHAPES[number % len(SHAPES)], x, y, name)], class_=f"series{number + 1}")
        parts += [key, label(x + 10, y + 4, shown)]
        x += width
    return parts, row + 1
