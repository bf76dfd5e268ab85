"""What a scene is, and what can be said about one that is either true or false.

A scene is a description; `draw` turns it into pixels and `language` into words.

Relevance is a conjunction of facts: those of the shared concept and those of the relative caption.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cached_property
from typing import Any, Literal, Protocol

SHAPES = ("ball", "box", "cross", "diamond", "fish", "heart", "house", "moon", "pyramid", "ring", "star", "tree")
COLOURS = ("black", "blue", "green", "orange", "pink", "purple", "red", "white", "yellow")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
GROUNDS = ("beach", "desert", "floor", "lake", "meadow", "rocks", "snow", "street")
VIEWPOINTS = ("front", "above", "afar")
STYLES = ("painting", "drawing")

GRID = 3
"""The canvas has GRID x GRID cells; no two objects share one."""

MOST_OF_A_KIND = 4
MOST_OBJECTS = 8


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where one object is.

    Attributes:
        column: 0 is left.
        row: 0 is the top.
        dx: How far from the middle of the cell, in 64ths of the canvas.
        dy: The same, downward.
    """

    column: int
    row: int
    dx: int = 0
    dy: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Thing:
    """One or several objects that differ only in where they are."""

    shape: str
    colour: str
    size: str
    texture: str
    places: tuple[Place, ...]

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self.places)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Things in a setting. No two things of a scene share a shape or a colour.

    Attributes:
        things: One to four; the order carries no meaning in the picture.
        ground: One of `GROUNDS`.
        viewpoint: One of `VIEWPOINTS`.
        style: One of `STYLES`.
    """

    things: tuple[Thing, ...]
    ground: str
    viewpoint: str
    style: str

    @property
    def description(self) -> list[Any]:
        """Everything that shows in the picture, as plain values in a canonical order."""
        things = sorted(
            [t.shape, t.colour, t.size, t.texture, sorted([p.column, p.row, p.dx, p.dy] for p in t.places)]
            for t in self.things
        )
        return [things, self.ground, self.viewpoint, self.style]

    @property
    def structure(self) -> str:
        """What is in the picture regardless of where it is; no two splits share a structure."""
        things = sorted(f"{t.count} {t.size} {t.colour} {t.texture} {t.shape}" for t in self.things)
        return "; ".join([*things, self.ground, self.viewpoint, self.style])

    @cached_property
    def digest(self) -> str:
        """Sha256 of the description."""
        return hashlib.sha256(json.dumps(self.description, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def is_for_training(self) -> bool:
        """Whether the scene belongs to the training split: a parity of its structure.

        So the splits are disjoint by construction, however many scenes are drawn from either.
        """
        return hashlib.sha256(self.structure.encode()).digest()[0] % 2 == 0


Side = Literal["left", "right", "above", "below"]


class Fact(Protocol):
    """Something that is true or false of a scene."""

    def holds(self, scene: Scene) -> bool:
        """Say whether it is true of ``scene``."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object; ``None`` leaves a property open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None

    def matches(self, thing: Thing) -> bool:
        """Say whether the objects of ``thing`` are of this kind."""
        return (
            self.shape in (None, thing.shape)
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
            and self.texture in (None, thing.texture)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """There are at least ``least`` and at most ``most`` objects of a kind."""

    kind: Kind
    least: int = 1
    most: int = MOST_OBJECTS

    def holds(self, scene: Scene) -> bool:
        """Count the objects of the kind."""
        return self.least <= sum(thing.count for thing in scene.things if self.kind.matches(thing)) <= self.most


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """The ground, viewpoint or style is (or, negated, is not) a certain one."""

    part: Literal["ground", "viewpoint", "style"]
    value: str
    negated: bool = False

    def holds(self, scene: Scene) -> bool:
        """Compare the part of the scene with the value."""
        part: str = getattr(scene, self.part)
        return (part == self.value) != self.negated


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """Both kinds are there, and every object of one is in cells wholly to one side of all objects of the other."""

    kind: Kind
    side: Side
    other: Kind

    def holds(self, scene: Scene) -> bool:
        """Compare the outermost columns or rows of the two kinds."""
        across = self.side in ("left", "right")
        ours = self._lines(scene, self.kind, across)
        theirs = self._lines(scene, self.other, across)
        if not ours or not theirs:
            return False
        return max(ours) < min(theirs) if self.side in ("left", "above") else min(ours) > max(theirs)

    @staticmethod
    def _lines(scene: Scene, kind: Kind, across: bool) -> list[int]:
        things = (thing for thing in scene.things if kind.matches(thing))
        return [place.column if across else place.row for thing in things for place in thing.places]
