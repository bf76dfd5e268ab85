"""SVG as text: escaped elements with a text alternative, axes with readable ticks, and plots made of both.

In a plot, text and axes take the colour of the page (``currentColor``), the series ``--plot-1`` to ``--plot-6`` where a
page sets them; shapes tell the series apart without colour.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from cirbench.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cirbench.support.tables import Number

SHAPES = ("circle", "square", "triangle", "diamond")
"""Series are told apart by shape and by line, never by colour alone."""


def element(name: str, *inside: str, **attributes: object) -> Markup:
    """Write one element; ``class_`` becomes ``class``, other underscores hyphens, and ``None`` leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(part if isinstance(part, Markup) else escape(visible(part)) for part in inside)
    return Markup(f"<{name}{written}>{content}</{name}>" if inside else f"<{name}{written}/>")


def group(parts: Iterable[Markup], **attributes: object) -> Markup:
    """Write a ``<g>``."""
    return element("g", *parts, **attributes)


def picture(parts: Iterable[Markup], *, width: int, height: int, title: str, text: str) -> Markup:
    """Write a whole ``<svg>`` that scales with the page and says in words what it shows."""
    return element(
        "svg",
        element("title", title),
        element("desc", text),
        *parts,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
    )


def label(x: float, y: float, text: str, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """Write a text, its baseline at ``y``."""
    return element("text", text, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Draw a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Draw a line through points."""
    return element("polyline", points=_points(points), class_=class_)


def mark(shape: str, x: float, y: float, hint: str) -> Markup:
    """Draw a mark of about nine pixels; ``hint`` is what it says under the pointer."""
    if shape == "circle":
        return element("circle", element("title", hint), cx=x, cy=y, r=4.2, class_=f"mark {shape}")
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "diamond": ((0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)),
        "triangle": ((0, -5.2), (5, 4), (-5, 4)),
    }[shape]
    points = _points([(x + dx, y + dy) for dx, dy in corners])
    return element("polygon", element("title", hint), points=points, class_=f"mark {shape}")


def short(text: str, most: int) -> str:
    """Cut a text to at most so many characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_plain(x)},{_plain(y)}" for x, y in points)


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


_NOTHING = 1e-9
"""Values that differ by less, as a share of their size, are one value to the eye."""

_DECADES = 10
"""From this ratio of the largest to the smallest value on, an axis counts in powers of ten."""


@dataclasses.dataclass(frozen=True)
class Tick:
    """A place on an axis, as a share of its length, and what is written there."""

    place: float
    text: str


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``.

    Attributes:
        low: The value at its start.
        high: The value at its end.
        ticks: From low to high.
        logarithmic: Whether equal lengths are equal ratios.
    """

    low: float
    high: float
    ticks: tuple[Tick, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, as a share of the axis."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)


def value_axis(values: Sequence[float]) -> Axis:
    """Return an axis of about six round ticks around all values."""
    low, high = min(values), max(values)
    if high - low <= _NOTHING * max(1, abs(low), abs(high)):
        margin = max(abs(low) * 0.1, 0.1)
        low, high = low - margin, high + margin
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    low, high = first * step, last * step
    ticks = (Tick((at - first) / (last - first), f"{at * step:z.{digits}f}") for at in range(first, last + 1))
    return Axis(low, high, tuple(ticks))


def point_axis(values: Sequence[float]) -> Axis:
    """Return an axis with a tick at each of a few values, logarithmic where they span powers of ten.

    Values that are not round numbers are between round ticks instead.
    """
    ascending = sorted(set(values))
    logarithmic = ascending[0] > 0 and ascending[-1] / ascending[0] >= _DECADES
    if len(ascending) == 1:
        low, high = ascending[0] - 1, ascending[0] + 1
    elif logarithmic:
        margin = (ascending[-1] / ascending[0]) ** 0.06
        low, high = ascending[0] / margin, ascending[-1] * margin
    else:
        margin = (ascending[-1] - ascending[0]) * 0.06
        low, high = ascending[0] - margin, ascending[-1] + margin
    bare = Axis(low, high, (), logarithmic)
    written = ascending if all(map(_is_round, ascending)) else [*_round_between(low, high, logarithmic)]
    return Axis(low, high, tuple(Tick(bare.place(value), f"{value:g}") for value in written), logarithmic)


def _is_round(value: float) -> bool:
    """Whether a value can be written on an axis: three digits, or a whole number such as a year."""
    return float(f"{value:.3g}") == value or (value == int(value) and abs(value) < 10_000)


def _round_between(low: float, high: float, logarithmic: bool) -> Iterator[float]:
    """The round numbers of an axis: 1, 2 and 5 times powers of ten, or multiples of one of them."""
    if logarithmic:
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high))):
            yield from (value for factor in (1, 2, 5) if low <= (value := factor * 10.0**power) <= high)
    else:
        step = _round_step((high - low) / 5)
        yield from (at * step for at in range(math.ceil(low / step), math.floor(high / step) + 1))


def name_axis(names: Sequence[str]) -> Axis:
    """Return an axis with a tick for each name; the name at position n has the value n."""
    size = len(names)
    ticks = tuple(Tick((at + 0.5) / size, name) for at, name in enumerate(names))
    return Axis(-0.5, size - 0.5, ticks)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


# Plots: points with intervals, joined along the axis where it counts.

# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4")
_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 20, 44, 348
_LINE, _LETTER = 18, 7
_RADIUS, _ASIDE, _BESIDE = 4, 7, 9


@dataclasses.dataclass(frozen=True)
class Point:
    """A measured value: where on the x axis, a number or a name, and what with which interval.

    ``replicates`` are the values that it is the mean of; they are drawn as small rings.
    """

    x: float | str
    y: Number
    replicates: tuple[float, ...] = ()


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
            points = "; ".join(f"{_x_text(point.x)}: {_in_words(point.y)}" for point in series.points)
            parts.append(f"{series.name}: {points}" if series.name else points)
        parts += [f"{name}: {_in_words(level)}" for name, level in self.levels]
        return f"{self.y} by {self.x}. {'. '.join(parts)}."


def to_svg(plot: Plot) -> str:
    """Draw a plot as an SVG document of its own, which may also be part of a page."""
    legend = [series.name for series in plot.series if series.name] if len(plot.series) > 1 else []
    height = _HEIGHT + _LINE * len(legend)
    name = hashlib.sha256(repr(plot).encode(errors="surrogatepass")).hexdigest()[:8]
    frame = _frame(plot)
    parts = [
        element("title", plot.title, id=f"t{name}"),
        element("desc", plot.in_words(), id=f"d{name}"),
        element("text", plot.title, x=_LEFT, y=22, font_size=14, font_weight=600),
        *_y_axis(frame, plot.y),
        *_x_axis(frame, plot.x),
        *_levels(frame, plot.levels),
    ]
    for at, series in enumerate(plot.series):
        aside = _ASIDE * (at - (len(plot.series) - 1) / 2)
        places = sorted(((frame.across(point.x) + aside, point) for point in series.points), key=lambda place: place[0])
        parts.append(_series(at, places, frame))
    parts += [part for at, text in enumerate(legend) for part in _key(at, text)]
    drawing = element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=_WIDTH,
        height=height,
        role="img",
        aria_labelledby=f"t{name} d{name}",
        class_="cirbench-plot",
        font_family="system-ui, sans-serif",
        font_size=12,
        fill="currentColor",
    )
    return f"{drawing}\n"


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
    ends = [end for number in numbers for end in (number.value, *(number.ends or ()))]
    y_axis = value_axis([*ends, *(value for point in plot.points for value in point.replicates)])
    margin = _RIGHT + _LETTER * max((len(name) for name, _ in plot.levels), default=0)
    right = _WIDTH - min(margin, _WIDTH // 3)
    counted = [point.x for point in plot.points if isinstance(point.x, (int, float))]
    if len(counted) == len(plot.points):
        return _Frame(point_axis(counted), y_axis, None, right)
    names = [*dict.fromkeys(str(point.x) for point in plot.points)]
    return _Frame(name_axis(names), y_axis, names, right)


def _y_axis(frame: _Frame, name: str) -> Iterator[Markup]:
    for tick in frame.y.ticks:
        y = _BOTTOM - tick.place * (_BOTTOM - _TOP)
        yield element("line", x1=_LEFT, y1=y, x2=frame.right, y2=y, stroke="currentColor", stroke_opacity=0.15)
        yield label(_LEFT - 8, y + 4, tick.text, anchor="end")
    middle = (_TOP + _BOTTOM) // 2
    yield element("text", name, x=16, y=middle, text_anchor="middle", transform=f"rotate(-90 16 {middle})")


def _x_axis(frame: _Frame, name: str) -> Iterator[Markup]:
    yield element("line", x1=_LEFT, y1=_BOTTOM, x2=frame.right, y2=_BOTTOM, stroke="currentColor")
    for tick in frame.x.ticks:
        x = frame.along(tick.place)
        yield element("line", x1=x, y1=_BOTTOM, x2=x, y2=_BOTTOM + 5, stroke="currentColor")
        yield label(x, _BOTTOM + 18, tick.text, anchor="middle")
    yield label(frame.along(0.5), _BOTTOM + 38, name, anchor="middle")


def _levels(frame: _Frame, levels: tuple[tuple[str, Number], ...]) -> Iterator[Markup]:
    """Dashed lines across, each named at its right end; names that would touch are moved apart."""
    last = float("-inf")
    for name, level in sorted(levels, key=lambda named: -named[1].value):
        y = frame.up(level.value)
        last = max(y + 4, last + _LINE - 4)
        looks = {"stroke": "currentColor", "stroke_dasharray": "5 4", "stroke_opacity": 0.6}
        yield element("line", class_="level", x1=_LEFT, y1=y, x2=frame.right, y2=y, **looks)
        yield label(frame.right + 6, last, name)


def _series(at: int, places: list[tuple[float, Point]], frame: _Frame) -> Markup:
    parts = []
    if frame.names is None and len(places) > 1:
        points = _points([(x, frame.up(point.y.value)) for x, point in places])
        parts.append(element("polyline", points=points, fill="none", stroke_dasharray=_DASHES[at % len(_DASHES)]))
    for x, point in places:
        number = point.y
        drawn = [element("title", str(number))]
        for value in point.replicates:
            ring = {"cx": f"{x + _BESIDE:.1f}", "cy": f"{frame.up(value):.1f}", "r": _RADIUS / 2, "fill": "none"}
            drawn.append(element("circle", class_="replicate", **ring))
        if number.ends is not None:
            low, high = map(frame.up, number.ends)
            caps = f"M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
            drawn.append(element("path", class_="interval", d=f"M{x:.1f} {low:.1f}V{high:.1f}{caps}"))
        parts.append(group([*drawn, _marker(at, x, frame.up(number.value))]))
    return group(parts, class_="series", stroke=_colour(at), fill=_colour(at), stroke_width=1.5)


def _key(at: int, text: str) -> Iterator[Markup]:
    y = _HEIGHT + _LINE * at + 4
    yield group([_marker(at, _LEFT + 6, y - 4)], stroke=_colour(at), fill=_colour(at))
    yield label(_LEFT + 18, y, text)


def _marker(at: int, x: float, y: float) -> Markup:
    """A circle, square, triangle or diamond."""
    r = _RADIUS
    paths = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - r:.1f}l{r} {2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z",
    )
    return element("path", class_="marker", d=paths[at % len(paths)])


def _colour(at: int) -> str:
    place = at % len(_COLOURS)
    return f"var(--plot-{place + 1}, {_COLOURS[place]})"


def _in_words(number: Number) -> str:
    return number.text if number.ends_text is None else f"{number.text} ({' to '.join(number.ends_text)})"


def _x_text(x: float | str) -> str:
    return x if isinstance(x, str) else f"{x:g}"
