"""Plots as SVG: points with intervals, joined along the axis where it counts; self-contained, readable without seeing.

Text and axes take the colour of the page (``currentColor``), the series ``--plot-1`` to ``--plot-6`` where a page sets
them; shapes tell the series apart without colour.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from cirbench.support.tables.html import escape
from cirbench.support.tables.svg import name_axis, point_axis, value_axis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirbench.support.tables.model import Number
    from cirbench.support.tables.svg import Axis

# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4")
_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 20, 44, 348
_LINE, _LETTER = 18, 7
_RADIUS, _ASIDE = 4, 7


@dataclasses.dataclass(frozen=True)
class Point:
    """A measured value: where on the x axis, a number or a name, and what with which interval."""

    x: float | str
    y: Number


@dataclasses.dataclass(frozen=True)
class Series:
    """Points that belong together; an empty name is not written."""

    name: str
    points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        title: What it shows.
        x: What the x axis is.
        y: What the y axis is, with its unit.
        series: One or more; positions on the x axis are all numbers, or all names.
        levels: Values to compare with, each a dashed line across with its name.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    levels: tuple[tuple[str, Number], ...] = ()

    def __post_init__(self) -> None:
        if not any(series.points for series in self.series):
            raise ValueError("a plot needs a point")

    @property
    def points(self) -> list[Point]:
        """The points of all series."""
        return [point for series in self.series for point in series.points]

    def in_words(self) -> str:
        """Say every value, for those who cannot see the plot."""
        parts = []
        for series in self.series:
            told = "; ".join(f"{_x_text(point.x)}: {_told(point.y)}" for point in series.points)
            parts.append(f"{series.name}: {told}" if series.name else told)
        parts += [f"{name}: {_told(level)}" for name, level in self.levels]
        return f"{self.y} by {self.x}. {'. '.join(parts)}."


def to_svg(plot: Plot) -> str:
    """Draw a plot as an SVG document of its own, which may also stand inside a page."""
    return "\n".join(_lines(plot)) + "\n"


def _lines(plot: Plot) -> Iterator[str]:
    legend = [series.name for series in plot.series if series.name] if len(plot.series) > 1 else []
    height = _HEIGHT + _LINE * len(legend)
    name = hashlib.sha256(repr(plot).encode(errors="surrogatepass")).hexdigest()[:8]
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="t{name} d{name}" class="cirbench-plot" font-family="system-ui, sans-serif" '
        'font-size="12" fill="currentColor">'
    )
    yield f'<title id="t{name}">{escape(plot.title)}</title>'
    yield f'<desc id="d{name}">{escape(plot.in_words())}</desc>'
    yield f'<text x="{_LEFT}" y="22" font-size="14" font-weight="600">{escape(plot.title)}</text>'
    frame = _frame(plot)
    yield from _y_axis(frame, plot.y)
    yield from _x_axis(frame, plot.x)
    yield from _levels(frame, plot.levels)
    for at, series in enumerate(plot.series):
        aside = _ASIDE * (at - (len(plot.series) - 1) / 2)
        places = sorted(
            ((frame.across(point.x) + aside, point.y) for point in series.points), key=lambda place: place[0]
        )
        yield from _series(at, places, frame)
    for at, text in enumerate(legend):
        yield from _key(at, text)
    yield "</svg>"


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Where values lie on the page, in pixels; ``names`` is ``None`` where the x axis counts."""

    x: Axis
    y: Axis
    names: list[str] | None
    right: int

    def across(self, value: float | str) -> float:
        return self.along(self.x.place(float(value) if self.names is None else self.names.index(str(value))))

    def along(self, place: float) -> float:
        return _LEFT + place * (self.right - _LEFT)

    def up(self, value: float) -> float:
        return _BOTTOM - self.y.place(value) * (_BOTTOM - _TOP)


def _frame(plot: Plot) -> _Frame:
    numbers = [*(point.y for point in plot.points), *(level for _, level in plot.levels)]
    y_axis = value_axis([end for number in numbers for end in (number.value, *(number.ends or ()))])
    margin = _RIGHT + _LETTER * max((len(name) for name, _ in plot.levels), default=0)
    right = _WIDTH - min(margin, _WIDTH // 3)
    counted = [point.x for point in plot.points if isinstance(point.x, (int, float))]
    if len(counted) == len(plot.points):
        return _Frame(point_axis(counted), y_axis, None, right)
    names = [*dict.fromkeys(str(point.x) for point in plot.points)]
    return _Frame(name_axis(names), y_axis, names, right)


def _y_axis(frame: _Frame, label: str) -> Iterator[str]:
    for tick in frame.y.ticks:
        y = _BOTTOM - tick.place * (_BOTTOM - _TOP)
        yield (
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{frame.right}" y2="{y:.1f}" stroke="currentColor" '
            'stroke-opacity="0.15"/>'
        )
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(tick.text)}</text>'
    middle = (_TOP + _BOTTOM) // 2
    yield f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">{escape(label)}</text>'


def _x_axis(frame: _Frame, label: str) -> Iterator[str]:
    yield f'<line x1="{_LEFT}" y1="{_BOTTOM}" x2="{frame.right}" y2="{_BOTTOM}" stroke="currentColor"/>'
    for tick in frame.x.ticks:
        x = frame.along(tick.place)
        yield f'<line x1="{x:.1f}" y1="{_BOTTOM}" x2="{x:.1f}" y2="{_BOTTOM + 5}" stroke="currentColor"/>'
        yield f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{escape(tick.text)}</text>'
    yield f'<text x="{frame.along(0.5):.1f}" y="{_BOTTOM + 38}" text-anchor="middle">{escape(label)}</text>'


def _levels(frame: _Frame, levels: tuple[tuple[str, Number], ...]) -> Iterator[str]:
    """Dashed lines across, each named at its right end; names that would touch are moved apart."""
    last = float("-inf")
    for name, level in sorted(levels, key=lambda named: -named[1].value):
        y = frame.up(level.value)
        last = max(y + 4, last + _LINE - 4)
        yield (
            f'<line class="level" x1="{_LEFT}" y1="{y:.1f}" x2="{frame.right}" y2="{y:.1f}" stroke="currentColor" '
            'stroke-dasharray="5 4" stroke-opacity="0.6"/>'
        )
        yield f'<text x="{frame.right + 6}" y="{last:.1f}">{escape(name)}</text>'


def _series(at: int, places: list[tuple[float, Number]], frame: _Frame) -> Iterator[str]:
    colour = _colour(at)
    yield f'<g class="series" stroke="{colour}" fill="{colour}" stroke-width="1.5">'
    if frame.names is None and len(places) > 1:
        path = " ".join(f"{x:.1f},{frame.up(number.value):.1f}" for x, number in places)
        yield f'<polyline points="{path}" fill="none" stroke-dasharray="{_DASHES[at % len(_DASHES)]}"/>'
    for x, number in places:
        yield f"<g><title>{escape(str(number))}</title>"
        if number.ends is not None:
            low, high = map(frame.up, number.ends)
            caps = f"M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
            yield f'<path class="interval" d="M{x:.1f} {low:.1f}V{high:.1f}{caps}"/>'
        yield f"{_marker(at, x, frame.up(number.value))}</g>"
    yield "</g>"


def _key(at: int, text: str) -> Iterator[str]:
    y = _HEIGHT + _LINE * at + 4
    colour = _colour(at)
    yield f'<g stroke="{colour}" fill="{colour}">{_marker(at, _LEFT + 6, y - 4)}</g>'
    yield f'<text x="{_LEFT + 18}" y="{y}">{escape(text)}</text>'


def _marker(at: int, x: float, y: float) -> str:
    """A circle, square, triangle or diamond."""
    r = _RADIUS
    paths = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - r:.1f}l{r} {2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z",
    )
    return f'<path class="marker" d="{paths[at % len(paths)]}"/>'


def _colour(at: int) -> str:
    place = at % len(_COLOURS)
    return f"var(--plot-{place + 1}, {_COLOURS[place]})"


def _told(number: Number) -> str:
    return number.text if number.ends_text is None else f"{number.text} ({' to '.join(number.ends_text)})"


def _x_text(x: float | str) -> str:
    return x if isinstance(x, str) else f"{x:g}"
