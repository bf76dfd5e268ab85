"""SVG as text: escaped elements with a text alternative, and axes with readable ticks."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from cirbench.support.tables.model import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


def value_axis(values: Sequence[float], most: int = 6) -> Axis:
    """Return an axis of round ticks around all values."""
    low, high = min(values), max(values)
    if high - low <= _NOTHING * max(1, abs(low), abs(high)):
        margin = max(abs(low) * 0.1, 0.1)
        low, high = low - margin, high + margin
    step = _round_step((high - low) / (most - 1))
    first, last = math.floor(low / step), math.ceil(high / step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    low, high = first * step, last * step
    ticks = (Tick((at - first) / (last - first), f"{at * step:z.{digits}f}") for at in range(first, last + 1))
    return Axis(low, high, tuple(ticks))


def point_axis(values: Sequence[float]) -> Axis:
    """Return an axis with a tick at each of a few values, logarithmic where they span powers of ten."""
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
    return Axis(low, high, tuple(Tick(bare.place(value), f"{value:g}") for value in ascending), logarithmic)


def name_axis(names: Sequence[str]) -> Axis:
    """Return an axis with a tick for each name; the name at position n has the value n."""
    size = len(names)
    ticks = tuple(Tick((at + 0.5) / size, name) for at, name in enumerate(names))
    return Axis(-0.5, size - 0.5, ticks)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
