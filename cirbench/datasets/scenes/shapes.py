"""The outlines of the twelve shapes, as integer inequalities.

Everything is integer arithmetic on a grid of sample points, so that a picture has the same pixels on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
