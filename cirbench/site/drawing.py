"""Scalable pictures as text: an SVG element is built from escaped parts, with a title and a text alternative."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from cirbench.tables.safe import visible

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
