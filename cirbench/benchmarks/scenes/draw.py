"""Scenes as pixels: the same on every machine, at any size.

Everything is integer arithmetic on a grid of sample points, so that a picture has the same pixels on every machine.

Sprites and backdrops are drawn once, anti-aliased by supersampling, and kept; a scene is a few integer blends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cirbench.benchmarks.scenes.world import Dice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.benchmarks.scenes.world import Scene

Points: TypeAlias = "NDArray[np.int64]"
Mask: TypeAlias = "NDArray[np.bool_]"
Inside: TypeAlias = Callable[[Points, Points], Mask]

UNIT = 1000
"""Shapes are drawn in the square from -UNIT to UNIT; u runs to the right, v downward."""

_STAR = (
    (0, -960), (235, -304), (932, -283), (380, 144), (576, 813),
    (0, 420), (-576, 813), (-380, 144), (-932, -283), (-235, -304),
)  # fmt: skip


def _disc(u: Points, v: Points, x: int, y: int, radius: int) -> Mask:
    return (u - x) ** 2 + (v - y) ** 2 <= radius**2


def _wedge(u: Points, v: Points, top: int, bottom: int, width: int) -> Mask:
    """Fill a triangle with its tip at ``top`` and half its base, ``width``, at ``bottom``; either may be higher."""
    low, high = min(top, bottom), max(top, bottom)
    return (v >= low) & (v <= high) & (abs(u) * (high - low) <= abs(v - top) * width)


def _polygon(u: Points, v: Points, corners: tuple[tuple[int, int], ...]) -> Mask:
    inside = np.zeros(np.broadcast(u, v).shape, dtype=bool)
    for (x, y), (next_x, next_y) in zip(corners, (*corners[1:], corners[0]), strict=True):
        rise = next_y - y
        left_of_edge = (u - x) * rise < (next_x - x) * (v - y)
        inside ^= ((y > v) != (next_y > v)) & (left_of_edge if rise > 0 else ~left_of_edge)
    return inside


def _heart(u: Points, v: Points) -> Mask:
    return _disc(u, v, -450, -330, 500) | _disc(u, v, 450, -330, 500) | _wedge(u, v, 940, -170, 930)


def _fish(u: Points, v: Points) -> Mask:
    body = ((u + 200) * 56) ** 2 + (v * 76) ** 2 <= (56 * 760) ** 2
    return body | _wedge(v, u, 250, 960, 680)


def _house(u: Points, v: Points) -> Mask:
    door = (abs(u) <= 180) & (v >= 450)
    walls = (abs(u) <= 680) & (v >= -50) & (v <= 900) & ~door
    return walls | _wedge(u, v, -940, -50, 960)


def _tree(u: Points, v: Points) -> Mask:
    trunk = (abs(u) <= 190) & (v >= 500) & (v <= 960)
    return _wedge(u, v, -980, 0, 560) | _wedge(u, v, -380, 600, 800) | trunk


INSIDE: dict[str, Inside] = {
    "ball": lambda u, v: _disc(u, v, 0, 0, 940),
    "box": lambda u, v: (abs(u) <= 820) & (abs(v) <= 820),
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 330) & (np.maximum(abs(u), abs(v)) <= 940),
    "diamond": lambda u, v: 4 * abs(u) + 3 * abs(v) <= 2900,
    "fish": _fish,
    "heart": _heart,
    "house": _house,
    "moon": lambda u, v: _disc(u, v, 0, 0, 940) & ~_disc(u, v, 470, -200, 760),
    "pyramid": lambda u, v: _wedge(u, v, -860, 780, 960),
    "ring": lambda u, v: _disc(u, v, 0, 0, 950) & ~_disc(u, v, 0, 0, 480),
    "star": lambda u, v: _polygon(u, v, _STAR),
    "tree": _tree,
}


def _diagonals(u: Points, v: Points) -> Mask:
    stripes: Mask = (u + v) // 300 % 2 == 0
    return stripes


def _dots(u: Points, v: Points) -> Mask:
    return _disc(u % 560, v % 560, 280, 280, 170)


def _nothing(u: Points, v: Points) -> Mask:
    return np.zeros(np.broadcast(u, v).shape, dtype=bool)


PATTERN: dict[str, Inside] = {"plain": _nothing, "striped": _diagonals, "dotted": _dots}


def samples(count: int) -> Points:
    """Return ``count`` evenly spaced sample points between -UNIT and UNIT."""
    return (2 * np.arange(count, dtype=np.int64) + 1 - count) * UNIT // count


def shrunk(mask: Mask, by: int) -> Mask:
    """Remove a rim of ``by`` samples from a mask; outside the array nothing is inside."""
    padded = np.pad(mask, by)
    rows, columns = mask.shape
    rim = [(0, 0), (0, by), (0, 2 * by), (by, 0), (by, 2 * by), (2 * by, 0), (2 * by, by), (2 * by, 2 * by)]
    core = mask.copy()
    for y, x in rim:
        core &= padded[y : y + rows, x : x + columns]
    return core


RENDERER = 1
"""Raised whenever a pixel could change; part of every image's content digest."""

SIZE = 64
"""The canonical width and height; all lengths below are in 64ths of the canvas."""

_OVERSAMPLING = 4
_SUBPIXELS = _OVERSAMPLING**2
_DIAMETER = {"small": 12, "large": 19}
_CELL = 20
_SHADOW = {"front": (1, 1), "above": (2, 3), "afar": (1, 1)}
_HORIZON = {"front": 24, "above": 0, "afar": 15}

Colour = tuple[int, int, int]

_COLOUR: dict[str, Colour] = {
    "black": (32, 32, 36),
    "blue": (38, 92, 214),
    "green": (34, 146, 62),
    "orange": (243, 136, 28),
    "pink": (244, 146, 190),
    "purple": (128, 52, 168),
    "red": (214, 36, 44),
    "white": (250, 250, 250),
    "yellow": (250, 214, 40),
}
_SKY: dict[str, Colour] = {
    "beach": (150, 208, 240),
    "desert": (244, 206, 150),
    "floor": (196, 214, 204),
    "lake": (206, 222, 236),
    "meadow": (140, 196, 246),
    "rocks": (34, 34, 70),
    "snow": (178, 190, 208),
    "street": (226, 190, 176),
}
_GROUND: dict[str, Colour] = {
    "beach": (236, 216, 164),
    "desert": (222, 158, 92),
    "floor": (176, 124, 78),
    "lake": (84, 158, 196),
    "meadow": (126, 184, 88),
    "rocks": (124, 122, 128),
    "snow": (238, 242, 248),
    "street": (164, 158, 160),
}
# How a ground is strewn: how many marks, how wide, how high, and how much lighter or darker they are.
_MARKS: dict[str, tuple[int, int, int, int]] = {
    "beach": (70, 1, 1, -36),
    "desert": (16, 10, 1, -30),
    "floor": (0, 0, 0, -30),
    "lake": (34, 5, 1, 34),
    "meadow": (70, 1, 2, -34),
    "rocks": (36, 3, 2, -30),
    "snow": (26, 2, 1, -26),
    "street": (0, 0, 0, -26),
}
_PAPER: Colour = (250, 247, 238)
_INK: Colour = (58, 54, 62)


def render(scene: Scene, size: int = SIZE) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: What to draw.
        size: Width and height in pixels; features are always taken at `SIZE`.

    Returns:
        (size, size, 3) RGB.
    """
    canvas = _backdrop(scene.ground, scene.viewpoint, scene.style, size).copy()
    afar = scene.viewpoint == "afar"
    step = _CELL * 3 // 4 if afar else _CELL
    shadow_x, shadow_y = (offset * size // SIZE for offset in _SHADOW[scene.viewpoint])
    spots = [(place.row, place.column, place, thing) for thing in scene.things for place in thing.places]
    for row, column, place, thing in sorted(spots, key=lambda spot: spot[:2]):
        diameter = _DIAMETER[thing.size] * (3 if afar else 4) * size // (4 * SIZE)
        sprite, cover, shade = _sprite(thing.shape, thing.colour, thing.texture, scene.style, diameter)
        x = (32 + (column - 1) * step + place.dx) * size // SIZE - diameter // 2
        y = (32 + (row - 1) * step + place.dy) * size // SIZE - diameter // 2
        if scene.style == "painting":
            _blend(canvas, x + shadow_x, y + shadow_y, None, shade)
        _blend(canvas, x, y, sprite, cover)
    return canvas.astype(np.uint8)


def _blend(
    canvas: NDArray[np.int32], x: int, y: int, sprite: NDArray[np.int32] | None, cover: NDArray[np.int32]
) -> None:
    """Lay a sprite (or, for ``None``, black) over the canvas; what reaches over its edge is cut."""
    size, width = len(canvas), len(cover)
    left, right, top, bottom = max(x, 0), min(x + width, size), max(y, 0), min(y + width, size)
    here = np.s_[top:bottom, left:right]
    there = np.s_[top - y : bottom - y, left - x : right - x]
    under = canvas[here] * (_SUBPIXELS - cover[there])
    if sprite is not None:
        under += sprite[there]
    canvas[here] = (under + _SUBPIXELS // 2) // _SUBPIXELS


@functools.cache
def _sprite(
    shape: str, colour: str, texture: str, style: str, diameter: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Draw one object: its colour summed over the covered subpixels, how many those are, and its shadow."""
    count = diameter * _OVERSAMPLING
    u, v = samples(count)[None, :], samples(count)[:, None]
    body = INSIDE[shape](u, v)
    core = shrunk(body, max(2, count // 18))
    fill, rim, pattern = _inks(colour, style)
    picture = np.zeros((count, count, 3), dtype=np.int32)
    picture[body] = rim
    picture[core] = fill
    picture[core & PATTERN[texture](u, v)] = pattern
    blocks = (diameter, _OVERSAMPLING, diameter, _OVERSAMPLING)
    summed = picture.reshape(*blocks, 3).sum(axis=(1, 3), dtype=np.int32)
    cover = body.reshape(blocks).sum(axis=(1, 3), dtype=np.int32)[..., None]
    return summed, cover, cover * 3 // 8


def _inks(colour: str, style: str) -> tuple[Colour, Colour, Colour]:
    """Choose the colours of an object's face, rim and pattern."""
    own = _COLOUR[colour]
    if style == "drawing":
        return _mixed(own, _PAPER, 9), _INK, _mixed(own, _INK, 6)
    dark, light = _mixed(own, (0, 0, 0), 10), _mixed(own, (255, 255, 255), 6)
    if colour == "black":
        return own, (84, 84, 92), (150, 150, 156)
    return own, dark, _mixed(own, (0, 0, 0), 9) if colour in ("white", "yellow", "pink") else light


def _mixed(one: Colour, other: Colour, sixteenths: int) -> Colour:
    """Mix two colours, the given part of the first."""
    red, green, blue = ((a * sixteenths + b * (16 - sixteenths)) // 16 for a, b in zip(one, other, strict=True))
    return red, green, blue


@functools.cache
def _backdrop(ground: str, viewpoint: str, style: str, size: int) -> NDArray[np.int32]:
    """Draw what is behind the objects: sky above the horizon, and a ground with its marks."""
    canvas = np.empty((size, size, 3), dtype=np.int32)
    horizon = _HORIZON[viewpoint] * size // SIZE
    rows = np.arange(size)[:, None, None]
    canvas[:] = np.array(_SKY[ground]) + (255 - np.array(_SKY[ground])) * rows // (3 * size)
    canvas[horizon:] = _GROUND[ground]
    for x, y, width, height, lighter in _marks(ground, viewpoint):
        left, top = x * size // SIZE, y * size // SIZE
        right, bottom = max(left + 1, (x + width) * size // SIZE), max(top + 1, (y + height) * size // SIZE)
        canvas[top:bottom, left:right] = np.clip(canvas[top:bottom, left:right] + lighter, 0, 255)
    if style == "drawing":
        canvas = (canvas * 4 + np.array(_PAPER) * 12) // 16
        if horizon:
            canvas[horizon : horizon + max(1, size // SIZE)] = _INK
    return canvas


def _marks(ground: str, viewpoint: str) -> list[tuple[int, int, int, int, int]]:
    """List the marks on a ground (x, y, width, height, lighter), the same for every scene on it."""
    horizon = _HORIZON[viewpoint]
    count, width, height, lighter = _MARKS[ground]
    marks: list[tuple[int, int, int, int, int]] = []
    if ground == "floor":
        marks += [(0, y, SIZE, 1, lighter) for y in range(horizon + 5, SIZE, 6)]
        marks += [((y * 7 + 11) % SIZE, y - 5, 1, 5, lighter) for y in range(horizon + 5, SIZE, 6)]
    if ground == "street":
        marks += [(0, y, SIZE, 1, lighter) for y in range(horizon + 4, SIZE, 5)]
        marks += [
            (x + 4 * (y // 5 % 2), y - 4, 1, 4, lighter) for y in range(horizon + 4, SIZE, 5) for x in range(0, SIZE, 8)
        ]
    dice = Dice("marks", ground, viewpoint)
    taken: set[tuple[int, int]] = set()
    for _ in range(count):
        x, y = dice.below(SIZE // width) * width, horizon + dice.below((SIZE - horizon) // height) * height
        if (x, y) not in taken:
            marks.append((x, y, width, height, lighter))
            taken.add((x, y))
    if ground == "rocks":
        marks += [(dice.below(SIZE), dice.below(horizon), 1, 1, 170) for _ in range(horizon)]
    return marks
